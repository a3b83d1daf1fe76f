//! Insertion (Algorithm 1): parallel, without locks, and the same graph every time.
//!
//! Nodes are linked in sub-batches against a graph that does not change meanwhile, so threads never
//! contend and their order cannot matter:
//! ```text
//! search   each new node searches the graph at each of its levels           parallel
//! siblings the sub-batch's own distances; the best m of each node           parallel
//! select   neighbors of each new node; forward lists are written            parallel
//! reverse  the edges back, sorted by (level, target, distance, source)      parallel over targets
//! publish  ready, the changed lists, the entry point
//! ```
//! The size of a sub-batch is a function of the size of the graph alone. A node that exceeds the top
//! level goes alone.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::codes::{CodeQuery, Codes};
use crate::error::Result;
use crate::graph::build::back_edges::Request;
use crate::graph::build::select::{Vectors, select_neighbors};
use crate::graph::build::team::map;
use crate::graph::memory::slots::NONE;
use crate::graph::memory::watermarks::Entry;
use crate::graph::walk::scorer::{Coded, Rows, Scorer};
use crate::graph::walk::steps::{Walk, descent_width};
use crate::graph::{HnswGraph, Selection, Writer};
use crate::search::scored::{distance, id, key};
use crate::vectors::VectorSource;

/// Up to this many nodes, new ones are compared with all of them.
const EXACT: u32 = 512;
/// Candidates whose true distances are computed at a time, for each neighbor to be selected.
const EXACT_AT_A_TIME: usize = 3;
/// Nodes linked at a time, at most.
const SUB_BATCH: u32 = 512;

/// A new node's neighbors, before anybody can see them.
pub(crate) struct Forward {
    pub id: u32,
    /// Neighbors on levels 0 to the node's target level, nearest first.
    pub levels: Vec<Vec<(u32, f32)>>,
    /// The older node that shall keep this one reachable, and its distance; none for a new root.
    pub anchor: Option<(u32, f32)>,
}

/// A node on a way down, with its distance; ordered by id, so that ways are ordered by region.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Nearest(u64);

impl Ord for Nearest {
    fn cmp(&self, other: &Self) -> Ordering {
        id(self.0).cmp(&id(other.0))
    }
}

impl PartialOrd for Nearest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Distances within a sub-batch: row `i` holds those to the nodes before node `i`.
struct Siblings {
    start: u32,
    rows: Vec<Vec<f32>>,
}

impl Siblings {
    fn measure<S: VectorSource + ?Sized>(ids: &[u32], probes: &Probes<'_, S>) -> Self {
        let start = ids.first().copied().unwrap_or(0);
        let rows = map(ids, |&id| {
            let before: Vec<u32> = (start..id).collect();
            let mut distances = vec![0.0; before.len()];
            probes.of(id, Distances { ids: &before, out: &mut distances });
            distances
        });
        Self { start, rows }
    }

    /// The `m` nearest siblings of a node among those that `keep` admits, in no particular order.
    fn nearest(&self, node: u32, m: usize, keep: impl Fn(u32) -> bool) -> Vec<u64> {
        let at = (node - self.start) as usize;
        let before = self.rows[at].iter().copied();
        let after = self.rows[at + 1..].iter().map(|row| row[at]);
        let siblings = before.chain([f32::INFINITY]).chain(after).zip(self.start..);
        let mut keys: Vec<u64> =
            siblings.filter(|&(_, id)| id != node && keep(id)).map(|(d, id)| key(d, id)).collect();
        if keys.len() > m {
            keys.select_nth_unstable(m);
            keys.truncate(m);
        }
        keys
    }
}

/// What new nodes are compared by: estimates from codes where the graph has them, else distances.
struct Probes<'a, S: ?Sized> {
    source: &'a S,
    /// The codes, and the nodes of the sub-batch as queries to them, from the first of its nodes on.
    codes: Option<(&'a Codes, Vec<CodeQuery>)>,
    start: u32,
}

/// Work that a node does with whatever it is compared by.
trait Probing<S: ?Sized> {
    type Output;

    fn run<R: Scorer>(self, scorer: R) -> Self::Output;
}

impl<'a, S: VectorSource + ?Sized> Probes<'a, S> {
    fn new(ids: &[u32], codes: Option<&'a Codes>, source: &'a S) -> Self {
        let queries = |codes: &'a Codes| (codes, map(ids, |&id| codes.prepare(&source.widened(id))));
        Self { source, codes: codes.map(queries), start: ids.first().copied().unwrap_or(0) }
    }

    fn of<W: Probing<S>>(&self, id: u32, work: W) -> W::Output {
        if let Some((codes, queries)) = &self.codes
            && let Some(query) = queries.get((id - self.start) as usize)
        {
            return work.run(Coded { codes, query });
        }
        let vector = self.source.widened(id);
        work.run(Rows { source: self.source, query: &self.source.prepare(&vector) })
    }

    fn vectors(&self) -> Vectors<'_, S> {
        Vectors { source: self.source, codes: self.codes.as_ref().map(|codes| codes.0) }
    }

    /// Keys, nearest first, as the true ones: at once if they are, else a few at a time as they are asked for.
    fn exact<'k>(&'k self, id: u32, keys: &'k [u64], at_a_time: usize) -> Exact<'k, S> {
        let ready = if self.codes.is_none() { keys.to_vec() } else { Vec::new() };
        let keys = if self.codes.is_none() { &[] } else { keys };
        Exact { source: self.source, id, keys, at_a_time, ready, next: 0 }
    }
}

/// Keys by estimate made true, `at_a_time` of them at a time; see [`Probes::exact`].
struct Exact<'a, S: ?Sized> {
    source: &'a S,
    id: u32,
    keys: &'a [u64],
    at_a_time: usize,
    ready: Vec<u64>,
    next: usize,
}

impl<S: VectorSource + ?Sized> Iterator for Exact<'_, S> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next == self.ready.len() {
            let (keys, later) = self.keys.split_at_checked(self.at_a_time).unwrap_or((self.keys, &[]));
            self.keys = later;
            let ids: Vec<u32> = keys.iter().map(|&key| id(key)).collect();
            let mut distances = vec![0.0; ids.len()];
            let vector = self.source.widened(self.id);
            self.source.distances_to(&self.source.prepare(&vector), &ids, &mut distances);
            self.ready.clear();
            self.ready.extend(ids.iter().zip(&distances).map(|(&id, &distance)| key(distance, id)));
            self.ready.sort_unstable();
            self.next = 0;
        }
        let key = self.ready.get(self.next).copied();
        self.next += usize::from(key.is_some());
        key
    }
}

/// Distances to some nodes.
struct Distances<'a> {
    ids: &'a [u32],
    out: &'a mut [f32],
}

impl<S: ?Sized> Probing<S> for Distances<'_> {
    type Output = ();

    fn run<R: Scorer>(self, scorer: R) {
        scorer.score(self.ids, self.out);
    }
}

/// The nearest node of each level from the top to where the search for neighbors begins.
struct WayDown<'a> {
    graph: &'a HnswGraph,
    entry: Entry,
    target_level: usize,
    older: u32,
}

impl<S: ?Sized> Probing<S> for WayDown<'_> {
    type Output = Vec<Nearest>;

    fn run<R: Scorer>(self, scorer: R) -> Vec<Nearest> {
        let Self { graph, entry, target_level, older } = self;
        let highest = target_level.min(entry.level);
        let mut way = Vec::with_capacity(entry.level - highest + 1);
        graph.scratch.with(|scratch| {
            let mut walk = Walk::new(graph, scorer, older, scratch);
            walk.descend(entry, highest, descent_width(graph.params.ef_construction), |key| {
                way.push(Nearest(key))
            });
        });
        way
    }
}

/// The older nodes near a new one, nearest first, for levels 0 to `highest`; with their neighbors, if the
/// parameters say so.
struct Candidates<'a> {
    graph: &'a HnswGraph,
    highest: usize,
    start: u64,
    older: u32,
}

impl<S: ?Sized> Probing<S> for Candidates<'_> {
    type Output = Vec<Vec<u64>>;

    fn run<R: Scorer>(self, scorer: R) -> Vec<Vec<u64>> {
        let Self { graph, highest, mut start, older } = self;
        let params = &graph.params;
        let ef = params.ef_construction;
        let mut candidates = vec![Vec::new(); highest + 1];
        graph.scratch.with(|scratch| {
            let mut walk = Walk::new(graph, scorer, older, scratch);
            for level in (0..=highest).rev() {
                candidates[level] = if level == 0 && older <= EXACT {
                    walk.scan(older, ef)
                } else {
                    // Rows that arrive together are often alike: the newest node is a start of its own, for
                    // when the descent ends in another region.
                    let newest = if level == 0 { walk.score(older - 1) } else { start };
                    walk.beam_search(&[start, newest], level, ef);
                    walk.scratch.beam.keys().collect()
                };
                start = candidates[level].first().copied().unwrap_or(start);
                if params.extend_candidates && params.selection == Selection::Heuristic {
                    walk.extend(&mut candidates[level], level);
                }
            }
        });
        candidates
    }
}

impl HnswGraph {
    /// Links all nodes below `end` that are not linked yet, unless `proceed` refuses: it is asked before each sub-batch
    /// and after the last, with how many of the nodes are linked and how many there are.
    pub(crate) fn build<S: VectorSource + ?Sized>(
        &self,
        writer: &mut Writer,
        end: u32,
        source: &S,
        proceed: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let first = self.watermarks.visible();
        self.thaw(writer);
        if !writer.distances_known {
            self.measure_edges(writer.upper_rows, source);
            writer.distances_known = true;
        }
        loop {
            // An insert that was cut short by a panic has linked some nodes already.
            let view = self.watermarks.load();
            let start = view.ready;
            proceed(u64::from(start.min(end) - first), u64::from(end - first))?;
            if start >= end {
                return Ok(());
            }
            let top = view.entry.map(|entry| entry.level);
            let exceeds = |id: u32| top.is_none_or(|top| self.levels.target_level(id) > top);
            let limit = start.saturating_add((start / 2).clamp(1, SUB_BATCH)).min(end);
            let stop = if exceeds(start) {
                start + 1
            } else {
                (start + 1..limit).find(|&id| exceeds(id)).unwrap_or(limit)
            };
            self.link(writer, view.entry, start..stop, source);
        }
    }

    /// Links one sub-batch.
    fn link<S: VectorSource + ?Sized>(
        &self,
        writer: &mut Writer,
        entry: Option<Entry>,
        ids: Range<u32>,
        source: &S,
    ) {
        for id in ids.clone() {
            self.nodes.grow(id);
        }
        let mut order: Vec<u32> = ids.clone().collect();
        // Before `ready` covers the ids, as all that readers need of them.
        let codes = self.code_up_to(ids.end, source);
        let probes = Probes::new(&order, codes, source);
        let siblings = Siblings::measure(&order, &probes);
        // Nodes that go the same way down are linked one after the other: they read the same rows, and
        // find them in the cache. What each finds does not depend on it.
        let ways = map(&order, |&id| match entry {
            Some(entry) => {
                let target_level = self.levels.target_level(id);
                probes.of(id, WayDown { graph: self, entry, target_level, older: ids.start })
            }
            None => Vec::new(),
        });
        order.sort_by_key(|&id| &ways[(id - ids.start) as usize]);
        let mut forward = map(&order, |&id| {
            let start = ways[(id - ids.start) as usize].last().copied();
            self.forward(id, entry.zip(start), writer.root, &siblings, &probes)
        });
        forward.sort_unstable_by_key(|node| node.id);
        let upper_rows = self.write_forward(&forward, writer.upper_rows);
        let updates = self.plan_reverse(requests(&forward), Vectors { source, codes });
        let metric = (source.distance_type(), source.dim());

        // From here on nothing can fail.
        let _ = self.metric.set(metric);
        writer.upper_rows = upper_rows;
        self.watermarks.publish_ready(ids.end);
        for update in updates {
            if let Some((arena, row)) = self.arena_row(update.level, update.target) {
                arena.replace(row, &update.edges);
            }
        }
        let promoted = forward.last().map(|last| (last.id, last.levels.len() - 1));
        if let Some((id, level)) = promoted.filter(|&(_, level)| entry.is_none_or(|e| level > e.level)) {
            if writer.root != NONE {
                self.nodes.set_anchor(writer.root, id);
            }
            writer.root = id;
            let first = entry.map_or(0, |entry| entry.level + 1);
            for cell in &self.entries[first..=level] {
                cell.store(id, Relaxed);
            }
            self.watermarks.publish_entry(Entry { level, id });
        }
    }

    /// Finds the neighbors of one new node, searching from the key that comes with the entry point.
    fn forward<S: VectorSource + ?Sized>(
        &self,
        id: u32,
        start: Option<(Entry, Nearest)>,
        root: u32,
        siblings: &Siblings,
        probes: &Probes<'_, S>,
    ) -> Forward {
        let target_level = self.levels.target_level(id);
        let mut levels = vec![Vec::new(); target_level + 1];
        let Some((entry, Nearest(start))) = start else { return Forward { id, levels, anchor: None } };

        let highest = target_level.min(entry.level);
        let mut candidates = probes.of(id, Candidates { graph: self, highest, start, older: siblings.start });
        let nearest = candidates.first().and_then(|level| probes.exact(id, level, EXACT_AT_A_TIME).next());
        let mut anchor = nearest.map(point);
        for (level, keys) in candidates.iter_mut().enumerate() {
            let on_level = |sibling| level == 0 || self.levels.target_level(sibling) >= level;
            keys.extend(siblings.nearest(id, self.params.m, on_level));
            keys.sort_unstable();
            let exact = probes.exact(id, keys, EXACT_AT_A_TIME * self.params.m);
            levels[level] = select_neighbors(exact, &self.params, probes.vectors());
        }
        if target_level > entry.level {
            // A new root keeps the old one reachable, and with it everything else.
            anchor = None;
            if levels[0].iter().all(|edge| edge.0 != root) {
                levels[0].truncate(self.params.cap(0) - 1);
                levels[0].push((root, probes.source.distance_between(id, root)));
            }
        }
        Forward { id, levels, anchor }
    }

    /// Writes the forward lists of a sub-batch and returns the upper rows then in use.
    fn write_forward(&self, forward: &[Forward], mut upper_rows: u32) -> u32 {
        for node in forward {
            self.nodes.write(node.id, &node.levels[0]);
            self.nodes.set_anchor(node.id, NONE);
            self.nodes.set_upper(node.id, NONE);
            if node.levels.len() > 1 {
                self.nodes.set_upper(node.id, upper_rows);
            }
            for edges in &node.levels[1..] {
                self.upper.grow(upper_rows);
                self.upper.write(upper_rows, edges);
                upper_rows += 1;
            }
        }
        upper_rows
    }
}

/// The edges back that a sub-batch asks for.
fn requests(forward: &[Forward]) -> Vec<Request> {
    let mut requests = Vec::new();
    for node in forward {
        for (level, edges) in node.levels.iter().enumerate() {
            requests.extend(edges.iter().map(|&(target, distance)| Request {
                level,
                target,
                source: key(distance, node.id),
                anchor: false,
            }));
        }
        if let Some((target, distance)) = node.anchor {
            requests.push(Request { level: 0, target, source: key(distance, node.id), anchor: true });
        }
    }
    requests
}

fn point(key: u64) -> (u32, f32) {
    (id(key), distance(key))
}
