//! Changes: append, update, delete.
//!
//! Linking a batch takes long and is done first, unseen. What it changes for readers, new rows and dead ones, is one
//! version, published under the lock of the rows; deletes take that lock alone.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use arrow_array::{Array, FixedSizeListArray};

use super::HnswIndex;
use crate::error::{Error, Result};
use crate::rows::Rows;
use crate::store::{Appended, RowIds};
use crate::version::IndexVersion;

/// Rows looked up before a delete may come in between.
const AT_A_TIME: u32 = 4096;

/// What it means when a live row has the row id of a new one.
#[derive(Clone, Copy, PartialEq)]
enum OnDuplicate {
    /// An error.
    Refuse,
    /// The new row takes its place.
    Replace,
    /// The caller knows that it cannot be.
    Trust,
}

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
        let _one_at_a_time = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let (len, needed) = (self.store.committed_len(), self.graph.len());
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        let added: usize = batches.iter().map(|(vectors, _)| vectors.len()).sum();
        if u32::try_from(len.saturating_add(added)).is_err() {
            return Err(Error::TooManyVectors { len, added });
        }
        for (vectors, start) in batches {
            self.store.check_batch(vectors, &RowIds::From(*start))?;
        }
        for (vectors, start) in batches {
            self.store.append(vectors, RowIds::From(*start))?;
        }
        let end = self.store.committed_len() as u32;
        self.graph.insert_batch(self.graph.len() as u32..end, &self.store.view())?;
        let _publishing = self.lock_rows();
        self.versions.publish(IndexVersion::new(end, self.version().deletes()));
        Ok(len as u32..end)
    }

    fn write(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
    ) -> Result<Range<u32>> {
        self.check_writable()?;
        let _one_at_a_time = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        // Nodes of another source may have been inserted through `graph()`.
        let (len, needed) = (self.store.committed_len(), self.graph.len());
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        if on_duplicate == OnDuplicate::Refuse {
            self.store.check_batch(vectors, &row_ids)?;
            self.check_new(vectors.len(), &row_ids, len as u32)?;
        }
        let appended = self.store.append(vectors, row_ids.clone())?;
        let source = self.store.view();
        self.graph.insert_batch(self.graph.len() as u32..appended.ids.end, &source)?;

        let mut rows = self.lock_rows();
        let mut deletes = self.version().deletes();
        if on_duplicate == OnDuplicate::Replace {
            rows.catch_up(appended.ids.start, &source);
            deletes = self.replace(&mut rows, &appended, &row_ids, vectors.len(), deletes);
        }
        self.versions.publish(IndexVersion::new(appended.ids.end, deletes));
        Ok(appended.ids)
    }

    /// Checks that no row of a batch has the row id of a live row, or of another one of the batch. Deletes can go on
    /// in between: they make no duplicates.
    fn check_new(&self, batch: usize, row_ids: &RowIds, committed: u32) -> Result<()> {
        let source = self.store.view();
        loop {
            let mut rows = self.lock_rows();
            if rows.entered() >= committed {
                break;
            }
            let end = committed.min(rows.entered().saturating_add(AT_A_TIME));
            rows.catch_up(end, &source);
        }
        let ascending = row_ids.ascending_from();
        if ascending.is_some_and(|first| self.lock_rows().are_below(first)) {
            return Ok(());
        }
        let twice = ascending.map_or_else(|| row_ids.first_twice(), |_| None);
        for start in (0..batch).step_by(AT_A_TIME as usize) {
            let rows = self.lock_rows();
            let version = self.version();
            let is_live =
                |row_id| rows.find(row_id, &source, |id| self.versions.is_dead(id, version)).is_some();
            let mut chunk = start..batch.min(start + AT_A_TIME as usize);
            if let Some(row) = chunk.find(|&row| is_live(row_ids.get(row))) {
                return Err(Error::DuplicateRowId { row_id: row_ids.get(row), row });
            }
        }
        match twice {
            Some(row) => Err(Error::DuplicateRowId { row_id: row_ids.get(row), row }),
            None => Ok(()),
        }
    }

    /// Enters the rows of a batch one after the other, burying those whose place they take. Returns the number of
    /// the last delete.
    fn replace(
        &self,
        rows: &mut Rows,
        appended: &Appended,
        row_ids: &RowIds,
        len: usize,
        mut deletes: u32,
    ) -> u32 {
        let source = self.store.view();
        let mut next = appended.ids.start;
        let mut runs = appended.runs.iter().map(|&(at, rows)| at as usize..(at + rows) as usize).peekable();
        for row in 0..len {
            let row_id = row_ids.get(row);
            let version = IndexVersion::new(next, deletes);
            if let Some(old) = rows.find(row_id, &source, |id| self.versions.is_dead(id, version)) {
                deletes += 1;
                self.versions.bury(old, deletes);
                rows.forget(row_id, old);
            }
            while runs.next_if(|run| run.end <= row).is_some() {}
            if runs.peek().is_some_and(|run| run.contains(&row)) {
                rows.enter(row_id, next, 1, &source);
                next += 1;
            }
        }
        deletes
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
        let mut rows = self.lock_rows();
        let version = self.version();
        let id = self.find(&mut rows, row_id, version).ok_or(Error::UnknownRowId { row_id })?;
        let deletes = version.deletes() + 1;
        self.versions.bury(id, deletes);
        rows.forget(row_id, id);
        self.versions.publish(IndexVersion::new(version.vectors() as u32, deletes));
        Ok(())
    }

    /// Whether a live row has that row id. Waits for changes that are being made visible.
    pub fn contains(&self, row_id: u64) -> bool {
        let mut rows = self.lock_rows();
        let version = self.version();
        self.find(&mut rows, row_id, version).is_some()
    }

    fn find(&self, rows: &mut Rows, row_id: u64, version: IndexVersion) -> Option<u32> {
        let source = self.store.view();
        rows.catch_up(version.vectors() as u32, &source);
        let id = rows.find(row_id, &source, |id| self.versions.is_dead(id, version))?;
        ((id as usize) < version.vectors()).then_some(id)
    }

    /// The lock of the rows. What a panic could leave half done under it is not published, and the rest of the rows
    /// is as good as before.
    pub(super) fn lock_rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
