//! The classes `Collection` and `Filter`: vectors with their other columns.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, Schema};
use pennon::{BuildParams, CollectionSearch, ColumnQuery, DistanceType, Fusion, Key, SearchParams};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::answer::{ArrowBatch, CollectionHits};
use crate::capsule;
use crate::errors::{OrRaise, invalid_input, wrong_type};
use crate::input;

/// Rows with one or more columns of vectors and any other columns, searchable while rows arrive, change and go.
///
/// `Collection(schema, vectors, *, key=None, m=16, ef_construction=100, flat=False)`
///
/// - `schema`: that of pyarrow, or whatever exports an Arrow schema.
/// - `vectors`: the columns of vectors and their metrics, the one to be searched first: `{"vector": "cosine"}`. A column
///   of vectors is a `FixedSizeList`.
/// - `key`: a column of integers or strings, by which rows are read, replaced and deleted.
///
/// >>> import pyarrow as pa, pennon
/// >>> table = pa.table({
/// ...     "id": [1, 2, 3],
/// ...     "year": [2001, 2008, 2015],
/// ...     "vector": pa.array([[0, 0], [1, 0], [2, 0]], pa.list_(pa.float32(), 2)),
/// ... })
/// >>> collection = pennon.Collection(table.schema, {"vector": "l2"}, key="id")
/// >>> collection.append(table)
/// {'replaced': 0, 'rows': 3}
/// >>> import pyarrow.compute as pc
/// >>> hits = collection.search([0, 0], k=1, where=lambda batch: pc.greater(batch["year"], 2005))
/// >>> hits.to_pyarrow().select(["id", "_distance"]).to_pylist()
/// [{'id': 2, '_distance': 1.0}]
#[pyclass(frozen, module = "pennon", name = "Collection", weakref)]
pub struct Collection {
    collection: pennon::Collection,
}

/// A condition on the columns of a row that are not vectors: `Filter(function)`.
///
/// The function gets a `pyarrow.RecordBatch` and returns one boolean for each row; null counts as false. Batches never
/// change, so it is called once for each batch of a collection, and the filter remembers: keep it, and use it again.
#[pyclass(frozen, module = "pennon", name = "Filter")]
pub struct Filter {
    filter: pennon::Filter,
}

#[pymethods]
impl Filter {
    #[new]
    #[pyo3(signature = (test, /))]
    fn new(test: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !test.is_callable() {
            return Err(wrong_type("a function of a record batch", test));
        }
        let test = test.clone().unbind();
        let evaluate = move |batch: &RecordBatch| {
            let evaluated = Python::attach(|py| evaluate(test.bind(py), batch));
            // The exception comes out again where the search was called.
            evaluated.map_err(|exception| ArrowError::ExternalError(Box::new(exception)))
        };
        Ok(Self { filter: pennon::Filter::new(evaluate) })
    }
}

fn evaluate(test: &Bound<'_, PyAny>, batch: &RecordBatch) -> PyResult<BooleanArray> {
    let own = Bound::new(test.py(), ArrowBatch { batch: batch.clone() })?;
    let passed = test.call1((test.py().import("pyarrow")?.call_method1("record_batch", (own,))?,))?;
    match input::booleans(&passed)? {
        Some(passed) if passed.len() == batch.num_rows() => Ok(BooleanArray::from(passed)),
        Some(passed) => {
            let (expected, actual) = (batch.num_rows(), passed.len());
            Err(invalid_input(format!("a filter must return {expected} booleans here, got {actual}")))
        }
        None => Err(wrong_type("booleans from a filter", &passed)),
    }
}

/// A filter, or a function that makes one.
fn filter_of(test: &Bound<'_, PyAny>) -> PyResult<pennon::Filter> {
    match test.cast::<Filter>() {
        Ok(filter) => Ok(filter.get().filter.clone()),
        Err(_) => Filter::new(test).map(|filter| filter.filter),
    }
}

fn key_of(key: &Bound<'_, PyAny>) -> PyResult<Key<'static>> {
    if let Ok(key) = key.cast::<PyString>() {
        return Ok(Key::from(key.to_string()));
    }
    let integer = key.extract::<i128>().map_err(|_| wrong_type("a key: an integer or a string", key))?;
    Ok(Key::Integer(integer))
}

impl Collection {
    fn write(&self, data: &Bound<'_, PyAny>, replace: bool) -> PyResult<BTreeMap<&'static str, usize>> {
        let py = data.py();
        let batches = capsule::import_batches(data)?;
        let batches = batches.ok_or_else(|| wrong_type("an Arrow table or record batch", data))?;
        let (mut rows, mut replaced) = (0, 0);
        for batch in batches {
            py.check_signals()?;
            let written = py.detach(|| match replace {
                true => self.collection.upsert(&batch),
                false => self.collection.append(&batch),
            });
            let written = written.or_raise()?;
            rows += batch.num_rows();
            replaced += written.replaced;
        }
        Ok(BTreeMap::from([("rows", rows), ("replaced", replaced)]))
    }
}

struct Options<'a, 'py> {
    k: usize,
    ef: Option<usize>,
    columns: Option<Vec<String>>,
    r#where: Option<&'a Bound<'py, PyAny>>,
    timeout: Option<f64>,
    exact: bool,
}

impl Options<'_, '_> {
    fn search(self) -> PyResult<CollectionSearch> {
        let mut params = SearchParams::new(self.k);
        params.ef = self.ef.unwrap_or(params.ef);
        let mut search = CollectionSearch::from(params);
        search.columns = self.columns;
        search.exact = self.exact;
        if let Some(test) = self.r#where {
            search = search.filter(&filter_of(test)?);
        }
        if let Some(seconds) = self.timeout {
            let timeout = Duration::try_from_secs_f64(seconds);
            let timeout =
                timeout.map_err(|_| invalid_input(format!("timeout must be seconds, got {seconds}")))?;
            search.params.deadline = Instant::now().checked_add(timeout);
        }
        Ok(search)
    }
}

#[pymethods]
impl Collection {
    #[new]
    #[pyo3(signature = (schema, vectors, *, key=None, m=16, ef_construction=100, flat=false))]
    fn new(
        schema: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyDict>,
        key: Option<String>,
        m: usize,
        ef_construction: usize,
        flat: bool,
    ) -> PyResult<Self> {
        let schema: Schema = capsule::import_schema(schema)?;
        let mut builder = pennon::Collection::builder(Arc::new(schema));
        for (column, metric) in vectors.iter() {
            let metric: DistanceType = metric.extract::<String>()?.parse().or_raise()?;
            builder = builder.vectors(column.extract::<String>()?, metric);
        }
        if let Some(key) = key {
            builder = builder.key(key);
        }
        let params = BuildParams::default().num_edges(m).ef_construction(ef_construction);
        let builder = if flat { builder.flat() } else { builder.params(params) };
        Ok(Self { collection: builder.build().or_raise()? })
    }

    /// Appends the rows of an Arrow table, record batch, data frame or reader, batch by batch; those of a batch are
    /// searchable all at once. Returns a dictionary of counts: `replaced` and `rows`.
    ///
    /// Vectors and other columns stay in their buffers. A row whose vector is null or not usable stays in the collection
    /// and is found by its key. Ctrl-C ends it between two batches.
    fn append(&self, data: &Bound<'_, PyAny>) -> PyResult<BTreeMap<&'static str, usize>> {
        self.write(data, false)
    }

    /// Appends rows in the place of those with the same keys: searches see the old ones or the new ones.
    fn upsert(&self, data: &Bound<'_, PyAny>) -> PyResult<BTreeMap<&'static str, usize>> {
        self.write(data, true)
    }

    /// Deletes the row of a key, or the rows of several, all at one instant, or none of them if a key is unknown
    /// (`UnknownKeyError`, a `KeyError`). Returns how many rows were deleted.
    fn delete(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<usize> {
        let keys: Vec<Key<'static>> = match key_of(keys) {
            Ok(key) => vec![key],
            Err(_) if capsule::is_arrow(keys)? => {
                let row_ids =
                    py.import("pyarrow")?.call_method1("array", (keys,))?.call_method0("to_pylist")?;
                row_ids.try_iter()?.map(|key| key_of(&key?)).collect::<PyResult<_>>()?
            }
            Err(_) => keys.try_iter()?.map(|key| key_of(&key?)).collect::<PyResult<_>>()?,
        };
        py.detach(|| self.collection.delete(keys)).or_raise()
    }

    /// Deletes the rows of some row ids (`_rowid`), all or none of them.
    fn delete_rows(&self, py: Python<'_>, row_ids: &Bound<'_, PyAny>) -> PyResult<usize> {
        let row_ids = input::row_ids(row_ids)?;
        py.detach(|| self.collection.delete_rows(row_ids.values())).or_raise()
    }

    /// The `k` rows nearest to `query`, nearest first, with their columns and `_distance`.
    ///
    /// - `where`: what rows must pass: a `Filter`, or a function that gets a `pyarrow.RecordBatch` of the columns that
    ///   are not vectors, and returns one boolean for each row.
    /// - `columns`: those of the answer, all if not given; `_rowid` can be among them.
    /// - `vector_column`: the column that is searched, the first if not given.
    /// - `ef`, `timeout`: as in `Index.search`. `exact`: compares all rows that qualify.
    #[pyo3(signature = (query, k=10, *, ef=None, r#where=None, columns=None, vector_column=None, timeout=None,
        exact=false))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn search(
        &self,
        query: &Bound<'_, PyAny>,
        k: usize,
        ef: Option<usize>,
        r#where: Option<&Bound<'_, PyAny>>,
        columns: Option<Vec<String>>,
        vector_column: Option<String>,
        timeout: Option<f64>,
        exact: bool,
    ) -> PyResult<CollectionHits> {
        let mut search = Options { k, ef, columns, r#where, timeout, exact }.search()?;
        search.vector_column = vector_column;
        let vector = input::query(query)?;
        let hits = query.py().detach(|| self.collection.search(&vector, &search)).or_raise()?;
        Ok(CollectionHits { hits })
    }

    /// The `k` rows that are best for several queries together, each for a column of vectors: `{"title": q, "text": q}`.
    ///
    /// - `weights`: how much a column counts, 1 if not given.
    /// - `fusion`: `"rank"` (reciprocal ranks, in `_score`, greatest first) or `"distance"` (the weighted sum of
    ///   distances, in `_distance`).
    ///
    /// The other arguments are those of `search`.
    #[pyo3(signature = (queries, k=10, *, weights=None, fusion="rank", ef=None, r#where=None, columns=None,
        timeout=None, exact=false))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn search_fused(
        &self,
        queries: &Bound<'_, PyDict>,
        k: usize,
        weights: Option<BTreeMap<String, f32>>,
        fusion: &str,
        ef: Option<usize>,
        r#where: Option<&Bound<'_, PyAny>>,
        columns: Option<Vec<String>>,
        timeout: Option<f64>,
        exact: bool,
    ) -> PyResult<CollectionHits> {
        let fusion = match fusion {
            "rank" => Fusion::default(),
            "distance" => Fusion::WeightedSum,
            _ => return Err(invalid_input(format!("fusion must be one of rank, distance, got {fusion:?}"))),
        };
        let weights = weights.unwrap_or_default();
        let query = |(column, query): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<ColumnQuery> {
            let column: String = column.extract()?;
            let weight = weights.get(&column).copied().unwrap_or(1.0);
            Ok(ColumnQuery::new(column, input::query(&query)?).weight(weight))
        };
        let columns_queries = queries.iter().map(query).collect::<PyResult<Vec<_>>>()?;
        let search = Options { k, ef, columns, r#where, timeout, exact }.search()?;
        let hits = queries.py().detach(|| self.collection.search_fused(&columns_queries, fusion, &search));
        Ok(CollectionHits { hits: hits.or_raise()? })
    }

    /// All columns of the row of a key, as an Arrow batch of one row; `None` if no live row has it.
    fn get(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<ArrowBatch>> {
        let key = key_of(key)?;
        let found = py.detach(|| self.collection.get(key)).or_raise()?;
        Ok(found.map(|batch| ArrowBatch { batch }))
    }

    /// Removes deleted rows from the indexes and from memory, while everybody goes on.
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.collection.compact()).or_raise().map(|_| ())
    }

    /// Saves the collection into a directory, in the place of one that was saved there before.
    fn save(&self, py: Python<'_>, dir: PathBuf) -> PyResult<()> {
        py.detach(|| self.collection.save(dir)).or_raise()
    }

    /// The collection that was last saved into a directory.
    #[staticmethod]
    fn load(py: Python<'_>, dir: PathBuf) -> PyResult<Self> {
        py.detach(|| pennon::Collection::load(dir)).or_raise().map(|collection| Self { collection })
    }

    /// The name of the key column, if there is one.
    #[getter]
    fn key(&self) -> Option<&str> {
        self.collection.key()
    }

    /// The schema through the Arrow C data interface: `pyarrow.schema(collection)`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyCapsule>> {
        capsule::export_schema(py, self.collection.schema())
    }

    fn __len__(&self) -> usize {
        self.collection.len()
    }

    fn __repr__(&self) -> String {
        let vectors =
            self.collection.indexes().map(|(name, index)| format!("{name:?}: {}", index.distance_type()));
        let vectors = vectors.collect::<Vec<_>>().join(", ");
        let key = self.collection.key().map_or("None".to_string(), |key| format!("{key:?}"));
        format!("Collection(rows={}, vectors={{{vectors}}}, key={key})", self.collection.len())
    }
}
