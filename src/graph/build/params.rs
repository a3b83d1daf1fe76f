//! How a graph is built.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The smallest `m` that lance-index accepts for a build.
const MIN_M: usize = 4;

/// How a new node chooses its neighbors among the candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Selection {
    /// Those that are nearer to the node than to each other (Algorithm 4 of Malkov and Yashunin): edges lead in all
    /// directions, out of a cluster too.
    #[default]
    Heuristic,
    /// The nearest (Algorithm 3): no distances between candidates, but copies and clusters know only themselves.
    Nearest,
}

/// How a list that overflows because of an edge back is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PruneStrategy {
    /// As in [`Selection::Heuristic`].
    #[default]
    Heuristic,
    /// The nearest stay. Costs no distances: those of the edges are stored.
    Nearest,
}

/// Whether a graph keeps compact codes of its vectors, which searches and insertions compare in their place.
///
/// A code is a byte per element and 20 more, up to a multiple of 32, of the graph's own memory. What a search returns is
/// compared with the vectors themselves: answers have exact distances in either case. Sources with a metric of their own
/// ([`VectorSource::has_plain_metric`](crate::VectorSource::has_plain_metric)), L1, Hamming and vectors of bytes have
/// none, whatever is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Coding {
    /// Where they pay.
    #[default]
    Auto,
    /// One byte for each element.
    Bytes,
    /// None: less memory, and searches read whole vectors.
    Off,
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Bytes => "bytes",
            Self::Off => "off",
        })
    }
}

impl FromStr for Coding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Auto, Self::Bytes, Self::Off]
            .into_iter()
            .find(|coding| coding.to_string() == name.to_ascii_lowercase())
            .ok_or_else(|| Error::UnknownCoding { actual: name.to_string() })
    }
}

/// Parameters of a build, with the names and the bounds of lance-index.
///
/// The paper, and the numbers of algorithms, are those of Malkov and Yashunin, *Efficient and robust approximate
/// nearest neighbor search using Hierarchical Navigable Small World graphs*,
/// [arXiv 1603.09320](https://arxiv.org/abs/1603.09320).
///
/// `max_level`, `m` and `ef_construction` travel with an exported graph, because Lance rebuilds from them. So does
/// `m0`, which Lance does not know: it reads lists of any length, and rebuilds with `2 * m`. The others are of the
/// builder, not of the graph; an imported graph has their defaults.
///
/// Every node is reachable whatever the choices: the edges that make it so are exempt from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct BuildParams {
    /// Number of levels a graph may have: 7 allows levels 0 to 6.
    pub max_level: u16,
    /// Neighbors that a new node selects on each level (`M` in the paper), and the most that a list holds on the
    /// upper levels.
    pub m: usize,
    /// The most that a list holds on level 0 (`Mmax0` in the paper); `2 * m` if not given. Memory is spent in steps
    /// of 16.
    pub m0: Option<usize>,
    /// Candidates considered for a new node's neighbors (`efConstruction` in the paper).
    pub ef_construction: usize,
    /// The level of a node is a function of this seed and its id.
    pub seed: u64,
    /// How a new node chooses its neighbors.
    pub selection: Selection,
    /// Whether the heuristic of a new node also considers the neighbors of its candidates (`extendCandidates` in
    /// Algorithm 4). A build takes several times as long.
    pub extend_candidates: bool,
    /// Whether the heuristic fills up with the nearest of those it rejected (`keepPrunedConnections` in Algorithm 4),
    /// for new nodes and where it cuts lists.
    pub keep_pruned: bool,
    /// How a list that overflows is cut.
    pub prune: PruneStrategy,
    /// Whether the graph keeps compact codes of its vectors.
    pub codes: Coding,
}

impl Default for BuildParams {
    /// Lance's MemTable defaults for the graph: 16 edges, 100 candidates.
    fn default() -> Self {
        Self {
            max_level: 7,
            m: 16,
            m0: None,
            ef_construction: 100,
            seed: 42,
            selection: Selection::Heuristic,
            extend_candidates: false,
            keep_pruned: false,
            prune: PruneStrategy::Heuristic,
            codes: Coding::Auto,
        }
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

    /// Sets the most neighbors of a node on level 0.
    pub fn m0(mut self, m0: usize) -> Self {
        self.m0 = Some(m0);
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

    /// Sets how a new node chooses its neighbors.
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Sets whether the neighbors of candidates are candidates.
    pub fn extend_candidates(mut self, extend_candidates: bool) -> Self {
        self.extend_candidates = extend_candidates;
        self
    }

    /// Sets whether the heuristic fills up with what it rejected.
    pub fn keep_pruned(mut self, keep_pruned: bool) -> Self {
        self.keep_pruned = keep_pruned;
        self
    }

    /// Sets how a list that overflows is cut.
    pub fn prune(mut self, prune: PruneStrategy) -> Self {
        self.prune = prune;
        self
    }

    /// Sets whether the graph keeps compact codes of its vectors.
    pub fn codes(mut self, codes: Coding) -> Self {
        self.codes = codes;
        self
    }

    /// Checks that lance-index 14.0.2 would build with these parameters, so that whatever is
    /// exported can be rebuilt there.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] if
    /// - `max_level` is 0,
    /// - `m` is below 4 or `2 * m` overflows,
    /// - `m0` is below `m`,
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
        let at_least_m = || format!("at least m = {}", self.m);
        if let Some(m0) = self.m0.filter(|&m0| m0 < self.m) {
            return invalid("m0", m0 as u64, at_least_m());
        }
        if self.ef_construction < self.m {
            return invalid("ef_construction", self.ef_construction as u64, at_least_m());
        }
        Ok(())
    }

    /// Capacity of a neighbor list on `level`.
    pub(crate) fn cap(&self, level: usize) -> usize {
        if level == 0 { self.m0.unwrap_or(2 * self.m) } else { self.m }
    }

    /// Edges of a level-0 list that may be protected from pruning: at least 2, and at most half of the list.
    pub(crate) fn max_children(&self) -> usize {
        self.m.min(self.cap(0) / 2)
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
        assert!(params(4, 4, 1).m0(4).validate().is_ok());
        assert!(params(4, 4, 1).m0(1_000).validate().is_ok());
        for (bad, message) in [
            (params(3, 100, 7), "m must be at least 4, got 3"),
            (params(16, 100, 7).m0(15), "m0 must be at least m = 16, got 15"),
            (params(16, 15, 7), "ef_construction must be at least m = 16, got 15"),
            (params(16, 100, 0), "max_level must be at least 1, got 0"),
        ] {
            assert_eq!(bad.validate().map_err(|e| e.to_string()), Err(message.to_string()));
        }
        assert!(params(usize::MAX / 2 + 1, usize::MAX, 7).validate().is_err());
    }

    #[test]
    fn the_names_of_codings_go_both_ways() {
        for coding in [Coding::Auto, Coding::Bytes, Coding::Off] {
            assert_eq!(coding.to_string().to_uppercase().parse::<Coding>().ok(), Some(coding));
        }
        let error = "4bit".parse::<Coding>().unwrap_err();
        assert!(matches!(&error, Error::UnknownCoding { actual } if actual == "4bit"), "{error:?}");
        assert_eq!(error.to_string(), "codes must be one of auto, bytes, off, got \"4bit\"");
    }

    #[test]
    fn no_list_is_protected_by_more_than_half() {
        for m in 4..40 {
            for m0 in [m, m + 1, 2 * m - 1, 2 * m, 2 * m + 1, 5 * m] {
                let params = BuildParams::default().num_edges(m).m0(m0);
                // What pruning keeps of a full list is three quarters of it.
                assert!((2..=m).contains(&params.max_children()) && params.max_children() < m0 - m0 / 4);
            }
            assert_eq!(BuildParams::default().num_edges(m).max_children(), m);
        }
    }
}
