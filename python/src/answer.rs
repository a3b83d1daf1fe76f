//! What Python gets: answers and batches, each an Arrow object of its own.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, UInt64Type};
use arrow_array::{Float32Array, RecordBatch, UInt64Array};
use pennon::{Hit, SearchStats};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyTuple};

use crate::capsule;
use crate::errors::OrRaise;

/// A record batch for any library that reads the Arrow C data interface: `pyarrow.record_batch(batch)`,
/// `polars.DataFrame(batch)`, or `to_pyarrow()`.
#[pyclass(frozen, module = "pennon", name = "ArrowBatch")]
pub struct ArrowBatch {
    pub batch: RecordBatch,
}

/// The answer to one query: rows, nearest first.
///
/// It is a record batch of `_rowid: uint64` and `_distance: float32` for any library that reads the Arrow C data
/// interface (`pyarrow.table(hits)`, `polars.DataFrame(hits)`), and a sequence of pairs of row id and distance.
#[pyclass(frozen, module = "pennon", name = "Hits", sequence)]
pub struct Hits {
    rows: Vec<Hit>,
    /// None of a page of a cursor.
    stats: Option<SearchStats>,
}

impl From<pennon::Hits> for Hits {
    fn from(hits: pennon::Hits) -> Self {
        Self { stats: Some(*hits.stats()), rows: hits.into_vec() }
    }
}

impl Hits {
    /// A page of a cursor.
    pub fn page(rows: Vec<Hit>) -> Self {
        Self { rows, stats: None }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn batch(&self) -> PyResult<RecordBatch> {
        let row_ids: UInt64Array = self.rows.iter().map(|hit| hit.row_id).collect::<Vec<_>>().into();
        let distances: Float32Array = self.rows.iter().map(|hit| hit.distance).collect::<Vec<_>>().into();
        RecordBatch::try_new(pennon::Hits::schema(), vec![Arc::new(row_ids), Arc::new(distances)]).or_raise()
    }
}

/// The answers to several queries.
///
/// It is a record batch of `query_index: int32`, `_rowid: uint64` and `_distance: float32` for any library that reads
/// the Arrow C data interface, and a sequence of `Hits`, one for each query.
#[pyclass(frozen, module = "pennon", name = "BatchHits", sequence)]
pub struct BatchHits {
    pub hits: pennon::BatchHits,
}

/// The rows that a search of a collection found, best first: a record batch for any library that reads the Arrow C data
/// interface.
#[pyclass(frozen, module = "pennon", name = "CollectionHits")]
pub struct CollectionHits {
    pub hits: pennon::CollectionHits,
}

/// The `#[pymethods]` of a class that is a record batch, and more of its own.
macro_rules! arrow_class {
    ($class:ident, |$this:ident| $batch:expr, { $($own:tt)* }) => {
        #[pymethods]
        impl $class {
            /// The record batch through the Arrow C data interface. A schema that is requested is passed over.
            #[pyo3(signature = (requested_schema=None))]
            fn __arrow_c_array__<'py>(
                &self,
                py: Python<'py>,
                requested_schema: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyTuple>> {
                let _ = requested_schema;
                let $this = self;
                capsule::export_batch(py, &$batch)
            }

            /// The record batch as a stream through the Arrow C data interface. A schema that is requested is passed
            /// over.
            #[pyo3(signature = (requested_schema=None))]
            fn __arrow_c_stream__<'py>(
                &self,
                py: Python<'py>,
                requested_schema: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyCapsule>> {
                let _ = requested_schema;
                let $this = self;
                capsule::export_stream(py, $batch)
            }

            /// The schema through the Arrow C data interface.
            fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
                let $this = self;
                capsule::export_schema(py, &$batch.schema())
            }

            /// A `pyarrow.RecordBatch` of the same buffers.
            fn to_pyarrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
                slf.py().import("pyarrow")?.call_method1("record_batch", (slf,))
            }

            $($own)*
        }
    };
}

arrow_class!(ArrowBatch, |this| this.batch.clone(), {
    /// The number of rows.
    #[getter]
    fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The names of the columns.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// What the schema says beside its fields.
    #[getter]
    fn metadata(&self) -> std::collections::HashMap<String, String> {
        self.batch.schema_ref().metadata().clone()
    }

    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("ArrowBatch({} rows of {})", self.batch.num_rows(), self.column_names().join(", "))
    }
});

arrow_class!(Hits, |this| this.batch()?, {
    /// The row ids, nearest first.
    #[getter]
    fn row_ids(&self) -> Vec<u64> {
        self.rows.iter().map(|hit| hit.row_id).collect()
    }

    /// The distances, in the order of the row ids. They are exact.
    #[getter]
    fn distances(&self) -> Vec<f32> {
        self.rows.iter().map(|hit| hit.distance).collect()
    }

    /// Whether the search came to its end: false if `timeout` or `max_distances` ended it, when nearer rows may be
    /// missing.
    #[getter]
    fn complete(&self) -> bool {
        self.stats.is_none_or(|stats| stats.complete)
    }

    /// What the search did, as a dictionary: `plan`, `distances`, `estimates`, `reranked`, `nodes`, `ef`, `complete`;
    /// empty for a page of a cursor.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Some(stats) = &self.stats else { return Ok(PyDict::new(py)) };
        let dict = PyDict::new(py);
        dict.set_item(
            "plan",
            serde_json::to_value(stats.plan).ok().and_then(|plan| Some(plan.as_str()?.to_string())),
        )?;
        dict.set_item("distances", stats.distances)?;
        dict.set_item("estimates", stats.estimates)?;
        dict.set_item("reranked", stats.reranked)?;
        dict.set_item("nodes", stats.nodes)?;
        dict.set_item("ef", stats.ef)?;
        dict.set_item("complete", stats.complete)?;
        Ok(dict)
    }

    /// The row ids (`uint64`) and the distances (`float32`) as arrays of numpy.
    fn to_numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let batch = self.batch()?;
        PyTuple::new(py, [numpy_column(py, &batch, 0)?, numpy_column(py, &batch, 1)?])
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __getitem__(&self, at: isize) -> PyResult<(u64, f32)> {
        let hit = self.rows.get(position(at, self.rows.len())?);
        hit.map(|hit| (hit.row_id, hit.distance)).ok_or_else(out_of_range)
    }

    fn __repr__(&self) -> String {
        let rows = self.rows.iter().take(10).map(|hit| format!("({}, {:?})", hit.row_id, hit.distance));
        let rows = rows.collect::<Vec<_>>().join(", ");
        let more = if self.rows.len() > 10 { ", ..." } else { "" };
        let partial = if self.complete() { "" } else { ", complete=False" };
        format!("Hits([{rows}{more}]{partial})")
    }
});

arrow_class!(BatchHits, |this| this.hits.to_record_batch().or_raise()?, {
    /// Whether all searches came to their end.
    #[getter]
    fn complete(&self) -> bool {
        self.hits.complete()
    }

    /// The positions of the queries (`int32`), the row ids (`uint64`) and the distances (`float32`) as arrays of numpy,
    /// one element for each row found.
    fn to_numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let batch = self.hits.to_record_batch().or_raise()?;
        let column = |at| numpy_column(py, &batch, at);
        PyTuple::new(py, [column(0)?, column(1)?, column(2)?])
    }

    fn __len__(&self) -> usize {
        self.hits.len()
    }

    fn __getitem__(&self, at: isize) -> PyResult<Hits> {
        let hits = self.hits.get(position(at, self.hits.len())?);
        hits.map(|hits| Hits::from(hits.clone())).ok_or_else(out_of_range)
    }

    fn __repr__(&self) -> String {
        let rows: usize = self.hits.iter().map(|hits| hits.len()).sum();
        format!("BatchHits({} queries, {rows} rows)", self.hits.len())
    }
});

arrow_class!(CollectionHits, |this| RecordBatch::clone(&this.hits), {
    /// Whether the search came to its end: false if `timeout` ended it, when nearer rows may be missing.
    #[getter]
    fn complete(&self) -> bool {
        self.hits.complete()
    }

    /// The row ids, best first.
    #[getter]
    fn row_ids(&self) -> Vec<u64> {
        self.hits.row_ids().to_vec()
    }

    fn __len__(&self) -> usize {
        self.hits.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("CollectionHits({} rows)", self.hits.num_rows())
    }
});

/// A position counted from the end if it is negative.
fn position(at: isize, len: usize) -> PyResult<usize> {
    let at = if at < 0 { at.checked_add_unsigned(len) } else { Some(at) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|&at| at < len).ok_or_else(out_of_range)
}

fn out_of_range() -> PyErr {
    PyIndexError::new_err("no such row")
}

fn numpy_column<'py>(py: Python<'py>, batch: &RecordBatch, at: usize) -> PyResult<Bound<'py, PyAny>> {
    let column = batch.column(at);
    let (values, dtype) = if let Some(array) = column.as_primitive_opt::<UInt64Type>() {
        (array.values().inner(), "uint64")
    } else if let Some(array) = column.as_primitive_opt::<Float32Type>() {
        (array.values().inner(), "float32")
    } else {
        (column.as_primitive::<Int32Type>().values().inner(), "int32")
    };
    py.import("numpy")?.call_method1("frombuffer", (PyBytes::new(py, values.as_slice()), dtype))
}
