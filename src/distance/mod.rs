//! Distances: the metrics, and the kernel that computes each on this CPU.

pub(crate) mod element;
pub(crate) mod isa;
mod integer;
mod kernels;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use element::Element;
use integer::IntegerQuery;
use kernels::{Kernels, RowKernel, RowsKernel, kernels};

/// Rows that one kernel call scores at a time.
pub(crate) const ROWS: usize = 4;

/// How far two vectors are from each other; a smaller value is nearer. The values are Lance's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DistanceType {
    /// Squared Euclidean distance: the sum of `(a - b)^2`.
    L2,
    /// `1 - cos(a, b)`, from 0 to 2.
    Cosine,
    /// `1 - a . b`: the larger the product, the nearer.
    Dot,
    /// Manhattan distance: the sum of `|a - b|`. Lance has none such.
    L1,
    /// The number of bits in which two vectors of bytes differ.
    Hamming,
}

impl fmt::Display for DistanceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L1 => "l1",
            Self::Hamming => "hamming",
        })
    }
}

impl FromStr for DistanceType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "l2" => Ok(Self::L2),
            "cosine" => Ok(Self::Cosine),
            "dot" => Ok(Self::Dot),
            "l1" => Ok(Self::L1),
            "hamming" => Ok(Self::Hamming),
            _ => Err(Error::UnsupportedDistanceType { actual: name.to_string() }),
        }
    }
}

impl TryFrom<DistanceType> for lance_linalg::distance::DistanceType {
    type Error = Error;

    fn try_from(value: DistanceType) -> Result<Self> {
        match value {
            DistanceType::L2 => Ok(Self::L2),
            DistanceType::Cosine => Ok(Self::Cosine),
            DistanceType::Dot => Ok(Self::Dot),
            DistanceType::Hamming => Ok(Self::Hamming),
            DistanceType::L1 => Err(Error::NotInLance { what: "distance type", actual: value.to_string() }),
        }
    }
}

impl TryFrom<lance_linalg::distance::DistanceType> for DistanceType {
    type Error = Error;

    fn try_from(value: lance_linalg::distance::DistanceType) -> Result<Self> {
        value.to_string().parse()
    }
}

/// A query with all that can be computed once for it: the kernel and, for cosine, its norm.
///
/// Vectors are as long as the query. If one is not, both are read up to the end of the shorter, never past it, and of
/// several vectors that are scored at once maybe none past the end of the shortest; under cosine the query's norm may
/// be that of all its elements nevertheless.
///
/// Under [`DistanceType::Hamming`] elements are taken as bytes: fractions are cut off, what is below 0 or NaN counts as
/// 0, and what is above 255 as 255.
#[derive(Clone)]
pub struct PreparedQuery<'a> {
    vector: &'a [f32],
    metric: Metric,
    /// For rows of bytes, if the query is of integers.
    integers: Option<IntegerQuery>,
}

#[derive(Clone, Copy)]
enum Metric {
    L2(RowKernel, RowsKernel),
    Dot(RowKernel, RowsKernel),
    /// With the query's dot product with itself.
    Cosine(RowKernel<(f32, f32)>, RowsKernel<(f32, f32)>, f32),
    L1,
    Hamming,
}

impl<'a> PreparedQuery<'a> {
    /// Prepares `vector` for distances of the given type.
    #[inline]
    pub fn new(vector: &'a [f32], distance_type: DistanceType) -> Self {
        let Kernels { l2, l2_rows, dot, dot_rows, cosine, cosine_rows } = *kernels();
        let metric = match distance_type {
            DistanceType::L2 => Metric::L2(l2, l2_rows),
            DistanceType::Dot => Metric::Dot(dot, dot_rows),
            DistanceType::Cosine => Metric::Cosine(cosine, cosine_rows, cosine.call(vector, vector).0),
            DistanceType::L1 => Metric::L1,
            DistanceType::Hamming => Metric::Hamming,
        };
        Self { vector, metric, integers: None }
    }

    /// The query as it was given.
    pub fn vector(&self) -> &'a [f32] {
        self.vector
    }

    /// Distance to one vector.
    #[inline]
    pub fn distance(&self, vector: &[f32]) -> f32 {
        match self.metric {
            Metric::L2(one, _) => one.call(self.vector, vector),
            Metric::Dot(one, _) => 1.0 - one.call(self.vector, vector),
            Metric::Cosine(one, _, square) => self.cosine(one.call(self.vector, vector), square, vector),
            Metric::L1 | Metric::Hamming => self.distance_to_elements(vector, 0.0),
        }
    }

    /// The query's dot product with itself as the kernels of elements sum it, for cosine: then a distance is the same
    /// to the bit whichever vector is the query.
    #[inline]
    pub(crate) fn square_of_elements(&self) -> f32 {
        match self.metric {
            Metric::Cosine(..) => <f32 as Element>::kernels().cosine(self.vector, self.vector).1,
            _ => 0.0,
        }
    }

    /// Distance to one vector of any elements.
    #[inline]
    pub(crate) fn distance_to_elements<T: Element>(&self, vector: &[T], square: f32) -> f32 {
        let kernels = T::kernels();
        match self.metric {
            Metric::L2(..) => kernels.l2(self.vector, vector),
            Metric::Dot(..) => 1.0 - kernels.dot(self.vector, vector),
            Metric::Cosine(..) => self.cosine(kernels.cosine(self.vector, vector), square, vector),
            Metric::L1 => kernels.l1(self.vector, vector),
            Metric::Hamming => kernels.hamming(self.vector, vector),
        }
    }

    /// Distances to several vectors, of which `row(i)` is the `i`-th: to the bit as
    /// [`distance`](Self::distance) gives them for vectors as long as the query, but in fewer passes over it.
    #[inline]
    pub fn distances<'v>(&self, row: impl Fn(usize) -> &'v [f32], out: &mut [f32]) {
        match self.metric {
            Metric::L2(one, rows) => {
                each(self.vector, one, rows, row, out, |l2, _| l2);
            }
            Metric::Dot(one, rows) => {
                each(self.vector, one, rows, row, out, |dot, _| 1.0 - dot);
            }
            Metric::Cosine(one, rows, square) => {
                each(self.vector, one, rows, row, out, |dots, vector| self.cosine(dots, square, vector));
            }
            Metric::L1 | Metric::Hamming => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = self.distance_to_elements(row(i), 0.0);
                }
            }
        }
    }

    /// `dots` are the vector's dot products with the query and with itself.
    #[inline(always)]
    fn cosine<T: Element>(&self, dots: (f32, f32), square: f32, vector: &[T]) -> f32 {
        const SAFE: std::ops::Range<f32> = 1.0e-30..1.0e30;
        if SAFE.contains(&dots.1) && SAFE.contains(&square) {
            // The product of the norms first: the same bits whichever vector is the query.
            1.0 - dots.0 / (square.sqrt() * dots.1.sqrt())
        } else {
            wide_cosine(self.vector, vector)
        }
    }
}

/// Scores all rows, [`ROWS`] at a time.
#[inline(always)]
fn each<'v, T: Copy>(
    query: &[f32],
    one: RowKernel<T>,
    several: RowsKernel<T>,
    row: impl Fn(usize) -> &'v [f32],
    out: &mut [f32],
    finish: impl Fn(T, &[f32]) -> f32,
) {
    let mut groups = out.chunks_exact_mut(ROWS);
    let mut i = 0;
    for group in &mut groups {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|r| row(i + r));
        for ((out, raw), vector) in group.iter_mut().zip(several.call(query, rows)).zip(rows) {
            *out = finish(raw, vector);
        }
        i += ROWS;
    }
    for (r, out) in groups.into_remainder().iter_mut().enumerate() {
        let vector = row(i + r);
        *out = finish(one.call(query, vector), vector);
    }
}

/// Cosine distance of vectors so long or so short that their dot products may leave the range of `f32`.
#[cold]
fn wide_cosine<T: Element>(a: &[f32], b: &[T]) -> f32 {
    let (mut dot, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (&x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y.widen()));
        dot += x * y;
        square_a += x * x;
        square_b += y * y;
    }
    (1.0 - dot / (square_a.sqrt() * square_b.sqrt())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        use lance_linalg::distance::DistanceType as Lances;
        for t in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot, DistanceType::Hamming] {
            assert_eq!(t.to_string().parse::<DistanceType>().ok(), Some(t));
            assert_eq!(Lances::try_from(t).and_then(DistanceType::try_from).ok(), Some(t));
        }
        assert_eq!("L1".parse::<DistanceType>().ok(), Some(DistanceType::L1));
        assert_eq!(
            Lances::try_from(DistanceType::L1).map_err(|e| e.to_string()),
            Err("Lance has no distance type l1".to_string())
        );
        assert_eq!(
            "chebyshev".parse::<DistanceType>().map_err(|e| e.to_string()),
            Err("distance type must be one of l2, cosine, dot, l1, hamming, got \"chebyshev\"".to_string())
        );
    }
}
