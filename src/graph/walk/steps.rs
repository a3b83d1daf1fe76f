//! Walking the graph: greedy search on the upper levels, beam search on one level.
//!
//! Algorithm 2 of Malkov and Yashunin (arXiv 1603.09320), in passes over a node's list: the unvisited ids are copied
//! out, what they are scored by is fetched, all are scored in one call, and those that are near enough are merged into
//! the beam at once. On the wide levels two hops overlap, so a node is chosen before the beam knows what the hop before
//! it met: that costs a few nodes more, and hides most of the time that memory takes.

use crate::graph::HnswGraph;
use crate::graph::memory::borrowed::List;
use crate::graph::memory::slots::NONE;
use crate::graph::memory::watermarks::Entry;
use crate::graph::walk::beam::Beam;
use crate::graph::walk::scorer::Scorer;
use crate::graph::walk::scratch::Scratch;
use crate::search::budget::Effort;
use crate::search::scored::{distance, id, key};

/// Levels, from the top, that [`Walk::descend`] searches with a beam.
const WIDE_LEVELS: usize = 3;

/// Beyond this width, the beam of a descent costs more than it finds.
const WIDEST: usize = 512;

/// Width of the beam of a descent, for a beam of `ef` on level 0.
pub(crate) fn descent_width(ef: usize) -> usize {
    (ef / 8).min(WIDEST)
}

/// One query on its way through the graph.
pub(crate) struct Walk<'a, R> {
    pub graph: &'a HnswGraph,
    pub scorer: R,
    /// Ids at or past this are never dereferenced.
    pub readable: u32,
    /// Whether a list named an id past `readable`: the writer published while this walk was on.
    pub overtaken: bool,
    pub effort: Effort,
    pub scratch: &'a mut Scratch,
}

impl<'a, R: Scorer> Walk<'a, R> {
    /// A walk among the ids below `readable`, without limits.
    pub fn new(graph: &'a HnswGraph, scorer: R, readable: u32, scratch: &'a mut Scratch) -> Self {
        scratch.make_room(graph.longest_list());
        Self { graph, scorer, readable, overtaken: false, effort: Effort::unlimited(), scratch }
    }

    /// The key of one node.
    pub fn score(&mut self, id: u32) -> u64 {
        let mut distance = [f32::INFINITY];
        self.count(1, 0);
        self.scorer.score(&[id], &mut distance);
        key(distance[0], id)
    }

    /// The nearest node met on the way down from the entry point to `level`, exclusive (Algorithm 5, lines 3 to 5).
    ///
    /// The first [`WIDE_LEVELS`] levels are searched with a beam of `width` instead of greedily: on data that lies
    /// along a curve, greedy descent ends in a wrong turn of it that no beam on level 0 gets out of. `passed` is
    /// called with the entry point and then with the nearest node of each level.
    pub fn descend(&mut self, entry: Entry, level: usize, width: usize, mut passed: impl FnMut(u64)) -> u64 {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.visited.insert(entry.id);
        let mut nearest = self.score(entry.id);
        passed(nearest);
        for level in (level + 1..=entry.level).rev() {
            if width > 1 && level + WIDE_LEVELS > entry.level {
                self.beam_search(&[nearest], level, width);
                nearest = self.scratch.beam.keys().next().unwrap_or(nearest);
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
            let met = self.collect_unvisited(self.graph.neighbors(level, id(nearest)));
            self.score_collected(met);
            for (id, distance) in self.scratch.collected(met) {
                nearest = nearest.min(key(distance, id));
            }
            // By distance alone: equally near nodes are no progress.
            if distance(nearest) >= distance(before) {
                return before;
            }
        }
    }

    /// The nearest `ef` nodes of `level` that a beam of that width meets from `starts`; nearest first,
    /// in the scratch's beam.
    pub fn beam_search(&mut self, starts: &[u64], level: usize, ef: usize) {
        self.beam_search_while(starts, level, ef, |_, _| true);
    }

    /// Beam search that goes on as long as `goes_on` says so, which is asked before each expansion.
    #[inline(always)]
    pub fn beam_search_while(
        &mut self,
        starts: &[u64],
        level: usize,
        ef: usize,
        mut goes_on: impl FnMut(&Beam, &mut Effort) -> bool,
    ) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.beam.start(ef);
        for &start in starts {
            if self.scratch.visited.insert(id(start)) && start < self.scratch.beam.bound() {
                self.scratch.beam.offer(start);
                self.scratch.beam.merge();
            }
        }
        // One hop is always under way: while what it met is scored, what the next one will score is fetched.
        let mut met = 0;
        loop {
            let goes_on =
                self.scratch.beam.peek_next().is_some() && goes_on(&self.scratch.beam, &mut self.effort);
            let next = if goes_on { self.scratch.beam.expand_next() } else { None };
            let under_way = met;
            self.scratch.swap_ids();
            met = next.map_or(0, |next| self.collect_unvisited(self.graph.neighbors(level, id(next))));
            self.count(met, u64::from(next.is_some()));
            if let Some(next) = self.scratch.beam.peek_next() {
                self.graph.neighbors(level, id(next)).prefetch();
            }
            if under_way > 0 {
                self.score_under_way(under_way, level);
            } else if next.is_none() {
                break;
            }
        }
    }

    /// Scores what the hop under way met and merges what is near enough into the beam.
    #[inline(always)]
    fn score_under_way(&mut self, met: usize, level: usize) {
        let Scratch { beam, under_way, distances, .. } = &mut *self.scratch;
        let (ids, distances) = (&under_way[..met], &mut distances[..met]);
        self.scorer.score(ids, distances);
        let bound = beam.bound();
        let farthest = distance(bound);
        let mut nearest = u64::MAX;
        for (&id, &mut distance) in ids.iter().zip(distances) {
            // Most of what is met is too far: a comparison of distances tells. NaN goes on to the key.
            if distance > farthest {
                continue;
            }
            let key = key(distance, id);
            if key < bound {
                nearest = nearest.min(key);
                beam.offer(key);
            }
        }
        if nearest != u64::MAX {
            // It is likely to be the next one expanded: its list is fetched meanwhile.
            self.graph.neighbors(level, id(nearest)).prefetch();
            beam.merge();
        }
    }

    /// Adds the neighbors of `candidates` on a level to them (`extendCandidates` in Algorithm 4), nearest first again.
    pub fn extend(&mut self, candidates: &mut Vec<u64>, level: usize) {
        self.scratch.visited.start(self.readable as usize);
        for &candidate in candidates.iter() {
            self.scratch.visited.insert(id(candidate));
        }
        for at in 0..candidates.len() {
            let met = self.collect_unvisited(self.graph.neighbors(level, id(candidates[at])));
            self.score_collected(met);
            candidates.extend(self.scratch.collected(met).map(|(id, distance)| key(distance, id)));
        }
        candidates.sort_unstable();
    }

    /// The nearest `ef` of all ids below `end`, nearest first.
    pub fn scan(&mut self, end: u32, ef: usize) -> Vec<u64> {
        let ids: Vec<u32> = (0..end).collect();
        let mut distances = vec![0.0; ids.len()];
        self.scorer.score(&ids, &mut distances);
        let mut keys: Vec<u64> = ids.iter().zip(&distances).map(|(&id, &d)| key(d, id)).collect();
        keys.sort_unstable();
        keys.truncate(ef);
        keys
    }

    #[inline(always)]
    fn count(&mut self, scored: usize, expanded: u64) {
        let counter = if R::EXACT { &mut self.effort.distances } else { &mut self.effort.estimates };
        *counter += scored as u64;
        self.effort.nodes += expanded;
    }

    /// Scores the first ids that were collected.
    #[inline(always)]
    pub(super) fn score_collected(&mut self, met: usize) {
        self.count(met, 1);
        let Scratch { ids, distances, .. } = &mut *self.scratch;
        self.scorer.score(&ids[..met], &mut distances[..met]);
    }

    /// Copies the readable ids of a list out that the walk has not met, starts fetching what they are scored by, and
    /// returns how many they are. A slot may change while it is read: every value it can hold is an id that was
    /// written whole.
    #[inline(always)]
    pub(super) fn collect_unvisited(&mut self, list: List<'_>) -> usize {
        let Scratch { ids, visited, .. } = &mut *self.scratch;
        let mut fresh = 0;
        list.for_each(|id| {
            if id < self.readable {
                // Kept or overwritten by the next: which one is a coin toss, so not a branch.
                if let Some(place) = ids.get_mut(fresh) {
                    *place = id;
                    fresh += usize::from(visited.insert(id));
                }
            } else if id != NONE {
                self.overtaken = true;
            }
        });
        for &id in &ids[..fresh] {
            self.scorer.prefetch(id);
        }
        fresh
    }

    /// Copies a list out as [`collect_unvisited`](Self::collect_unvisited) does, following the writer:
    /// an id past `readable` was stored after a `ready` that covers it.
    pub(super) fn collect_following(&mut self, list: List<'_>) -> usize {
        let mut met = self.collect_unvisited(list);
        while std::mem::take(&mut self.overtaken) {
            let readable = self.graph.readable(self.scorer.readable_len());
            if readable <= self.readable {
                break;
            }
            self.readable = readable;
            self.scratch.visited.grow(readable as usize);
            let before: Vec<u32> = self.scratch.ids[..met].to_vec();
            let more = self.collect_unvisited(list);
            met = more + before.len();
            self.scratch.make_room(met);
            self.scratch.ids[more..met].copy_from_slice(&before);
        }
        met
    }
}
