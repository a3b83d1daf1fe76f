//! A hint to the CPU to fetch memory that is about to be read.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Starts fetching the first `lines` cache lines of `data` into the second-level cache.
///
/// A few rows' prefetches into the first level stall a Zen 4 core: rows of 448 bytes, 16 together, cost 1.4 times as much
/// there, of 1,536 bytes twice as much. The second level is near enough.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T], lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let bytes = size_of_val(data).min(lines * LINE);
        let start = data.as_ptr().cast::<i8>();
        // From the start of the first line, so that an unaligned row is covered to its end.
        let mut at = -((start.addr() % LINE) as isize);
        while at < bytes as isize {
            // A prefetch has no effect but on the cache.
            let line = start.wrapping_offset(at);
            // SAFETY: prefetching an address is sound whatever it is.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(line);
            }
            at += LINE as isize;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, lines, LINE);
}

/// Ids of which things are fetched together, while those of the ids before them are worked on.
pub(crate) const GROUP: usize = 32;

/// Calls `work` with up to [`GROUP`] ids at a time and the place of the first of them, after `fetch` was called with each
/// of them and of the next group.
#[inline(always)]
pub(crate) fn fetch_ahead(ids: &[u32], fetch: impl Fn(u32), mut work: impl FnMut(usize, &[u32])) {
    let mut ahead = ids.chunks(GROUP);
    let mut fetch_next = || {
        if let Some(ids) = ahead.next() {
            ids.iter().for_each(|&id| fetch(id));
        }
    };
    fetch_next();
    for (number, ids) in ids.chunks(GROUP).enumerate() {
        fetch_next();
        work(number * GROUP, ids);
    }
}
