//! How a search goes about it: through the graph, or straight to the rows that qualify.
//!
//! A walk that passes through rows it may not return computes more distances the fewer rows it may: where a part `p`
//! of the rows is in the scope, about `ef * m * p^-0.95` on GloVe. On SIFT descriptors the exponent is -0.7, but a walk
//! that gives up costs more than a scan at once. A scan computes one distance for each row in the scope, and each costs
//! about half as much, because there is nothing else to do.
//!
//! An estimate is an average: a mask can leave out just the rows near the query. So a walk gives up when it costs
//! three times what was expected, or when it expands far fewer rows that may be returned than there are on average.
//! What is lost then is little beside the scan.

use crate::search::scope::Scope;
use crate::vectors::VectorSource;

/// Distances of a scan that cost as much as one of a walk.
const SCAN_SPEED: u64 = 2;
/// Tests of a row that cost as much as one distance of a walk.
const TEST_SPEED: u64 = 8;
/// Part of the cost of a scan after which a walk has to show that it will be cheaper.
const TRIAL: u64 = 32;
/// Rows to return that a walk should have expanded before it is judged by how many it did.
const SIGNIFICANT: f64 = 6.0;

/// Where at least this part of the rows may be returned, the others are dropped after the walk.
const MOST: f64 = 0.5;

/// What the two ways are expected to cost, in distances of a walk.
pub(crate) struct Costs {
    /// Rows in the scope, about.
    matches: u64,
    /// The part of all rows that these are.
    part: f64,
    scan: u64,
    /// Infinite for ranges of distances: how many rows are in one is not known before.
    walk: f64,
}

/// How a walk is doing.
pub(crate) struct Progress {
    /// Distances computed before it began.
    pub before: u64,
    pub expanded: u64,
    /// Those of them that may be returned.
    pub passed: u64,
}

impl Costs {
    /// For a walk among the ids below `readable` that keeps `results` rows of a scope.
    pub fn of<S: VectorSource + ?Sized>(
        scope: &Scope<'_, S>,
        readable: u32,
        results: usize,
        m: usize,
        has_range: bool,
    ) -> Self {
        let matches = scope.estimate();
        let part = (matches as f64 / f64::from(readable.max(1))).clamp(f64::MIN_POSITIVE, 1.0);
        let scan = matches / SCAN_SPEED + scope.tests() / TEST_SPEED;
        let walk = if has_range { f64::INFINITY } else { results as f64 * m as f64 * part.powf(-0.95) };
        Self { matches, part, scan, walk }
    }

    /// How wide a beam has to be to hold so many results, if most of it may be returned, and in nearly all cases
    /// `needed` of them.
    pub fn width_of_beam(&self, results: usize, needed: usize) -> Option<usize> {
        let slack = 2.0 * (needed as f64 * (1.0 - self.part)).sqrt();
        let width = (results as f64).max(needed as f64 + slack) / self.part;
        (self.part >= MOST && self.walk.is_finite()).then_some(width.ceil() as usize)
    }

    /// Distances after which a walk is judged by the share of rows it meets that may be returned.
    pub fn trial(&self) -> u64 {
        self.scan / TRIAL
    }

    /// The part of all rows that may be returned.
    pub fn part(&self) -> f64 {
        self.part
    }

    /// What a scan costs.
    pub fn scan(&self) -> u64 {
        self.scan
    }

    /// Whether to scan at once.
    pub fn starts_with_scan(&self, results: usize, m: usize) -> bool {
        if self.walk.is_infinite() {
            return self.matches < (m * m) as u64;
        }
        self.matches <= results as u64 || self.walk >= self.scan as f64
    }

    /// Whether a walk that has computed so many distances shall give up.
    pub fn is_hopeless(&self, distances: u64, progress: &Progress) -> bool {
        let distances = distances - progress.before;
        let trial = self.trial();
        // As far off as an estimate can be, and no matter while it is little beside a scan.
        let limit = (self.walk * 3.0).max(trial as f64).min(self.scan as f64);
        let expected = progress.expanded as f64 * self.part;
        distances as f64 >= limit
            || (distances >= trial
                && self.walk.is_finite()
                && expected >= SIGNIFICANT
                && progress.passed as f64 * 4.0 < expected)
    }
}
