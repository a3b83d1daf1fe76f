//! Columns beside the vectors, by vector id, so that conditions on them become masks.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBufferBuilder;
use arrow_schema::{ArrowError, DataType};

use crate::error::{Error, Result};
use crate::index::{Compaction, Reader};
use crate::search::mask::{RowMask, bits_of};
use crate::vectors::Appended;

/// The other columns of the record batches whose vectors are in an index, to search only among rows that meet a
/// condition.
///
/// Conditions are Arrow's: whatever makes a `BooleanArray` of a `RecordBatch`, such as the kernels of `arrow-ord`
/// (`eq`, `lt`, ...) and `arrow-string` (`like`, ...), or an expression of DataFusion
/// (`expression.evaluate(batch)?.into_array(batch.num_rows())`). Batches are kept as they are, and nothing is copied.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow_array::cast::AsArray;
/// # use arrow_array::types::{Float32Type, Int32Type};
/// # use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Int32Array, RecordBatch};
/// # use pennon::{BuildParams, DistanceType, Index, Metadata, SearchParams};
/// # fn main() -> pennon::Result<()> {
/// # let points = (0..100_i16).map(|x| Some([Some(f32::from(x)), Some(1.0)]));
/// # let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2);
/// # let years: ArrayRef = Arc::new(Int32Array::from_iter_values((0..100).map(|x| 2000 + x % 10)));
/// # let batch = RecordBatch::try_from_iter([("year", years)])?;
/// let index = Index::hnsw(2, DistanceType::L2, BuildParams::default())?;
/// let metadata = Metadata::new(&index.reader());
/// let appended = index.append(&vectors, 0)?;
/// metadata.append(&appended, &batch)?;
///
/// let reader = index.reader();
/// let mask = metadata.mask(&reader, |batch| {
///     // With arrow-ord: gt_eq(&batch["year"], &Int32Array::new_scalar(2008))
///     Ok(BooleanArray::from_unary(batch["year"].as_primitive::<Int32Type>(), |year| year >= 2008))
/// })?;
/// let hits = reader.search(&[40.1, 1.0], &SearchParams::new(3).mask(mask))?;
/// assert_eq!(hits.row_ids().collect::<Vec<_>>(), [39, 38, 48]);
/// # Ok(())
/// # }
/// ```
///
/// Rows are kept by vector id, and so belong to one generation of the index: an updated row has the columns of its own
/// batch in every version. A compaction gives out ids anew, and the columns must follow:
/// [`compacted`](Self::compacted).
pub struct Metadata {
    /// The number of the generation whose vector ids these are.
    generation: u64,
    /// By vector id.
    parts: RwLock<Vec<Arc<Part>>>,
}

/// One batch.
struct Part {
    /// The ids of its usable rows.
    ids: Range<u32>,
    batch: RecordBatch,
    /// The usable rows: first position and length of each run.
    runs: Vec<(u32, u32)>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("generation", &self.generation).field("len", &self.len()).finish()
    }
}

impl Metadata {
    /// No columns yet, for the vector ids of a reader's generation.
    pub fn new(reader: &Reader) -> Self {
        Self::of(reader.version().generation())
    }

    fn of(generation: u64) -> Self {
        Self { generation, parts: RwLock::new(Vec::new()) }
    }

    /// Keeps a batch: row `i` of it belongs to row `i` of the vectors that were appended. Batches may come in any
    /// order. The column of vectors itself need not be in the batch.
    ///
    /// # Errors
    /// - [`Error::StaleIds`] if the vector ids are of another generation,
    /// - [`Error::InvalidBatch`] if the batch does not have one row for each that was appended, if its columns have
    ///   other names or types than those of the batches before, or if some of the ids have columns already.
    pub fn append(&self, appended: &Appended, batch: &RecordBatch) -> Result<()> {
        self.check("the batch that was appended", appended.generation())?;
        let (rows, vectors) = (batch.num_rows(), appended.rows());
        if rows != vectors {
            return invalid(format!("{rows} rows for {vectors} vectors"));
        }
        let ids = appended.ids();
        let runs = appended.runs().map(|run| (run.start as u32, run.len() as u32)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = parts.first()
            && !columns(&first.batch).eq(columns(batch))
        {
            let (before, now) = (names(&first.batch), names(batch));
            return invalid(format!("columns {now:?} after columns {before:?}, or of other types"));
        }
        let at = parts.partition_point(|part| part.ids.start < ids.start);
        let before = at.checked_sub(1).and_then(|before| parts.get(before));
        let follows = before.is_none_or(|part| part.ids.end <= ids.start);
        if !follows || parts.get(at).is_some_and(|part| part.ids.start < ids.end) {
            return invalid(format!("some of the ids {}..{} have columns already", ids.start, ids.end));
        }
        parts.insert(at, Arc::new(Part { ids, batch: batch.clone(), runs }));
        Ok(())
    }

    /// Vector ids that have columns.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.ids.len()).sum()
    }

    /// Whether no vector id has columns.
    pub fn is_empty(&self) -> bool {
        self.parts().is_empty()
    }

    /// The rows of a reader that meet a condition, as a mask for it. `test` is called with each batch, and gives one
    /// value for each of its rows, usable or not; null counts as false, and so does a vector id without columns.
    ///
    /// # Errors
    /// What `test` returns, [`Error::InvalidBatch`] if it gives more or fewer values than the batch has rows, and
    /// [`Error::StaleIds`] if the reader is of another generation.
    pub fn mask(
        &self,
        reader: &Reader,
        mut test: impl FnMut(&RecordBatch) -> Result<BooleanArray, ArrowError>,
    ) -> Result<RowMask> {
        self.check("the reader", reader.version().generation())?;
        let len = reader.version().vectors();
        let mut bits = BooleanBufferBuilder::new(len);
        for part in self.parts() {
            let start = part.ids.start as usize;
            if start >= len {
                break;
            }
            let passed = test(&part.batch)?;
            let rows = part.batch.num_rows();
            if passed.len() != rows {
                return invalid(format!("the condition gave {} values for {rows} rows", passed.len()));
            }
            let passed = bits_of(&passed);
            bits.append_n(start - bits.len(), false);
            for &(row, rows) in &part.runs {
                let rows = (rows as usize).min(len - bits.len());
                bits.append_buffer(&passed.slice(row as usize, rows));
            }
        }
        bits.append_n(len - bits.len(), false);
        reader.mask(bits.finish())
    }

    /// The columns of the rows that a compaction kept, by the vector ids of the newer generation.
    ///
    /// # Errors
    /// [`Error::StaleIds`] if another generation was compacted.
    pub fn compacted(&self, compaction: &Compaction) -> Result<Self> {
        self.check("the compaction", compaction.from.generation())?;
        let mut live = BooleanBufferBuilder::new(compaction.from.vectors());
        for &id in compaction.old_ids() {
            live.append_n((id as usize).saturating_sub(live.len()), false);
            live.append(true);
        }
        let live = live.finish();
        let range = |ids: Range<usize>| {
            let end = ids.end.min(live.len());
            let start = ids.start.min(end);
            live.slice(start, end - start)
        };
        let compacted = Self::of(compaction.to.generation());
        let mut kept = Vec::new();
        let (mut seen, mut next) = (0, 0);
        for part in self.parts() {
            let start = part.ids.start as usize;
            // Rows without columns get ids too.
            next += range(seen..start).count_set_bits();
            let (mut id, mut runs) = (start, Vec::with_capacity(part.runs.len()));
            for &(row, rows) in &part.runs {
                let bits = range(id..id + rows as usize);
                runs.extend(bits.set_slices().map(|(from, to)| (row + from as u32, (to - from) as u32)));
                id += rows as usize;
            }
            let rows: usize = runs.iter().map(|run: &(u32, u32)| run.1 as usize).sum();
            if rows > 0 {
                let ids = next as u32..(next + rows) as u32;
                kept.push(Arc::new(Part { ids, batch: part.batch.clone(), runs }));
            }
            (seen, next) = (id, next + rows);
        }
        *compacted.parts.write().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(compacted)
    }

    fn check(&self, what: &'static str, actual: u64) -> Result<()> {
        let expected = self.generation;
        if actual == expected { Ok(()) } else { Err(Error::StaleIds { what, expected, actual }) }
    }

    /// The batches of now. What is called meanwhile may append others.
    fn parts(&self) -> Vec<Arc<Part>> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn columns(batch: &RecordBatch) -> impl Iterator<Item = (&str, &DataType)> {
    batch.schema_ref().fields().iter().map(|field| (field.name().as_str(), field.data_type()))
}

fn names(batch: &RecordBatch) -> Vec<&str> {
    columns(batch).map(|(name, _)| name).collect()
}

fn invalid<T>(problem: String) -> Result<T> {
    Err(Error::InvalidBatch { kind: "metadata", problem })
}
