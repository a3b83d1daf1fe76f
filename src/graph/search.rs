//! Search (Algorithm 5): greedy descent to level 1, then a beam on level 0.

use super::HnswGraph;
use super::key::{distance, id, key};
use super::walk::{Walk, descent_width};
use crate::distance::{DistanceType, PreparedQuery};
use crate::error::{Error, Result};
use crate::params::SearchParams;
use crate::source::VectorSource;

/// Up to this `ef` the beam is a sorted pool, beyond it two heaps.
const POOL_EF: usize = 512;

/// One row of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchResult {
    /// The vector id.
    pub id: u32,
    /// What the caller calls the row.
    pub row_id: u64,
    /// Its distance to the query, in the source's metric.
    pub distance: f32,
}

impl HnswGraph {
    /// The `k` nearest rows to `query` that the walk meets, nearest first, ties by id.
    ///
    /// Exactly `min(k, n)` rows, where `n` counts the nodes that are in the graph and below
    /// `source.len()`: an older snapshot is answered as of then. Never waits for an insert.
    ///
    /// # Errors
    /// - [`Error::DimensionMismatch`] if `query` has another length than `source.dim()`,
    /// - [`Error::UnusableQuery`] if an element is NaN or infinite, or all are zero under cosine,
    /// - [`Error::SourceMismatch`] if the source has another metric or dimension than the graph.
    pub fn search<S: VectorSource + ?Sized>(
        &self,
        query: &[f32],
        params: SearchParams,
        source: &S,
    ) -> Result<Vec<SearchResult>> {
        check_query(query, source)?;
        self.check_metric(source)?;

        let view = self.watermarks.load();
        // After the others: at least what they need.
        let readable = self.readable(source);
        let visible = view.visible.min(saturate(source.len())).min(readable);
        let k = params.k.min(visible as usize);
        let Some(entry) = view.entry.filter(|_| k > 0) else { return Ok(Vec::new()) };
        let entry = if entry.id < readable { entry } else { self.entry_below(readable) };
        let ef = params.ef.max(k);

        let query = PreparedQuery::new(query, source.distance_type());
        let keys = self.scratch.with(|scratch| {
            let mut walk = Walk { graph: self, source, query: &query, readable, overtaken: false, scratch };
            let start = walk.descend(entry, 0, descent_width(ef), |_| ());
            if visible == readable && ef <= POOL_EF {
                match params.gamma {
                    None => walk.beam_search(&[start], 0, ef),
                    Some(gamma) => {
                        walk.beam_search_until(&[start], 0, ef, |pool| match pool.keys().get(k - 1) {
                            Some(&kth) => {
                                let kth = distance(kth);
                                key(kth + gamma * kth.abs(), u32::MAX)
                            }
                            None => u64::MAX,
                        })
                    }
                }
                let found = walk.scratch.pool.keys();
                if found.len() >= k && !walk.overtaken {
                    return found[..k].to_vec();
                }
            }
            // More than the rows to return is on the way: unpublished nodes, or ones just published.
            walk.start_through();
            walk.beam_search_through(start, ef, &|id| id < visible);
            if walk.scratch.results.len() < k {
                // The walk ran out of nodes; from the entry point all of them can be reached.
                let entry = walk.score(entry.id);
                walk.beam_search_through(entry, ef, &|id| id < visible);
            }
            if walk.scratch.results.len() < k {
                // All but those whose way leads through nodes past `readable`.
                walk.scan_unvisited(visible, ef);
            }
            let mut keys: Vec<u64> = walk.scratch.results.drain().collect();
            keys.sort_unstable();
            keys.truncate(k);
            keys
        });
        let result =
            |key| SearchResult { id: id(key), row_id: source.row_id(id(key)), distance: distance(key) };
        Ok(keys.into_iter().map(result).collect())
    }
}

impl HnswGraph {
    /// Ids below this may be dereferenced. A store's rows are there before the graph's.
    pub(super) fn readable<S: VectorSource + ?Sized>(&self, source: &S) -> u32 {
        self.watermarks.load().ready.min(saturate(source.readable_len()))
    }
}

/// Checks that distances from `query` to the vectors of `source` mean something.
pub(crate) fn check_query<S: VectorSource + ?Sized>(query: &[f32], source: &S) -> Result<()> {
    if query.len() != source.dim() {
        return Err(Error::DimensionMismatch { expected: source.dim(), actual: query.len() });
    }
    if let Some(position) = query.iter().position(|x| !x.is_finite()) {
        return Err(Error::UnusableQuery { reason: "a value that is not finite", position });
    }
    if source.distance_type() == DistanceType::Cosine && query.iter().all(|&x| x == 0.0) {
        return Err(Error::UnusableQuery {
            reason: "a zero vector has no cosine distance, first zero",
            position: 0,
        });
    }
    Ok(())
}

fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
