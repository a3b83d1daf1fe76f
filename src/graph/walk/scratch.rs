//! Working memory of a walk, kept for the next one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::graph::walk::beam::Beam;
use crate::graph::walk::visited::Visited;

#[derive(Default)]
pub(crate) struct Scratch {
    pub visited: Visited,
    pub beam: Beam,
    /// Unvisited neighbors of the node being expanded, and their distances; as long as the longest list.
    pub ids: Vec<u32>,
    /// Those of the hop before it, in a beam search.
    pub under_way: Vec<u32>,
    pub distances: Vec<f32>,
    /// Of walks through nodes that may not be returned: nodes to expand.
    pub candidates: BinaryHeap<Reverse<u64>>,
    /// The nearest nodes met that may be returned.
    pub results: BinaryHeap<u64>,
    /// Other nodes that may be returned, for the pages to come.
    pub rest: BinaryHeap<Reverse<u64>>,
    /// The nearest nodes met, whether or not they may be returned: for ranges of distances.
    pub nearest: BinaryHeap<u64>,
}

impl Scratch {
    /// Makes room for the neighbors of a list of so many.
    #[inline]
    pub fn make_room(&mut self, longest: usize) {
        if self.ids.len() < longest {
            self.ids.resize(longest, 0);
            self.under_way.resize(longest, 0);
            self.distances.resize(longest, 0.0);
        }
    }

    /// Makes what was collected the hop under way.
    #[inline(always)]
    pub fn swap_ids(&mut self) {
        std::mem::swap(&mut self.ids, &mut self.under_way);
    }

    /// The first ids that were collected, with their distances.
    pub fn collected(&self, met: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.ids[..met].iter().copied().zip(self.distances[..met].iter().copied())
    }

    /// A search for everything leaves heaps of everything.
    fn shrink(&mut self) {
        self.candidates.shrink_to(KEPT);
        self.results.shrink_to(KEPT);
        self.rest.shrink_to(KEPT);
        self.nearest.shrink_to(KEPT);
    }

    fn resident_bytes(&self) -> usize {
        let heaps = [self.results.capacity(), self.nearest.capacity()];
        let reversed = [self.candidates.capacity(), self.rest.capacity()];
        self.visited.resident_bytes()
            + self.beam.resident_bytes()
            + (self.ids.capacity() + self.under_way.capacity()) * size_of::<u32>()
            + self.distances.capacity() * size_of::<f32>()
            + heaps.iter().chain(&reversed).sum::<usize>() * size_of::<u64>()
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
        let before = scratch.resident_bytes();
        let result = work(&mut scratch);
        scratch.shrink();
        let after = scratch.resident_bytes();
        // Stored only when it changes, which in the steady state it does not.
        if after > before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        if self.idle.push(scratch).is_err() {
            self.bytes.fetch_sub(after, Ordering::Relaxed);
        }
        result
    }

    /// Bytes of the queue, the idle scratch and that of walks under way, as it was when they began.
    pub fn resident_bytes(&self) -> usize {
        self.idle.capacity() * size_of::<(Scratch, usize)>() + self.bytes.load(Ordering::Relaxed)
    }
}
