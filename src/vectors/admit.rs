//! Which rows of a batch get an id.

use std::fmt;

use arrow_array::{Array, FixedSizeListArray};
use arrow_buffer::NullBuffer;
use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::distance::element::Element;

/// How many rows got no id, by reason. A row counts once, under the first reason that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRows {
    /// The row is null.
    pub null: u64,
    /// An element is null.
    pub null_element: u64,
    /// An element is NaN or infinite.
    pub non_finite: u64,
    /// All elements are zero, under cosine.
    pub zero_norm: u64,
}

impl SkippedRows {
    /// Rows skipped for any reason.
    pub fn total(&self) -> u64 {
        self.null + self.null_element + self.non_finite + self.zero_norm
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.null += other.null;
        self.null_element += other.null_element;
        self.non_finite += other.non_finite;
        self.zero_norm += other.zero_norm;
    }
}

impl fmt::Display for SkippedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} null, {} with a null element, {} not finite, {} zero)",
            self.total(),
            self.null,
            self.null_element,
            self.non_finite,
            self.zero_norm
        )
    }
}

/// The usable rows of a batch.
pub(crate) struct Admitted {
    /// Maximal runs of usable rows: first position and length.
    pub runs: Vec<(u32, u32)>,
    pub rows: usize,
    pub skipped: SkippedRows,
}

impl Admitted {
    /// All rows of a batch.
    pub fn all(rows: u32) -> Self {
        let runs = if rows > 0 { vec![(0, rows)] } else { Vec::new() };
        Self { runs, rows: rows as usize, skipped: SkippedRows::default() }
    }
}

/// Looks at every row once. `values` starts at the first row of `vectors`.
pub(crate) fn admit<T: Element>(
    vectors: &FixedSizeListArray,
    value_nulls: Option<&NullBuffer>,
    values: &[T],
    distance_type: DistanceType,
) -> Admitted {
    let dim = vectors.value_length() as usize;
    let value_nulls = value_nulls.filter(|nulls| nulls.null_count() > 0);
    let mut admitted = Admitted { runs: Vec::new(), rows: 0, skipped: SkippedRows::default() };
    let mut run = (0_u32, 0_u32);
    for (row, vector) in values.chunks_exact(dim).enumerate().take(vectors.len()) {
        let skipped = &mut admitted.skipped;
        let reason = if vectors.is_null(row) {
            Some(&mut skipped.null)
        } else if value_nulls.is_some_and(|nulls| nulls.slice(row * dim, dim).null_count() > 0) {
            Some(&mut skipped.null_element)
        } else {
            match largest_bits(vector) {
                bits if bits >= f32::INFINITY.to_bits() as i32 => Some(&mut skipped.non_finite),
                0 if distance_type == DistanceType::Cosine => Some(&mut skipped.zero_norm),
                _ => None,
            }
        };
        match reason {
            Some(count) => *count += 1,
            None if run.1 > 0 && run.0 + run.1 == row as u32 => run.1 += 1,
            None => {
                if run.1 > 0 {
                    admitted.runs.push(run);
                }
                run = (row as u32, 1);
            }
        }
    }
    if run.1 > 0 {
        admitted.runs.push(run);
    }
    admitted.rows = admitted.runs.iter().map(|run| run.1 as usize).sum();
    admitted
}

/// The largest magnitude, as bits: these order as the magnitudes do, infinity and NaN at the end.
/// Without an early exit, so that it vectorizes.
fn largest_bits<T: Element>(vector: &[T]) -> i32 {
    vector.iter().fold(0, |largest, x| largest.max((x.widen().to_bits() & 0x7fff_ffff) as i32))
}
