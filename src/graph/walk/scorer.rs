//! What a walk compares its query with, by id.

use crate::codes::{CodeQuery, Codes};
use crate::distance::PreparedQuery;
use crate::vectors::VectorSource;

/// Distances from one query to the nodes of a graph: true ones, from the rows, or estimates, from their codes.
pub(crate) trait Scorer {
    /// Whether these are true distances.
    const EXACT: bool;

    /// Ids below this can be scored.
    fn readable_len(&self) -> usize;

    /// Starts fetching what [`score`](Self::score) will read for an id.
    fn prefetch(&self, id: u32);

    /// Distances to some ids, into `out`, which is as long.
    fn score(&self, ids: &[u32], out: &mut [f32]);

    /// How far the true distance of a row may be from `estimate`, as good as always.
    fn slack(&self, id: u32, estimate: f32) -> f32;
}

/// A query beside the rows of a source.
pub(crate) struct Rows<'a, S: ?Sized> {
    pub source: &'a S,
    pub query: &'a PreparedQuery<'a>,
}

impl<S: VectorSource + ?Sized> Scorer for Rows<'_, S> {
    const EXACT: bool = true;

    #[inline(always)]
    fn readable_len(&self) -> usize {
        self.source.readable_len()
    }

    /// A source fetches its rows itself: it knows where they are.
    #[inline(always)]
    fn prefetch(&self, _id: u32) {}

    #[inline(always)]
    fn score(&self, ids: &[u32], out: &mut [f32]) {
        self.source.distances_to(self.query, ids, out);
    }

    #[inline(always)]
    fn slack(&self, _id: u32, _estimate: f32) -> f32 {
        0.0
    }
}

/// A query beside the codes of rows.
pub(crate) struct Coded<'a> {
    pub codes: &'a Codes,
    pub query: &'a CodeQuery,
}

impl Scorer for Coded<'_> {
    const EXACT: bool = false;

    #[inline(always)]
    fn readable_len(&self) -> usize {
        self.codes.len() as usize
    }

    #[inline(always)]
    fn prefetch(&self, id: u32) {
        self.codes.prefetch(id);
    }

    #[inline(always)]
    fn score(&self, ids: &[u32], out: &mut [f32]) {
        self.codes.estimate(self.query, ids, out);
    }

    #[inline(always)]
    fn slack(&self, id: u32, estimate: f32) -> f32 {
        self.codes.slack(self.query, id, estimate)
    }
}
