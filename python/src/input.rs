//! Vectors, queries and row ids from whatever Python has them in.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, GenericListArray, OffsetSizeTrait, UInt64Array, make_array,
};
use arrow_array::{ArrowPrimitiveType, PrimitiveArray};
use arrow_schema::{DataType, Field};
use pennon::ElementType;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyRange, PySequence, PyString, PyTuple};

use crate::capsule;
use crate::errors::{OrRaise, invalid_input, wrong_type};
use crate::numpy::{self, Elements};

/// Vectors, in the chunks that they came in, and the row ids beside them if a column of theirs was named.
pub struct Vectors {
    /// Lists of vectors.
    pub chunks: Vec<ArrayRef>,
    /// The values of the column of row ids.
    pub row_ids: Option<UInt64Array>,
}

/// The vectors of an object, of these elements where it does not come from Arrow. Of a table, those of a column: the one
/// that is named, or the only one of lists.
pub fn vectors(
    object: &Bound<'_, PyAny>,
    element_type: ElementType,
    column: Option<&str>,
    row_ids: Option<&str>,
) -> PyResult<Vectors> {
    let py = object.py();
    if let Some(arrays) = capsule::import(object)? {
        let mut chunks = Vec::with_capacity(arrays.len());
        let mut ids = Vec::new();
        for array in arrays {
            let Some(table) = array.as_struct_opt() else {
                chunks.push(py.detach(|| converted(array, element_type))?);
                continue;
            };
            let name = match column {
                Some(name) => name,
                None => only_lists(table.fields().iter().map(AsRef::as_ref))?,
            };
            let vectors = member(table, name)?;
            chunks.push(py.detach(|| converted(vectors, element_type))?);
            if let Some(name) = row_ids {
                ids.extend(integers(&member(table, name)?)?);
            }
        }
        let row_ids = row_ids.map(|_| UInt64Array::from(ids));
        return Ok(Vectors { chunks, row_ids });
    }
    if let Some(name) = column.or(row_ids) {
        return Err(invalid_input(format!("column {name:?} of an object that is no Arrow table")));
    }
    let array = match object.getattr_opt("__array_struct__")? {
        Some(_) => object.clone(),
        // Lists of lists, tensors and others are left to numpy.
        None if object.cast::<PySequence>().is_err() && object.getattr_opt("__array__")?.is_none() => {
            return Err(wrong_type("vectors: an array of numpy, an Arrow array, or lists", object));
        }
        None => object.py().import("numpy")?.call_method1("asarray", (object,))?,
    };
    let array = of_elements(&array, element_type)?;
    let found = numpy::elements(&array, true)?.ok_or_else(|| wrong_type("vectors", object))?;
    let chunks = vec![Arc::new(rows(found)?) as ArrayRef];
    Ok(Vectors { chunks, row_ids: None })
}

/// The array with the elements of an index. Numpy converts what loses no more than precision.
fn of_elements<'py>(array: &Bound<'py, PyAny>, element_type: ElementType) -> PyResult<Bound<'py, PyAny>> {
    let name = match element_type {
        ElementType::Float16 => "float16",
        ElementType::Float32 => "float32",
        ElementType::Float64 => "float64",
        ElementType::Int8 => "int8",
        ElementType::UInt8 => "uint8",
        other => {
            return Err(invalid_input(format!("vectors of {other} come from Arrow only")));
        }
    };
    let Some(dtype) = array.getattr_opt("dtype")? else { return Ok(array.clone()) };
    let wanted = array.py().import("numpy")?.call_method1("dtype", (name,))?;
    if dtype.eq(&wanted)? {
        return Ok(array.clone());
    }
    let keywords = pyo3::types::PyDict::new(array.py());
    keywords.set_item("casting", "same_kind")?;
    let converted = array.call_method("astype", (wanted,), Some(&keywords))?;
    // Nobody else has the copy, so it need not be copied once more.
    converted.getattr("flags")?.setattr("writeable", false)?;
    Ok(converted)
}

/// Rows of a two-dimensional array as lists.
fn rows(elements: Elements) -> PyResult<FixedSizeListArray> {
    let &[rows, dim] = elements.shape.as_slice() else {
        let found = elements.shape.len();
        return Err(invalid_input(format!("vectors are an array of two dimensions, got {found}")));
    };
    let size = i32::try_from(dim).ok().filter(|&size| size > 0);
    let size = size.ok_or_else(|| invalid_input(format!("vectors of {dim} dimensions are not supported")))?;
    let item = Arc::new(Field::new_list_field(elements.values.data_type().clone(), true));
    let lists = FixedSizeListArray::try_new(item, size, elements.values, None).or_raise()?;
    debug_assert_eq!(lists.len(), rows);
    Ok(lists)
}

/// The only column of lists.
fn only_lists<'a>(fields: impl Iterator<Item = &'a Field> + Clone) -> PyResult<&'a str> {
    let is_lists = |field: &&Field| {
        matches!(field.data_type(), DataType::FixedSizeList(..) | DataType::List(_) | DataType::LargeList(_))
    };
    let mut found = fields.clone().filter(is_lists);
    match (found.next(), found.next()) {
        (Some(field), None) => Ok(field.name()),
        _ => {
            let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
            Err(invalid_input(format!("name the column of vectors: column=... of {names:?}")))
        }
    }
}

fn member(table: &arrow_array::StructArray, name: &str) -> PyResult<ArrayRef> {
    table.column_by_name(name).cloned().ok_or_else(|| {
        let names = table.column_names();
        invalid_input(format!("no column {name:?} among {names:?}"))
    })
}

/// Lists of other numbers for an index of `f32`: what Python writes by itself are lists of `f64`. Others are as they are.
fn converted(array: ArrayRef, element_type: ElementType) -> PyResult<ArrayRef> {
    if element_type != ElementType::Float32 {
        return Ok(array);
    }
    fn lists<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> PyResult<Option<ArrayRef>> {
        let Some(values) = floats(lists.values())? else { return Ok(None) };
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
        let lists = GenericListArray::<O>::try_new(item, offsets, values, nulls).or_raise()?;
        Ok(Some(Arc::new(lists)))
    }
    let converted: Option<ArrayRef> = match array.data_type() {
        DataType::List(_) => lists(array.as_list::<i32>())?,
        DataType::LargeList(_) => lists(array.as_list::<i64>())?,
        &DataType::FixedSizeList(_, size) => {
            let rows = array.as_fixed_size_list();
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            let list = |values| FixedSizeListArray::try_new(item, size, values, rows.nulls().cloned());
            floats(rows.values())?
                .map(|values| list(values).or_raise())
                .transpose()?
                .map(|lists| Arc::new(lists) as _)
        }
        _ => None,
    };
    Ok(converted.unwrap_or(array))
}

/// Numbers as `f32`, if they are others.
fn floats(values: &ArrayRef) -> PyResult<Option<ArrayRef>> {
    fn of<T: ArrowPrimitiveType>(values: &ArrayRef, float: impl Fn(T::Native) -> f32) -> Option<ArrayRef> {
        Some(Arc::new(values.as_primitive::<T>().unary::<_, Float32Type>(float)))
    }
    Ok(match values.data_type() {
        DataType::Float64 => of::<Float64Type>(values, |x| x as f32),
        DataType::Float16 => of::<Float16Type>(values, |x| x.to_f32()),
        _ => None,
    })
}

/// One query: a sequence of numbers, or an array of one dimension.
pub fn query(object: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    if object.is_exact_instance_of::<PyList>() || object.is_exact_instance_of::<PyTuple>() {
        return object.extract().map_err(|_| wrong_type("a query: numbers", object));
    }
    if let Some(found) = numpy::elements(object, false)? {
        if found.shape.len() != 1 {
            let message = format!("a query has one dimension, got {}: see search_batch", found.shape.len());
            return Err(invalid_input(message));
        }
        return numbers(&found.values);
    }
    if let Some(arrays) = capsule::import(object)? {
        let mut query = Vec::new();
        for array in arrays {
            if array.null_count() > 0 {
                return Err(invalid_input("a query has no nulls"));
            }
            query.extend(numbers(&array)?);
        }
        return Ok(query);
    }
    if object.is_instance_of::<PyString>() {
        return Err(wrong_type("a query: numbers", object));
    }
    object.extract().map_err(|_| wrong_type("a query: numbers", object))
}

macro_rules! numbers {
    ($array:expr, $values:ident => $result:expr) => {
        match $array.data_type() {
            DataType::Int8 => numbers!(Int8Type, $array, $values => $result),
            DataType::Int16 => numbers!(Int16Type, $array, $values => $result),
            DataType::Int32 => numbers!(Int32Type, $array, $values => $result),
            DataType::Int64 => numbers!(Int64Type, $array, $values => $result),
            DataType::UInt8 => numbers!(UInt8Type, $array, $values => $result),
            DataType::UInt16 => numbers!(UInt16Type, $array, $values => $result),
            DataType::UInt32 => numbers!(UInt32Type, $array, $values => $result),
            DataType::UInt64 => numbers!(UInt64Type, $array, $values => $result),
            _ => None,
        }
    };
    ($type:ty, $array:expr, $values:ident => $result:expr) => {{
        let $values = $array.as_primitive::<$type>().values();
        Some($result)
    }};
}

fn numbers(array: &ArrayRef) -> PyResult<Vec<f32>> {
    let found = match array.data_type() {
        DataType::Float32 => Some(array.as_primitive::<Float32Type>().values().to_vec()),
        _ => match floats(array)? {
            Some(floats) => Some(floats.as_primitive::<Float32Type>().values().to_vec()),
            None => numbers!(array, values => values.iter().map(|&x| x as f32).collect()),
        },
    };
    found.ok_or_else(|| invalid_input(format!("a query is made of numbers, got {}", array.data_type())))
}

/// Row ids: one integer, a range, or an array or a sequence of them.
pub fn row_ids(object: &Bound<'_, PyAny>) -> PyResult<UInt64Array> {
    if let Ok(row_id) = object.extract::<u64>() {
        return Ok(UInt64Array::from(vec![row_id]));
    }
    if let Some(found) = numpy::elements(object, true)? {
        if found.shape.len() > 1 {
            return Err(invalid_input("row ids are an array of one dimension"));
        }
        return integers_of(found.values);
    }
    if let Some(arrays) = capsule::import(object)? {
        return match <[ArrayRef; 1]>::try_from(arrays) {
            Ok([array]) => integers_of(array),
            Err(arrays) => {
                let mut all = Vec::new();
                for array in &arrays {
                    all.extend(integers(array)?);
                }
                Ok(UInt64Array::from(all))
            }
        };
    }
    if object.is_instance_of::<PyString>() {
        return Err(wrong_type("row ids", object));
    }
    let row_ids = object.try_iter().map_err(|_| wrong_type("row ids", object))?;
    let row_ids = row_ids.map(|row_id| {
        let row_id = row_id?;
        row_id
            .extract::<u64>()
            .map_err(|_| not_a_row_id(row_id.repr().map_or_else(|_| "?".into(), |r| r.to_string())))
    });
    row_ids.collect::<PyResult<Vec<u64>>>().map(UInt64Array::from)
}

/// A range of Python that counts up by one.
pub fn range(object: &Bound<'_, PyAny>) -> PyResult<Option<std::ops::Range<u64>>> {
    let Ok(range) = object.cast::<PyRange>() else { return Ok(None) };
    let end = |name| range.getattr(name)?.extract::<i128>();
    if range.getattr("step")?.extract::<i128>()? != 1 {
        return Ok(None);
    }
    let within = |x: i128| x.clamp(0, i128::from(u64::MAX)) as u64;
    Ok(Some(within(end("start")?)..within(end("stop")?)))
}

fn not_a_row_id(value: String) -> PyErr {
    invalid_input(format!("row ids are integers from 0 to 2**64 - 1, got {value}"))
}

fn integers_of(array: ArrayRef) -> PyResult<UInt64Array> {
    match array.data_type() {
        // The library says which is null.
        DataType::UInt64 => Ok(array.as_primitive::<UInt64Type>().clone()),
        _ => integers(&array).map(UInt64Array::from),
    }
}

#[allow(
    clippy::unnecessary_fallible_conversions,
    clippy::useless_conversion,
    reason = "of all integers alike"
)]
fn integers(array: &ArrayRef) -> PyResult<Vec<u64>> {
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        let row = nulls.iter().position(|is_valid| !is_valid).unwrap_or(0);
        return Err(invalid_input(format!("the row id of row {row} is null")));
    }
    let found: Option<PyResult<Vec<u64>>> = numbers!(array, values => {
        values.iter().map(|&x| u64::try_from(x).map_err(|_| not_a_row_id(x.to_string()))).collect()
    });
    found.unwrap_or_else(|| Err(not_a_row_id(format!("elements of {}", array.data_type()))))
}

/// An array of booleans, if it is one. Null counts as false.
pub fn booleans(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<bool>>> {
    let arrays = match numpy::elements(object, false)? {
        Some(found) => vec![found.values],
        None => match capsule::import(object)? {
            Some(arrays) => arrays,
            None => return Ok(object.extract::<Vec<bool>>().ok()),
        },
    };
    let mut all = Vec::new();
    for array in arrays {
        let Some(array) = array.as_boolean_opt() else { return Ok(None) };
        all.extend(array.iter().map(|admitted| admitted == Some(true)));
    }
    Ok(Some(all))
}

/// The queries of an object as one array of lists.
pub fn queries(
    object: &Bound<'_, PyAny>,
    element_type: ElementType,
    dim: usize,
) -> PyResult<FixedSizeListArray> {
    let is_arrow = object.getattr_opt("__arrow_c_array__")?.is_some()
        || object.getattr_opt("__arrow_c_stream__")?.is_some();
    // Queries of numpy are numbers of any type: the library compares them as `f32`.
    let element_type = if is_arrow { element_type } else { ElementType::Float32 };
    let chunks = vectors(object, element_type, None, None)?.chunks;
    let mut arrays = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        arrays.push(fixed(chunk, dim)?);
    }
    match <[FixedSizeListArray; 1]>::try_from(arrays) {
        Ok([array]) => Ok(array),
        Err(arrays) => joined(&arrays, dim),
    }
}

/// Lists of any kind as lists of a fixed size.
fn fixed(array: ArrayRef, dim: usize) -> PyResult<FixedSizeListArray> {
    fn of<O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> PyResult<FixedSizeListArray> {
        let mut values = Vec::with_capacity(lists.len() * dim);
        for row in 0..lists.len() {
            if lists.is_null(row) {
                values.resize(values.len() + dim, 0.0);
                continue;
            }
            let list = lists.value(row);
            if list.len() != dim || list.null_count() > 0 {
                return Err(invalid_input(format!("query {row} is not {dim} numbers")));
            }
            values.extend(numbers(&list)?);
        }
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let values: ArrayRef = Arc::new(PrimitiveArray::<Float32Type>::from(values));
        FixedSizeListArray::try_new(item, dim as i32, values, lists.nulls().cloned()).or_raise()
    }
    match array.data_type() {
        DataType::List(_) => of(array.as_list::<i32>(), dim),
        DataType::LargeList(_) => of(array.as_list::<i64>(), dim),
        DataType::FixedSizeList(..) => Ok(array.as_fixed_size_list().clone()),
        other => Err(invalid_input(format!("queries are lists of numbers, got {other}"))),
    }
}

/// Several arrays as one.
fn joined(arrays: &[FixedSizeListArray], dim: usize) -> PyResult<FixedSizeListArray> {
    let mut values = Vec::new();
    let mut valid = Vec::new();
    for array in arrays {
        if array.value_length() as usize != dim {
            let actual = array.value_length();
            return Err(invalid_input(format!("vectors have {dim} dimensions here, got {actual}")));
        }
        if array.values().null_count() > 0 {
            return Err(invalid_input("queries have no null elements"));
        }
        values.extend(numbers(array.values())?);
        valid.extend((0..array.len()).map(|row| array.is_valid(row)));
    }
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values: ArrayRef = Arc::new(PrimitiveArray::<Float32Type>::from(values));
    FixedSizeListArray::try_new(item, dim as i32, make_array(values.to_data()), Some(valid.into())).or_raise()
}
