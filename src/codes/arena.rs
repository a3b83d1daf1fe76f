//! The memory of the records: one per id, in chunks that never move, and the count that publishes them.
//!
//! # Protocol
//! A record is in one of two states. *Unpublished* (`id >= len`): only the writer, who holds the lock, touches it, by
//! atomic stores. *Published* (`id < len`): nobody writes it again. [`Arena::extend`] stores `len` with Release after
//! all records below it were written; [`Arena::view`] loads it with Acquire. So whatever a view hands out was written
//! before, whole, and stays as it is: it may be read as plain bytes.

// Plain loads of words that were written as atomics: SIMD kernels need them, and records are 144 bytes and up.
#![allow(unsafe_code)]

use std::panic::resume_unwind;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{slice, thread};

use arrow_buffer::Buffer;

use crate::util::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::util::chunked::{CHUNKS, Directory, chunk_lens, empty_directory, locate};
use crate::util::prefetch::prefetch;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Words of a cache line.
const WORDS: usize = LINE / size_of::<u64>();
/// Records that a thread writes before it asks for more.
const RUN: u32 = 128;
/// Cache lines of a record that are prefetched at most; the CPU's own prefetcher follows from there.
const PREFETCHED: usize = 32;

/// A cache line of words.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

/// Records of [`record_len`](Self::record_len) bytes each.
pub(super) struct Arena {
    chunks: Directory<Line>,
    /// All records there will ever be, where they were saved: then there are no chunks.
    saved: Option<Saved>,
    /// A multiple of 32.
    record_len: usize,
    len: AtomicU32,
    /// Held by whoever writes records.
    writer: Mutex<()>,
}

impl Arena {
    pub fn new(record_len: usize) -> Self {
        Self {
            chunks: empty_directory(),
            saved: None,
            record_len: record_len.next_multiple_of(32),
            len: AtomicU32::new(0),
            writer: Mutex::new(()),
        }
    }

    /// Records that stay where they were saved: parts of `1 << rows_log2` records each, and a last one of at most as
    /// many. None if these are not parts of as many whole records.
    pub fn saved(record_len: usize, parts: Vec<Buffer>, rows_log2: u32) -> Option<Self> {
        let arena = Self::new(record_len);
        let whole = arena.record_len.checked_shl(rows_log2)?;
        let (last, others) = parts.split_last()?;
        let fits = last.len() <= whole && last.len().is_multiple_of(arena.record_len);
        let len = (others.len() << rows_log2) + last.len() / arena.record_len;
        let len =
            u32::try_from(len).ok().filter(|_| fits && others.iter().all(|part| part.len() == whole))?;
        arena.len.store(len, Ordering::Release);
        Some(Self { saved: Some(Saved { parts, rows_log2 }), ..arena })
    }

    /// Bytes of a record.
    pub fn record_len(&self) -> usize {
        self.record_len
    }

    /// What is published now.
    #[inline(always)]
    pub fn view(&self) -> View<'_> {
        // Acquire pairs with the Release of `extend`: the writes of all records below are seen.
        View { arena: self, len: self.len.load(Ordering::Acquire) }
    }

    /// Writes the records from the published ones to `end` and publishes them. `fill` gets an id and its record, all
    /// zeros, once for each id; several threads call it if there is work for them, as many as rayon's current pool has.
    /// A panic of `fill` goes on in the caller; then nothing is published.
    pub fn extend(&self, end: u32, fill: impl Fn(u32, &mut [u8]) + Sync) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: only who holds the lock stores `len`.
        let start = self.len.load(Ordering::Relaxed);
        if end <= start || self.saved.is_some() {
            return;
        }
        let next = AtomicU64::new(u64::from(start));
        let write_runs = || {
            let mut record = vec![0_u8; self.record_len];
            loop {
                // Relaxed: the counter orders nothing but itself.
                let first = next.fetch_add(u64::from(RUN), Ordering::Relaxed);
                if first >= u64::from(end) {
                    return;
                }
                let first = first as u32;
                for id in first..end.min(first.saturating_add(RUN)) {
                    record.fill(0);
                    fill(id, &mut record);
                    self.write(id, &record);
                }
            }
        };
        let threads = rayon::current_num_threads().min(((end - start) / (2 * RUN)) as usize);
        if threads < 2 {
            write_runs();
        } else {
            // Threads of its own, because a worker of the pool that waits runs other work meanwhile, perhaps one that
            // waits for the lock. If the system refuses a thread, those that there are do the work.
            thread::scope(|scope| {
                let spawn = |_| thread::Builder::new().spawn_scoped(scope, write_runs).ok();
                let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
                write_runs();
                for helper in helpers {
                    helper.join().unwrap_or_else(|panic| resume_unwind(panic));
                }
            });
        }
        // Release pairs with the Acquire of `view`; the threads' writes happened before they were joined.
        self.len.store(end, Ordering::Release);
    }

    /// Writes an unpublished record, under the lock.
    fn write(&self, id: u32, record: &[u8]) {
        let place = locate(id);
        let lines = self.chunks[place.chunk].get_or_init(|| {
            let lines = (place.len * self.record_len).div_ceil(LINE);
            (0..lines).map(|_| Line::default()).collect()
        });
        let start = place.offset * self.record_len / size_of::<u64>();
        for (i, &word) in record.as_chunks::<{ size_of::<u64>() }>().0.iter().enumerate() {
            if let Some(line) = lines.get((start + i) / WORDS) {
                // Relaxed: `extend` publishes.
                line.0[(start + i) % WORDS].store(u64::from_ne_bytes(word), Ordering::Relaxed);
            }
        }
    }

    /// Starts fetching a record, published or not.
    #[inline(always)]
    pub fn prefetch(&self, id: u32) {
        if let Some(saved) = &self.saved {
            return prefetch(saved.record(id, self.record_len).unwrap_or(&[]), PREFETCHED);
        }
        let place = locate(id);
        let Some(lines) = self.chunks[place.chunk].get() else { return };
        let start = place.offset * self.record_len;
        let end = (start + self.record_len).div_ceil(LINE);
        if let Some(lines) = lines.get(start / LINE..end) {
            prefetch(lines, PREFETCHED);
        }
    }

    /// Bytes of the directory and all chunks.
    pub fn resident_bytes(&self) -> usize {
        let chunks: usize =
            self.chunks.iter().filter_map(OnceLock::get).map(|c| size_of_val::<[Line]>(c)).sum();
        size_of_val::<[_]>(&self.chunks) + chunks
    }

    /// Bytes of the directory and of the chunks of `rows` records.
    pub fn bytes_for(record_len: usize, rows: u32) -> usize {
        let record_len = record_len.next_multiple_of(32);
        let chunks: usize = chunk_lens(rows).map(|len| (len * record_len).next_multiple_of(LINE)).sum();
        CHUNKS * size_of::<OnceLock<Box<[Line]>>>() + chunks
    }
}

/// Records in files, all of them published.
struct Saved {
    parts: Vec<Buffer>,
    rows_log2: u32,
}

impl Saved {
    #[inline(always)]
    fn record(&self, id: u32, record_len: usize) -> Option<&[u8]> {
        let part = self.parts.get((id >> self.rows_log2) as usize)?;
        let start = (id & ((1 << self.rows_log2) - 1)) as usize * record_len;
        part.get(start..start + record_len)
    }
}

/// The records that were published when it was made.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    arena: &'a Arena,
    len: u32,
}

impl<'a> View<'a> {
    /// Ids below have a record.
    #[inline(always)]
    pub fn len(self) -> u32 {
        self.len
    }

    /// The bytes of a record: none of an id that is not published. It is not empty, and as long as every other.
    #[inline(always)]
    pub fn record(self, id: u32) -> Option<&'a [u8]> {
        if id >= self.len {
            return None;
        }
        if let Some(saved) = &self.arena.saved {
            return saved.record(id, self.arena.record_len);
        }
        let place = locate(id);
        let lines = self.arena.chunks[place.chunk].get()?;
        let (start, len) = (place.offset * self.arena.record_len, self.arena.record_len);
        if start + len > size_of_val::<[Line]>(lines) {
            return None;
        }
        // SAFETY: `start` is within the chunk, as was just checked.
        let first = unsafe { lines.as_ptr().cast::<u8>().add(start) };
        // SAFETY: the `len` bytes from `first` are within the chunk, initialized, and live as long as the arena, which
        // never drops or moves a chunk. Nobody writes them any more: `id` is published (see the protocol), and the
        // record ends where the next one, which the writer may be at, begins.
        Some(unsafe { slice::from_raw_parts(first, len) })
    }
}
