//! Search (Algorithm 5): greedy descent to level 1, then a beam on level 0.

use crate::error::Result;
use crate::graph::HnswGraph;
use crate::graph::memory::watermarks::{Entry, View};
use crate::graph::walk::plan::{Costs, Progress};
use crate::graph::walk::steps::{Goal, Walk, descent_width};
use crate::search::budget::Effort;
use crate::search::query::{check_query, key_range, results, saturate};
use crate::search::scope::Scope;
use crate::search::scored::id;
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hits, SearchParams, SearchPlan};
use crate::vectors::VectorSource;

/// Up to this `ef` the beam is a sorted pool, beyond it two heaps.
const POOL_EF: usize = 512;

impl HnswGraph {
    /// The `k` nearest rows to `query` that the walk meets, nearest first, ties by id.
    ///
    /// Exactly `min(k, n)` rows, where `n` counts the nodes that are in the graph, below `source.len()` and admitted by
    /// `params`: an older snapshot is answered as of then. Two options give no such promise: a range of
    /// distances, and a limit that ended the search. Never waits for an insert.
    ///
    /// # Errors
    /// - [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) if `query` has another length than `source.dim()`,
    /// - [`Error::UnusableQuery`](crate::Error::UnusableQuery) if an element is NaN or infinite, if all are zero under cosine, or if one is not a
    ///   byte (a whole number from 0 to 255) under Hamming,
    /// - [`Error::SourceMismatch`](crate::Error::SourceMismatch) if the source has another metric or dimension than the graph,
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
        let readable = self.readable(source);
        let k = params.k.min(scope.visible() as usize);
        let mut effort = Effort::limited(params);
        let Some(entry) = view.entry.filter(|_| k > 0) else {
            return Ok(Hits::new(Vec::new(), effort.stats(SearchPlan::Graph, params.ef)));
        };
        let entry = if entry.id < readable { entry } else { self.entry_below(readable) };
        let ef = params.ef.clamp(1, (readable as usize).max(1));

        let query = source.prepare(query);
        let (plan, keys) = self.scratch.with(|scratch| {
            let mut walk = Walk::new(self, source, &query, readable, scratch);
            std::mem::swap(&mut walk.effort, &mut effort);
            let unfiltered = scope.is_everything() && scope.visible() == readable && range.is_none();
            let results = ef.max(k);
            let costs =
                (!unfiltered).then(|| Costs::of(&scope, readable, results, self.params.m, range.is_some()));
            let goal = Goal { scope: &scope, results, range: range.map(|range| (range, ef)), costs };
            let (plan, keys) = match self.beam(&mut walk, entry, k, &goal) {
                Ok(keys) => (if unfiltered { SearchPlan::Graph } else { SearchPlan::FilteredGraph }, keys),
                Err(Narrow { met, hopeless }) => {
                    let plan = self.search_through(&mut walk, entry, k, &goal, hopeless);
                    let mut keys: Vec<u64> = walk.scratch.results.drain().collect();
                    if !walk.effort.is_complete() {
                        // The best so far is what either found.
                        keys.extend(met);
                    }
                    keys.sort_unstable();
                    keys.dedup();
                    keys.truncate(k);
                    (plan, keys)
                }
            };
            std::mem::swap(&mut walk.effort, &mut effort);
            (plan, keys)
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
        let end = source.len();
        let visible = view.visible.min(saturate(end)).min(self.readable(source));
        Ok((view, Scope::of(params, source, visible, dead)?))
    }

    /// A plain beam, where every row met may be returned, or most: then it is wider by what will be dropped.
    /// An error if too much was dropped for the beam to have been wide enough, or the writer was faster.
    fn beam<S: VectorSource + ?Sized>(
        &self,
        walk: &mut Walk<'_, S>,
        entry: Entry,
        k: usize,
        goal: &Goal<'_, S>,
    ) -> std::result::Result<Vec<u64>, Narrow> {
        let needed = k.max(goal.results * 4 / 5);
        let width = match &goal.costs {
            Some(costs) => costs.width_of_beam(goal.results, needed).unwrap_or(usize::MAX),
            None => goal.results,
        };
        if width > POOL_EF {
            return Err(Narrow { met: Vec::new(), hopeless: false });
        }
        let start = walk.descend(entry, 0, descent_width(width), |_| ());
        let (mut to_judge, mut hopeless) = (goal.costs.as_ref(), false);
        walk.beam_search_until(&[start], 0, width, |pool, effort| {
            if effort.is_spent() {
                return 0;
            }
            if let Some(costs) = to_judge
                && effort.distances >= costs.trial()
            {
                to_judge = None;
                let met = pool.keys();
                let passed = met.iter().filter(|&&key| goal.scope.admits(id(key))).count();
                if (passed as f64) * 4.0 < met.len() as f64 * costs.part() {
                    hopeless = true;
                    return 0;
                }
            }
            u64::MAX
        });
        let met = walk.scratch.pool.keys();
        let (enough, mut keys) = match goal.costs {
            Some(_) => {
                let keys: Vec<u64> = met.iter().copied().filter(|&key| goal.scope.admits(id(key))).collect();
                (keys.len() >= needed, keys)
            }
            None => (met.len() >= k, met.get(..k).unwrap_or(met).to_vec()),
        };
        hopeless |= goal.costs.is_some() && !walk.overtaken && keys.len() * 2 < needed;
        keys.truncate(k);
        if enough && !hopeless && !walk.overtaken || !walk.effort.is_complete() {
            Ok(keys)
        } else {
            Err(Narrow { met: keys, hopeless })
        }
    }

    /// Past rows that may not be returned, or straight to those that may; the results are in the scratch.
    fn search_through<S: VectorSource + ?Sized>(
        &self,
        walk: &mut Walk<'_, S>,
        entry: Entry,
        k: usize,
        goal: &Goal<'_, S>,
        hopeless: bool,
    ) -> SearchPlan {
        if hopeless
            || goal.costs.as_ref().is_some_and(|costs| costs.starts_with_scan(goal.results, self.params.m))
        {
            walk.scan_scope(goal, k, false);
            return SearchPlan::Scan;
        }
        let mut progress = Progress { before: walk.effort.distances, expanded: 0, passed: 0 };
        let start = walk.descend(entry, 0, descent_width(goal.results), |_| ());
        walk.start_through();
        let mut arrived = walk.beam_search_through(start, goal, &mut progress);
        if arrived && walk.scratch.results.len() < k && goal.range.is_none() && walk.effort.is_complete() {
            // The walk ran out of nodes; from the entry point all of them can be reached.
            let entry = walk.score(entry.id);
            arrived = walk.beam_search_through(entry, goal, &mut progress);
        }
        let short = walk.scratch.results.len() < k && goal.range.is_none();
        if (!arrived || short) && walk.effort.is_complete() {
            // Too dear, or all but those whose way leads through nodes past `readable`.
            walk.scan_scope(goal, k, true);
            return SearchPlan::Scan;
        }
        if goal.costs.is_some() { SearchPlan::FilteredGraph } else { SearchPlan::Graph }
    }
}

/// A beam that was not wide enough.
struct Narrow {
    /// What it met and may be returned, at most `k`.
    met: Vec<u64>,
    /// Whether what may be returned is far from the query, so that a walk will not get there soon.
    hopeless: bool,
}

impl HnswGraph {
    /// Ids below this may be dereferenced. A store's rows are there before the graph's.
    pub(crate) fn readable<S: VectorSource + ?Sized>(&self, source: &S) -> u32 {
        self.watermarks.load().ready.min(saturate(source.readable_len()))
    }
}
