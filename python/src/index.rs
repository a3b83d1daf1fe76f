//! The classes `Index` and `Reader`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::Array;
use pennon::{BuildParams, Coding, DistanceType, ElementType, LanceBatches};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::answer::{ArrowBatch, BatchHits, Hits};
use crate::append::{Appended, RowIds, Taken, Writer};
use crate::capsule;
use crate::cursor::Cursor;
use crate::errors::{OrRaise, invalid_input};
use crate::input::{self, Vectors};
use crate::reading::{self, Keywords, NEXT_ROW_ID, reading_class};

/// An HNSW index over vectors, which can be searched while rows arrive, change and go.
///
/// `Index(dim, metric="l2", *, m=16, ef_construction=100, element_type="float32", codes="auto", flat=False, seed=42)`
///
/// - `metric`: `l2` (squared), `cosine`, `dot`, `l1`, or `hamming` of bytes.
/// - `m`, `ef_construction`: neighbors of a new row, and candidates that are considered for them.
/// - `element_type`: `float32`, `float16`, `bfloat16`, `float64`, `int8` or `uint8`; vectors are kept as they are.
/// - `codes`: whether searches compare compact codes first: `auto`, `bytes` or `off`. Answers have exact distances
///   in either case.
/// - `flat`: no graph; every search compares all rows. The parameters of the graph have no effect then.
///
/// All methods may be called from any thread, at the same time: searches wait for nobody.
///
/// >>> import numpy, pennon
/// >>> vectors = numpy.eye(4, dtype="float32")
/// >>> index = pennon.Index(4)
/// >>> index.append(vectors, row_ids=[10, 11, 12, 13])
/// Appended(rows=4, skipped=[], first_row_id=10)
/// >>> index.search([0, 0, 1, 0], k=2)
/// Hits([(12, 0.0), (10, 2.0)])
/// >>> index.search([0, 0, 1, 0], k=2, mask=[11, 13]).row_ids
/// [11, 13]
/// >>> index
/// Index(dim=4, metric='l2', rows=4, element_type='float32', m=16, ef_construction=100)
#[pyclass(frozen, module = "pennon", name = "Index", weakref)]
pub struct Index {
    /// Shared with the thread of a save.
    index: Arc<pennon::Index>,
    writer: Writer,
    properties: BTreeMap<String, String>,
}

/// One version of an index, to read: whatever is appended, changed, deleted or compacted meanwhile, every call sees the
/// same rows. It is cheap to make. After a compaction it keeps the older rows in memory, until it is gone.
#[pyclass(frozen, module = "pennon", name = "Reader")]
pub struct Reader {
    reader: pennon::Reader,
    next_row_id: u64,
}

fn coding(name: &str) -> PyResult<Coding> {
    match name {
        "auto" => Ok(Coding::Auto),
        "bytes" => Ok(Coding::Bytes),
        "off" => Ok(Coding::Off),
        _ => Err(invalid_input(format!("codes must be one of auto, bytes, off, got {name:?}"))),
    }
}

impl Index {
    fn of(index: pennon::Index, properties: BTreeMap<String, String>) -> Self {
        let mut properties = properties;
        let next = properties.remove(NEXT_ROW_ID).and_then(|row_id| row_id.parse::<u64>().ok());
        let highest = || index.reader().live_row_ids().values().iter().copied().max();
        // What is not saved with a row id by this package may have any.
        let next = next.unwrap_or(0).max(highest().map_or(0, |row_id| row_id.saturating_add(1)));
        Self { index: Arc::new(index), writer: Writer::new(next), properties }
    }

    fn write(
        &self,
        data: &Bound<'_, PyAny>,
        row_ids: Option<&Bound<'_, PyAny>>,
        column: Option<&str>,
        taken: Taken,
    ) -> PyResult<Appended> {
        let named = row_ids.and_then(|row_ids| row_ids.cast::<PyString>().ok());
        let named = named.map(|name| name.to_string());
        let mut vectors = input::vectors(data, self.index.element_type(), column, named.as_deref())?;
        let row_ids = match (vectors.row_ids.take(), row_ids) {
            (Some(row_ids), _) => RowIds::Each(row_ids),
            (None, None) => RowIds::Next,
            (None, Some(row_ids)) => row_ids_of(row_ids, &vectors)?,
        };
        data.py().detach(|| self.writer.append(&self.index, &vectors, row_ids, taken))
    }
}

/// One integer is the row id of the first row.
fn row_ids_of(row_ids: &Bound<'_, PyAny>, vectors: &Vectors) -> PyResult<RowIds> {
    match row_ids.extract::<u64>() {
        Ok(first) => return Ok(RowIds::From(first)),
        Err(error) if error.is_instance_of::<PyOverflowError>(row_ids.py()) => {
            return Err(invalid_input(format!("row ids are integers from 0 to 2**64 - 1, got {row_ids}")));
        }
        Err(_) => {}
    }
    let rows: usize = vectors.chunks.iter().map(|chunk| chunk.len()).sum();
    match input::range(row_ids)? {
        Some(range) if range.end.saturating_sub(range.start) == rows as u64 => Ok(RowIds::From(range.start)),
        _ => input::row_ids(row_ids).map(RowIds::Each),
    }
}

reading_class!(Index, |this| this.index.reader(), {
    #[new]
    #[pyo3(signature = (dim, metric="l2", *, m=16, ef_construction=100, element_type="float32", codes="auto",
        flat=false, seed=42))]
    #[allow(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        dim: usize,
        metric: &str,
        m: usize,
        ef_construction: usize,
        element_type: &str,
        codes: &str,
        flat: bool,
        seed: u64,
    ) -> PyResult<Self> {
        let metric: DistanceType = metric.parse().or_raise()?;
        let element_type: ElementType = element_type.parse().or_raise()?;
        let builder = pennon::Index::builder(dim, metric).element_type(element_type);
        let params = BuildParams::default().num_edges(m).ef_construction(ef_construction).seed(seed);
        let builder = builder.codes(coding(codes)?);
        let builder = if flat { builder.flat() } else { builder.params(params) };
        Ok(Self::of(builder.build().or_raise()?, BTreeMap::new()))
    }

    /// Appends vectors. They are searchable when this returns.
    ///
    /// - `data`: an array of numpy of two dimensions, or whatever exports the Arrow C data interface: arrays and chunked
    ///   arrays of lists (`FixedSizeList`, `List`, `LargeList`), series, record batches, tables, data frames, readers.
    /// - `row_ids`: what the rows are called. `None`: the integers after the greatest so far. One integer: that of the
    ///   first row, from which the others count up. Integers: one for each row. A string: a column of `data`.
    /// - `column`: the column of vectors, if `data` is a table with more than one column of lists.
    ///
    /// Vectors of Arrow stay in the buffers that they are in, which Arrow forbids to write to, and keep these alive (all
    /// columns of a record batch that comes with its vectors: select the column first). An array of numpy is copied,
    /// unless it is C-contiguous, of the index's element type, and read-only with all that it is a view of: then its
    /// memory is used as it is, and making it writeable again and writing to it changes what the index has. Files that
    /// are mapped read-only count as read-only. Other types of floats become `float32` for an index of such.
    ///
    /// Rows without a usable vector (null, not finite, or zero under cosine) are left out; `Appended.skipped` says which.
    /// Long input is appended in slices of 8,192 rows, each of which shows at one instant, and Ctrl-C ends it between two
    /// of them: what was appended by then stays. An error leaves the index as it was; if another thread changes row ids
    /// meanwhile, earlier slices stay. The interpreter is free for other threads meanwhile. The argument `column` is for tables only.
    #[pyo3(signature = (data, row_ids=None, *, column=None))]
    fn append(
        &self,
        data: &Bound<'_, PyAny>,
        row_ids: Option<&Bound<'_, PyAny>>,
        column: Option<&str>,
    ) -> PyResult<Appended> {
        self.write(data, row_ids, column, Taken::Refuse)
    }

    /// Appends vectors under row ids that you know to be new: none is compared, and no memory is spent on them until a row
    /// is deleted, checked or asked for. If two live rows share a row id after all, both are found, and deletes and updates
    /// mean the later. The arguments are those of `append`, which does this by itself for row ids that count up.
    #[pyo3(signature = (data, row_ids, *, column=None))]
    fn append_unique(
        &self,
        data: &Bound<'_, PyAny>,
        row_ids: &Bound<'_, PyAny>,
        column: Option<&str>,
    ) -> PyResult<Appended> {
        self.write(data, Some(row_ids), column, Taken::Never)
    }

    /// Appends vectors in the place of those with the same row ids: searches see the old ones or the new ones. Of rows
    /// with the same row id the last stays. The arguments are those of `append`.
    #[pyo3(signature = (data, row_ids, *, column=None))]
    fn upsert(
        &self,
        data: &Bound<'_, PyAny>,
        row_ids: &Bound<'_, PyAny>,
        column: Option<&str>,
    ) -> PyResult<Appended> {
        self.write(data, Some(row_ids), column, Taken::Replace)
    }

    /// Deletes rows, all at one instant, or none of them if a row id is unknown (`UnknownRowIdError`, a `KeyError`).
    /// Takes one row id or several, and returns how many rows were deleted. They still cost search time until `compact`.
    fn delete(&self, py: Python<'_>, row_ids: &Bound<'_, PyAny>) -> PyResult<usize> {
        let row_ids = input::row_ids(row_ids)?;
        if row_ids.null_count() > 0 {
            return Err(invalid_input("a row id is null"));
        }
        py.detach(|| self.index.delete_batch(row_ids.values())).or_raise()
    }

    /// Removes deleted rows from the graph and from memory, while everybody goes on. Returns a dictionary of counts:
    /// `kept`, `followed` (appended meanwhile), `removed` and `buried` (deleted meanwhile).
    fn compact<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = py.detach(|| self.index.compact()).or_raise()?;
        let dict = PyDict::new(py);
        dict.set_item("kept", report.kept)?;
        dict.set_item("followed", report.followed)?;
        dict.set_item("removed", report.removed)?;
        dict.set_item("buried", report.buried)?;
        Ok(dict)
    }

    /// The current version of the index, to read.
    fn reader(&self, py: Python<'_>) -> Reader {
        py.detach(|| {
            // Before the rows are seen, their row ids are.
            let reader = self.index.reader();
            Reader { reader, next_row_id: self.writer.next_row_id() }
        })
    }

    /// Saves the index into a directory, in the place of one that was saved there before. `properties` are names and
    /// values of your own, strings, which come back with `Index.load(dir).properties`.
    ///
    /// A process that ends meanwhile leaves the older index or the newer one, and files that the next save removes. Ctrl-C
    /// ends the wait: the save goes on as long as the process does.
    #[pyo3(signature = (dir, *, properties=None))]
    fn save(
        &self,
        py: Python<'_>,
        dir: PathBuf,
        properties: Option<BTreeMap<String, String>>,
    ) -> PyResult<()> {
        let next_row_id = self.writer.next_row_id();
        let properties = properties.or_else(|| Some(self.properties.clone()));
        let index = Arc::clone(&self.index);
        reading::save(py, dir, properties, next_row_id, move |dir, options| index.save_with(dir, options))
    }

    /// The index that was last saved into a directory.
    ///
    /// With `mmap=True` vectors and neighbor lists are served from the files, which all processes that map them share:
    /// they must not be written to or cut off as long as the index or a reader of it is there. No save does that. Such an
    /// index is read-only until it is compacted.
    #[staticmethod]
    #[pyo3(signature = (dir, *, mmap=false))]
    fn load(py: Python<'_>, dir: PathBuf, mmap: bool) -> PyResult<Self> {
        py.detach(|| {
            let loaded = if mmap { load_mapped(dir) } else { pennon::Index::load(dir) };
            let pennon::Loaded { index, properties, .. } = loaded.or_raise()?;
            Ok(Self::of(index, properties))
        })
    }

    /// The index of batches that `to_lance_batches` or Lance wrote: Lance's `lance:hnsw` batch, or `None` for no graph,
    /// and its flat storage, whose schema says the metric.
    #[staticmethod]
    fn from_lance_batches(
        py: Python<'_>,
        graph: Option<&Bound<'_, PyAny>>,
        vectors: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let one = |object: &Bound<'_, PyAny>| {
            let batches = capsule::import_batches(object)?.map(<[_; 1]>::try_from);
            match batches {
                Some(Ok([batch])) => Ok(batch),
                _ => Err(invalid_input("one record batch is needed")),
            }
        };
        let batches = LanceBatches { graph: graph.map(one).transpose()?, vectors: one(vectors)? };
        let index = py.detach(|| pennon::Index::from_lance_batches(&batches)).or_raise()?;
        Ok(Self::of(index, BTreeMap::new()))
    }

    /// What was given to the save that the index was loaded from, as `properties`.
    #[getter]
    fn properties(&self) -> BTreeMap<String, String> {
        self.properties.clone()
    }

    /// Bytes held beside vectors that the index shares with you.
    #[getter]
    fn resident_bytes(&self, py: Python<'_>) -> usize {
        py.detach(|| self.index.resident_bytes())
    }

    /// Pickles hold the files that `save` writes.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        slf.py().import("pennon._pickle")?.call_method1("reduce", (slf,))?.cast_into().map_err(Into::into)
    }

    fn __repr__(&self) -> String {
        let index = &self.index;
        let (dim, metric, rows) = (index.dim(), index.distance_type(), index.len());
        let element_type = index.element_type().to_string().to_lowercase();
        let graph = match index.params() {
            Some(params) => format!("m={}, ef_construction={}", params.m, params.ef_construction),
            None => "flat=True".to_string(),
        };
        format!("Index(dim={dim}, metric='{metric}', rows={rows}, element_type='{element_type}', {graph})")
    }
});

reading_class!(Reader, |this| this.reader.clone(), {
    /// What is read: the generation of the index, vector ids given out, and those of them whose rows are dead.
    #[getter]
    fn version(&self) -> (u64, usize, u32) {
        let version = self.reader.version();
        (version.generation(), version.vectors(), version.deletes())
    }

    /// Saves this version; see `Index.save`.
    #[pyo3(signature = (dir, *, properties=None))]
    fn save(
        &self,
        py: Python<'_>,
        dir: PathBuf,
        properties: Option<BTreeMap<String, String>>,
    ) -> PyResult<()> {
        let reader = self.reader.clone();
        reading::save(py, dir, properties, self.next_row_id, move |dir, options| {
            reader.save_with(dir, options)
        })
    }

    fn __repr__(&self) -> String {
        let reader = &self.reader;
        let (dim, metric, rows) = (reader.dim(), reader.distance_type(), reader.len());
        format!("Reader(dim={dim}, metric='{metric}', rows={rows})")
    }
});

#[allow(unsafe_code, reason = "the caller of `Index.load` promises that nobody writes to the files")]
fn load_mapped(dir: PathBuf) -> pennon::Result<pennon::Loaded> {
    // SAFETY: by the documentation of `Index.load`.
    unsafe { pennon::Index::load_mmap(dir) }
}
