//! How a search goes about it: through the graph, or straight to the rows that qualify.
//!
//! A walk that passes through rows it may not return computes about `ef * m / p` distances where a part `p` of the
//! rows may be returned; a scan computes one for each of these rows, and each costs about half as much, because
//! there is nothing else to do. Estimates can be wrong, and rows near the query can be worse than average: a walk
//! that falls behind what the scan would cost gives up ([`Goal`]), early enough to lose a tenth.

use super::scope::Scope;
use super::walk::Goal;
use crate::source::VectorSource;

/// Which way a search went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchPlan {
    /// Through the graph; every row met may be returned.
    Graph,
    /// Through the graph, past rows that may not be returned.
    FilteredGraph,
    /// All rows that may be returned were compared with the query, at once or after a walk that gave up.
    Scan,
}

/// What a search did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchStats {
    /// The way it went.
    pub plan: SearchPlan,
    /// Distances computed.
    pub distances: u64,
    /// Nodes expanded.
    pub nodes: u64,
    /// False if a deadline or a limit of distances ended the search before it was done.
    pub complete: bool,
}

/// Distances of a scan that cost as much as one of a walk.
const SCAN_SPEED: u64 = 2;
/// Tests of a row that cost as much as one distance of a walk.
const TEST_SPEED: u64 = 8;

/// What a scan of the scope costs, in distances of a walk.
pub(super) fn scan_cost<S: VectorSource + ?Sized>(scope: &Scope<'_, S>, matches: u64) -> u64 {
    matches / SCAN_SPEED + scope.tests() / TEST_SPEED
}

/// Whether to scan at once.
pub(super) fn starts_with_scan<S: VectorSource + ?Sized>(goal: &Goal<'_, S>, m: usize) -> bool {
    if goal.range.is_some() {
        // How many rows are in the range is not known before.
        return goal.matches < (m * m) as u64;
    }
    let part = goal.matches as f64 / f64::from(goal.scope.visible().max(1));
    let walk = goal.results as f64 * m as f64 / part.max(f64::MIN_POSITIVE);
    goal.matches <= goal.results as u64 || walk >= goal.scan as f64
}
