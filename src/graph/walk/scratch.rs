//! Working memory of a walk, kept for the next one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::graph::walk::beam::Pool;
use crate::graph::walk::visited::Visited;

#[derive(Default)]
pub(crate) struct Scratch {
    pub visited: Visited,
    pub pool: Pool,
    /// Unvisited neighbors of the node being expanded, and their distances.
    pub ids: Vec<u32>,
    pub distances: Vec<f32>,
    /// For walks that pass through nodes they may not return, and for a large `ef`.
    pub candidates: BinaryHeap<Reverse<u64>>,
    pub results: BinaryHeap<u64>,
    /// The nearest nodes met, whether or not they may be returned: for ranges of distances.
    pub beam: BinaryHeap<u64>,
}

impl Scratch {
    /// A search for everything leaves heaps of everything.
    fn shrink(&mut self) {
        self.candidates.shrink_to(KEPT);
        self.results.shrink_to(KEPT);
        self.beam.shrink_to(KEPT);
    }

    fn resident_bytes(&self) -> usize {
        self.visited.resident_bytes()
            + self.pool.resident_bytes()
            + self.ids.capacity() * size_of::<u32>()
            + self.distances.capacity() * size_of::<f32>()
            + (self.candidates.capacity() + self.results.capacity() + self.beam.capacity()) * size_of::<u64>()
    }
}

/// Entries of a heap that are kept for the next walk.
const KEPT: usize = 1 << 14;

/// Scratch of walks that have ended. In the steady state a walk allocates nothing.
pub(crate) struct ScratchPool {
    idle: ArrayQueue<Scratch>,
    bytes: AtomicUsize,
}

/// Kept at most; more threads than this at a time allocate their own.
const IDLE: usize = 64;

impl ScratchPool {
    pub fn new() -> Self {
        Self { idle: ArrayQueue::new(IDLE), bytes: AtomicUsize::new(0) }
    }

    /// Runs `work` with scratch. If it panics, the scratch is gone and nothing else.
    pub fn with<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let mut scratch = self.idle.pop().unwrap_or_default();
        self.bytes.fetch_sub(scratch.resident_bytes(), Ordering::Relaxed);
        let result = work(&mut scratch);
        scratch.shrink();
        let bytes = scratch.resident_bytes();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.idle.push(scratch).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        result
    }

    /// Bytes of the queue and the idle scratch.
    pub fn resident_bytes(&self) -> usize {
        self.idle.capacity() * size_of::<(Scratch, usize)>() + self.bytes.load(Ordering::Relaxed)
    }
}
