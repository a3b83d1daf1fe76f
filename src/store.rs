//! The vector store: the caller's Arrow batches, kept where they are, and an id for each usable row.

mod admit;
mod directory;
mod row_ids;

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray, UInt64Array};
use arrow_schema::DataType;

use crate::distance::{DistanceType, PreparedQuery};
use crate::error::{Error, Result};
use crate::prefetch::prefetch;
use crate::source::VectorSource;
pub use admit::SkippedRows;
use directory::{Batch, Directory};
pub use row_ids::RowIds;

/// Append-only store of `f32` vectors in Arrow `FixedSizeList` batches.
///
/// Batches stay in the caller's buffers (slices too, and batches with null rows); what is added is
/// a directory from id to address. One writer at a time, any number of readers.
pub struct ArrowFixedSizeListVectorStore {
    dim: usize,
    distance_type: DistanceType,
    directory: Directory,
    writer: Mutex<SkippedRows>,
}

impl ArrowFixedSizeListVectorStore {
    /// A store without vectors.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] if `dim` is 0 or above `i32::MAX`, Arrow's limit.
    pub fn try_new(dim: usize, distance_type: DistanceType) -> Result<Self> {
        if dim == 0 || i32::try_from(dim).is_err() {
            let requirement = format!("from 1 to {}", i32::MAX);
            return Err(Error::InvalidParams { parameter: "dim", value: dim as u64, requirement });
        }
        Ok(Self { dim, distance_type, directory: Directory::new(dim), writer: Mutex::default() })
    }

    /// Appends the usable rows of a batch and returns their ids. Row `i` of the array has row id
    /// `row_id_start + i`, whether or not the rows before it are usable.
    ///
    /// A row is skipped, and counted in [`skipped`](Self::skipped), if it is null, if an element is
    /// null, NaN or infinite, or, under cosine, if all elements are zero.
    ///
    /// # Errors
    /// Nothing is appended if
    /// - the elements are not `Float32` ([`Error::UnsupportedType`]),
    /// - the lists have another length than `dim` ([`Error::DimensionMismatch`]),
    /// - the row ids or the vector ids overflow ([`Error::RowIdOverflow`], [`Error::TooManyVectors`]).
    pub fn append_batch(&self, vectors: Arc<FixedSizeListArray>, row_id_start: u64) -> Result<Range<u32>> {
        self.append(&vectors, RowIds::From(row_id_start)).map(|appended| appended.ids)
    }

    /// Appends the usable rows of a batch under row ids of the caller's choice, one for each row.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch), and [`Error::RowIdCount`] or [`Error::NullRowId`] if
    /// there is not one row id for each row.
    pub fn append_batch_with_row_ids(
        &self,
        vectors: Arc<FixedSizeListArray>,
        row_ids: &UInt64Array,
    ) -> Result<Range<u32>> {
        self.append(&vectors, RowIds::from(row_ids)).map(|appended| appended.ids)
    }

    /// Everything that [`append`](Self::append) refuses, but for the number of vectors.
    pub(crate) fn check_batch(&self, vectors: &FixedSizeListArray, row_ids: &RowIds) -> Result<()> {
        self.check(vectors)?;
        row_ids.check(vectors.len())
    }

    pub(crate) fn append(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Appended> {
        row_ids.check(vectors.len())?;
        let values = self.check(vectors)?;
        if u32::try_from(vectors.len()).is_err() {
            // Positions within a batch are 32 bits wide.
            return Err(Error::TooManyVectors { len: self.committed_len(), added: vectors.len() });
        }
        let admitted = admit::admit(vectors, values.nulls(), values.values(), self.distance_type);

        let mut skipped = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let start = self.directory.committed();
        let end = u32::try_from(admitted.rows)
            .ok()
            .and_then(|rows| start.checked_add(rows))
            .ok_or(Error::TooManyVectors { len: start as usize, added: admitted.rows })?;

        skipped.add(admitted.skipped);
        if admitted.rows > 0 {
            let batch = Batch { values: values.values().clone(), row_ids };
            self.directory.append(batch, &admitted.runs);
        }
        Ok(Appended { ids: start..end, runs: admitted.runs })
    }

    /// The child values, from the first row of the array on.
    fn check<'a>(&self, vectors: &'a FixedSizeListArray) -> Result<&'a arrow_array::Float32Array> {
        if vectors.value_type() != DataType::Float32 {
            return Err(Error::UnsupportedType {
                expected: "FixedSizeList<Float32>",
                actual: vectors.data_type().to_string(),
            });
        }
        let actual = vectors.value_length() as usize;
        if actual != self.dim {
            return Err(Error::DimensionMismatch { expected: self.dim, actual });
        }
        Ok(vectors.values().as_primitive::<Float32Type>())
    }

    /// A store of the given ids alone, over the same buffers.
    pub(crate) fn retain(&self, ids: &[u32]) -> Self {
        let Self { dim, distance_type, .. } = *self;
        Self { dim, distance_type, directory: self.directory.retain(ids), writer: Mutex::default() }
    }

    /// Vectors held.
    pub fn committed_len(&self) -> usize {
        self.directory.committed() as usize
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.committed_len() == 0
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.distance_type
    }

    /// Rows that got no id so far, and why.
    pub fn skipped(&self) -> SkippedRows {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held beside the caller's buffers.
    pub fn resident_bytes(&self) -> usize {
        size_of::<Self>() + self.directory.resident_bytes()
    }

    /// The vectors appended so far, for good: later appends do not show.
    pub fn snapshot(self: &Arc<Self>) -> VectorStoreSnapshot {
        VectorStoreSnapshot { store: Arc::clone(self), len: self.committed_len() as u32 }
    }

    /// The same without a share in the store: no reference count is written to.
    pub(crate) fn view(&self) -> VectorStoreSnapshot<&Self> {
        VectorStoreSnapshot { store: self, len: self.committed_len() as u32 }
    }
}

/// What became of a batch.
pub(crate) struct Appended {
    pub ids: Range<u32>,
    /// The rows that got these ids: first position and length.
    pub runs: Vec<(u32, u32)>,
}

/// A prefix of the store that does not change while the store grows. Cheap to make and to clone.
#[derive(Clone)]
pub struct VectorStoreSnapshot<S = Arc<ArrowFixedSizeListVectorStore>> {
    store: S,
    len: u32,
}

impl<S: Clone> VectorStoreSnapshot<S> {
    /// The prefix of the first `len` ids, or this one if it is shorter.
    pub fn prefix(&self, len: usize) -> Self {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.len);
        Self { store: self.store.clone(), len }
    }
}

/// Rows whose addresses are looked up before the first of them is scored.
const GATHER: usize = 32;
/// Cache lines that are fetched ahead: whole rows up to 16 lines, and of a longer row so many, which the
/// hardware's own prefetcher then follows. More of them at a time stand in each other's way.
const LINES_PER_ROW: usize = 16;
const LINES_AHEAD: usize = 64;

impl<S> VectorSource for VectorStoreSnapshot<S>
where
    S: Deref<Target = ArrowFixedSizeListVectorStore> + Send + Sync,
{
    fn len(&self) -> usize {
        self.len as usize
    }

    fn dim(&self) -> usize {
        self.store.dim
    }

    fn distance_type(&self) -> DistanceType {
        self.store.distance_type
    }

    /// `u64::MAX` for an id that is not there.
    fn row_id(&self, id: u32) -> u64 {
        self.store.directory.row_id(id).unwrap_or(u64::MAX)
    }

    fn row_id_run(&self, id: u32) -> (u64, u32) {
        let (row_id, rows) = self.store.directory.row_id_run(id).unwrap_or((u64::MAX, 1));
        (row_id, rows.min(self.len.saturating_sub(id)).max(1))
    }

    fn visible_len(&self, max_row_id: u64) -> Option<usize> {
        if !self.store.directory.ascends() {
            return None;
        }
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row_id(middle) <= max_row_id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low as usize)
    }

    /// Empty for an id that is not there.
    #[inline(always)]
    fn vector(&self, id: u32) -> &[f32] {
        self.store.directory.vector(id)
    }

    fn readable_len(&self) -> usize {
        self.store.committed_len()
    }

    #[inline]
    fn distance_between(&self, left: u32, right: u32) -> f32 {
        PreparedQuery::new(self.vector(left), self.store.distance_type).distance(self.vector(right))
    }

    #[inline]
    fn distances_to(&self, query: &PreparedQuery<'_>, ids: &[u32], out: &mut [f32]) {
        let lines = (self.store.dim * size_of::<f32>()).div_ceil(64).min(LINES_PER_ROW);
        let window = (LINES_AHEAD / lines).min(GATHER);
        for (ids, out) in ids.chunks(GATHER).zip(out.chunks_mut(GATHER)) {
            let mut rows: [&[f32]; GATHER] = [&[]; GATHER];
            for (at, (row, &id)) in rows.iter_mut().zip(ids).enumerate() {
                *row = self.vector(id);
                if at < window {
                    prefetch(row, lines);
                }
            }
            query.distances(
                |i| {
                    if let Some(row) = rows.get(i + window) {
                        prefetch(row, lines);
                    }
                    rows[i]
                },
                out,
            );
        }
    }
}
