//! What an index and a reader of it have in common: everything that reads.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use arrow_array::Array;
use pennon::{Reader, SaveOptions, SearchParams};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::Value;

use crate::answer::{ArrowBatch, BatchHits, Hits};
use crate::cursor::Cursor;
use crate::errors::{OrRaise, invalid_input};
use crate::mask::{mask_of, mask_where};
use crate::{input, pool};

/// The property of a saved index that holds the next row id.
pub const NEXT_ROW_ID: &str = "pennon.next_row_id";

/// How long a save goes on before Ctrl-C is heard.
const SIGNALS: Duration = Duration::from_millis(50);
/// Queries of a batch between which Ctrl-C is heard.
const BATCH_ROWS: usize = 1024;

/// The keyword arguments of a search.
pub struct Keywords<'a, 'py> {
    pub k: Option<usize>,
    pub ef: Option<usize>,
    pub mask: Option<&'a Bound<'py, PyAny>>,
    pub r#where: Option<&'a Bound<'py, PyAny>>,
    pub max_row_id: Option<u64>,
    pub distance_range: Option<(f32, f32)>,
    pub timeout: Option<f64>,
    pub max_distances: Option<u64>,
}

impl Keywords<'_, '_> {
    /// As parameters of a search of this reader.
    pub fn params(self, reader: &Reader) -> PyResult<SearchParams> {
        let mut params = SearchParams::new(self.k.unwrap_or(usize::MAX));
        if let Some(ef) = self.ef {
            params = params.ef(ef);
        }
        let mask = self.mask.map(mask_of).transpose()?;
        let passing = self.r#where.map(|test| mask_where(reader, test)).transpose()?;
        params.mask = match (mask, passing) {
            (Some(mask), Some(passing)) => Some(mask.and(passing)),
            (mask, passing) => mask.or(passing),
        };
        params.max_row_id = self.max_row_id;
        params.distance_range = self.distance_range.map(|(lower, upper)| lower..upper);
        params.max_distances = self.max_distances;
        if let Some(seconds) = self.timeout {
            let timeout = Duration::try_from_secs_f64(seconds);
            let timeout =
                timeout.map_err(|_| invalid_input(format!("timeout must be seconds, got {seconds}")))?;
            params.deadline = Instant::now().checked_add(timeout);
        }
        Ok(params)
    }
}

pub fn search(query: &Bound<'_, PyAny>, reader: Reader, keywords: Keywords<'_, '_>) -> PyResult<Hits> {
    let params = keywords.params(&reader)?;
    let vector = input::query(query)?;
    let hits = query.py().detach(|| reader.search(&vector, &params)).or_raise()?;
    Ok(hits.into())
}

pub fn search_exact(query: &Bound<'_, PyAny>, reader: Reader, keywords: Keywords<'_, '_>) -> PyResult<Hits> {
    let params = keywords.params(&reader)?;
    let vector = input::query(query)?;
    let pool = pool::pool()?;
    let hits = query.py().detach(|| pool.install(|| reader.search_exact(&vector, &params))).or_raise()?;
    Ok(hits.into())
}

pub fn search_batch(
    queries: &Bound<'_, PyAny>,
    reader: Reader,
    keywords: Keywords<'_, '_>,
) -> PyResult<BatchHits> {
    let params = keywords.params(&reader)?;
    let vectors = input::queries(queries, reader.element_type(), reader.dim())?;
    let pool = pool::pool()?;
    let (rows, mut answers) = (vectors.len(), Vec::new());
    // No queries at all are checked as any others.
    for start in (0..rows.max(1)).step_by(BATCH_ROWS) {
        if start > 0 {
            queries.py().check_signals()?;
        }
        let slice = vectors.slice(start, BATCH_ROWS.min(rows - start));
        let hits = queries.py().detach(|| pool.install(|| reader.search_batch(&slice, &params)));
        answers.extend(hits.map_err(|error| counted_from(error, start)).or_raise()?);
    }
    Ok(BatchHits { hits: answers.into_iter().collect() })
}

/// The error of a query by its position among all.
fn counted_from(error: pennon::Error, start: usize) -> pennon::Error {
    match error {
        pennon::Error::InvalidQuery { row, source } => {
            pennon::Error::InvalidQuery { row: start + row, source }
        }
        other => other,
    }
}

pub fn cursor(query: &Bound<'_, PyAny>, reader: Reader, keywords: Keywords<'_, '_>) -> PyResult<Cursor> {
    let k = keywords.k.unwrap_or(usize::MAX);
    if k == 0 {
        return Err(invalid_input("a page has at least one row, got k=0"));
    }
    let params = keywords.params(&reader)?;
    let vector = input::query(query)?;
    let cursor = query.py().detach(|| reader.cursor(&vector, &params)).or_raise()?;
    Ok(Cursor::new(cursor, k))
}

pub fn score(
    query: &Bound<'_, PyAny>,
    row_ids: &Bound<'_, PyAny>,
    reader: Reader,
) -> PyResult<Vec<Option<f32>>> {
    let (vector, row_ids) = (input::query(query)?, input::row_ids(row_ids)?);
    query.py().detach(|| reader.score(&vector, row_ids.values())).or_raise()
}

pub fn get<'py>(py: Python<'py>, reader: &Reader, row_id: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(row) = reader.get(row_id).or_raise()? else { return Ok(None) };
    let bytes: Vec<u8> = row.vector.iter().flat_map(|x| x.to_ne_bytes()).collect();
    py.import("array")?.call_method1("array", ("f", PyBytes::new(py, &bytes))).map(Some)
}

pub fn row_ids(py: Python<'_>, reader: &Reader) -> PyResult<ArrowBatch> {
    let row_ids = py.detach(|| reader.live_row_ids());
    let batch = arrow_array::RecordBatch::try_from_iter([("_rowid", std::sync::Arc::new(row_ids) as _)]);
    Ok(ArrowBatch { batch: batch.or_raise()? })
}

pub fn save(
    py: Python<'_>,
    dir: PathBuf,
    properties: Option<std::collections::BTreeMap<String, String>>,
    next_row_id: u64,
    save: impl FnOnce(PathBuf, &SaveOptions) -> pennon::Result<()> + Send + 'static,
) -> PyResult<()> {
    let mut options = SaveOptions::new();
    options.properties = properties.unwrap_or_default();
    if let Some(name) = options.properties.keys().find(|name| name.starts_with("pennon.")) {
        return Err(invalid_input(format!(
            "names of properties do not start with \"pennon.\", got {name:?}"
        )));
    }
    options.properties.insert(NEXT_ROW_ID.to_string(), next_row_id.to_string());
    // On a thread of its own, so that Ctrl-C is heard meanwhile.
    let (done, mut saved) = mpsc::channel();
    let run = move || {
        let _ = done.send(save(dir, &options));
    };
    let thread = thread::Builder::new().name("pennon-save".to_string()).spawn(run);
    thread.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    loop {
        let waiting = &mut saved;
        match py.detach(move || waiting.recv_timeout(SIGNALS)) {
            Ok(saved) => return saved.or_raise(),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the save has panicked"));
            }
        }
    }
}

pub fn to_lance_batches(py: Python<'_>, reader: &Reader) -> PyResult<(Option<ArrowBatch>, ArrowBatch)> {
    let batches = py.detach(|| reader.to_lance_batches()).or_raise()?;
    let graph = batches.graph.map(|batch| ArrowBatch { batch });
    Ok((graph, ArrowBatch { batch: batches.vectors }))
}

/// What can be written as JSON, as objects of Python.
pub fn plain<'py>(py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

pub fn stats<'py>(py: Python<'py>, reader: &Reader) -> PyResult<Bound<'py, PyAny>> {
    let stats = py.detach(|| reader.stats());
    let value = serde_json::to_value(stats).map_err(|error| invalid_input(error.to_string()))?;
    plain(py, value)
}

pub fn health<'py>(py: Python<'py>, reader: &Reader) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(health) = py.detach(|| reader.graph().map(|graph| graph.health())) else { return Ok(None) };
    let dict = PyDict::new(py);
    dict.set_item("is_healthy", health.is_healthy())?;
    dict.set_item("nodes", health.nodes)?;
    dict.set_item("reachable", health.reachable)?;
    dict.set_item("components", health.components)?;
    dict.set_item("edges", health.edges)?;
    dict.set_item("mean_degree", health.mean_degree())?;
    dict.set_item("level_nodes", health.level_nodes)?;
    dict.set_item("max_degree", health.max_degree)?;
    Ok(Some(dict))
}

/// The `#[pymethods]` of a class that reads, and more of its own. `$reader` is the reader of `$this`.
macro_rules! reading_class {
    ($class:ident, |$this:ident| $reader:expr, { $($own:tt)* }) => {
        #[pymethods]
        impl $class {
            $($own)*

            /// The `k` rows nearest to `query`, nearest first: exactly `min(k, n)` of the `n` rows that qualify.
            ///
            /// - `query`: one vector, in a list, an array of numpy or an Arrow array.
            /// - `k`: rows wanted; `None` for all that qualify.
            /// - `ef`: candidates kept on the way (100): more find more of the nearest rows, and take longer.
            /// - `mask`: the rows that may be returned: a `RowMask`, or what one is made of (row ids, a `range`,
            ///   booleans by row id).
            /// - `where`: a function that gets the row ids of all rows as a `uint64` array of numpy, and returns as
            ///   many booleans.
            /// - `max_row_id`: rows with a greater row id are not returned.
            /// - `distance_range`: `(lower, upper)`, distances from the first on and below the second.
            /// - `timeout` (seconds), `max_distances`: end with the best so far; `Hits.complete` tells.
            ///
            /// The interpreter is free for other threads meanwhile.
            #[pyo3(signature = (query, k=10, *, ef=None, mask=None, r#where=None, max_row_id=None,
                distance_range=None, timeout=None, max_distances=None))]
            #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
            fn search(
                &self,
                query: &Bound<'_, PyAny>,
                k: Option<usize>,
                ef: Option<usize>,
                mask: Option<&Bound<'_, PyAny>>,
                r#where: Option<&Bound<'_, PyAny>>,
                max_row_id: Option<u64>,
                distance_range: Option<(f32, f32)>,
                timeout: Option<f64>,
                max_distances: Option<u64>,
            ) -> PyResult<Hits> {
                let $this = self;
                let keywords =
                    Keywords { k, ef, mask, r#where, max_row_id, distance_range, timeout, max_distances };
                reading::search(query, $reader, keywords)
            }

            /// The `k` rows nearest to `query` by comparing it with every row that qualifies: what `search`
            /// approximates. The arguments are those of `search`.
            #[pyo3(signature = (query, k=10, *, mask=None, r#where=None, max_row_id=None,
                distance_range=None, timeout=None, max_distances=None))]
            #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
            fn search_exact(
                &self,
                query: &Bound<'_, PyAny>,
                k: Option<usize>,
                mask: Option<&Bound<'_, PyAny>>,
                r#where: Option<&Bound<'_, PyAny>>,
                max_row_id: Option<u64>,
                distance_range: Option<(f32, f32)>,
                timeout: Option<f64>,
                max_distances: Option<u64>,
            ) -> PyResult<Hits> {
                let $this = self;
                let ef = None;
                let keywords =
                    Keywords { k, ef, mask, r#where, max_row_id, distance_range, timeout, max_distances };
                reading::search_exact(query, $reader, keywords)
            }

            /// `search` for each row of `queries` (an array of numpy of two dimensions, or an Arrow array of lists) on
            /// as many threads as there are processors, or `RAYON_NUM_THREADS`. A null query has no hits. Ctrl-C ends it.
            #[pyo3(signature = (queries, k=10, *, ef=None, mask=None, r#where=None, max_row_id=None,
                distance_range=None, timeout=None, max_distances=None))]
            #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
            fn search_batch(
                &self,
                queries: &Bound<'_, PyAny>,
                k: Option<usize>,
                ef: Option<usize>,
                mask: Option<&Bound<'_, PyAny>>,
                r#where: Option<&Bound<'_, PyAny>>,
                max_row_id: Option<u64>,
                distance_range: Option<(f32, f32)>,
                timeout: Option<f64>,
                max_distances: Option<u64>,
            ) -> PyResult<BatchHits> {
                let $this = self;
                let keywords =
                    Keywords { k, ef, mask, r#where, max_row_id, distance_range, timeout, max_distances };
                reading::search_batch(queries, $reader, keywords)
            }

            /// A search that gives out its rows page by page: an iterator over `Hits` of `k` rows. The arguments are
            /// those of `search`.
            #[pyo3(signature = (query, k=10, *, ef=None, mask=None, r#where=None, max_row_id=None,
                distance_range=None))]
            #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
            fn cursor(
                &self,
                query: &Bound<'_, PyAny>,
                k: Option<usize>,
                ef: Option<usize>,
                mask: Option<&Bound<'_, PyAny>>,
                r#where: Option<&Bound<'_, PyAny>>,
                max_row_id: Option<u64>,
                distance_range: Option<(f32, f32)>,
            ) -> PyResult<Cursor> {
                let $this = self;
                let (timeout, max_distances) = (None, None);
                let keywords =
                    Keywords { k, ef, mask, r#where, max_row_id, distance_range, timeout, max_distances };
                reading::cursor(query, $reader, keywords)
            }

            /// The exact distances of some rows to `query`, in the order of `row_ids`; `None` for a row id that no live
            /// row has.
            fn score(&self, query: &Bound<'_, PyAny>, row_ids: &Bound<'_, PyAny>) -> PyResult<Vec<Option<f32>>> {
                let $this = self;
                reading::score(query, row_ids, $reader)
            }

            /// The vector of a row as an `array.array` of `float32`, of which `numpy.asarray` makes an array without a
            /// copy; `None` if no live row has that row id.
            fn get<'py>(&self, py: Python<'py>, row_id: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
                let $this = self;
                reading::get(py, &$reader, row_id)
            }

            /// Whether a live row has that row id; so does `row_id in index`.
            fn contains(&self, row_id: u64) -> bool {
                let $this = self;
                $reader.contains(row_id)
            }

            fn __contains__(&self, row_id: &Bound<'_, PyAny>) -> bool {
                let $this = self;
                row_id.extract().is_ok_and(|row_id| $reader.contains(row_id))
            }

            /// The row ids of all live rows, as an Arrow batch with the column `_rowid`.
            fn row_ids(&self, py: Python<'_>) -> PyResult<ArrowBatch> {
                let $this = self;
                reading::row_ids(py, &$reader)
            }

            /// What is in the index, as a dictionary: rows, tombstones, skipped rows, the levels of the graph, and
            /// `bytes`, by what they are for. Walks the whole graph; appends wait meanwhile.
            fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let $this = self;
                reading::stats(py, &$reader)
            }

            /// The shape of the graph, as a dictionary; `None` without a graph. Appends wait meanwhile.
            fn health<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
                let $this = self;
                reading::health(py, &$reader)
            }

            /// The live rows as a pair of Arrow batches: the graph as Lance's `lance:hnsw` batch (`None` without one),
            /// and the vectors as Lance's flat storage, `_rowid` and `flat`.
            fn to_lance_batches(&self, py: Python<'_>) -> PyResult<(Option<ArrowBatch>, ArrowBatch)> {
                let $this = self;
                reading::to_lance_batches(py, &$reader)
            }

            /// Elements per vector.
            #[getter]
            fn dim(&self) -> usize {
                let $this = self;
                $reader.dim()
            }

            /// The metric: `l2` (squared), `cosine`, `dot`, `l1` or `hamming`.
            #[getter]
            fn metric(&self) -> String {
                let $this = self;
                $reader.distance_type().to_string()
            }

            /// The elements of the vectors: `float16`, `bfloat16`, `float32`, `float64`, `int8` or `uint8`.
            #[getter]
            fn element_type(&self) -> String {
                let $this = self;
                $reader.element_type().to_string().to_lowercase()
            }

            /// Dead rows, which searches still walk through; `Index.compact` removes them.
            #[getter]
            fn tombstones(&self) -> usize {
                let $this = self;
                $reader.tombstones()
            }

            fn __len__(&self) -> usize {
                let $this = self;
                $reader.len()
            }
        }
    };
}

pub(crate) use reading_class;
