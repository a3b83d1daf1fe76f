//! Resumable search: the next nearest rows after those that were given out.

use std::cmp::Reverse;
use std::ops::Range;

use crate::distance::PreparedQuery;
use crate::error::Result;
use crate::graph::HnswGraph;
use crate::graph::memory::watermarks::Entry;
use crate::graph::walk::filtered::{Goal, Verdict};
use crate::graph::walk::plan::{Costs, Progress};
use crate::graph::walk::rerank::rerank;
use crate::graph::walk::scorer::{Coded, Rows, Scorer};
use crate::graph::walk::scratch::Scratch;
use crate::graph::walk::steps::{Walk, descent_width};
use crate::search::budget::Effort;
use crate::search::mask::RowMask;
use crate::search::query::{key_range, results};
use crate::search::scan::for_each_block;
use crate::search::scope::Scope;
use crate::search::scored::{id, key};
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hit, SearchParams};
use crate::vectors::VectorSource;

/// A walk that stops when it has a page, and goes on from there. Where few rows qualify, all of them are scored at
/// once, or as soon as the walk has cost as much.
///
/// It owns its state, so that it can be kept between two requests: what it walks through is handed to each step.
pub(crate) struct Cursor {
    query: Vec<f32>,
    ef: usize,
    mask: Option<RowMask>,
    max_row_id: Option<u64>,
    visible: u32,
    range: Option<Range<u64>>,
    /// What was met: nodes to expand, the nearest rows that were not given out, and the rest of these.
    scratch: Scratch,
    readable: u32,
    /// Whether keys are by estimate, of all pages: codes that come later are not looked at.
    coded: bool,
    /// Whether the walk has ended, and what it did not meet was scored.
    exhausted: bool,
    /// Rows scored, and how many of them a scan is worth.
    spent: u64,
    scan: u64,
}

/// What a cursor walks through; the same for all its steps.
pub(crate) struct Ground<'a, S> {
    pub graph: &'a HnswGraph,
    pub source: &'a S,
    pub dead: Option<(&'a Versions, IndexVersion)>,
}

impl Cursor {
    /// A cursor that has not given out anything yet.
    pub fn try_new<S: VectorSource>(
        ground: &Ground<'_, S>,
        query: &[f32],
        params: &SearchParams,
    ) -> Result<Self> {
        let Ground { graph, source, dead } = *ground;
        let (view, scope) = graph.view_of(query, params, source, dead)?;
        let range = key_range(params)?;
        let (visible, max_row_id) = (scope.visible(), scope.max_row_id());
        let readable = graph.readable(source.readable_len());
        let ef = params.ef.clamp(1, (readable as usize).max(1));
        let coded = range.is_none() && graph.codes(readable).is_some();
        let costs = Costs::of(&scope, readable, ef, graph.params.m, range.is_some(), !coded);
        let everything = scope.is_everything() && range.is_none();
        let scan_at_once = !everything && (costs.starts_with_scan(ef) || costs.scans_next(ef));
        let mut cursor = Self {
            query: query.to_vec(),
            ef,
            mask: params.mask.clone(),
            max_row_id,
            visible,
            range,
            scratch: Scratch::default(),
            readable,
            coded,
            exhausted: visible == 0,
            spent: 0,
            scan: if everything { u64::MAX } else { costs.scan() },
        };
        let entry = view.entry.filter(|_| !cursor.exhausted && !scan_at_once);
        let entry = entry.map(|entry| if entry.id < readable { entry } else { graph.entry_below(readable) });
        cursor.step(ground, ef, Step::Begin(entry));
        Ok(cursor)
    }

    /// The next `k` rows, nearest first.
    pub fn next_k<S: VectorSource>(&mut self, ground: &Ground<'_, S>, k: usize) -> Vec<Hit> {
        let keys = if k == 0 { Vec::new() } else { self.step(ground, self.ef.max(k), Step::Page(k)) };
        results(keys, ground.source)
    }

    /// Runs a step of the walk, by the codes of rows or by the rows themselves.
    fn step<S: VectorSource>(&mut self, ground: &Ground<'_, S>, width: usize, step: Step) -> Vec<u64> {
        let Ground { graph, source, dead } = *ground;
        let (query, mask) = (std::mem::take(&mut self.query), self.mask.take());
        let scope = Scope::new(source, self.visible, dead, self.max_row_id, mask.as_ref());
        let range = self.range.clone().map(|range| (range, width));
        let goal = Goal { scope: &scope, results: width, range, costs: None, goes_on: true };
        let prepared = source.prepare(&query);
        let codes = if self.coded { graph.codes(self.readable) } else { None };
        let keys = match codes {
            Some(codes) => {
                let query = codes.prepare(&query);
                self.step_by(graph, Coded { codes, query: &query }, source, &prepared, &goal, step)
            }
            None => self.step_by(graph, Rows { source, query: &prepared }, source, &prepared, &goal, step),
        };
        (self.query, self.mask) = (query, mask);
        keys
    }

    fn step_by<S: VectorSource, R: Scorer>(
        &mut self,
        graph: &HnswGraph,
        scorer: R,
        source: &S,
        query: &PreparedQuery<'_>,
        goal: &Goal<'_, S>,
        step: Step,
    ) -> Vec<u64> {
        let mut walk = Walk::new(graph, scorer, self.readable, &mut self.scratch);
        walk.effort = Effort::up_to(self.scan.saturating_sub(self.spent));
        let keys = match step {
            Step::Begin(entry) => {
                begin(&mut walk, goal, entry);
                Vec::new()
            }
            Step::Page(k) => {
                walk.refill(goal);
                let mut progress = Progress { before: 0, expanded: 0, passed: 0 };
                if !self.exhausted && walk.walk_through(goal, &mut progress) != Verdict::Found {
                    score_rest(&mut walk, goal);
                    self.exhausted = true;
                }
                take_page(&mut walk, k, source, query)
            }
        };
        self.readable = walk.readable;
        self.spent += walk.effort.scored();
        keys
    }
}

enum Step {
    /// Starts at an entry point; or, if there is none, nowhere: then the first page scores all rows.
    Begin(Option<Entry>),
    /// Takes so many rows.
    Page(usize),
}

fn begin<S: VectorSource, R: Scorer>(walk: &mut Walk<'_, R>, goal: &Goal<'_, S>, entry: Option<Entry>) {
    let Some(entry) = entry else { return walk.start_through() };
    let nearest = walk.descend(entry, 0, descent_width(goal.results), |_| ());
    // The entry point as well: from there all nodes can be reached.
    let entry = walk.score(entry.id);
    walk.start_through();
    walk.start_from(nearest, goal);
    walk.start_from(entry, goal);
}

/// What no walk leads to at the moment, for instance because the writer is at work there, or would at the price of a
/// scan.
fn score_rest<S: VectorSource, R: Scorer>(walk: &mut Walk<'_, R>, goal: &Goal<'_, S>) {
    walk.scratch.visited.grow(goal.scope.visible() as usize);
    walk.scratch.candidates.clear();
    let Walk { scratch, scorer, .. } = walk;
    let Scratch { visited, rest, .. } = &mut **scratch;
    let mut distances = Vec::new();
    for_each_block(
        goal.scope,
        0..goal.scope.visible(),
        &mut Effort::unlimited(),
        |id| visited.insert(id),
        |ids, _| {
            distances.resize(ids.len(), 0.0);
            scorer.score(ids, &mut distances);
            let keys = ids.iter().zip(&distances).map(|(&id, &distance)| key(distance, id));
            let in_range =
                keys.filter(|key| goal.range.as_ref().is_none_or(|(range, _)| range.contains(key)));
            rest.extend(in_range.map(Reverse));
        },
    );
    walk.refill(goal);
}

/// The `k` nearest of the rows that were met and not given out, by exact distance.
fn take_page<S: VectorSource, R: Scorer>(
    walk: &mut Walk<'_, R>,
    k: usize,
    source: &S,
    query: &PreparedQuery<'_>,
) -> Vec<u64> {
    let Walk { scratch, scorer, effort, .. } = walk;
    let mut met = std::mem::take(&mut scratch.results).into_sorted_vec();
    if R::EXACT {
        let later = met.split_off(k.min(met.len()));
        scratch.rest.extend(later.into_iter().map(Reverse));
        return met;
    }
    let page = rerank(met.iter().copied(), k, scorer, source, query, effort);
    let mut taken: Vec<u32> = page.iter().map(|&key| id(key)).collect();
    taken.sort_unstable();
    let later = met.into_iter().filter(|&key| taken.binary_search(&id(key)).is_err());
    scratch.rest.extend(later.map(Reverse));
    page
}
