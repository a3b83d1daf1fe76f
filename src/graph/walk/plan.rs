//! How a filtered search goes about it: a wider beam, a walk through, or straight to the rows that qualify.
//!
//! Costs are counted in rows scored by a walk. Where a part `p` of the rows is in the scope, a beam of
//! `ef * p^-0.5` holds as good an answer as one of `ef` without a filter: so measured on four data sets. A walk that
//! passes through rows it may not return costs about `ef * m * p^-0.95`. A scan computes one distance for each row in
//! the scope, and each costs less, because there is nothing else to do.
//!
//! An estimate is an average: a mask can leave out just the rows near the query. So a beam is looked at while it is on
//! its way, and widened once by the share of rows it met that may be returned; and a walk gives up when it costs three
//! times what was expected, or when it expands far fewer rows that may be returned than there are on average. What is
//! lost then is little beside the scan.

use crate::search::scope::Scope;
use crate::vectors::VectorSource;

/// Rows of a scan that cost as much as one that a walk scores: from rows, and by codes.
const SCAN_SPEED: [f64; 2] = [2.5, 1.5];
/// Tests of a row that cost as much as one row that a walk scores.
const TEST_SPEED: f64 = 8.0;
/// Rows that a beam scores, for each of its width and each neighbor that a node selects.
const SCORED: f64 = 0.8;
/// Part of the cost of a scan after which a walk has to show that it will be cheaper.
const TRIAL: f64 = 32.0;
/// Rows to return that a walk should have expanded before it is judged by how many it did.
const SIGNIFICANT: f64 = 6.0;

/// What the ways are expected to cost.
pub(crate) struct Costs {
    /// Rows in the scope, about.
    matches: u64,
    /// The part of all rows that these are.
    part: f64,
    m: f64,
    scan: f64,
    /// Infinite for ranges of distances: how many rows are in one is not known before.
    walk: f64,
}

/// How a walk through is doing.
pub(crate) struct Progress {
    /// Rows scored before it began.
    pub before: u64,
    pub expanded: u64,
    /// Those of them that may be returned.
    pub passed: u64,
}

impl Costs {
    /// For a walk among the ids below `readable` that keeps `results` rows of a scope; `exact` if it scores rows and
    /// not codes.
    pub fn of<S: VectorSource + ?Sized>(
        scope: &Scope<'_, S>,
        readable: u32,
        results: usize,
        m: usize,
        has_range: bool,
        exact: bool,
    ) -> Self {
        let matches = scope.estimate();
        let part = (matches as f64 / f64::from(readable.max(1))).clamp(f64::MIN_POSITIVE, 1.0);
        let scan = matches as f64 / SCAN_SPEED[usize::from(!exact)] + scope.tests() as f64 / TEST_SPEED;
        let walk = if has_range { f64::INFINITY } else { results as f64 * m as f64 * part.powf(-0.95) };
        Self { matches, part, m: m as f64, scan, walk }
    }

    /// How wide a beam has to be to hold as good an answer as one of `results` without a filter, and in nearly all
    /// cases `k` rows that may be returned. None if no width will do.
    pub fn width(&self, results: usize, k: usize) -> Option<usize> {
        self.walk.is_finite().then(|| width(results, k, self.part))
    }

    /// The width that the share of rows met asks for, if it is clearly more than that of the beam that met them.
    pub fn corrected(&self, results: usize, k: usize, passed: usize, met: usize) -> Option<usize> {
        let share = (passed as f64 + 0.5) / (met as f64 + 1.0);
        let wider = width(results, k, share.min(self.part));
        (passed < k || wider as f64 > 1.25 * met as f64).then_some(wider.max(met + met / 2))
    }

    /// Rows scored after which a beam is judged by the share of rows it met that may be returned.
    pub fn trial(&self) -> u64 {
        (self.scan / TRIAL) as u64
    }

    /// Whether a beam that was as wide as the share of rows met asks for would cost more than a scan.
    pub fn is_hopeless_share(&self, passed: usize, met: usize) -> bool {
        let share = (passed as f64 + 0.5) / (met as f64 + 1.0);
        share * 4.0 < self.part && self.beam(met as f64 * (self.part / share).sqrt()) > self.scan
    }

    /// Whether a beam of that width costs more than a scan.
    pub fn is_dearer_than_scan(&self, width: usize) -> bool {
        self.beam(width as f64) > self.scan
    }

    fn beam(&self, width: f64) -> f64 {
        width * self.m * SCORED
    }

    /// What a scan costs.
    pub fn scan(&self) -> u64 {
        self.scan as u64
    }

    /// Whether to scan at once.
    pub fn starts_with_scan(&self, results: usize) -> bool {
        if self.walk.is_infinite() {
            return (self.matches as f64) < self.m * self.m;
        }
        self.matches <= results as u64 || self.beam(width(results, 1, self.part) as f64) >= self.scan
    }

    /// Whether a scan is cheaper than a walk through.
    pub fn scans_next(&self, results: usize) -> bool {
        self.walk.is_finite() && (self.matches <= results as u64 || self.walk >= self.scan)
    }

    /// Whether a walk that has scored so many rows shall give up.
    pub fn is_hopeless(&self, scored: u64, progress: &Progress) -> bool {
        let scored = (scored - progress.before) as f64;
        let trial = self.scan / TRIAL;
        // As far off as an estimate can be, and no matter while it is little beside a scan.
        let limit = (self.walk * 3.0).max(trial).min(self.scan);
        let expected = progress.expanded as f64 * self.part;
        scored >= limit
            || (scored >= trial
                && self.walk.is_finite()
                && expected >= SIGNIFICANT
                && progress.passed as f64 * 4.0 < expected)
    }
}

/// How wide a beam has to be where a share of the rows near the query may be returned.
fn width(results: usize, k: usize, share: f64) -> usize {
    let slack = 2.0 * (k as f64 * (1.0 - share)).sqrt();
    (results as f64 * share.powf(-0.5)).max((k as f64 + slack) / share).ceil() as usize
}
