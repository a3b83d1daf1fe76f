//! Walking the graph: greedy search on the upper levels, beam search on one level.
//!
//! Algorithm 2 of Malkov and Yashunin (arXiv 1603.09320), in two passes per node: first the list is
//! copied out and the unvisited ids are kept, then all of them are scored in one call.

use std::cmp::Reverse;

use super::frozen::List;
use super::key::{distance, id, key};
use super::pool::Pool;
use super::scratch::Scratch;
use super::slots::NONE;
use super::{HnswGraph, watermarks::Entry};
use crate::distance::PreparedQuery;
use crate::source::VectorSource;

/// Levels, from the top, that [`Walk::descend`] searches with a beam.
const WIDE_LEVELS: usize = 3;

/// Width of that beam, for a beam of `ef` on level 0.
pub(super) fn descent_width(ef: usize) -> usize {
    ef / 8
}

/// One query on its way through the graph.
pub(super) struct Walk<'a, S: ?Sized> {
    pub graph: &'a HnswGraph,
    pub source: &'a S,
    pub query: &'a PreparedQuery<'a>,
    /// Ids at or past this are never dereferenced.
    pub readable: u32,
    /// Whether a list named an id past `readable`: the writer published while this walk was on.
    pub overtaken: bool,
    pub scratch: &'a mut Scratch,
}

impl<S: VectorSource + ?Sized> Walk<'_, S> {
    /// The key of one node.
    pub fn score(&mut self, id: u32) -> u64 {
        let mut out = [0.0];
        self.source.distances_to(self.query, &[id], &mut out);
        key(out[0], id)
    }

    /// From the entry point down to `level`: greedily (`ef = 1` in the paper), but with a beam of
    /// `width` on the highest levels. These are small and decide the region, and where rows lie on a
    /// curve, greedy steps among them end in the wrong one.
    /// `passed` is called with the entry point and then with the nearest node of each level.
    pub fn descend(&mut self, entry: Entry, level: usize, width: usize, mut passed: impl FnMut(u64)) -> u64 {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.visited.insert(entry.id);
        let mut nearest = self.score(entry.id);
        passed(nearest);
        for level in (level + 1..=entry.level).rev() {
            if width > 1 && level + WIDE_LEVELS > entry.level {
                self.beam_search(&[nearest], level, width);
                nearest = self.scratch.pool.keys().first().copied().unwrap_or(nearest);
            } else {
                nearest = self.greedy_search(nearest, level);
            }
            passed(nearest);
        }
        nearest
    }

    /// On one level, step by step to the nearest neighbor as long as that is nearer. A node that was
    /// met before, on whatever level, was not nearer and need not be scored again.
    fn greedy_search(&mut self, mut nearest: u64, level: usize) -> u64 {
        loop {
            let before = nearest;
            self.collect_unvisited(self.graph.neighbors(level, id(nearest)));
            self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
            for (&id, &distance) in self.scratch.ids.iter().zip(&self.scratch.distances) {
                nearest = nearest.min(key(distance, id));
            }
            // By distance alone: equally near nodes are no progress.
            if distance(nearest) >= distance(before) {
                return before;
            }
        }
    }

    /// The nearest `ef` nodes of `level` that a beam of that width meets from `starts`; nearest first,
    /// in the scratch's pool.
    pub fn beam_search(&mut self, starts: &[u64], level: usize, ef: usize) {
        self.beam_search_until(starts, level, ef, |_| u64::MAX);
    }

    /// The same, but nodes at or past `limit(pool)` are neither kept nor expanded.
    #[inline(always)]
    pub fn beam_search_until(
        &mut self,
        starts: &[u64],
        level: usize,
        ef: usize,
        limit: impl Fn(&Pool) -> u64,
    ) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.pool.start(ef);
        for &start in starts {
            if self.scratch.visited.insert(id(start)) && start < self.scratch.pool.bound() {
                self.scratch.pool.insert(start);
            }
        }
        while let Some(nearest) = self.scratch.pool.expand_next() {
            let limit = limit(&self.scratch.pool);
            if nearest > limit {
                break;
            }
            self.collect_unvisited(self.graph.neighbors(level, id(nearest)));
            if let Some(next) = self.scratch.pool.peek_next() {
                self.graph.neighbors(level, id(next)).prefetch();
            }
            self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
            let Scratch { pool, ids, distances, .. } = &mut *self.scratch;
            // The nearest is likely to be the next one expanded: its list is fetched meanwhile.
            let keys = ids.iter().zip(distances.iter()).map(|(&id, &distance)| key(distance, id));
            if let Some(nearest) = keys.clone().min() {
                self.graph.neighbors(level, id(nearest)).prefetch();
            }
            for key in keys {
                if key < pool.bound().min(limit) {
                    pool.insert(key);
                }
            }
        }
    }

    /// Begins a [`beam_search_through`](Self::beam_search_through).
    pub fn start_through(&mut self) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.candidates.clear();
        self.scratch.results.clear();
    }

    /// Beam search on level 0 that walks through nodes it may not return: they lead on, but they
    /// take no place among the `ef` results. Goes on from what the scratch holds.
    pub fn beam_search_through(&mut self, start: u64, ef: usize, returnable: &impl Fn(u32) -> bool) {
        if !self.scratch.visited.insert(id(start)) {
            return;
        }
        self.offer(start, ef, returnable);
        while let Some(Reverse(nearest)) = self.scratch.candidates.pop() {
            if self.scratch.results.len() >= ef
                && self.scratch.results.peek().is_some_and(|&worst| nearest > worst)
            {
                break;
            }
            self.collect_following(self.graph.neighbors(0, id(nearest)));
            self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
            for at in 0..self.scratch.ids.len() {
                self.offer(key(self.scratch.distances[at], self.scratch.ids[at]), ef, returnable);
            }
        }
    }

    fn offer(&mut self, key: u64, ef: usize, returnable: &impl Fn(u32) -> bool) {
        let Scratch { candidates, results, .. } = &mut *self.scratch;
        if results.len() >= ef && results.peek().is_some_and(|&worst| key >= worst) {
            return;
        }
        candidates.push(Reverse(key));
        if returnable(id(key)) {
            results.push(key);
            if results.len() > ef {
                results.pop();
            }
        }
    }

    /// Scores every id below `end` that the walk has not met: what no beam can guarantee to find.
    pub fn scan_unvisited(&mut self, end: u32, k: usize) {
        let mut next = 0;
        while next < end {
            self.scratch.ids.clear();
            while next < end && self.scratch.ids.len() < 256 {
                if self.scratch.visited.insert(next) {
                    self.scratch.ids.push(next);
                }
                next += 1;
            }
            self.scratch.distances.resize(self.scratch.ids.len(), 0.0);
            self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
            for at in 0..self.scratch.ids.len() {
                self.scratch.results.push(key(self.scratch.distances[at], self.scratch.ids[at]));
                if self.scratch.results.len() > k {
                    self.scratch.results.pop();
                }
            }
        }
    }

    /// The nearest `ef` of all ids below `end`, nearest first.
    pub fn scan(&mut self, end: u32, ef: usize) -> Vec<u64> {
        self.start_through();
        self.scan_unvisited(end, ef);
        let mut keys: Vec<u64> = self.scratch.results.drain().collect();
        keys.sort_unstable();
        keys
    }

    /// Copies the readable ids of a list out that the walk has not met. A slot may change while it is
    /// read: every value it can hold is an id that was written whole.
    #[inline(always)]
    fn collect_unvisited(&mut self, list: List<'_>) {
        let Scratch { ids, visited, distances, .. } = &mut *self.scratch;
        ids.resize(list.slots(), NONE);
        let mut fresh = 0;
        list.for_each(|id| {
            if id < self.readable {
                // Kept or overwritten by the next: which one is a coin toss, so not a branch.
                ids[fresh] = id;
                fresh += usize::from(visited.insert(id));
            } else if id != NONE {
                self.overtaken = true;
            }
        });
        ids.truncate(fresh);
        distances.resize(fresh, 0.0);
    }

    /// Copies a list out as [`collect_unvisited`](Self::collect_unvisited) does, following the writer:
    /// an id past `readable` was stored after a `ready` that covers it.
    fn collect_following(&mut self, list: List<'_>) {
        self.collect_unvisited(list);
        if self.overtaken {
            self.overtaken = false;
            let readable = self.graph.readable(self.source);
            if readable > self.readable {
                self.readable = readable;
                self.scratch.visited.grow(readable as usize);
                let met = std::mem::take(&mut self.scratch.ids);
                self.collect_unvisited(list);
                self.scratch.ids.extend(met);
                self.scratch.distances.resize(self.scratch.ids.len(), 0.0);
            }
        }
    }
}
