//! The one order in which floating-point sums are made, and the portable loops that keep it.
//!
//! A sum has [`LANES`] partial sums, and element `i` goes to number `i % LANES`, by a fused multiply-add where there is
//! a product. Behind its end, a vector is padded to a multiple of [`LANES`] by zeros. Then upper halves are added to lower
//! ones:
//!
//! ```text
//! 0 ..                              .. 31
//! 0 ..          .. 15  +  16 ..     .. 31      16 sums
//! 0 .. 7  +  8 .. 15                            8
//! 0 .. 3  +  4 .. 7                             4
//! 0 1  +  2 3                                   2
//! 0  +  1                                       1
//! ```
//! All instruction sets keep to it, for one row and for several at a time, and whatever the elements are widened from.
//! So a distance, and what is built on distances, has the same bits on every CPU, and whichever vector is the query.
//! 32 partial sums are two registers of AVX-512, four of AVX2, and eight of NEON, which the compiler makes of the
//! portable loops. On x86-64 without FMA a fused multiply-add is a call: slow, and the same.

use super::element::Element;

/// Partial sums of a sum.
pub(super) const LANES: usize = 32;
/// Rows of which the sums may be made at a time.
pub(super) const ROWS: usize = 4;

/// The sum of `(x - y)^2`.
pub(super) const L2: u8 = 0;
/// The sum of `x y`.
pub(super) const DOT: u8 = 1;
/// The sum of `|x - y|`.
pub(super) const L1: u8 = 2;

/// Makes sums over a query of elements `Q` and rows of elements `T`. `OP` is [`L2`], [`DOT`] or [`L1`]. No slice is
/// read past the end of the shortest.
///
/// All methods are `#[inline(always)]`: they are part of a [`Kernel`](super::isa::Kernel).
pub(super) trait Sums<Q, T>: Copy {
    type Sum: Sum;

    /// Whether several rows at a time are faster than one after the other.
    const GROUPS: bool;

    fn one<const OP: u8>(self, query: &[Q], row: &[T]) -> Self::Sum;

    /// Products of the row with the query and with itself.
    fn one_with_square(self, query: &[Q], row: &[T]) -> (Self::Sum, Self::Sum);

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[Q], rows: [&[T]; ROWS]) -> [Self::Sum; ROWS] {
        let [a, b, c, d] = rows;
        [
            self.one::<OP>(query, a),
            self.one::<OP>(query, b),
            self.one::<OP>(query, c),
            self.one::<OP>(query, d),
        ]
    }

    #[inline(always)]
    fn rows_with_squares(self, query: &[Q], rows: [&[T]; ROWS]) -> [(Self::Sum, Self::Sum); ROWS] {
        let [a, b, c, d] = rows;
        let one = Self::one_with_square;
        [one(self, query, a), one(self, query, b), one(self, query, c), one(self, query, d)]
    }
}

/// What a sum comes to.
pub(super) trait Sum: Copy {
    fn rounded(self) -> f32;
}

impl Sum for f32 {
    #[inline(always)]
    fn rounded(self) -> f32 {
        self
    }
}

impl Sum for i64 {
    #[inline(always)]
    fn rounded(self) -> f32 {
        self as f32
    }
}

/// The portable loops.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loops;

impl<T: Element> Sums<f32, T> for Loops {
    type Sum = f32;
    const GROUPS: bool = false;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[f32], row: &[T]) -> f32 {
        let len = query.len().min(row.len());
        let (query, row) = (&query[..len], &row[..len]);
        let (queries, rows) = (query.as_chunks::<LANES>().0, row.as_chunks::<LANES>().0);
        let mut sums = [0.0; LANES];
        for (query, row) in queries.iter().zip(rows) {
            let row = widened(row);
            for i in 0..LANES {
                sums[i] = step::<OP>(sums[i], query[i], row[i]);
            }
        }
        if !len.is_multiple_of(LANES) {
            let (query, row) = (padded_tail(query), padded_tail(row));
            for i in 0..LANES {
                sums[i] = step::<OP>(sums[i], query[i], row[i]);
            }
        }
        total(sums)
    }

    #[inline(always)]
    fn one_with_square(self, query: &[f32], row: &[T]) -> (f32, f32) {
        let len = query.len().min(row.len());
        let (query, row) = (&query[..len], &row[..len]);
        let (queries, rows) = (query.as_chunks::<LANES>().0, row.as_chunks::<LANES>().0);
        let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
        for (query, row) in queries.iter().zip(rows) {
            let row = widened(row);
            for i in 0..LANES {
                products[i] = step::<DOT>(products[i], query[i], row[i]);
                squares[i] = step::<DOT>(squares[i], row[i], row[i]);
            }
        }
        if !len.is_multiple_of(LANES) {
            let (query, row) = (padded_tail(query), padded_tail(row));
            for i in 0..LANES {
                products[i] = step::<DOT>(products[i], query[i], row[i]);
                squares[i] = step::<DOT>(squares[i], row[i], row[i]);
            }
        }
        (total(products), total(squares))
    }
}

#[inline(always)]
fn step<const OP: u8>(sum: f32, x: f32, y: f32) -> f32 {
    match OP {
        L2 => (x - y).mul_add(x - y, sum),
        DOT => x.mul_add(y, sum),
        _ => sum + (x - y).abs(),
    }
}

#[inline(always)]
pub(super) fn widened<T: Element>(chunk: &[T; LANES]) -> [f32; LANES] {
    let mut widened = [0.0; LANES];
    for i in 0..LANES {
        widened[i] = chunk[i].widen();
    }
    widened
}

/// The elements behind the last whole chunk, and zeros.
#[inline(always)]
pub(super) fn padded_tail<T: Element>(values: &[T]) -> [f32; LANES] {
    let mut padded = [0.0; 2 * LANES];
    let mut start = 0;
    if let Some(last) = values.last_chunk::<LANES>() {
        // A whole chunk is widened by vector instructions, and then read from the tail on.
        padded[..LANES].copy_from_slice(&widened(last));
        start = LANES - values.len() % LANES;
    } else {
        for (to, x) in padded.iter_mut().zip(values) {
            *to = x.widen();
        }
    }
    let mut tail = [0.0; LANES];
    tail.copy_from_slice(&padded[start..start + LANES]);
    tail
}

#[inline(always)]
fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 2 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    let [a, b, c, d, ..] = sums;
    total_of_four([a, b, c, d])
}

/// Not inlined: from the pairs in it, the compiler would conclude that registers of two lanes are enough for the whole
/// sum, which takes twice as long on aarch64.
#[inline(never)]
fn total_of_four([a, b, c, d]: [f32; 4]) -> f32 {
    (a + c) + (b + d)
}
