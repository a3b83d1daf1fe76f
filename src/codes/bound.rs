//! Strict lower bounds: never above the distance that the exact kernels compute in `f32`.
//!
//! The triangle inequality takes off what the codes of row and query lost, and a bound of its rounding each what
//! `f64` may add here and what `f32` may take off there.

use super::estimate::{Row, product, squared_distance};
use super::query::CodeQuery;
use super::record::Header;

/// More than what some 20 operations in `f64` are off by, relative to the magnitudes that go into them.
const ROUNDING: f64 = 64.0 * f64::EPSILON;
/// Half of the distance of 1 to the next `f32`: what an operation in `f32` is off by, relatively.
const UNIT: f64 = 0.5 * f32::EPSILON as f64;

/// What bounds need to know of the exact kernels for one dimension.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    dim: f64,
    root: f64,
    /// Relative error of a sum of squares in `f32`, and that of a sum of products relative to the lengths. Kernels add
    /// in 16 sums or more, so a product goes through `dim / 16` additions and those of a few sums and tails; 16 more
    /// are for these and for the rounding of the product itself.
    sum: f64,
    /// What underflows from `dim` products.
    underflow: f64,
}

impl Limits {
    pub fn new(dim: usize) -> Self {
        let wide = dim as f64;
        Self {
            dim: wide,
            root: wide.sqrt(),
            // A thousandth more, because factors of `1 + UNIT` multiply.
            sum: 1.001 * (wide / 16.0 + 16.0) * UNIT,
            underflow: wide * f64::from(f32::from_bits(1)),
        }
    }

    /// How far the vectors of query and row may be apart, in real numbers, where a kernel computes a distance of at most
    /// `bound`; under cosine these are the vectors at length 1. With it comes what the coding of the query lost.
    pub fn reach(self, query: &CodeQuery, bound: f32, is_cosine: bool) -> f64 {
        let bound = f64::from(bound);
        let squared = if is_cosine {
            // A kernel divides a product by two roots of sums: what these are off by, the operations themselves, and a
            // subtraction from 1 of up to 2.
            2.0 * (bound + 2.0 * self.sum + 16.0 * UNIT)
        } else {
            (bound + self.underflow) / (1.0 - self.sum)
        };
        // Not a number is no bound.
        let squared = if squared.is_nan() { f64::INFINITY } else { squared.max(0.0) };
        squared.sqrt() * (1.0 + ROUNDING) + query.error
    }

    /// Whether a row may be within a [`reach`](Self::reach) of the query.
    #[inline(always)]
    pub fn is_within(self, reach: f64, query: &CodeQuery, header: Header, dot: i64) -> bool {
        let (row, error) = (Row::new(header), f64::from(header.error));
        let (apart, square, step) = (query.lo - row.lo, f64::from(header.square), row.step * row.step);
        // The share in squared steps is the squared error, up to half of one: without the division that tells which.
        let share = (error * error - 0.5 * step).max(0.0);
        let squared = squared_distance(self.dim, query, row, square, dot) + share;
        // The square of a sum of three magnitudes is at most three times the sum of their squares.
        let magnitude =
            3.0 * (self.dim * apart * apart + query.square + step * (square + 1.0) + error * error);
        let limit = (reach + error) * (1.0 + ROUNDING);
        let is_beyond = squared - ROUNDING * magnitude > limit * limit;
        !is_beyond
    }

    /// A lower bound of what the kernel computes.
    #[inline(always)]
    pub fn dot(self, query: &CodeQuery, header: Header, dot: i64) -> f64 {
        let (row, squares) = (Row::new(header), header.squares());
        // Sums of magnitudes: what the rounding of `f64` is relative to.
        let row_reach = self.root * row.lo.abs() + row.step * squares.sqrt();
        let query_reach = self.root * query.lo.abs() + query.square.sqrt();
        let error = f64::from(header.error);
        let coded = row.squared_length(self.dim, squares).max(0.0) + ROUNDING * row_reach * row_reach;
        let row_length = coded.sqrt() * (1.0 + ROUNDING) + error;
        let lengths = query.length * row_length;
        // q . x - q' . x' = (q - q') . x + q' . (x - x')
        let lost = query.error * row_length + (query.length + query.error) * error;
        let rounded = (self.sum + 2.0 * UNIT) * lengths + 2.0 * UNIT + self.underflow;
        let bound = 1.0
            - product(query, row, dot)
            - lost * (1.0 + ROUNDING)
            - rounded
            - ROUNDING * row_reach * query_reach;
        // Beyond, sums may leave the range of `f32`, to either side. Not a number is not below either.
        if lengths < 0.99 * f64::from(f32::MAX) { bound } else { f64::NEG_INFINITY }
    }
}
