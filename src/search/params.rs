//! How a search is asked for.

use std::ops::Range;
use std::time::Instant;

use crate::search::mask::RowMask;

/// Candidates kept where the caller does not say.
const DEFAULT_EF: usize = 100;

/// Parameters of one search: `SearchParams::new(10).ef(64)`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SearchParams {
    /// Rows wanted; `usize::MAX` for all that qualify.
    pub k: usize,
    /// Candidates kept while walking level 0 (`ef` in the paper that [`BuildParams`](crate::BuildParams) names).
    /// Below `k` it counts as `k`.
    pub ef: usize,
    /// Rows with a greater row id are not returned.
    pub max_row_id: Option<u64>,
    /// The rows that may be returned.
    pub mask: Option<RowMask>,
    /// Distances that are returned: from the start on, below the end.
    pub distance_range: Option<Range<f32>>,
    /// When to end with the best so far.
    pub deadline: Option<Instant>,
    /// Rows compared, by estimate or by distance, before the search ends with the best so far.
    pub max_distances: Option<u64>,
}

impl Default for SearchParams {
    /// A search for ten rows.
    fn default() -> Self {
        Self::new(10)
    }
}

impl SearchParams {
    /// A search for the `k` nearest rows with 100 candidates.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            ef: DEFAULT_EF,
            max_row_id: None,
            mask: None,
            distance_range: None,
            deadline: None,
            max_distances: None,
        }
    }

    /// Sets the number of candidates that the walk keeps: more of them find more of the nearest rows and take longer.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = ef;
        self
    }

    /// Returns only rows whose row id is at most this: a reader's watermark.
    pub fn max_row_id(mut self, max_row_id: u64) -> Self {
        self.max_row_id = Some(max_row_id);
        self
    }

    /// Returns only rows of the mask.
    pub fn mask(mut self, mask: impl Into<RowMask>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Returns only rows with `range.start <= distance < range.end`; with `k = usize::MAX` all of them. The walk
    /// expands what it meets below the end and `ef` rows beyond, so a row that no such path leads to may be missing.
    pub fn distance_range(mut self, range: Range<f32>) -> Self {
        self.distance_range = Some(range);
        self
    }

    /// Ends at this time with the best so far; [`Hits::complete`](crate::Hits::complete) tells.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Ends when about so many rows were compared with the query, with the best so far; [`Hits::complete`](crate::Hits::complete) tells.
    pub fn max_distances(mut self, max_distances: u64) -> Self {
        self.max_distances = Some(max_distances);
        self
    }
}
