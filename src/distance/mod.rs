//! Distances between `f32` vectors: the metrics, and the kernel that computes each on this CPU.

mod kernels;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
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
}

impl fmt::Display for DistanceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Dot => "dot",
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
            _ => Err(Error::UnsupportedDistanceType { actual: name.to_string() }),
        }
    }
}

impl From<DistanceType> for lance_linalg::distance::DistanceType {
    fn from(value: DistanceType) -> Self {
        match value {
            DistanceType::L2 => Self::L2,
            DistanceType::Cosine => Self::Cosine,
            DistanceType::Dot => Self::Dot,
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
#[derive(Clone, Copy)]
pub struct PreparedQuery<'a> {
    vector: &'a [f32],
    metric: Metric,
}

#[derive(Clone, Copy)]
enum Metric {
    L2(RowKernel, RowsKernel),
    Dot(RowKernel, RowsKernel),
    /// With the query's dot product with itself.
    Cosine(RowKernel<(f32, f32)>, RowsKernel<(f32, f32)>, f32),
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
        };
        Self { vector, metric }
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
        }
    }

    /// Distances to several vectors, of which `row(i)` is the `i`-th: to the bit as
    /// [`distance`](Self::distance) gives them, but in fewer passes over the query.
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
        }
    }

    /// `dots` are the vector's dot products with the query and with itself.
    #[inline(always)]
    fn cosine(&self, dots: (f32, f32), square: f32, vector: &[f32]) -> f32 {
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
fn wide_cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
    (1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for t in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
            assert_eq!(t.to_string().parse::<DistanceType>().ok(), Some(t));
            assert_eq!(DistanceType::try_from(lance_linalg::distance::DistanceType::from(t)).ok(), Some(t));
        }
        let hamming = DistanceType::try_from(lance_linalg::distance::DistanceType::Hamming);
        assert_eq!(
            hamming.map_err(|e| e.to_string()),
            Err("distance type must be one of l2, cosine, dot, got \"hamming\"".to_string())
        );
    }
}
