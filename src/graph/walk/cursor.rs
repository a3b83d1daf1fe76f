//! Resumable search: the next nearest rows after those that were given out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::error::Result;
use crate::graph::HnswGraph;
use crate::graph::walk::plan::Costs;
use crate::graph::walk::scratch::Scratch;
use crate::graph::walk::steps::{Walk, descent_width};
use crate::search::mask::RowMask;
use crate::search::query::{key_range, results};
use crate::search::scope::Scope;
use crate::search::scored::{id, key};
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hit, SearchParams};
use crate::vectors::VectorSource;

/// A walk that stops when it has a page, and goes on from there.
///
/// Nodes met are either a candidate, to be expanded, or were; rows met that qualify are among the `ef` nearest
/// that were not given out, or in the rest. A page is taken when no candidate is nearer than the `ef`-th. Where few
/// rows qualify, all of them are scored at once, or as soon as the walk has cost as much. It owns its state, so that
/// it can be kept between two requests: what it walks through is handed to each step.
pub(crate) struct Cursor {
    query: Vec<f32>,
    ef: usize,
    mask: Option<RowMask>,
    max_row_id: Option<u64>,
    visible: u32,
    range: Option<Range<u64>>,
    scratch: Scratch,
    readable: u32,
    /// Rows to give out: the nearest, at most `ef` of them, and the rest.
    nearest: BinaryHeap<u64>,
    rest: BinaryHeap<Reverse<u64>>,
    /// Whether the walk has ended, and what it did not meet was scanned.
    exhausted: bool,
    /// Distances computed, and how many of them a scan is worth.
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
        let exhausted = visible == 0;
        let readable = graph.readable(source);
        let ef = params.ef.clamp(1, (readable as usize).max(1));
        let m = graph.params.m;
        let costs = Costs::of(&scope, readable, ef, m, range.is_some());
        let everything = scope.is_everything() && range.is_none();
        let scan_at_once = !everything && costs.starts_with_scan(ef, m);
        let mut cursor = Self {
            query: query.to_vec(),
            ef,
            mask: params.mask.clone(),
            max_row_id,
            visible,
            range,
            scratch: Scratch::default(),
            readable,
            nearest: BinaryHeap::new(),
            rest: BinaryHeap::new(),
            exhausted,
            spent: 0,
            scan: if everything { u64::MAX } else { costs.scan() },
        };
        if scan_at_once {
            cursor.walk(ground, |walk, _| walk.start_through());
            cursor.scan_rest(ground);
            return Ok(cursor);
        }
        if let Some(entry) = view.entry.filter(|_| !exhausted) {
            let entry = if entry.id < readable { entry } else { graph.entry_below(readable) };
            let ef = cursor.ef;
            let start = cursor.walk(ground, |walk, _| {
                let start = walk.descend(entry, 0, descent_width(ef), |_| ());
                let entry = walk.score(entry.id);
                walk.start_through();
                walk.scratch.visited.insert(id(start));
                walk.scratch.visited.insert(id(entry));
                [start, entry]
            });
            // The entry point as well: from there all nodes can be reached.
            let starts = if start[0] == start[1] { &start[..1] } else { &start[..] };
            cursor.meet(ground, starts);
        }
        Ok(cursor)
    }

    /// The next `k` rows, nearest first.
    pub fn next_k<S: VectorSource>(&mut self, ground: &Ground<'_, S>, k: usize) -> Vec<Hit> {
        let ef = self.ef.max(k);
        self.refill(ef);
        while !self.exhausted && k > 0 {
            let Some(&Reverse(next)) = self.scratch.candidates.peek() else {
                self.scan_rest(ground);
                break;
            };
            if self.nearest.len() >= ef && self.nearest.peek().is_some_and(|&worst| next > worst) {
                break;
            }
            self.scratch.candidates.pop();
            let (met, distances) =
                self.walk(ground, |walk, _| (walk.expand(id(next)), walk.effort.distances));
            self.meet(ground, &met);
            self.spent += distances;
            if self.spent >= self.scan {
                self.scan_rest(ground);
                break;
            }
            self.refill(ef);
        }
        self.refill(ef);
        let mut keys = std::mem::take(&mut self.nearest).into_sorted_vec();
        let later = keys.split_off(k.min(keys.len()));
        self.rest.extend(later.into_iter().map(Reverse));
        results(keys, ground.source)
    }

    /// Keeps the `ef` nearest apart.
    fn refill(&mut self, ef: usize) {
        while self.nearest.len() > ef {
            self.rest.extend(self.nearest.pop().map(Reverse));
        }
        while let Some(&Reverse(next)) = self.rest.peek() {
            if self.nearest.len() >= ef && self.nearest.peek().is_none_or(|&worst| next > worst) {
                break;
            }
            self.rest.pop();
            self.nearest.push(next);
            if self.nearest.len() > ef {
                self.rest.extend(self.nearest.pop().map(Reverse));
            }
        }
    }

    /// Nodes that were scored lead on, and are rows to give out if they qualify.
    fn meet<S: VectorSource>(&mut self, ground: &Ground<'_, S>, keys: &[u64]) {
        let wanted = self.walk(ground, |_, scope| {
            keys.iter().copied().filter(|&key| scope.admits(id(key))).collect::<Vec<u64>>()
        });
        self.scratch.candidates.extend(keys.iter().copied().map(Reverse));
        let range = self.range.clone();
        let in_range = wanted.into_iter().filter(|key| range.as_ref().is_none_or(|r| r.contains(key)));
        self.rest.extend(in_range.map(Reverse));
    }

    /// What no walk leads to at the moment, for instance because the writer is at work there.
    fn scan_rest<S: VectorSource>(&mut self, ground: &Ground<'_, S>) {
        let met = self.walk(ground, |walk, scope| {
            walk.scratch.visited.grow(scope.visible() as usize);
            let mut ids = Vec::new();
            scope.for_each(0..scope.visible(), |id| {
                if walk.scratch.visited.insert(id) {
                    ids.push(id);
                }
                true
            });
            let mut distances = vec![0.0; ids.len()];
            walk.source.distances_to(walk.query, &ids, &mut distances);
            ids.iter().zip(distances).map(|(&id, distance)| key(distance, id)).collect::<Vec<u64>>()
        });
        self.meet(ground, &met);
        self.scratch.candidates.clear();
        self.exhausted = true;
        self.refill(self.ef.max(self.nearest.len()));
    }

    /// Runs a step of the walk.
    fn walk<S: VectorSource, R>(
        &mut self,
        ground: &Ground<'_, S>,
        step: impl FnOnce(&mut Walk<'_, S>, &Scope<'_, S>) -> R,
    ) -> R {
        let Self { query, mask, max_row_id, visible, scratch, readable, .. } = self;
        let scope = Scope::new(ground.source, *visible, ground.dead, *max_row_id, mask.as_ref());
        let query = ground.source.prepare(query);
        let mut walk = Walk::new(ground.graph, ground.source, &query, *readable, scratch);
        let result = step(&mut walk, &scope);
        *readable = walk.readable;
        result
    }
}
