//! Choosing neighbors: Algorithm 4, the diversity heuristic.

use super::key::{distance, id};
use crate::distance::PreparedQuery;
use crate::source::VectorSource;

/// Neighbors chosen so far for one node, nearest first.
pub(super) struct Selection<'a, S: ?Sized> {
    source: &'a S,
    pub edges: Vec<(u32, f32)>,
    ids: Vec<u32>,
    distances: [f32; GROUP],
}

/// Selected neighbors that a candidate is compared with at a time.
const GROUP: usize = 4;

impl<'a, S: VectorSource + ?Sized> Selection<'a, S> {
    pub fn new(source: &'a S, capacity: usize) -> Self {
        Self {
            source,
            edges: Vec::with_capacity(capacity),
            ids: Vec::with_capacity(capacity),
            distances: [0.0; GROUP],
        }
    }

    /// Whether the target is nearer to the candidate than every selected neighbor is. Between two at
    /// the same distance from the target the test is strict: otherwise a thousand copies of one
    /// vector would fill each other's lists.
    pub fn is_diverse(&mut self, candidate: u64) -> bool {
        let to_target = distance(candidate);
        let vector = self.source.widened(id(candidate));
        let query = PreparedQuery::new(&vector, self.source.distance_type());
        for (ids, edges) in self.ids.chunks(GROUP).zip(self.edges.chunks(GROUP)) {
            let distances = &mut self.distances[..ids.len()];
            self.source.distances_to(&query, ids, distances);
            let shadowed = distances.iter().zip(edges).any(|(&to_selected, selected)| {
                to_selected < to_target || to_selected == to_target && selected.1 == to_target
            });
            if shadowed {
                return false;
            }
        }
        true
    }

    pub fn push(&mut self, candidate: u64) {
        self.edges.push((id(candidate), distance(candidate)));
        self.ids.push(id(candidate));
    }
}

/// Selects at most `m` of `candidates` (sorted, nearest first).
pub(super) fn select_neighbors<S>(candidates: &[u64], m: usize, source: &S) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let mut selection = Selection::new(source, m.min(candidates.len()));
    for &candidate in candidates {
        if selection.edges.len() == m {
            break;
        }
        if selection.is_diverse(candidate) {
            selection.push(candidate);
        }
    }
    selection.edges
}

/// Selects from a list that overflowed: all `protected` candidates stay, the others fill up to
/// `keep` as in [`select_neighbors`].
pub(super) fn prune<S>(
    candidates: &[u64],
    keep: usize,
    source: &S,
    protected: impl Fn(u32) -> bool,
) -> Vec<(u32, f32)>
where
    S: VectorSource + ?Sized,
{
    let is_protected: Vec<bool> = candidates.iter().map(|&c| protected(id(c))).collect();
    let mut free = keep.saturating_sub(is_protected.iter().filter(|&&p| p).count());
    let mut selection = Selection::new(source, keep);
    for (&candidate, is_protected) in candidates.iter().zip(is_protected) {
        if is_protected {
            selection.push(candidate);
        } else if free > 0 && selection.is_diverse(candidate) {
            selection.push(candidate);
            free -= 1;
        }
    }
    selection.edges
}
