//! A graph without its dead nodes: what led through them is linked anew.
//!
//! A node keeps its edges to live nodes. For those it loses it gets candidates: the live nodes that were reached
//! through the dead ones, nearest by hops first, chosen as where a list overflows, and the nearest of the rest
//! while there is room. That is a fraction of the work of a build, which has to find the neighborhood first.
//!
//! Around a hole, where the dead are many more than on average, the way leads farther through them: else the nodes
//! around it would link along its edge alone, and a search that ends inside sees one side of it.

use crate::error::Result;
use crate::graph::HnswGraph;
use crate::graph::build::select::{Vectors, prune};
use crate::graph::build::team::map;
use crate::graph::exchange::UpperRow;
use crate::graph::memory::borrowed::Lists;
use crate::graph::memory::slots::NONE;
use crate::search::scored::{self, key};
use crate::vectors::VectorSource;

/// Candidates for each edge that is lost.
const CANDIDATES: usize = 4;
/// Dead nodes passed through for one list, at most.
const EXPANSIONS: usize = 128;
/// Dead nodes for each live one, in multiples of the average, that make a hole.
const HOLE: f64 = 1.6;
/// Lists that are copied before an insert may come in between.
const AT_A_TIME: usize = 4096;

/// Level-0 lists on their way into a graph.
struct Compacted(Vec<Vec<(u32, f32)>>);

impl Lists for Compacted {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// They are copied at once, with anchors for all nodes.
    fn is_walkable(&self, _cap: usize) -> bool {
        false
    }

    fn neighbors(&self, _id: u32) -> &[u32] {
        &[]
    }

    fn edges(&self, id: u32) -> Vec<(u32, f32)> {
        self.0.get(id as usize).cloned().unwrap_or_default()
    }
}

/// What is repaired: the lists of a level among the nodes below `end`, of which this part is dead.
#[derive(Clone, Copy)]
struct Repair {
    level: usize,
    end: u32,
    dead_share: f64,
}

impl HnswGraph {
    /// The graph of the `live` nodes, different ids below `source.len()`, renumbered in their order. `source` is that
    /// of this graph, as of some time, `kept` has the live vectors alone.
    ///
    /// Inserts wait only while some lists are copied, and go on in between: the nodes that they add, and the edges to
    /// these, are left out. `proceed` is asked before some lists of level 0 are made, with how many are done and how
    /// many there are, and ends it if it refuses.
    pub(crate) fn compacted<S, K>(
        &self,
        live: &[u32],
        source: &S,
        kept: &K,
        proceed: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<Self>
    where
        S: VectorSource + ?Sized,
        K: VectorSource + ?Sized,
    {
        let end = u32::try_from(source.len()).unwrap_or(u32::MAX).min(self.watermarks.visible());
        let mut new_id = vec![NONE; end as usize];
        for (new, &old) in (0..).zip(live) {
            if let Some(cell) = new_id.get_mut(old as usize) {
                *cell = new;
            }
        }
        let renumber = |edges: Vec<(u32, f32)>| -> Vec<(u32, f32)> {
            let new = |old: u32| new_id.get(old as usize).copied().unwrap_or(NONE);
            edges.into_iter().map(|(old, distance)| (new(old), distance)).collect()
        };
        let is_live = |id: u32| new_id.get(id as usize).is_some_and(|&new| new != NONE);
        let dead_share = 1.0 - live.len() as f64 / f64::from(end.max(1));
        let repair = Repair { level: 0, end, dead_share };
        let mut lists = Vec::with_capacity(live.len());
        for ids in live.chunks(AT_A_TIME) {
            proceed(lists.len() as u64, live.len() as u64)?;
            let copied = self.copied_lists(0, ids, end);
            lists.extend(map(&copied, |(id, edges)| {
                renumber(self.mended(repair, *id, edges.clone(), &is_live, source))
            }));
        }
        proceed(live.len() as u64, live.len() as u64)?;
        let nodes = {
            let writer = self.lock_writer();
            self.upper_nodes(end, writer.upper_rows)
        };
        let mut upper: Vec<Vec<UpperRow>> = Vec::new();
        for level in 1..=nodes.iter().map(|node| node.2 as usize).max().unwrap_or(0) {
            let on_level = nodes.iter().filter(|node| node.2 as usize >= level && is_live(node.0));
            let ids: Vec<u32> = on_level.map(|node| node.0).collect();
            let repair = Repair { level, ..repair };
            let mut rows = Vec::with_capacity(ids.len());
            for ids in ids.chunks(AT_A_TIME) {
                for (id, edges) in self.copied_lists(level, ids, end) {
                    let edges = renumber(self.mended(repair, id, edges, &is_live, source));
                    rows.push(UpperRow { id: new_id.get(id as usize).copied().unwrap_or(NONE), edges });
                }
            }
            upper.push(rows);
        }
        while upper.last().is_some_and(Vec::is_empty) {
            upper.pop();
        }
        let entry = self.watermarks.load().entry.map_or(0, |entry| entry.id);
        let entry = new_id.get(entry as usize).copied().filter(|&new| new != NONE).unwrap_or(0);
        let mut graph = Self::from_lists(self.params.clone(), entry, Box::new(Compacted(lists)), upper)?;
        // Nobody reads it yet, and all of it was copied.
        graph.frozen = None;
        let _ = graph.metric.set((source.distance_type(), source.dim()));
        if let Some(codes) = self.codes.get() {
            let _ = graph.codes.set(codes.as_ref().map(|codes| codes.retain(live)));
        }
        let mut writer = graph.lock_writer();
        if !writer.distances_known {
            // Edges of its own, to what was connected through the dead alone.
            graph.measure_edges(writer.upper_rows, kept);
            writer.distances_known = true;
        }
        drop(writer);
        Ok(graph)
    }

    /// The lists of some nodes, without edges to nodes from `end` on. Inserts wait meanwhile.
    fn copied_lists(&self, level: usize, ids: &[u32], end: u32) -> Vec<(u32, Vec<(u32, f32)>)> {
        let _writer = self.lock_writer();
        let list = |&id: &u32| {
            let mut edges = self.edges(level, id);
            edges.retain(|edge| edge.0 < end);
            (id, edges)
        };
        ids.iter().map(list).collect()
    }

    /// A live node's list, to live nodes only.
    fn mended<S: VectorSource + ?Sized>(
        &self,
        Repair { level, end, dead_share }: Repair,
        id: u32,
        mut edges: Vec<(u32, f32)>,
        is_live: &impl Fn(u32) -> bool,
        source: &S,
    ) -> Vec<(u32, f32)> {
        let mut dead: Vec<u32> = edges.iter().map(|edge| edge.0).filter(|&node| !is_live(node)).collect();
        edges.retain(|edge| is_live(edge.0));
        // Those of an imported graph may be unknown.
        for edge in edges.iter_mut().filter(|edge| edge.1.is_nan()) {
            let distance = source.distance_between(id, edge.0);
            edge.1 = if distance.is_nan() { f32::INFINITY } else { distance };
        }
        if dead.is_empty() {
            return edges;
        }
        let lost = dead.len();
        let per_live = HOLE * dead_share / (1.0 - dead_share).max(f64::MIN_POSITIVE);
        let is_hole = |live: usize, dead: usize| per_live * (live as f64) < dead as f64;
        let mut found: Vec<u32> = Vec::with_capacity(lost * CANDIDATES);
        self.scratch.with(|scratch| {
            scratch.visited.start(end as usize);
            scratch.visited.insert(id);
            for &met in dead.iter().chain(edges.iter().map(|edge| &edge.0)) {
                scratch.visited.insert(met);
            }
            let mut next = 0;
            while next < dead.len().min(EXPANSIONS)
                && (found.len() < lost * CANDIDATES || is_hole(found.len(), dead.len() - lost))
            {
                self.neighbors(level, dead[next]).for_each(|met| {
                    // An insert may be at work on the list: what it shows is a node, or past the end.
                    if met < end && scratch.visited.insert(met) {
                        let met_so_far = if is_live(met) { &mut found } else { &mut dead };
                        met_so_far.push(met);
                    }
                });
                next += 1;
            }
        });
        let mut distances = vec![0.0; found.len()];
        let vector = source.widened(id);
        let query = source.prepare(&vector);
        source.distances_to(&query, &found, &mut distances);
        let mut candidates: Vec<u64> = found.iter().zip(distances).map(|(&id, d)| key(d, id)).collect();
        candidates.extend(edges.iter().map(|&(id, distance)| key(distance, id)));
        candidates.sort_unstable();
        let survives = |node: u32| edges.iter().any(|edge| edge.0 == node);
        let vectors = Vectors { source, codes: self.codes(self.watermarks.load().ready) };
        let mut mended = prune(&candidates, self.params.cap(level), &self.params, vectors, survives);
        for &candidate in &candidates {
            if mended.len() >= edges.len() + lost {
                break;
            }
            let candidate = (scored::id(candidate), scored::distance(candidate));
            if mended.iter().all(|edge| edge.0 != candidate.0) {
                mended.push(candidate);
            }
        }
        mended
    }
}
