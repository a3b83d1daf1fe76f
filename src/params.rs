//! How a graph is built and how it is searched.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mask::RowMask;
use crate::version::IndexVersion;

/// The smallest `m` that lance-index accepts for a build.
const MIN_M: usize = 4;

/// Parameters of a build, with the names and the bounds of lance-index.
///
/// They travel with an exported graph, because Lance rebuilds from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildParams {
    /// Number of levels a graph may have: 7 allows levels 0 to 6.
    pub max_level: u16,
    /// Neighbors that a new node selects on each level (`M` in the paper); a list holds `m` on the
    /// upper levels and `2 * m` on level 0.
    pub m: usize,
    /// Candidates considered for a new node's neighbors (`efConstruction` in the paper).
    pub ef_construction: usize,
    /// The level of a node is a function of this seed and its id.
    pub seed: u64,
}

impl Default for BuildParams {
    /// Lance's MemTable defaults for the graph: 16 edges, 100 candidates.
    fn default() -> Self {
        Self { max_level: 7, m: 16, ef_construction: 100, seed: 42 }
    }
}

impl BuildParams {
    /// Sets the number of levels.
    pub fn max_level(mut self, max_level: u16) -> Self {
        self.max_level = max_level;
        self
    }

    /// Sets `m`.
    pub fn num_edges(mut self, m: usize) -> Self {
        self.m = m;
        self
    }

    /// Sets the number of candidates for a new node's neighbors.
    pub fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.ef_construction = ef_construction;
        self
    }

    /// Sets the seed of the node levels.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks that lance-index 14.0.2 would build with these parameters, so that whatever is
    /// exported can be rebuilt there.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] if
    /// - `max_level` is 0,
    /// - `m` is below 4 or `2 * m` overflows,
    /// - `ef_construction` is below `m`.
    pub fn validate(&self) -> Result<()> {
        let invalid = |parameter, value: u64, requirement: String| {
            Err(Error::InvalidParams { parameter, value, requirement })
        };
        if self.max_level == 0 {
            return invalid("max_level", 0, "at least 1".into());
        }
        if self.m < MIN_M {
            return invalid("m", self.m as u64, format!("at least {MIN_M}"));
        }
        if self.m > usize::MAX / 2 {
            return invalid("m", self.m as u64, format!("at most {}", usize::MAX / 2));
        }
        if self.ef_construction < self.m {
            let requirement = format!("at least m = {}", self.m);
            return invalid("ef_construction", self.ef_construction as u64, requirement);
        }
        Ok(())
    }

    /// Capacity of a neighbor list on `level`.
    pub(crate) fn cap(&self, level: usize) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }
}

/// Candidates kept where the caller does not say.
const DEFAULT_EF: usize = 100;

/// Parameters of one search. Cheap to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SearchParams {
    /// Rows wanted.
    pub k: usize,
    /// Candidates kept while walking level 0 (`ef` in the paper). Below `k` it counts as `k`.
    pub ef: usize,
    /// Ends the walk when the next candidate is farther than the `k`-th best row by this part of its
    /// distance; see [`gamma`](Self::gamma).
    pub gamma: Option<f32>,
    /// Rows with a greater row id are not returned.
    pub max_row_id: Option<u64>,
    /// The state of the index to search; the current one if not given.
    pub version: Option<IndexVersion>,
    /// The rows that may be returned.
    pub mask: Option<RowMask>,
    /// Distances that are returned: from the first on, below the second.
    pub distance_range: Option<(f32, f32)>,
    /// When to end with the best so far.
    pub deadline: Option<Instant>,
    /// Distances computed before the search ends with the best so far.
    pub max_distances: Option<u64>,
}

impl SearchParams {
    /// A search for the `k` nearest rows with `ef` candidates.
    pub fn new(k: usize, ef: usize) -> Self {
        Self {
            k,
            ef,
            gamma: None,
            max_row_id: None,
            version: None,
            mask: None,
            distance_range: None,
            deadline: None,
            max_distances: None,
        }
    }

    /// A search for the `k` nearest rows with 100 candidates.
    pub fn top(k: usize) -> Self {
        Self::new(k, DEFAULT_EF)
    }

    /// Ends the walk early where the answer is clear: when the nearest candidate left is beyond
    /// `(1 + gamma)` times the distance of the `k`-th best row. With a generous `ef`, easy queries then cost
    /// less and hard ones keep their recall (adaptive beam search, arXiv 2505.15636). A negative or NaN
    /// `gamma` counts as 0. Off by default; it has no effect where rows are filtered or `ef` is above 512.
    pub fn gamma(mut self, gamma: f32) -> Self {
        self.gamma = Some(gamma.max(0.0));
        self
    }

    /// Returns only rows whose row id is at most this: a reader's watermark.
    pub fn max_row_id(mut self, max_row_id: u64) -> Self {
        self.max_row_id = Some(max_row_id);
        self
    }

    /// Searches the index as it was at [`HnswIndex::version`](crate::HnswIndex::version): without the rows that
    /// came later, with those that were deleted later.
    pub fn version(mut self, version: IndexVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Returns only rows of the mask.
    pub fn mask(mut self, mask: impl Into<RowMask>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Returns only rows with `lower <= distance < upper`; with `k = usize::MAX` all of them. The walk expands
    /// what it meets below `upper` and `ef` rows beyond, so a row that no such path leads to may be missing.
    pub fn distance_range(mut self, lower: f32, upper: f32) -> Self {
        self.distance_range = Some((lower, upper));
        self
    }

    /// Ends at this time with the best so far; [`SearchStats::complete`](crate::SearchStats) tells.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Ends after about so many distances with the best so far; [`SearchStats::complete`](crate::SearchStats)
    /// tells.
    pub fn max_distances(mut self, max_distances: u64) -> Self {
        self.max_distances = Some(max_distances);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounds_are_exact() {
        assert!(BuildParams::default().validate().is_ok());
        let params =
            |m, ef, levels| BuildParams::default().num_edges(m).ef_construction(ef).max_level(levels);
        assert!(params(4, 4, 1).validate().is_ok());
        for (bad, message) in [
            (params(3, 100, 7), "m must be at least 4, got 3"),
            (params(16, 15, 7), "ef_construction must be at least m = 16, got 15"),
            (params(16, 100, 0), "max_level must be at least 1, got 0"),
        ] {
            assert_eq!(bad.validate().map_err(|e| e.to_string()), Err(message.to_string()));
        }
        assert!(params(usize::MAX / 2 + 1, usize::MAX, 7).validate().is_err());
    }
}
