//! Vectors of length 1, which is how Lance stores them under cosine and compares them with centroids.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray};
use half::f16;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::lance::columns::fixed_size;
use crate::vectors::ElementType;

/// Rows scaled to length 1, in their directions.
///
/// Squares are summed in `f64`: no row that the store admits under cosine has the length 0 or an infinite one there.
/// Lance's own `normalize_fsl` sums those of `f32` in `f32`, where elements of 1e-30 have squares of 0, and those of
/// 1e25 infinite ones. Its builds then leave the former out of the index and make zeros of the latter.
///
/// # Errors
/// [`Error::UnsupportedElement`] if elements are not floats.
pub(super) fn normalized(vectors: &FixedSizeListArray) -> Result<FixedSizeListArray> {
    let (element_type, dim) = ElementType::of_vectors(vectors.data_type())?;
    let values = vectors.values();
    let values = match element_type {
        ElementType::Float16 => each::<Float16Type>(values, dim, f16::from_f64),
        ElementType::Float32 => each::<Float32Type>(values, dim, |x| x as f32),
        ElementType::Float64 => each::<Float64Type>(values, dim, |x| x),
        _ => None,
    };
    let values = values.ok_or_else(|| Error::UnsupportedElement {
        distance_type: DistanceType::Cosine,
        requirement: "float",
        actual: element_type,
    })?;
    fixed_size(element_type, dim, values)
}

/// None if the elements are others.
fn each<T: ArrowPrimitiveType>(
    values: &dyn Array,
    dim: usize,
    narrow: impl Fn(f64) -> T::Native,
) -> Option<ArrayRef>
where
    T::Native: Into<f64>,
{
    let values = values.as_primitive_opt::<T>()?.values();
    let mut normalized: Vec<T::Native> = Vec::with_capacity(values.len());
    for vector in values.chunks(dim.max(1)) {
        let wide = || vector.iter().map(|&x| -> f64 { x.into() });
        let length = wide().map(|x| x * x).sum::<f64>().sqrt();
        if length > 0.0 {
            normalized.extend(wide().map(|x| narrow(x / length)));
        } else {
            normalized.extend_from_slice(vector);
        }
    }
    Some(Arc::new(PrimitiveArray::<T>::new(normalized.into(), None)))
}

#[cfg(test)]
mod tests {
    use arrow_array::Float64Array;

    use super::*;
    use crate::lance::columns::lists;
    use crate::vectors::widened;

    fn length(vector: &[f32]) -> f64 {
        vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    }

    #[test]
    fn every_length_becomes_1() {
        for (element_type, tolerance, scales) in [
            (ElementType::Float16, 1e-3, [6e-8, 1.0, 2e4]),
            (ElementType::Float32, 1e-6, [1e-44, 1e-30, 1e37]),
            (ElementType::Float64, 1e-6, [1e-44, 1.0, 1e37]),
        ] {
            let scaled = |scale: f32| [3.0_f32, -1.0, 0.0, 2.0].map(|x| x * scale);
            let values: Vec<f32> = scales.into_iter().flat_map(scaled).collect();
            let rows = normalized(&lists(element_type, 4, values).unwrap()).unwrap();
            assert_eq!((rows.len(), rows.data_type()), (3, &element_type.vectors(4)));
            for row in widened(rows.values(), element_type).unwrap().chunks(4) {
                assert!((length(row) - 1.0).abs() <= tolerance, "{element_type}: {row:?}");
                assert!(row[0] > 0.0 && row[1] < 0.0 && row[2] == 0.0, "{element_type}: {row:?}");
            }
        }
    }

    #[test]
    fn elements_of_f64_keep_their_digits_and_a_slice_its_rows() {
        let values = Arc::new(Float64Array::from(vec![9.0, 9.0, 3e-40, 4e-40, 0.0, 0.0]));
        let rows = fixed_size(ElementType::Float64, 2, values).unwrap().slice(1, 2);
        let rows = normalized(&rows).unwrap();
        let found = rows.values().as_primitive::<Float64Type>().values().to_vec();
        assert_eq!(found[2..], [0.0, 0.0]);
        assert!((found[0] - 0.6).abs() < 1e-15 && (found[1] - 0.8).abs() < 1e-15, "{found:?}");
    }

    #[test]
    fn bytes_have_no_length() {
        let bytes = lists(ElementType::UInt8, 2, vec![1.0, 2.0]).unwrap();
        let error = normalized(&bytes).unwrap_err();
        assert!(matches!(error, Error::UnsupportedElement { .. }), "{error}");
    }
}
