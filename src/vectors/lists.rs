//! Vectors as Parquet, numpy and others give them: lists of one length become lists of a fixed size.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, GenericListArray, OffsetSizeTrait, make_array};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::DataType;
use half::f16;

use crate::error::{Error, Result};
use crate::vectors::element_type::{ElementType, Stored};

/// The vectors of an array: a `FixedSizeList` as it is, a `List` or `LargeList` if all its rows that are not null have
/// one length. The latter share the buffer of their values if each row begins where the one before ends, and null rows
/// are as long as the others; else they are copied. Without a row that is not null, the length is `dim`.
///
/// # Errors
/// - [`Error::UnsupportedType`] if these are not lists of elements that can be indexed,
/// - [`Error::RaggedList`] if two rows have different lengths,
/// - [`Error::InvalidParams`] if they are longer than Arrow's lists of a fixed size can be.
pub(crate) fn fixed_size_lists(array: &dyn Array, dim: usize) -> Result<Cow<'_, FixedSizeListArray>> {
    match array.data_type() {
        DataType::List(_) => of_lists(array.as_list::<i32>(), dim).map(Cow::Owned),
        DataType::LargeList(_) => of_lists(array.as_list::<i64>(), dim).map(Cow::Owned),
        other => array.as_fixed_size_list_opt().map(Cow::Borrowed).ok_or_else(|| Error::UnsupportedType {
            expected: "a FixedSizeList, List or LargeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8",
            actual: other.to_string(),
        }),
    }
}

fn of_lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> Result<FixedSizeListArray> {
    let item = match lists.data_type() {
        DataType::List(item) | DataType::LargeList(item) => Arc::clone(item),
        other => return Err(Error::UnsupportedType { expected: "a list", actual: other.to_string() }),
    };
    let element_type = ElementType::of_item(&item).ok_or_else(|| Error::UnsupportedType {
        expected: "a list of Float16, BFloat16, Float32, Float64, Int8 or UInt8",
        actual: lists.data_type().to_string(),
    })?;
    let offsets: &[O] = lists.value_offsets();
    let length = |row: usize| (offsets[row + 1] - offsets[row]).as_usize();
    let mut lengths = (0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| (row, length(row)));
    let first = lengths.next();
    let expected = first.map_or(dim, |(_, length)| length);
    if let Some((row, actual)) = lengths.find(|&(_, length)| length != expected) {
        return Err(Error::RaggedList { row, expected, actual });
    }
    let size = i32::try_from(expected).map_err(|_| Error::InvalidParams {
        parameter: "dim",
        value: expected as u64,
        requirement: format!("from 1 to {}", i32::MAX),
    })?;
    let start = offsets[0].as_usize();
    let is_regular = (0..lists.len()).all(|row| length(row) == expected);
    let values = if is_regular {
        lists.values().slice(start, lists.len() * expected)
    } else {
        spread(lists, expected, element_type)?
    };
    Ok(FixedSizeListArray::try_new(item, size, values, lists.nulls().cloned())?)
}

/// The values of lists of one length, with as many in the place of each null row.
fn spread<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    dim: usize,
    element_type: ElementType,
) -> Result<ArrayRef> {
    match element_type {
        ElementType::Float16 => spread_of::<f16, O>(lists, dim),
        ElementType::BFloat16 => spread_of::<[u8; 2], O>(lists, dim),
        ElementType::Float32 => spread_of::<f32, O>(lists, dim),
        ElementType::Float64 => spread_of::<f64, O>(lists, dim),
        ElementType::Int8 => spread_of::<i8, O>(lists, dim),
        ElementType::UInt8 => spread_of::<u8, O>(lists, dim),
    }
}

fn spread_of<T: Stored, O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> Result<ArrayRef> {
    let unsupported = || Error::UnsupportedType {
        expected: "a list of the elements that its type says",
        actual: lists.data_type().to_string(),
    };
    let values = T::values(lists.values()).ok_or_else(unsupported)?;
    let nulls = lists.values().nulls();
    let (mut copied, mut valid) = (Vec::new(), BooleanBufferBuilder::new(lists.len().saturating_mul(dim)));
    for row in 0..lists.len() {
        if lists.is_null(row) {
            copied.resize(copied.len() + dim, T::default());
            valid.append_n(dim, true);
            continue;
        }
        let start = lists.value_offsets()[row].as_usize();
        copied.extend_from_slice(values.get(start..start + dim).ok_or_else(unsupported)?);
        match nulls {
            Some(nulls) => valid.append_buffer(nulls.slice(start, dim).inner()),
            None => valid.append_n(dim, true),
        }
    }
    let copied = T::array(copied)?;
    if nulls.is_none() {
        return Ok(copied);
    }
    let nulls = NullBuffer::new(valid.finish());
    Ok(make_array(copied.to_data().into_builder().nulls(Some(nulls)).build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Float32Type;
    use arrow_array::{LargeListArray, ListArray};

    fn list(rows: &[Option<&[f32]>]) -> ListArray {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().copied().map(Some).collect::<Vec<_>>()));
        ListArray::from_iter_primitive::<Float32Type, _, _>(rows)
    }

    #[test]
    fn regular_lists_share_their_values() -> Result<()> {
        let lists = list(&[Some(&[1.0, 2.0]), Some(&[3.0, 4.0]), Some(&[5.0, 6.0])]);
        let address = |array: &dyn Array| array.as_primitive::<Float32Type>().values().as_ptr();
        for (start, len) in [(0, 3), (1, 2), (2, 1)] {
            let part = lists.slice(start, len);
            let fixed = fixed_size_lists(&part, 2)?.into_owned();
            assert_eq!((fixed.len(), fixed.value_length()), (len, 2));
            assert_eq!(address(fixed.values()), address(lists.values()).wrapping_add(2 * start));
        }
        Ok(())
    }

    #[test]
    fn null_rows_may_have_any_length() -> Result<()> {
        let lists = list(&[None, Some(&[3.0, 4.0]), None, Some(&[5.0, 6.0])]);
        let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>([
            None,
            Some(vec![Some(3.0), Some(4.0)]),
            None,
            Some(vec![Some(5.0), None]),
        ]);
        for (lists, last) in [(&lists as &dyn Array, Some(6.0)), (&large, None)] {
            let fixed = fixed_size_lists(lists, 9)?.into_owned();
            let rows: Vec<_> = fixed
                .iter()
                .map(|row| row.map(|row| row.as_primitive::<Float32Type>().iter().collect::<Vec<_>>()))
                .collect();
            let expected = [None, Some(vec![Some(3.0), Some(4.0)]), None, Some(vec![Some(5.0), last])];
            assert_eq!(rows, expected);
        }
        assert_eq!(fixed_size_lists(&list(&[None, None]), 9)?.value_length(), 9);
        Ok(())
    }

    #[test]
    fn rows_of_different_lengths_are_named() {
        let lists = list(&[None, Some(&[3.0, 4.0]), Some(&[]), Some(&[5.0])]);
        let error = fixed_size_lists(&lists, 2).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::RaggedList { row: 2, expected: 2, actual: 0 }), "{error}");
        let error = fixed_size_lists(&arrow_array::Int8Array::from(vec![1]), 2).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::UnsupportedType { .. }), "{error}");
    }
}
