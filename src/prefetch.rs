//! A hint to the CPU to fetch memory that is about to be read.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Starts fetching the first `lines` cache lines of `data`.
#[inline(always)]
pub(crate) fn prefetch<T>(data: &[T], lines: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let bytes = size_of_val(data).min(lines * LINE);
        let start = data.as_ptr().cast::<i8>();
        let mut at = 0;
        while at < bytes {
            // SAFETY: `at` is below the size of the slice; a prefetch has no effect but on the cache.
            #[allow(unsafe_code)]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.add(at));
            }
            at += LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, lines, LINE);
}
