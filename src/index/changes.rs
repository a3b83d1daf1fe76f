//! The calls that change the rows of an index: which lock they wait for, and what they count and trace.

use std::time::Instant;

use arrow_array::{Array, FixedSizeListArray};
use tracing::{debug, debug_span};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::generation::Generation;
use crate::index::write::OnDuplicate;
use crate::vectors::{Appended, RowIds, fixed_size_lists};

impl Index {
    /// Appends a batch of vectors, which stay in the caller's buffers: row `i` under the row id `row_ids + i` if that
    /// is a `u64`, or under row ids of the caller's choice if it is a `UInt64Array`. Returns the vector ids of the
    /// usable rows, which are searchable from now on, all at once, and says which rows were skipped.
    ///
    /// `vectors` is a `FixedSizeList`, or a `List` or `LargeList` whose rows have one length; the latter are copied
    /// only if null rows have another length than the others. Rows without a usable vector are skipped and counted:
    /// [`append_batch`](crate::ArrowFixedSizeListVectorStore::append_batch) says which.
    ///
    /// # Errors
    /// The index is as it was if
    /// - the elements are of another type ([`Error::UnsupportedType`]),
    /// - the lists have another length than `dim` ([`Error::DimensionMismatch`]), or different lengths
    ///   ([`Error::RaggedList`]),
    /// - there is not one row id for each row ([`Error::RowIdCount`], [`Error::NullRowId`],
    ///   [`Error::RowIdOverflow`]),
    /// - a live row or another row of the batch has the same row id ([`Error::DuplicateRowId`]),
    /// - there are too many vectors ([`Error::TooManyVectors`]), or the memory limit leaves no room
    ///   ([`Error::MemoryLimit`]),
    /// - it is mapped from files ([`Error::ReadOnly`]).
    ///
    /// [`Error::UnsupportedType`]: crate::Error::UnsupportedType
    /// [`Error::DimensionMismatch`]: crate::Error::DimensionMismatch
    /// [`Error::RaggedList`]: crate::Error::RaggedList
    /// [`Error::RowIdCount`]: crate::Error::RowIdCount
    /// [`Error::NullRowId`]: crate::Error::NullRowId
    /// [`Error::RowIdOverflow`]: crate::Error::RowIdOverflow
    /// [`Error::DuplicateRowId`]: crate::Error::DuplicateRowId
    /// [`Error::TooManyVectors`]: crate::Error::TooManyVectors
    /// [`Error::MemoryLimit`]: crate::Error::MemoryLimit
    /// [`Error::ReadOnly`]: crate::Error::ReadOnly
    pub fn append(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_controlled(vectors, row_ids, &Control::new())
    }

    /// [`append`](Self::append) that can be watched and cancelled, or does not wait for other writers. It looks at
    /// `control` before it begins, between sub-batches of at most 512 rows, and before the rows show.
    ///
    /// An append that is cancelled has appended nothing: none of its rows shows, and their row ids are free. Rows that
    /// were linked before it was cancelled leave vector ids without a row: tombstones, which hold the buffers of the
    /// batch and go with the next compaction.
    ///
    /// # Errors
    /// As [`append`](Self::append), and
    /// - [`Error::Cancelled`] if the caller ended it,
    /// - [`Error::Busy`] if another writer is at work and it is not to wait.
    ///
    /// [`Error::Cancelled`]: crate::Error::Cancelled
    /// [`Error::Busy`]: crate::Error::Busy
    pub fn append_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Refuse, control)
    }

    /// [`append`](Self::append) that does not wait for other writers: [`Control::no_wait`].
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::Busy`](crate::Error::Busy) if another writer is at work.
    pub fn try_append(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_controlled(vectors, row_ids, &Control::new().no_wait())
    }

    /// [`append`](Self::append) for row ids that the caller knows to be new: they are not compared, and no memory is
    /// spent on them until a row is deleted, checked or asked for. If two live rows share a row id after all, both are
    /// found, and deletes and updates mean the later.
    ///
    /// # Errors
    /// As [`append`](Self::append), except for duplicates.
    pub fn append_unique(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_unique_controlled(vectors, row_ids, &Control::new())
    }

    /// [`append_unique`](Self::append_unique) that can be watched and cancelled, as
    /// [`append_controlled`](Self::append_controlled).
    ///
    /// # Errors
    /// As [`append_controlled`](Self::append_controlled), except for duplicates.
    pub fn append_unique_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Trust, control)
    }

    /// [`append_unique`](Self::append_unique) for several batches at once, each with the row id of its first row: they
    /// are linked together, and all their rows show at one instant.
    ///
    /// # Errors
    /// As [`append_unique`](Self::append_unique); nothing of any batch is appended then.
    pub fn append_batches_unique(&self, batches: &[(FixedSizeListArray, u64)]) -> Result<Appended> {
        let rows: usize = batches.iter().map(|(vectors, _)| vectors.len()).sum();
        let _span = debug_span!("append", rows, batches = batches.len()).entered();
        self.append_once(&Control::new(), |generation| {
            self.check_memory(generation, rows, OnDuplicate::Trust)?;
            generation.write_batches(batches)
        })
    }

    /// Appends a batch whose rows take the place of live rows with the same row ids: searches see the old ones or
    /// the new ones. Of rows with the same row id in the batch the last one stays. A row that is skipped because it
    /// has no usable vector also ends the older one.
    ///
    /// # Errors
    /// As [`append`](Self::append), except for duplicates.
    pub fn upsert(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.upsert_controlled(vectors, row_ids, &Control::new())
    }

    /// [`upsert`](Self::upsert) that can be watched and cancelled, as [`append_controlled`](Self::append_controlled). If
    /// it is cancelled, the older rows stay.
    ///
    /// # Errors
    /// As [`append_controlled`](Self::append_controlled), except for duplicates.
    pub fn upsert_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Replace, control)
    }

    fn write(
        &self,
        vectors: &dyn Array,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
        control: &Control<'_>,
    ) -> Result<Appended> {
        let rows = vectors.len();
        let _span = match on_duplicate {
            OnDuplicate::Replace => debug_span!("upsert", rows),
            _ => debug_span!("append", rows),
        }
        .entered();
        let vectors = match fixed_size_lists(vectors, self.dim) {
            Ok(vectors) => vectors,
            Err(error) => return self.appended(Err(error)),
        };
        self.append_once(control, |generation| {
            self.check_memory(generation, rows, on_duplicate)?;
            generation.write(&vectors, row_ids, on_duplicate, control)
        })
    }

    /// Appends once no other writer does, or not at all if one does and the caller does not want to wait.
    fn append_once(
        &self,
        control: &Control<'_>,
        append: impl FnOnce(&Generation) -> Result<Appended>,
    ) -> Result<Appended> {
        let outcome = self.generations.try_append(append).unwrap_or_else(|append| {
            if !control.waits() {
                return Err(Error::Busy);
            }
            let began = Instant::now();
            self.generations.append(|generation| {
                generation.tally.waited(began.elapsed());
                debug!(nanos = began.elapsed().as_nanos() as u64, "waited for another writer");
                append(generation)
            })
        });
        self.appended(outcome)
    }

    /// Counts and traces what became of an append.
    fn appended(&self, outcome: Result<Appended>) -> Result<Appended> {
        self.generations.peek().tally.appended(outcome.as_ref());
        match &outcome {
            Ok(appended) => debug!(
                generation = appended.generation(),
                first_id = appended.start,
                rows = appended.len(),
                skipped = appended.rows() - appended.len(),
                "appended"
            ),
            Err(error) => debug!(%error, "nothing was appended"),
        }
        outcome
    }

    /// Deletes the live row of a row id: no search that starts after this returns it; those of older readers do.
    /// Takes constant time, except that rows appended since the last delete or check are first entered in a directory.
    /// Does not wait for an append that is under way, whose rows are not there yet; only for the moment in which
    /// another change is made visible.
    ///
    /// # Errors
    /// [`Error::UnknownRowId`](crate::Error::UnknownRowId) if no live row has that row id,
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) if the index is mapped from files.
    pub fn delete(&self, row_id: u64) -> Result<()> {
        self.delete_batch(&[row_id]).map(|_| ())
    }

    /// Deletes the live rows of some row ids, all at one instant, or none of them if one is unknown. A row id that is
    /// given twice counts once. Returns how many rows were deleted.
    ///
    /// # Errors
    /// As [`delete`](Self::delete), for the first unknown row id.
    pub fn delete_batch(&self, row_ids: &[u64]) -> Result<usize> {
        let _span = debug_span!("delete", rows = row_ids.len()).entered();
        let deleted = self.generations.change(|generation, rows| generation.delete(rows, row_ids));
        match &deleted {
            Ok(rows) => debug!(rows, "deleted"),
            Err(error) => debug!(%error, "nothing was deleted"),
        }
        deleted
    }
}
