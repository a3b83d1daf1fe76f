//! What a search costs, and when it has cost enough.

use std::time::Instant;

use crate::search::{SearchParams, SearchPlan, SearchStats};

/// Expansions between two looks at the clock.
const CLOCK: u64 = 8;

/// The work of one search so far, and its limits.
pub(crate) struct Effort {
    /// Distances computed from rows.
    pub distances: u64,
    /// Distances estimated from codes, or bounded by them.
    pub estimates: u64,
    /// Distances of these that were computed for rows met by estimate.
    pub reranked: u64,
    /// Nodes expanded.
    pub nodes: u64,
    max_distances: u64,
    deadline: Option<Instant>,
    /// Whether a limit was reached.
    spent: bool,
    looks: u64,
}

impl Effort {
    pub fn unlimited() -> Self {
        Self {
            distances: 0,
            estimates: 0,
            reranked: 0,
            nodes: 0,
            max_distances: u64::MAX,
            deadline: None,
            spent: false,
            looks: 0,
        }
    }

    /// An effort that ends when so many rows were scored.
    pub fn up_to(scored: u64) -> Self {
        Self { max_distances: scored, ..Self::unlimited() }
    }

    pub fn limited(params: &SearchParams) -> Self {
        Self {
            max_distances: params.max_distances.unwrap_or(u64::MAX),
            deadline: params.deadline,
            ..Self::unlimited()
        }
    }

    /// Rows compared with the query, by whatever means.
    #[inline(always)]
    pub fn scored(&self) -> u64 {
        self.distances + self.estimates - self.reranked
    }

    /// Whether the search has to end. Asked before each expansion and each block of a scan.
    #[inline(always)]
    pub fn is_spent(&mut self) -> bool {
        if self.scored() >= self.max_distances {
            self.spent = true;
        } else if let Some(deadline) = self.deadline {
            self.look_at_clock(deadline);
        }
        self.spent
    }

    /// Whether the search has to end, with a look at the clock each time: for work that comes in large pieces.
    pub fn is_spent_now(&mut self) -> bool {
        self.looks = 0;
        self.is_spent()
    }

    #[cold]
    fn look_at_clock(&mut self, deadline: Instant) {
        if !self.spent && self.looks.is_multiple_of(CLOCK) {
            self.spent = Instant::now() >= deadline;
        }
        self.looks += 1;
    }

    /// Adds what another part of the search did.
    pub fn add(&mut self, part: &Self) {
        self.distances += part.distances;
        self.estimates += part.estimates;
        self.reranked += part.reranked;
        self.nodes += part.nodes;
        self.spent |= part.spent;
    }

    /// What the search did, which went this way.
    pub fn stats(&self, plan: SearchPlan, ef: usize) -> SearchStats {
        SearchStats {
            plan,
            distances: self.distances,
            estimates: self.estimates,
            reranked: self.reranked,
            nodes: self.nodes,
            ef,
            complete: self.is_complete(),
        }
    }

    /// Whether no limit was reached.
    pub fn is_complete(&self) -> bool {
        !self.spent
    }
}
