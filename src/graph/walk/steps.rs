//! Walking the graph: greedy search on the upper levels, beam search on one level.
//!
//! Algorithm 2 of Malkov and Yashunin (arXiv 1603.09320), in two passes per node: first the list is
//! copied out and the unvisited ids are kept, then all of them are scored in one call.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::distance::PreparedQuery;
use crate::graph::HnswGraph;
use crate::graph::memory::borrowed::List;
use crate::graph::memory::slots::NONE;
use crate::graph::memory::watermarks::Entry;
use crate::graph::walk::beam::Pool;
use crate::graph::walk::plan::{Costs, Progress};
use crate::graph::walk::scratch::Scratch;
use crate::search::budget::Effort;
use crate::search::scan::SCAN_TESTS;
use crate::search::scope::Scope;
use crate::search::scored::{distance, id, keep_nearest, key};
use crate::vectors::VectorSource;

/// Levels, from the top, that [`Walk::descend`] searches with a beam.
const WIDE_LEVELS: usize = 3;

/// Rows scored at a time in a scan.
const SCAN_BLOCK: usize = 256;

/// Width of that beam, for a beam of `ef` on level 0.
pub(crate) fn descent_width(ef: usize) -> usize {
    (ef / 8).min(WIDEST)
}

/// Beyond this width, the beam of a descent costs more than it finds.
const WIDEST: usize = 512;

/// One query on its way through the graph.
pub(crate) struct Walk<'a, S: ?Sized> {
    pub graph: &'a HnswGraph,
    pub source: &'a S,
    pub query: &'a PreparedQuery<'a>,
    /// Ids at or past this are never dereferenced.
    pub readable: u32,
    /// Whether a list named an id past `readable`: the writer published while this walk was on.
    pub overtaken: bool,
    pub effort: Effort,
    pub scratch: &'a mut Scratch,
}

/// What a walk through nodes that may not be returned is after.
pub(crate) struct Goal<'a, S: ?Sized> {
    pub scope: &'a Scope<'a, S>,
    /// Results kept.
    pub results: usize,
    /// Keys that are results, and how many of the nearest nodes are expanded whatever their key, so that the
    /// walk gets there.
    pub range: Option<(Range<u64>, usize)>,
    /// When to give up; never if every node may be returned.
    pub costs: Option<Costs>,
}

impl<'a, S: VectorSource + ?Sized> Walk<'a, S> {
    /// A walk among the ids below `readable`, without limits.
    pub fn new(
        graph: &'a HnswGraph,
        source: &'a S,
        query: &'a PreparedQuery<'a>,
        readable: u32,
        scratch: &'a mut Scratch,
    ) -> Self {
        Self { graph, source, query, readable, overtaken: false, effort: Effort::unlimited(), scratch }
    }

    /// The key of one node.
    pub fn score(&mut self, id: u32) -> u64 {
        self.effort.distances += 1;
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
            self.score_collected();
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
        self.beam_search_until(starts, level, ef, |_, _| u64::MAX);
    }

    /// The same, but nodes at or past a limit, which is asked for before each expansion, are neither kept nor
    /// expanded.
    #[inline(always)]
    pub fn beam_search_until(
        &mut self,
        starts: &[u64],
        level: usize,
        ef: usize,
        mut limit: impl FnMut(&Pool, &mut Effort) -> u64,
    ) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.pool.start(ef);
        for &start in starts {
            if self.scratch.visited.insert(id(start)) && start < self.scratch.pool.bound() {
                self.scratch.pool.insert(start);
            }
        }
        while let Some(nearest) = self.scratch.pool.expand_next() {
            let limit = limit(&self.scratch.pool, &mut self.effort);
            if nearest > limit {
                break;
            }
            self.collect_unvisited(self.graph.neighbors(level, id(nearest)));
            if let Some(next) = self.scratch.pool.peek_next() {
                self.graph.neighbors(level, id(next)).prefetch();
            }
            self.score_collected();
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

    /// Adds the neighbors of `candidates` on a level to them (`extendCandidates` in Algorithm 4), nearest first again.
    pub fn extend(&mut self, candidates: &mut Vec<u64>, level: usize) {
        self.scratch.visited.start(self.readable as usize);
        for &candidate in candidates.iter() {
            self.scratch.visited.insert(id(candidate));
        }
        for at in 0..candidates.len() {
            self.collect_unvisited(self.graph.neighbors(level, id(candidates[at])));
            self.score_collected();
            let added = self.scratch.ids.iter().zip(&self.scratch.distances);
            candidates.extend(added.map(|(&id, &distance)| key(distance, id)));
        }
        candidates.sort_unstable();
    }

    /// Scores the ids that were collected.
    #[inline(always)]
    fn score_collected(&mut self) {
        self.effort.nodes += 1;
        self.effort.distances += self.scratch.ids.len() as u64;
        self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
    }

    /// Begins a [`beam_search_through`](Self::beam_search_through).
    pub fn start_through(&mut self) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.candidates.clear();
        self.scratch.results.clear();
        self.scratch.beam.clear();
    }

    /// Beam search on level 0 that walks through nodes it may not return: they lead on, but they
    /// take no place among the results. Goes on from what the scratch holds; false if it gave up.
    pub fn beam_search_through(&mut self, start: u64, goal: &Goal<'_, S>, progress: &mut Progress) -> bool {
        if !self.scratch.visited.insert(id(start)) {
            return true;
        }
        self.offer(start, goal);
        while let Some(Reverse(nearest)) = self.scratch.candidates.pop() {
            if nearest > self.bound(goal) || self.effort.is_spent() {
                break;
            }
            if let Some(costs) = &goal.costs {
                progress.expanded += 1;
                progress.passed += u64::from(goal.scope.admits(id(nearest)));
                if costs.is_hopeless(self.effort.distances, progress) {
                    return false;
                }
            }
            self.collect_following(self.graph.neighbors(0, id(nearest)));
            self.score_collected();
            for at in 0..self.scratch.ids.len() {
                self.offer(key(self.scratch.distances[at], self.scratch.ids[at]), goal);
            }
        }
        true
    }

    /// The neighbors of a node on level 0 that were not met before.
    pub fn expand(&mut self, node: u32) -> Vec<u64> {
        self.collect_following(self.graph.neighbors(0, node));
        self.score_collected();
        self.scratch.ids.iter().zip(&self.scratch.distances).map(|(&id, &d)| key(d, id)).collect()
    }

    /// The key that a node must be below to be of use.
    fn bound(&self, goal: &Goal<'_, S>) -> u64 {
        let worst = |heap: &BinaryHeap<u64>, capacity| match heap.peek() {
            Some(&worst) if heap.len() >= capacity => worst,
            _ => u64::MAX,
        };
        let bound = worst(&self.scratch.results, goal.results);
        match &goal.range {
            Some((range, beam)) => bound.min(range.end).max(worst(&self.scratch.beam, *beam)),
            None => bound,
        }
    }

    fn offer(&mut self, key: u64, goal: &Goal<'_, S>) {
        if key >= self.bound(goal) {
            return;
        }
        self.scratch.candidates.push(Reverse(key));
        if let Some((range, beam)) = &goal.range {
            keep_nearest(&mut self.scratch.beam, *beam, key);
            if !range.contains(&key) {
                return;
            }
        }
        if goal.scope.admits(id(key)) {
            self.keep(key, goal.results);
        }
    }

    fn keep(&mut self, key: u64, capacity: usize) {
        keep_nearest(&mut self.scratch.results, capacity, key);
    }

    /// Scores all nodes of a scope, or those that the walk has not met: what no beam can guarantee to find. Keeps the
    /// `k` nearest.
    pub fn scan_scope(&mut self, goal: &Goal<'_, S>, k: usize, has_met: bool) {
        if has_met {
            self.scratch.visited.grow(goal.scope.visible() as usize);
            while self.scratch.results.len() > k {
                self.scratch.results.pop();
            }
        } else {
            self.scratch.results.clear();
        }
        self.scratch.ids.clear();
        let (mut start, end) = (0, goal.scope.visible());
        while start < end && !self.effort.is_spent_now() {
            let stop = end.min(start.saturating_add(SCAN_TESTS));
            goal.scope.for_each(start..stop, |id| {
                if !has_met || self.scratch.visited.insert(id) {
                    self.scratch.ids.push(id);
                }
                self.scratch.ids.len() < SCAN_BLOCK || {
                    self.keep_collected(goal, k);
                    !self.effort.is_spent()
                }
            });
            start = stop;
        }
        self.keep_collected(goal, k);
    }

    /// Scores the ids that were collected in a scan, and keeps the best.
    fn keep_collected(&mut self, goal: &Goal<'_, S>, k: usize) {
        self.scratch.distances.resize(self.scratch.ids.len(), 0.0);
        self.effort.distances += self.scratch.ids.len() as u64;
        self.source.distances_to(self.query, &self.scratch.ids, &mut self.scratch.distances);
        let Scratch { ids, distances, results, .. } = &mut *self.scratch;
        for (&id, &distance) in ids.iter().zip(distances.iter()) {
            let key = key(distance, id);
            if goal.range.as_ref().is_none_or(|(range, _)| range.contains(&key)) {
                keep_nearest(results, k, key);
            }
        }
        ids.clear();
    }

    /// The nearest `ef` of all ids below `end`, nearest first.
    pub fn scan(&mut self, end: u32, ef: usize) -> Vec<u64> {
        let ids: Vec<u32> = (0..end).collect();
        let mut distances = vec![0.0; ids.len()];
        self.source.distances_to(self.query, &ids, &mut distances);
        let mut keys: Vec<u64> = ids.iter().zip(&distances).map(|(&id, &d)| key(d, id)).collect();
        keys.sort_unstable();
        keys.truncate(ef);
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
        while std::mem::take(&mut self.overtaken) {
            let readable = self.graph.readable(self.source);
            if readable <= self.readable {
                break;
            }
            self.readable = readable;
            self.scratch.visited.grow(readable as usize);
            let met = std::mem::take(&mut self.scratch.ids);
            self.collect_unvisited(list);
            self.scratch.ids.extend(met);
            self.scratch.distances.resize(self.scratch.ids.len(), 0.0);
        }
    }
}
