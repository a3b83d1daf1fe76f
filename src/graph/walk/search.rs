//! Search (Algorithm 5): greedy descent to level 1, then a beam on level 0; other ways where rows are filtered.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::codes::Codes;
use crate::distance::PreparedQuery;
use crate::error::Result;
use crate::graph::HnswGraph;
use crate::graph::memory::watermarks::{Entry, View};
use crate::graph::walk::filtered::{Goal, Verdict};
use crate::graph::walk::plan::{Costs, Progress};
use crate::graph::walk::rerank::rerank;
use crate::graph::walk::scorer::{Coded, Rows, Scorer};
use crate::graph::walk::scratch::Scratch;
use crate::graph::walk::steps::{Walk, descent_width};
use crate::search::budget::Effort;
use crate::search::query::{check_query, key_range, results, saturate};
use crate::search::scan::{Nearest, for_each_block};
use crate::search::scope::Scope;
use crate::search::scored::id;
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hits, SearchParams, SearchPlan};
use crate::vectors::VectorSource;

/// The widest beam: beyond it, moving its entries costs more than heaps.
pub(crate) const WIDEST_BEAM: usize = 2048;

impl HnswGraph {
    /// The `k` nearest rows to `query` that the walk meets, nearest first, ties by id.
    ///
    /// Exactly `min(k, n)` rows, where `n` counts the nodes that are in the graph, below `source.len()` and admitted by
    /// `params`: an older snapshot is answered as of then. Two options give no such promise: a range of
    /// distances, and a limit that ended the search. Never waits for an insert.
    ///
    /// # Errors
    /// - [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) if `query` has another length than
    ///   `source.dim()`,
    /// - [`Error::UnusableQuery`](crate::Error::UnusableQuery) if an element is NaN or infinite, if all are zero under
    ///   cosine, or if one is not a byte (a whole number from 0 to 255) under Hamming,
    /// - [`Error::SourceMismatch`](crate::Error::SourceMismatch) if the source has another metric or dimension than
    ///   the graph,
    /// - [`Error::MaskLength`](crate::Error::MaskLength) if a mask by id does not have one bit for each id,
    /// - [`Error::InvalidDistanceRange`](crate::Error::InvalidDistanceRange) if the range is inverted or NaN.
    pub fn search<S: VectorSource + ?Sized>(
        &self,
        query: &[f32],
        params: &SearchParams,
        source: &S,
    ) -> Result<Hits> {
        self.search_version(query, params, source, None)
    }

    /// Searches without the rows that are dead in a version.
    pub(crate) fn search_version<S: VectorSource + ?Sized>(
        &self,
        query: &[f32],
        params: &SearchParams,
        source: &S,
        dead: Option<(&Versions, IndexVersion)>,
    ) -> Result<Hits> {
        let (view, scope) = self.view_of(query, params, source, dead)?;
        let range = key_range(params)?;
        // After the others: at least what they need.
        let readable = self.readable(source.readable_len());
        let k = params.k.min(scope.visible() as usize);
        let mut effort = Effort::limited(params);
        let Some(entry) = view.entry.filter(|_| k > 0) else {
            return Ok(Hits::new(Vec::new(), effort.stats(SearchPlan::Graph, params.ef)));
        };
        let entry = if entry.id < readable { entry } else { self.entry_below(readable) };
        let ef = params.ef.clamp(1, (readable as usize).max(1));
        let codes = self.codes(readable);
        let prepared = source.prepare(query);
        let search = Search {
            graph: self,
            source,
            query: &prepared,
            scope: &scope,
            codes,
            k,
            ef,
            range,
            readable,
            entry,
        };
        let (plan, keys) = self.scratch.with(|scratch| match codes {
            // Whether a row is within a range has to be known exactly.
            Some(codes) if search.range.is_none() => {
                let query = codes.prepare(query);
                search.run(Coded { codes, query: &query }, scratch, &mut effort)
            }
            _ => search.run(Rows { source, query: &prepared }, scratch, &mut effort),
        });
        Ok(Hits::new(results(keys, source), effort.stats(plan, ef)))
    }

    /// Checks a search and finds out what it may return.
    pub(crate) fn view_of<'a, S: VectorSource + ?Sized>(
        &self,
        query: &[f32],
        params: &'a SearchParams,
        source: &'a S,
        dead: Option<(&'a Versions, IndexVersion)>,
    ) -> Result<(View, Scope<'a, S>)> {
        check_query(query, source)?;
        self.check_metric(source)?;
        let view = self.watermarks.load();
        let visible = view.visible.min(saturate(source.len())).min(self.readable(source.readable_len()));
        Ok((view, Scope::of(params, source, visible, dead)?))
    }

    /// Ids below this may be dereferenced, in a source of so many rows. A store's rows are there before the graph's.
    pub(crate) fn readable(&self, rows: usize) -> u32 {
        self.watermarks.load().ready.min(saturate(rows))
    }

    /// The codes, if they are of all ids below `readable`.
    pub(crate) fn codes(&self, readable: u32) -> Option<&Codes> {
        self.codes.get()?.as_ref().filter(|codes| codes.len() >= readable)
    }
}

/// One search, and all that its ways have in common.
struct Search<'a, S: ?Sized> {
    graph: &'a HnswGraph,
    source: &'a S,
    query: &'a PreparedQuery<'a>,
    scope: &'a Scope<'a, S>,
    codes: Option<&'a Codes>,
    k: usize,
    ef: usize,
    range: Option<Range<u64>>,
    readable: u32,
    entry: Entry,
}

/// How a beam ended.
enum Ending {
    /// The answer.
    Found(Vec<u64>),
    /// Not enough of what it met may be returned. What may, nearest first and by exact distance, is in case that a
    /// limit ends the search.
    Narrow(Vec<u64>),
    /// What may be returned is far from the query, so that no walk will get there soon.
    Hopeless(Vec<u64>),
}

impl<S: VectorSource + ?Sized> Search<'_, S> {
    /// The keys of the answer by exact distance, nearest first, and the way that led to them.
    fn run<R: Scorer>(
        &self,
        scorer: R,
        scratch: &mut Scratch,
        effort: &mut Effort,
    ) -> (SearchPlan, Vec<u64>) {
        let mut walk = Walk::new(self.graph, scorer, self.readable, scratch);
        std::mem::swap(&mut walk.effort, effort);
        let results = self.ef.max(self.k);
        let unfiltered =
            self.scope.is_everything() && self.scope.visible() == self.readable && self.range.is_none();
        let found = if unfiltered {
            self.unfiltered(&mut walk, results)
        } else {
            let costs = Costs::of(
                self.scope,
                self.readable,
                results,
                self.graph.params.m,
                self.range.is_some(),
                R::EXACT,
            );
            self.filtered(&mut walk, results, costs)
        };
        std::mem::swap(&mut walk.effort, effort);
        found
    }

    fn unfiltered<R: Scorer>(&self, walk: &mut Walk<'_, R>, results: usize) -> (SearchPlan, Vec<u64>) {
        let met = match self.beam(walk, results, None) {
            Ending::Found(keys) => return (SearchPlan::Graph, keys),
            Ending::Narrow(met) | Ending::Hopeless(met) => met,
        };
        self.through(walk, results, None, met)
    }

    fn filtered<R: Scorer>(
        &self,
        walk: &mut Walk<'_, R>,
        results: usize,
        costs: Costs,
    ) -> (SearchPlan, Vec<u64>) {
        if costs.starts_with_scan(results) {
            return (SearchPlan::Scan, self.scan(walk, Vec::new(), false));
        }
        match self.beam(walk, results, Some(&costs)) {
            Ending::Found(keys) => (SearchPlan::FilteredGraph, keys),
            Ending::Narrow(met) if !costs.scans_next(results) => {
                self.through(walk, results, Some(costs), met)
            }
            Ending::Narrow(met) | Ending::Hopeless(met) => (SearchPlan::Scan, self.scan(walk, met, false)),
        }
    }

    /// A beam: as wide as the number of results where every row met may be returned, else wider by as much as it
    /// takes to hold as many of the nearest rows that may be, and those that may not are dropped at its end.
    fn beam<R: Scorer>(&self, walk: &mut Walk<'_, R>, results: usize, costs: Option<&Costs>) -> Ending {
        let mut width =
            costs.map_or(Some(results), |costs| costs.width(results, self.k)).unwrap_or(usize::MAX);
        if width > WIDEST_BEAM {
            return Ending::Narrow(Vec::new());
        }
        let admitted =
            |walk: &Walk<'_, R>| walk.scratch.beam.keys().filter(|&key| self.scope.admits(id(key))).count();
        let start = walk.descend(self.entry, 0, descent_width(width), |_| ());
        let mut corrected = costs.is_none();
        loop {
            let mut hopeless = false;
            let judge = costs.filter(|_| !corrected);
            let mut next_look = judge.map_or(u64::MAX, Costs::trial);
            walk.beam_search_while(&[start], 0, width, |beam, effort| {
                if effort.is_spent() {
                    return false;
                }
                if let Some(costs) = judge
                    && !hopeless
                    && beam.len() == width
                    && effort.scored() >= next_look
                {
                    // A look at the rows near the query, long before the end, where nearly none may be returned.
                    next_look = 2 * effort.scored();
                    let passed = beam.keys().filter(|&key| self.scope.admits(id(key))).count();
                    hopeless = costs.is_hopeless_share(passed, width);
                }
                !hopeless
            });
            let passed = admitted(walk);
            let spent = !walk.effort.is_complete();
            if !spent && !hopeless && !walk.overtaken && !corrected {
                // The share of rows near the query that may be returned is not that of all rows: once more.
                corrected = true;
                if let Some(costs) = costs
                    && let Some(wider) = costs.corrected(results, self.k, passed, width)
                {
                    if wider <= WIDEST_BEAM && !costs.is_dearer_than_scan(wider) {
                        width = wider;
                        continue;
                    }
                    hopeless = costs.is_dearer_than_scan(wider);
                }
            }
            let keys = self.exact_of_beam(walk);
            return if spent || (passed >= self.k && !hopeless && !walk.overtaken) {
                Ending::Found(keys)
            } else if hopeless {
                Ending::Hopeless(keys)
            } else {
                Ending::Narrow(keys)
            };
        }
    }

    /// The nearest rows of the beam that may be returned.
    fn exact_of_beam<R: Scorer>(&self, walk: &mut Walk<'_, R>) -> Vec<u64> {
        let everything = self.scope.is_everything() && self.scope.visible() >= self.readable;
        let Walk { scratch, scorer, effort, .. } = walk;
        if everything {
            let keys = scratch.beam.keys();
            if R::EXACT { keys.take(self.k).collect() } else { self.rerank(scorer, effort, keys) }
        } else {
            let keys = scratch.beam.keys().filter(|&key| self.scope.admits(id(key)));
            if R::EXACT { keys.take(self.k).collect() } else { self.rerank(scorer, effort, keys) }
        }
    }

    fn rerank<R: Scorer>(&self, scorer: &R, effort: &mut Effort, met: impl Iterator<Item = u64>) -> Vec<u64> {
        rerank(met, self.k, scorer, self.source, self.query, effort)
    }

    /// Past rows that may not be returned. `met` is what a beam found before.
    fn through<R: Scorer>(
        &self,
        walk: &mut Walk<'_, R>,
        results: usize,
        costs: Option<Costs>,
        met: Vec<u64>,
    ) -> (SearchPlan, Vec<u64>) {
        let filtered = costs.is_some();
        let range = self.range.clone().map(|range| (range, self.ef));
        let goal = Goal { scope: self.scope, results, range, costs, goes_on: false };
        let mut progress = Progress { before: walk.effort.scored(), expanded: 0, passed: 0 };
        let start = walk.descend(self.entry, 0, descent_width(results), |_| ());
        walk.start_through();
        walk.start_from(start, &goal);
        let mut verdict = walk.walk_through(&goal, &mut progress);
        let is_short = |walk: &Walk<'_, R>| walk.scratch.results.len() < self.k && self.range.is_none();
        if verdict == Verdict::Exhausted && is_short(walk) {
            // The walk ran out of nodes; from the entry point all of them can be reached.
            let entry = walk.score(self.entry.id);
            walk.start_from(entry, &goal);
            verdict = walk.walk_through(&goal, &mut progress);
        }
        let mut found: Vec<u64> = walk.scratch.results.drain().collect();
        found.sort_unstable();
        if R::EXACT {
            found.truncate(self.k);
        } else {
            let Walk { scorer, effort, .. } = walk;
            found = self.rerank(scorer, effort, found.into_iter());
        }
        if verdict == Verdict::Spent {
            // The best so far is what either found.
            found.extend(met);
            found.sort_unstable();
            found.dedup();
            found.truncate(self.k);
        } else if verdict == Verdict::Hopeless || (found.len() < self.k && self.range.is_none()) {
            // Too dear, or all but those whose way leads through nodes past `readable`.
            return (SearchPlan::Scan, self.scan(walk, found, true));
        }
        (if filtered { SearchPlan::FilteredGraph } else { SearchPlan::Graph }, found)
    }

    /// The nearest of `found` and of all rows that may be returned, or of those that the walk has not met: what no
    /// beam can guarantee to find.
    fn scan<R: Scorer>(&self, walk: &mut Walk<'_, R>, found: Vec<u64>, has_met: bool) -> Vec<u64> {
        if has_met {
            walk.scratch.visited.grow(self.scope.visible() as usize);
        }
        let all = Nearest::new(self.source, self.query, self.codes, self.k, self.range.clone());
        let mut nearest: BinaryHeap<u64> = if has_met { found.into() } else { BinaryHeap::new() };
        let Walk { scratch, effort, .. } = walk;
        for_each_block(
            self.scope,
            0..self.scope.visible(),
            effort,
            |id| !has_met || scratch.visited.insert(id),
            |block, effort| all.compare(&mut nearest, block, effort),
        );
        nearest.into_sorted_vec()
    }
}
