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
use crate::graph::build::select::prune;
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

impl HnswGraph {
    /// The graph of the `live` nodes, different ids below `len()`, renumbered in their order. `source` is that
    /// of this graph, `kept` has the live vectors alone. Inserts wait meanwhile.
    pub(crate) fn compacted<S, K>(&self, live: &[u32], source: &S, kept: &K) -> Result<Self>
    where
        S: VectorSource + ?Sized,
        K: VectorSource + ?Sized,
    {
        let writer = self.lock_writer();
        let end = self.watermarks.visible();
        let mut new_id = vec![NONE; end as usize];
        for (new, &old) in (0..).zip(live) {
            if let Some(cell) = new_id.get_mut(old as usize) {
                *cell = new;
            }
        }
        let renumber = |edges: Vec<(u32, f32)>| -> Vec<(u32, f32)> {
            edges.into_iter().map(|(old, distance)| (new_id[old as usize], distance)).collect()
        };
        let is_live = |id: u32| new_id.get(id as usize).is_some_and(|&new| new != NONE);
        let dead_share = 1.0 - live.len() as f64 / f64::from(end.max(1));
        let lists = map(live, |&id| renumber(self.mended(0, id, &is_live, dead_share, source)));
        let mut upper: Vec<Vec<UpperRow>> = Vec::new();
        for (id, _, levels) in self.upper_nodes(end, writer.upper_rows) {
            if !is_live(id) {
                continue;
            }
            for level in 1..=levels as usize {
                if upper.len() < level {
                    upper.push(Vec::new());
                }
                let edges = renumber(self.mended(level, id, &is_live, dead_share, source));
                upper[level - 1].push(UpperRow { id: new_id[id as usize], edges });
            }
        }
        let entry = self.watermarks.load().entry.map_or(0, |entry| entry.id);
        let entry = new_id.get(entry as usize).copied().filter(|&new| new != NONE).unwrap_or(0);
        let mut graph = Self::from_lists(self.params.clone(), entry, Box::new(Compacted(lists)), upper)?;
        // Nobody reads it yet, and all of it was copied.
        graph.frozen = None;
        let _ = graph.metric.set((source.distance_type(), source.dim()));
        let mut writer = graph.lock_writer();
        if !writer.distances_known {
            // Edges of its own, to what was connected through the dead alone.
            graph.measure_edges(writer.upper_rows, kept);
            writer.distances_known = true;
        }
        drop(writer);
        Ok(graph)
    }

    /// A live node's list on a level, to live nodes only.
    fn mended<S: VectorSource + ?Sized>(
        &self,
        level: usize,
        id: u32,
        is_live: &impl Fn(u32) -> bool,
        dead_share: f64,
        source: &S,
    ) -> Vec<(u32, f32)> {
        let mut edges = self.edges(level, id);
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
            scratch.visited.start(self.watermarks.load().ready as usize);
            scratch.visited.insert(id);
            for &met in dead.iter().chain(edges.iter().map(|edge| &edge.0)) {
                scratch.visited.insert(met);
            }
            let mut next = 0;
            while next < dead.len().min(EXPANSIONS)
                && (found.len() < lost * CANDIDATES || is_hole(found.len(), dead.len() - lost))
            {
                self.neighbors(level, dead[next]).for_each(|met| {
                    if met != NONE && scratch.visited.insert(met) {
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
        let mut mended = prune(&candidates, self.params.cap(level), &self.params, source, survives);
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
