//! Strict lower bounds: never above the distance that the exact kernels compute in `f32`.
//!
//! The triangle inequality takes off what the codes of row and query lost, and a bound of its rounding each what
//! `f64` may add here and what `f32` may take off there.

use super::estimate::{Row, product, squared_distance};
use super::query::CodeQuery;
use super::record::{Header, round_down};

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

    /// A lower bound of the distance from the query to a row, both as the kernels of rows have them, in real numbers.
    #[inline(always)]
    fn distance(self, query: &CodeQuery, header: Header, dot: i64) -> f64 {
        let (row, squares) = (Row::new(header), header.squares());
        let squared = squared_distance(self.dim, query, row, squares, dot);
        let reach = self.root * (query.lo - row.lo).abs() + query.square.sqrt() + row.step * squares.sqrt();
        let coded = (squared - ROUNDING * reach * reach).max(0.0).sqrt();
        (coded - f64::from(header.error) - query.error).max(0.0)
    }

    #[inline(always)]
    pub fn l2(self, query: &CodeQuery, header: Header, dot: i64) -> f32 {
        let distance = self.distance(query, header, dot);
        round_down((distance * distance * (1.0 - self.sum) - self.underflow).max(0.0))
    }

    /// A kernel divides a product by two roots of sums: what these are off by, the operations themselves, and a
    /// subtraction from 1 of up to 2.
    #[inline(always)]
    pub fn cosine(self, query: &CodeQuery, header: Header, dot: i64) -> f32 {
        let distance = self.distance(query, header, dot);
        round_down(0.5 * distance * distance * (1.0 - ROUNDING) - 2.0 * self.sum - 16.0 * UNIT)
    }

    #[inline(always)]
    pub fn dot(self, query: &CodeQuery, header: Header, dot: i64) -> f32 {
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
        if lengths < 0.99 * f64::from(f32::MAX) { round_down(bound) } else { f32::NEG_INFINITY }
    }
}
