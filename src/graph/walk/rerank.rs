//! Exact distances for what a walk met by estimate.

use std::collections::BinaryHeap;

use crate::distance::PreparedQuery;
use crate::graph::walk::scorer::Scorer;
use crate::search::budget::Effort;
use crate::search::scored::{distance, id, keep_nearest, key};
use crate::vectors::VectorSource;

/// Rows compared at a time once the answer is nearly there: as many as a kernel takes.
const GROUP: usize = 4;
/// Rows compared at a time before.
const FIRST: usize = 32;

/// The `k` nearest of `met`, which are keys by estimate, nearest first, as keys by exact distance, nearest first.
///
/// Rows are compared in the order of their estimates, until the next estimate is so far above the `k`-th exact
/// distance that the error of an estimate does not account for it ([`Scorer::slack`]).
pub(crate) fn rerank<S: VectorSource + ?Sized, R: Scorer>(
    met: impl Iterator<Item = u64>,
    k: usize,
    scorer: &R,
    source: &S,
    query: &PreparedQuery<'_>,
    effort: &mut Effort,
) -> Vec<u64> {
    let mut nearest = BinaryHeap::with_capacity(k.min(FIRST) + 1);
    let mut ids = [0; FIRST];
    let mut distances = [0.0; FIRST];
    let mut met = met.peekable();
    loop {
        // Without `k` rows whatever is next is one of the nearest so far.
        let missing = k - nearest.len().min(k);
        let farthest = nearest.peek().copied().filter(|_| missing == 0).map(distance);
        let may_be_near = |next: &u64| {
            farthest.is_none_or(|farthest| {
                let estimate = distance(*next);
                let least = estimate - scorer.slack(id(*next), estimate);
                // Not a number where nothing is known of the row.
                least <= farthest || least.is_nan()
            })
        };
        let group = if missing == 0 { GROUP } else { missing.min(FIRST).next_multiple_of(GROUP) };
        let mut taken = 0;
        while taken < group
            && let Some(next) = met.next_if(may_be_near)
        {
            ids[taken] = id(next);
            taken += 1;
        }
        if taken == 0 {
            return nearest.into_sorted_vec();
        }
        let (ids, distances) = (&ids[..taken], &mut distances[..taken]);
        source.distances_to(query, ids, distances);
        effort.distances += taken as u64;
        effort.reranked += taken as u64;
        for (&id, &distance) in ids.iter().zip(distances.iter()) {
            keep_nearest(&mut nearest, k, key(distance, id));
        }
    }
}
