//! Estimates of distances from integers, and how far off they may be.
//!
//! All of it is in `f64`, one operation after the other as written here: so an estimate has the same bits on every CPU.

use super::query::CodeQuery;
use super::record::Header;
use super::{Metric, Shape};

/// Standard deviations that the slack covers.
const DEVIATIONS: f64 = 3.0;

/// A header's numbers, widened.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub lo: f64,
    pub step: f64,
    pub sum: f64,
}

impl Row {
    #[inline(always)]
    pub fn new(header: Header) -> Self {
        Self { lo: f64::from(header.lo), step: f64::from(header.step), sum: f64::from(header.sum) }
    }

    /// Squared length of the reconstruction; `squares` is the sum of the squared codes.
    pub fn squared_length(self, dim: f64, squares: f64) -> f64 {
        self.lo * (dim * self.lo + 2.0 * self.step * self.sum) + self.step * self.step * squares
    }
}

/// Squared distance of the coded query to the reconstruction of a row: `S (a + step_q n - step c)^2` with `a` the
/// difference of the two `lo`. So an offset that all elements have in common drops out before anything is squared.
#[inline(always)]
pub(super) fn squared_distance(dim: f64, query: &CodeQuery, row: Row, squares: f64, dot: i64) -> f64 {
    let apart = query.lo - row.lo;
    let common = apart * (dim * apart + query.twice_sum - 2.0 * row.step * row.sum);
    let codes = row.step * (row.step * squares - query.twice_step * dot as f64);
    common + codes + query.square
}

/// Dot product of the coded query with the reconstruction of a row.
#[inline(always)]
pub(super) fn product(query: &CodeQuery, row: Row, dot: i64) -> f64 {
    row.lo * query.sum + row.step * (query.lo * row.sum + query.step * dot as f64)
}

/// Estimate of the squared L2 distance. `square` of the header is without the error's share already, and the query's
/// own noise goes here: what is left is right on average.
#[inline(always)]
pub(super) fn l2(dim: f64, query: &CodeQuery, header: Header, dot: i64) -> f32 {
    unbiased(dim, query, header, dot) as f32
}

/// Estimate of `1 - cos`: half of the squared distance of the vectors at length 1.
#[inline(always)]
pub(super) fn cosine(dim: f64, query: &CodeQuery, header: Header, dot: i64) -> f32 {
    (0.5 * unbiased(dim, query, header, dot)) as f32
}

#[inline(always)]
fn unbiased(dim: f64, query: &CodeQuery, header: Header, dot: i64) -> f64 {
    let squared = squared_distance(dim, query, Row::new(header), f64::from(header.square), dot);
    (squared - query.noise).max(0.0)
}

/// Estimate of `1 - q . x`.
#[inline(always)]
pub(super) fn dot(query: &CodeQuery, header: Header, dot: i64) -> f32 {
    (1.0 - product(query, Row::new(header), dot)) as f32
}

/// How much the exact distance may differ from an estimate, in all but about one of 300 rows.
///
/// The errors of the elements are taken for independent of query and row, with a variance of `n` each: their product
/// with a vector `v` then has a standard deviation of `|v| sqrt(n)`. Under L2, `v` is the difference of query and row, whose length is the root of
/// the distance sought: `exact <= estimate + 2 z sqrt(n exact)` is solved for it. Where one element is so large that the
/// others share a few codes, errors are not independent: for these twice the squared error is added, which is little
/// otherwise.
pub(super) fn slack(shape: Shape, query: &CodeQuery, header: Header, estimate: f32) -> f32 {
    if !query.error.is_finite() || !header.error.is_finite() {
        return f32::INFINITY;
    }
    let dim = shape.dim as f64;
    let row = Row::new(header);
    let of_row = if shape.is_lossless(header) {
        0.0
    } else {
        let error = f64::from(header.error);
        variance(row.step, error * error, dim)
    };
    let both = of_row + query.variance;
    if both == 0.0 {
        return 0.0;
    }
    let squared_distance = |estimate: f64| {
        let reach = DEVIATIONS * both.sqrt();
        2.0 * reach * (reach + (estimate.max(0.0) + reach * reach).sqrt()) + 2.0 * dim * both
    };
    let slack = match shape.metric {
        Metric::L2 => squared_distance(f64::from(estimate)),
        Metric::Cosine => 0.5 * squared_distance(2.0 * f64::from(estimate)),
        Metric::Dot => {
            let squared_length = row.squared_length(dim, header.squares()).max(0.0);
            DEVIATIONS * (query.length * query.length * of_row + squared_length * query.variance).sqrt()
        }
    };
    slack as f32
}

/// Variance of the error of an element: that of rounding to steps, or that of the errors found, if that is more. Few
/// may have one, and these be the largest elements: so it is not less than the former.
pub(super) fn variance(step: f64, squared_error: f64, dim: f64) -> f64 {
    (squared_error / dim).max(step * step / 12.0)
}
