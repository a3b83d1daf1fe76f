//! Choosing neighbors: the diversity heuristic (Algorithm 4) or the nearest (Algorithm 3).
//!
//! Distances to the node that chooses are known: a walk or a list brings them. Only the heuristic computes others, those
//! between candidates. The triangle inequality saves none of these: nearest first, it bounds each from below by less and
//! from above by more than the distance that it is compared with. Where there are codes, an estimate decides unless its
//! error might: then the distance itself does.

use crate::codes::{CodeQuery, Codes};
use crate::graph::{BuildParams, PruneStrategy, Selection};
use crate::search::scored::{distance, id, key};
use crate::vectors::VectorSource;

/// Vectors that are compared with each other, and their codes, if all of them have one.
pub(crate) struct Vectors<'a, S: ?Sized> {
    pub source: &'a S,
    pub codes: Option<&'a Codes>,
}

impl<S: ?Sized> Clone for Vectors<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: ?Sized> Copy for Vectors<'_, S> {}

/// Neighbors chosen so far for one node, nearest first.
struct Chosen<'a, S: ?Sized> {
    source: &'a S,
    /// The codes, and a query for the candidate at hand.
    codes: Option<(&'a Codes, CodeQuery)>,
    edges: Vec<(u32, f32)>,
    ids: Vec<u32>,
    distances: [f32; GROUP],
    /// Candidates that were not diverse, nearest first, if they may be kept after all.
    rejected: Option<Vec<u64>>,
}

/// Chosen neighbors that a candidate is compared with at a time.
const GROUP: usize = 4;

impl<'a, S: VectorSource + ?Sized> Chosen<'a, S> {
    fn new(vectors: Vectors<'a, S>, params: &BuildParams, capacity: usize) -> Self {
        Self {
            source: vectors.source,
            codes: vectors.codes.map(|codes| (codes, codes.blank_query())),
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
        let shadows = |to_chosen: f32, chosen: f32| {
            to_chosen < to_target || to_chosen == to_target && chosen == to_target
        };
        let Self { source, codes, edges, ids, distances, .. } = self;
        if let Some((codes, query)) = codes
            && codes.query_row(id(candidate), query)
        {
            for (ids, edges) in ids.chunks(GROUP).zip(edges.chunks(GROUP)) {
                let estimates = &mut distances[..ids.len()];
                codes.estimate(query, ids, estimates);
                for (&estimate, chosen) in estimates.iter().zip(edges) {
                    let slack = codes.slack(query, chosen.0, estimate);
                    if estimate - slack > to_target {
                        continue;
                    }
                    if estimate + slack < to_target
                        || shadows(source.distance_between(id(candidate), chosen.0), chosen.1)
                    {
                        return false;
                    }
                }
            }
            return true;
        }
        let vector = source.widened(id(candidate));
        let query = source.prepare(&vector);
        for (ids, edges) in ids.chunks(GROUP).zip(edges.chunks(GROUP)) {
            let distances = &mut distances[..ids.len()];
            source.distances_to(&query, ids, distances);
            if distances.iter().zip(edges).any(|(&to_chosen, chosen)| shadows(to_chosen, chosen.1)) {
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
    vectors: Vectors<'_, S>,
) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let m = params.m;
    if params.selection == Selection::Nearest {
        return candidates.take(m).map(|key| (id(key), distance(key))).collect();
    }
    let mut chosen = Chosen::new(vectors, params, m);
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
    vectors: Vectors<'_, S>,
    protected: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let is_protected: Vec<bool> = candidates.iter().map(|&c| protected(id(c))).collect();
    let mut free = keep.saturating_sub(is_protected.iter().filter(|&&p| p).count());
    let mut chosen = Chosen::new(vectors, params, keep);
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
