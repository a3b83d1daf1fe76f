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

/// A query with all that can be computed once for it: the kernels and, for cosine, its norm.
#[derive(Clone, Copy)]
pub struct PreparedQuery<'a> {
    vector: &'a [f32],
    inverse_norm: f32,
    distance_type: DistanceType,
    one: RowKernel,
    rows: RowsKernel,
}

impl<'a> PreparedQuery<'a> {
    /// Prepares `vector` for distances of the given type.
    pub fn new(vector: &'a [f32], distance_type: DistanceType) -> Self {
        let inverse_norm = if distance_type == DistanceType::Cosine { inverse_norm(vector) } else { 1.0 };
        Self::with_inverse_norm(vector, inverse_norm, distance_type)
    }

    /// The same for a vector whose inverse norm is known; it is used for cosine only.
    pub fn with_inverse_norm(vector: &'a [f32], inverse_norm: f32, distance_type: DistanceType) -> Self {
        let Kernels { l2, l2_rows, dot, dot_rows } = *kernels();
        let (one, rows) = if distance_type == DistanceType::L2 { (l2, l2_rows) } else { (dot, dot_rows) };
        Self { vector, inverse_norm, distance_type, one, rows }
    }

    /// The query as it was given.
    pub fn vector(&self) -> &'a [f32] {
        self.vector
    }

    /// Distance to one vector. `inverse_norm` is that vector's ([`inverse_norm`]), used for cosine only.
    #[inline]
    pub fn distance(&self, vector: &[f32], inverse_norm: f32) -> f32 {
        self.finish(self.one.call(self.vector, vector), vector, inverse_norm)
    }

    /// Distances to several vectors, as [`distance`](Self::distance) gives them to the bit, but in
    /// fewer passes over the query: `row(i)` is the `i`-th vector with its inverse norm.
    #[inline]
    pub fn distances<'v>(&self, row: impl Fn(usize) -> (&'v [f32], f32), out: &mut [f32]) {
        let mut groups = out.chunks_exact_mut(ROWS);
        let mut i = 0;
        for group in &mut groups {
            let rows: [(&[f32], f32); ROWS] = std::array::from_fn(|r| row(i + r));
            let raw = self.rows.call(self.vector, rows.map(|r| r.0));
            for ((out, raw), (vector, norm)) in group.iter_mut().zip(raw).zip(rows) {
                *out = self.finish(raw, vector, norm);
            }
            i += ROWS;
        }
        for (r, out) in groups.into_remainder().iter_mut().enumerate() {
            let (vector, norm) = row(i + r);
            *out = self.distance(vector, norm);
        }
    }

    #[inline(always)]
    fn finish(&self, raw: f32, vector: &[f32], inverse_norm: f32) -> f32 {
        match self.distance_type {
            DistanceType::L2 => raw,
            DistanceType::Dot => 1.0 - raw,
            DistanceType::Cosine => {
                // The product of the norms first: the same bits whichever vector is the query.
                let scale = self.inverse_norm * inverse_norm;
                if !(1.0e-30..1.0e30).contains(&scale) {
                    return wide_cosine(self.vector, vector);
                }
                1.0 - raw * scale
            }
        }
    }
}

/// Cosine distance of vectors so long or so short that their dot product may leave the range of `f32`.
#[cold]
fn wide_cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
    (1.0 - dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())) as f32
}

/// `1 / |vector|`, finite for every vector of finite elements (for a zero vector it means nothing).
pub fn inverse_norm(vector: &[f32]) -> f32 {
    let squares = kernels().dot.call(vector, vector);
    if squares.is_normal() {
        return (1.0 / f64::from(squares).sqrt()) as f32;
    }
    // The sum of squares left the range of f32; the norm itself may well be inside.
    let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    ((1.0 / squares.sqrt()) as f32).min(f32::MAX)
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

    #[test]
    fn inverse_norms_stay_finite() {
        for (x, norm) in [(3.0e38_f32, 3.0e38_f64), (1.0e-30, 1.0e-30), (1.0e-45, 1.4e-45), (2.0, 2.0)] {
            let inverse = inverse_norm(&[x, 0.0]);
            assert!(inverse.is_finite() && inverse > 0.0, "{x}: {inverse}");
            if norm > 1e-37 {
                assert!((f64::from(inverse) * norm - 1.0).abs() < 1e-3, "{x}: {inverse}");
            }
        }
    }
}
