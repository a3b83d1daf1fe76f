//! Choosing neighbors: the diversity heuristic (Algorithm 4) or the nearest (Algorithm 3).
//!
//! Distances to the node that chooses are known: a walk or a list brings them. Only the heuristic computes others, those
//! between candidates. The triangle inequality saves none of these: nearest first, it bounds each from below by less and
//! from above by more than the distance that it is compared with.

use crate::graph::{BuildParams, PruneStrategy, Selection};
use crate::search::scored::{distance, id, key};
use crate::vectors::VectorSource;

/// Neighbors chosen so far for one node, nearest first.
struct Chosen<'a, S: ?Sized> {
    source: &'a S,
    edges: Vec<(u32, f32)>,
    ids: Vec<u32>,
    distances: [f32; GROUP],
    /// Candidates that were not diverse, nearest first, if they may be kept after all.
    rejected: Option<Vec<u64>>,
}

/// Chosen neighbors that a candidate is compared with at a time.
const GROUP: usize = 4;

impl<'a, S: VectorSource + ?Sized> Chosen<'a, S> {
    fn new(source: &'a S, params: &BuildParams, capacity: usize) -> Self {
        Self {
            source,
            edges: Vec::with_capacity(capacity),
            ids: Vec::with_capacity(capacity),
            distances: [0.0; GROUP],
            rejected: params.keep_pruned.then(Vec::new),
        }
    }

    /// Whether the target is nearer to the candidate than every chosen neighbor is. Between two at
    /// the same distance from the target the test is strict: otherwise a thousand copies of one
    /// vector would fill each other's lists.
    fn is_diverse(&mut self, candidate: u64) -> bool {
        let to_target = distance(candidate);
        let vector = self.source.widened(id(candidate));
        let query = self.source.prepare(&vector);
        for (ids, edges) in self.ids.chunks(GROUP).zip(self.edges.chunks(GROUP)) {
            let distances = &mut self.distances[..ids.len()];
            self.source.distances_to(&query, ids, distances);
            let shadowed = distances.iter().zip(edges).any(|(&to_chosen, chosen)| {
                to_chosen < to_target || to_chosen == to_target && chosen.1 == to_target
            });
            if shadowed {
                return false;
            }
        }
        true
    }

    fn push(&mut self, candidate: u64) {
        self.edges.push((id(candidate), distance(candidate)));
        self.ids.push(id(candidate));
    }

    fn reject(&mut self, candidate: u64) {
        if let Some(rejected) = &mut self.rejected {
            rejected.push(candidate);
        }
    }

    /// The neighbors, with up to `free` of the rejected candidates.
    fn finish(self, free: usize) -> Vec<(u32, f32)> {
        let mut edges = self.edges;
        if let Some(rejected) = self.rejected {
            edges.extend(rejected.iter().take(free).map(|&candidate| (id(candidate), distance(candidate))));
            edges.sort_unstable_by_key(|&(id, distance)| key(distance, id));
        }
        edges
    }
}

/// Selects at most `params.m` of `candidates` (nearest first) for a new node; no more of them are asked for than needed.
pub(crate) fn select_neighbors<S>(
    candidates: impl Iterator<Item = u64>,
    params: &BuildParams,
    source: &S,
) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let m = params.m;
    if params.selection == Selection::Nearest {
        return candidates.take(m).map(|key| (id(key), distance(key))).collect();
    }
    let mut chosen = Chosen::new(source, params, m);
    for candidate in candidates {
        if chosen.edges.len() == m {
            break;
        }
        if chosen.is_diverse(candidate) {
            chosen.push(candidate);
        } else {
            chosen.reject(candidate);
        }
    }
    let free = m - chosen.edges.len();
    chosen.finish(free)
}

/// Selects from a list that overflowed: all `protected` candidates stay, the others fill up to
/// `keep` as `params.prune` says.
pub(crate) fn prune<S>(
    candidates: &[u64],
    keep: usize,
    params: &BuildParams,
    source: &S,
    protected: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let is_protected: Vec<bool> = candidates.iter().map(|&c| protected(id(c))).collect();
    let mut free = keep.saturating_sub(is_protected.iter().filter(|&&p| p).count());
    let mut chosen = Chosen::new(source, params, keep);
    for (&candidate, is_protected) in candidates.iter().zip(is_protected) {
        if is_protected {
            chosen.push(candidate);
        } else if free > 0 {
            if params.prune == PruneStrategy::Nearest || chosen.is_diverse(candidate) {
                chosen.push(candidate);
                free -= 1;
            } else {
                chosen.reject(candidate);
            }
        }
    }
    chosen.finish(free)
}
