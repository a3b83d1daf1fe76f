//! Changes: append, update, delete. `crate::index::table` makes them.

use std::ops::Range;
use std::sync::PoisonError;

use arrow_array::{Array, FixedSizeListArray};

use crate::error::{Error, Result};
use crate::index::HnswIndex;
use crate::index::table::OnDuplicate;
use crate::search::version::IndexVersion;
use crate::vectors::RowIds;

impl HnswIndex {
    /// Appends a batch of vectors, which stay in the caller's buffers: row `i` under the row id
    /// `row_id_start + i` if `row_ids` is a `u64`, or under row ids of the caller's choice if it is a
    /// `UInt64Array`. Returns the vector ids of the usable rows, which are searchable from now on, all at once.
    ///
    /// Rows without a usable vector are skipped and counted:
    /// [`append_batch`](crate::ArrowFixedSizeListVectorStore::append_batch) says which.
    ///
    /// # Errors
    /// The index is as it was if
    /// - the elements are of another type ([`Error::UnsupportedType`]),
    /// - the lists have another length than `dim` ([`Error::DimensionMismatch`]),
    /// - there is not one row id for each row ([`Error::RowIdCount`], [`Error::NullRowId`],
    ///   [`Error::RowIdOverflow`]),
    /// - a live row or another row of the batch has the same row id ([`Error::DuplicateRowId`]),
    /// - there are too many vectors ([`Error::TooManyVectors`]),
    /// - it is mapped from files ([`Error::ReadOnly`]).
    pub fn append(&self, vectors: &FixedSizeListArray, row_ids: impl Into<RowIds>) -> Result<Range<u32>> {
        self.write(vectors, row_ids.into(), OnDuplicate::Refuse)
    }

    /// [`append`](Self::append) for row ids that the caller knows to be new: they are not compared, and no memory is
    /// spent on them until a row is deleted or checked. If two live rows share a row id after all, both are found,
    /// and deletes and updates mean the later.
    ///
    /// # Errors
    /// As [`append`](Self::append), but for duplicates.
    pub fn append_unique(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: impl Into<RowIds>,
    ) -> Result<Range<u32>> {
        self.write(vectors, row_ids.into(), OnDuplicate::Trust)
    }

    /// Appends a batch whose rows take the place of live rows with the same row ids: searches see the old ones or
    /// the new ones. Of rows with the same row id in the batch the last one stays. A row that is skipped because it
    /// has no usable vector also ends the older one.
    ///
    /// # Errors
    /// As [`append`](Self::append), but for duplicates.
    pub fn upsert(&self, vectors: &FixedSizeListArray, row_ids: impl Into<RowIds>) -> Result<Range<u32>> {
        self.write(vectors, row_ids.into(), OnDuplicate::Replace)
    }

    /// [`append_unique`](Self::append_unique) for several batches at once, each with the row id of its first row: they
    /// are linked together, and all their rows show at one instant.
    ///
    /// # Errors
    /// As [`append_unique`](Self::append_unique); nothing of any batch is appended then.
    pub fn append_batches_unique(&self, batches: &[(FixedSizeListArray, u64)]) -> Result<Range<u32>> {
        self.check_writable()?;
        let _one_at_a_time = self.table.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let (len, needed) = (self.table.store.committed_len(), self.graph.len());
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        let added: usize = batches.iter().map(|(vectors, _)| vectors.len()).sum();
        if u32::try_from(len.saturating_add(added)).is_err() {
            return Err(Error::TooManyVectors { len, added });
        }
        for (vectors, start) in batches {
            self.table.store.check_batch(vectors, &RowIds::From(*start))?;
        }
        for (vectors, start) in batches {
            self.table.store.append(vectors, RowIds::From(*start))?;
        }
        let end = self.table.store.committed_len() as u32;
        self.graph.insert_batch(self.graph.len() as u32..end, &self.table.store.view())?;
        let _publishing = self.table.lock_rows();
        self.table.versions.publish(IndexVersion::new(end, self.version().deletes()));
        Ok(len as u32..end)
    }

    fn write(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
    ) -> Result<Range<u32>> {
        self.check_writable()?;
        self.table.write(vectors, row_ids, on_duplicate, Some(&self.graph))
    }

    /// Deletes the live row of a row id: no search that starts after this returns it, those that had started and
    /// those of an older version do. Takes constant time, but that rows appended since the last delete or check are
    /// first entered in a directory. Does not wait for an append that is under way, whose rows are not there yet; only
    /// for the moment in which an update exchanges rows.
    ///
    /// # Errors
    /// [`Error::UnknownRowId`] if no live row has that row id, [`Error::ReadOnly`] if the index is mapped from files.
    pub fn delete(&self, row_id: u64) -> Result<()> {
        self.check_writable()?;
        self.table.delete(row_id)
    }

    /// Whether a live row has that row id. Waits for changes that are being made visible.
    pub fn contains(&self, row_id: u64) -> bool {
        self.table.contains(row_id)
    }
}
