//! Which vectors Lance indexes, and lists of them from single values.

use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array, UInt8Array};
use arrow_buffer::Buffer;
use arrow_schema::DataType;
use half::f16;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::vectors::ElementType;

/// The columns that Lance 14.0.2 searches with an index. Of the others, it compares a query of `Int8` with centroids
/// of `Float32`, which is an error, and of bfloat16 it knows no vectors to search.
pub(super) const INDEXED: &str = "FixedSizeList of Float16, Float32, Float64 or UInt8";

impl ElementType {
    /// The elements and the dimension of a column that Lance indexes.
    pub(super) fn of_indexed(column: &DataType) -> Option<(Self, usize)> {
        let (element_type, dim) = Self::of_vectors(column).ok()?;
        (!element_type.lances_metrics().is_empty() && dim > 0).then_some((element_type, dim))
    }

    /// The distance types that Lance indexes such vectors with.
    fn lances_metrics(self) -> &'static [DistanceType] {
        match self {
            Self::Float16 | Self::Float32 | Self::Float64 => {
                &[DistanceType::L2, DistanceType::Cosine, DistanceType::Dot]
            }
            Self::UInt8 => &[DistanceType::Hamming],
            Self::BFloat16 | Self::Int8 => &[],
        }
    }

    /// Checks that Lance indexes such vectors with a distance type.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`] if it does not.
    pub(super) fn check_indexed(self, column: &str, distance_type: DistanceType) -> Result<()> {
        let metrics = self.lances_metrics();
        if metrics.contains(&distance_type) {
            return Ok(());
        }
        let names: Vec<String> = metrics.iter().map(ToString::to_string).collect();
        let problem = if names.is_empty() {
            format!("Lance indexes {INDEXED}, not of {self}")
        } else {
            format!("Lance indexes vectors of {self} with {}, not with {distance_type}", names.join(", "))
        };
        Err(Error::InvalidColumn { column: column.to_string(), problem })
    }
}

/// Vectors of such elements from their values one after the other, each as the nearest that there is.
pub(super) fn lists(element_type: ElementType, dim: usize, values: Vec<f32>) -> Result<FixedSizeListArray> {
    let values: ArrayRef = match element_type {
        ElementType::Float16 => {
            Arc::new(Float16Array::from_iter_values(values.into_iter().map(f16::from_f32)))
        }
        ElementType::Float64 => Arc::new(Float64Array::from_iter_values(values.into_iter().map(f64::from))),
        ElementType::UInt8 => Arc::new(UInt8Array::from_iter_values(values.into_iter().map(|x| x as u8))),
        // Lance has no lists of the others to compare with: Arrow refuses the types.
        _ => Arc::new(Float32Array::from(values)),
    };
    fixed_size(element_type, dim, values)
}

/// Vectors of such elements from the bytes of these, one after the other.
pub(super) fn lists_of_bytes(
    element_type: ElementType,
    dim: usize,
    bytes: Buffer,
) -> Result<FixedSizeListArray> {
    let values: ArrayRef = match element_type {
        ElementType::Float16 => Arc::new(Float16Array::new(bytes.into(), None)),
        ElementType::Float64 => Arc::new(Float64Array::new(bytes.into(), None)),
        ElementType::UInt8 => Arc::new(UInt8Array::new(bytes.into(), None)),
        _ => Arc::new(Float32Array::new(bytes.into(), None)),
    };
    fixed_size(element_type, dim, values)
}

/// Vectors of such elements that lie one after the other.
pub(super) fn fixed_size(
    element_type: ElementType,
    dim: usize,
    values: ArrayRef,
) -> Result<FixedSizeListArray> {
    Ok(FixedSizeListArray::try_new(element_type.item(), dim as i32, values, None)?)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;
    use crate::vectors::widened;

    const TYPES: [ElementType; 6] = [
        ElementType::Float16,
        ElementType::BFloat16,
        ElementType::Float32,
        ElementType::Float64,
        ElementType::Int8,
        ElementType::UInt8,
    ];

    #[test]
    fn lance_indexes_floats_and_bits() {
        let indexed = TYPES.map(|element_type| {
            let column = element_type.vectors(4);
            assert_eq!(ElementType::of_indexed(&element_type.vectors(0)), None);
            let found = ElementType::of_indexed(&column);
            assert!(found.is_none_or(|found| found == (element_type, 4)));
            found.is_some()
        });
        assert_eq!(indexed, [true, false, true, true, false, true]);
        assert_eq!(ElementType::of_indexed(&DataType::Float32), None);
    }

    #[test]
    fn what_lance_does_not_index_is_refused_with_what_it_does() {
        let says = |element_type: ElementType, distance_type| {
            let checked = element_type.check_indexed("vec", distance_type);
            checked.map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        for float in [ElementType::Float16, ElementType::Float32, ElementType::Float64] {
            for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
                assert_eq!(says(float, metric), "");
            }
        }
        assert_eq!(says(ElementType::UInt8, DistanceType::Hamming), "");
        assert_eq!(
            says(ElementType::Float16, DistanceType::Hamming),
            "column \"vec\": Lance indexes vectors of Float16 with l2, cosine, dot, not with hamming"
        );
        assert_eq!(
            says(ElementType::UInt8, DistanceType::L2),
            "column \"vec\": Lance indexes vectors of UInt8 with hamming, not with l2"
        );
        assert_eq!(
            says(ElementType::Int8, DistanceType::L2),
            "column \"vec\": Lance indexes FixedSizeList of Float16, Float32, Float64 or UInt8, not of Int8"
        );
    }

    #[test]
    fn values_become_elements() {
        for element_type in TYPES {
            let made = lists(element_type, 2, vec![0.0, 1.0, 2.0, 255.0]);
            let is_indexed = ElementType::of_indexed(&element_type.vectors(2)).is_some();
            assert_eq!(made.is_ok(), is_indexed, "{element_type}");
            let Ok(made) = made else { continue };
            assert_eq!(made.data_type(), &element_type.vectors(2));
            assert_eq!(widened(made.values(), element_type).unwrap()[..], [0.0, 1.0, 2.0, 255.0]);
        }
    }
}
