//! Distances: the metrics.
//!
//! ```text
//! prepared   a query, and all that is chosen and computed once for it
//! score      metrics over blocks of rows: one call of code compiled for the CPU
//! sums       the one order of summation, and its portable loops        hamming   bits that differ
//! element    what is widened to f32                                    bytes     sums in integers
//! x86/       sums by intrinsics, one thin file per instruction set
//! isa        which instruction set this CPU has
//! ```

mod bytes;
pub(crate) mod element;
mod hamming;
pub(crate) mod isa;
mod prepared;
mod score;
mod sums;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use prepared::PreparedQuery;

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

impl DistanceType {
    /// Checks that Lance has this metric.
    pub(crate) fn check_lance(self) -> Result<()> {
        match self {
            Self::L2 | Self::Cosine | Self::Dot | Self::Hamming => Ok(()),
            Self::L1 => Err(Error::NotInLance { what: "distance type", actual: self.to_string() }),
        }
    }
}
