//! The Arrow C data interface in Python's capsules: arrays in, record batches out, without a copy and without pyarrow.
#![allow(unsafe_code, reason = "structs of the C data interface are read where other libraries put them")]

use std::ffi::CStr;
use std::sync::Arc;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchIterator, StructArray, make_array};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use crate::errors::{OrRaise, invalid_input};

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// The arrays of an object that exports one or a stream of them; `None` if it exports neither.
pub fn import(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<ArrayRef>>> {
    Ok(import_described(object)?.map(|imported| imported.arrays))
}

/// Arrays, and what their producer says of them.
struct Imported {
    arrays: Vec<ArrayRef>,
    field: Field,
}

fn import_described(object: &Bound<'_, PyAny>) -> PyResult<Option<Imported>> {
    if let Some(export) = object.getattr_opt("__arrow_c_array__")? {
        return import_array(&export.call0()?).map(Some);
    }
    match object.getattr_opt("__arrow_c_stream__")? {
        Some(export) => import_stream(&export.call0()?).map(Some),
        None => Ok(None),
    }
}

fn import_array(capsules: &Bound<'_, PyAny>) -> PyResult<Imported> {
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = capsules.extract()?;
    let schema = schema.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    // SAFETY: a capsule of that name holds such a struct, which lives as long as the capsule: to the end of this call.
    let schema = unsafe { schema.as_ref() };
    let array = array.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: as above. The array is moved out and marked as released, so that the capsule does not release it again.
    let array = unsafe { FFI_ArrowArray::from_raw(array.as_ptr()) };
    let field = Field::try_from(schema).or_raise()?;
    Ok(Imported { arrays: vec![array_of(array, schema)?], field })
}

fn array_of(array: FFI_ArrowArray, schema: &FFI_ArrowSchema) -> PyResult<ArrayRef> {
    if array.is_released() {
        return Err(invalid_input("the Arrow array was released already"));
    }
    // SAFETY: the interface obliges the producer that the array is of its schema.
    let mut data = unsafe { from_ffi(array, schema) }.or_raise()?;
    // Other languages do not promise alignment; what is misaligned is copied.
    data.align_buffers();
    data.validate().or_raise()?;
    Ok(make_array(data))
}

fn import_stream(capsule: &Bound<'_, PyAny>) -> PyResult<Imported> {
    let py = capsule.py();
    let stream = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of that name holds such a struct. It is moved out and marked as released.
    let mut stream = unsafe { FFI_ArrowArrayStream::from_raw(stream.as_ptr()) };
    let mut schema = FFI_ArrowSchema::empty();
    let Some(get_schema) = stream.get_schema else {
        return Err(invalid_input("the Arrow stream was released already"));
    };
    // SAFETY: the stream is not released, and the struct to write to is empty.
    let outcome = unsafe { get_schema(&mut stream, &mut schema) };
    check(&mut stream, outcome)?;
    let field = Field::try_from(&schema).or_raise()?;
    let mut arrays = Vec::new();
    loop {
        py.check_signals()?;
        let mut array = FFI_ArrowArray::empty();
        // The producer may read files, or wait for the interpreter.
        let outcome = py.detach(|| match stream.get_next {
            // SAFETY: as above.
            Some(get_next) => unsafe { get_next(&mut stream, &mut array) },
            None => 0,
        });
        check(&mut stream, outcome)?;
        if array.is_released() {
            return Ok(Imported { arrays, field });
        }
        arrays.push(array_of(array, &schema)?);
    }
}

fn check(stream: &mut FFI_ArrowArrayStream, outcome: i32) -> PyResult<()> {
    if outcome == 0 {
        return Ok(());
    }
    let py_error = Python::attach(PyErr::take);
    if let Some(error) = py_error {
        return Err(error);
    }
    let message = stream.get_last_error.map(|get_last_error| {
        // SAFETY: the stream is not released, and its last call failed.
        let message = unsafe { get_last_error(stream) };
        if message.is_null() {
            return String::new();
        }
        // SAFETY: a message ends with a zero and stays until the next call.
        unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
    });
    let message = message.unwrap_or_default();
    Err(invalid_input(format!("the Arrow stream failed with error {outcome}: {message}")))
}

/// A batch as what `__arrow_c_array__` returns.
pub fn export_batch<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Bound<'py, PyTuple>> {
    let (array, _) = to_ffi(&StructArray::from(batch.clone()).to_data()).or_raise()?;
    // The metadata of the schema are those of the field that the struct has in the interface.
    let schema = FFI_ArrowSchema::try_from(batch.schema_ref().as_ref()).or_raise()?;
    let schema = PyCapsule::new_with_value(py, schema, SCHEMA)?;
    let array = PyCapsule::new_with_value(py, array, ARRAY)?;
    PyTuple::new(py, [schema, array])
}

/// A batch as what `__arrow_c_stream__` returns.
pub fn export_stream<'py>(py: Python<'py>, batch: RecordBatch) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = batch.schema();
    let batches = RecordBatchIterator::new([Ok::<_, ArrowError>(batch)], schema);
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), STREAM)
}

/// A schema as what `__arrow_c_schema__` returns.
pub fn export_schema<'py>(py: Python<'py>, schema: &SchemaRef) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema.as_ref()).or_raise()?;
    PyCapsule::new_with_value(py, schema, SCHEMA)
}

/// The record batches of an object, which exports a struct array or a stream of them, with the metadata of their schema.
pub fn import_batches(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<RecordBatch>>> {
    let Some(Imported { arrays, field }) = import_described(object)? else { return Ok(None) };
    let batch = |array: ArrayRef| -> PyResult<RecordBatch> {
        let DataType::Struct(_) = array.data_type() else {
            let actual = array.data_type();
            return Err(invalid_input(format!("record batches are needed, got an array of {actual}")));
        };
        if array.null_count() > 0 {
            return Err(invalid_input("a record batch has no null rows"));
        }
        let batch = RecordBatch::from(StructArray::from(array.to_data()));
        let schema = batch.schema().as_ref().clone().with_metadata(field.metadata().clone());
        batch.with_schema(Arc::new(schema)).or_raise()
    };
    arrays.into_iter().map(batch).collect::<PyResult<_>>().map(Some)
}

/// Whether an object exports arrays of Arrow.
pub fn is_arrow(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.getattr_opt("__arrow_c_array__")?.is_some()
        || object.getattr_opt("__arrow_c_stream__")?.is_some())
}

/// The schema of an object that exports one.
pub fn import_schema(object: &Bound<'_, PyAny>) -> PyResult<arrow_schema::Schema> {
    let export = object.getattr_opt("__arrow_c_schema__")?;
    let export = export.ok_or_else(|| crate::errors::wrong_type("an Arrow schema", object))?;
    let capsule = export.call0()?;
    let schema = capsule.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    // SAFETY: a capsule of that name holds such a struct, which lives as long as the capsule: to the end of this call.
    arrow_schema::Schema::try_from(unsafe { schema.as_ref() }).or_raise()
}
