//! Changes of a collection: append, upsert, delete.
//!
//! ```text
//! 1  lock the writer                        one change at a time
//! 2  link the vectors into each index       the longest part; no reader of the collection sees them
//! 3  lock the keys; enter new rows, bury those whose place they take, in each index and in the table
//! 4  exchange the state; let the keys go
//! ```
//! What a reader of the collection sees was published in every index before step 4, and its state holds the readers
//! that have it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{FixedSizeListArray, RecordBatch};
use hashbrown::HashTable;

use crate::collection::key::{Key, Keys, key_of};
use crate::collection::layout::invalid;
use crate::collection::table::{Part, Rows};
use crate::collection::{Collection, State};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::util::atomics::{MutexGuard, lock, try_lock};
use crate::vectors::{Appended, RowIds};

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The row ids of its rows.
    pub row_ids: Range<u64>,
    /// Older rows whose place they took.
    pub replaced: usize,
    /// By column of vectors: which rows have no usable vector.
    pub vectors: Vec<Appended>,
}

impl Collection {
    /// Appends the rows of a batch, which are searchable from now on, all at once. The batch has all columns of the
    /// schema, in any order; vectors may be `List`s as well.
    ///
    /// # Errors
    /// The collection is as it was if
    /// - a column is missing, of another type or one too many ([`Error::InvalidColumn`],
    ///   [`Error::DimensionMismatch`], [`Error::RaggedList`], [`Error::UnsupportedType`]), or null where the schema
    ///   does not allow it ([`Error::Arrow`]),
    /// - a key is null ([`Error::NullKey`]) or taken ([`Error::DuplicateKey`]),
    /// - there are too many rows ([`Error::TooManyVectors`]), or the memory limit leaves no room
    ///   ([`Error::MemoryLimit`]).
    pub fn append(&self, batch: &RecordBatch) -> Result<Written> {
        self.append_controlled(batch, &Control::new())
    }

    /// [`append`](Self::append) that can be watched and cancelled, or does not wait for other writers. An append that is
    /// cancelled has appended nothing: the collection is as it was, but for tombstones in its indexes.
    ///
    /// # Errors
    /// As [`append`](Self::append), and
    /// - [`Error::Cancelled`] if the caller ended it,
    /// - [`Error::Busy`] if another writer is at work and it is not to wait.
    pub fn append_controlled(&self, batch: &RecordBatch, control: &Control<'_>) -> Result<Written> {
        self.write(batch, false, control)
    }

    /// [`append`](Self::append) that does not wait for other writers: [`Control::no_wait`].
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::Busy`] if another writer is at work.
    pub fn try_append(&self, batch: &RecordBatch) -> Result<Written> {
        self.append_controlled(batch, &Control::new().no_wait())
    }

    /// Appends the rows of a batch in the place of live rows with the same keys: readers see the old ones or the new
    /// ones. Of rows with the same key in the batch the last one stays.
    ///
    /// # Errors
    /// As [`append`](Self::append) but for keys that are taken, and [`Error::NoKey`] if the collection has no key.
    pub fn upsert(&self, batch: &RecordBatch) -> Result<Written> {
        self.upsert_controlled(batch, &Control::new())
    }

    /// [`upsert`](Self::upsert) that can be watched and cancelled, as [`append_controlled`](Self::append_controlled).
    ///
    /// # Errors
    /// As [`append_controlled`](Self::append_controlled) but for keys that are taken, and [`Error::NoKey`] if the
    /// collection has no key.
    pub fn upsert_controlled(&self, batch: &RecordBatch, control: &Control<'_>) -> Result<Written> {
        if self.shared.layout.key.is_none() {
            return Err(Error::NoKey);
        }
        self.write(batch, true, control)
    }

    /// The lock of writers, or none if another writer has it and the caller does not want to wait.
    fn lock_writer(&self, control: &Control<'_>) -> Result<MutexGuard<'_, u64>> {
        if let Some(writer) = try_lock(&self.writer) {
            return Ok(writer);
        }
        if !control.waits() {
            return Err(Error::Busy);
        }
        let began = Instant::now();
        let writer = lock(&self.writer);
        // Whoever writes here writes to all indexes.
        self.indexes.iter().for_each(|index| index.waited(began.elapsed()));
        Ok(writer)
    }

    fn write(&self, batch: &RecordBatch, replace: bool, control: &Control<'_>) -> Result<Written> {
        let layout = &self.shared.layout;
        let (vectors, columns) = layout.split(batch)?;
        let mut writer = self.lock_writer(control)?;
        let state = self.shared.current.load();
        let (len, added) = (state.rows.version.vectors(), columns.num_rows());
        // A position and the count of all positions are 32 bits wide.
        if u32::try_from(len.saturating_add(added)).is_err() {
            return Err(Error::TooManyVectors { len, added });
        }
        let growth = || self.indexes.iter().map(|index| index.growth(added)).sum::<usize>();
        let keys = || if layout.key.is_some() { lock(&self.shared.keys).growth(added) } else { 0 };
        self.memory_limit.check(|| self.resident_bytes(), || growth() + keys())?;
        let start = *writer;
        let overflow = Error::RowIdOverflow { row_id_start: start, rows: added };
        let row_ids = start..start.checked_add(added as u64).ok_or(overflow)?;
        let hashes = match layout.key {
            Some(key) => self.check_keys(&columns, key, &state.rows, replace)?,
            None => Vec::new(),
        };
        let appended = self.link(&vectors, row_ids.clone(), &mut writer, control)?;
        if added == 0 {
            return Ok(Written { row_ids, replaced: 0, vectors: appended });
        }
        let mut keys = lock(&self.shared.keys);
        let mut buried = Vec::new();
        if let Some(column) = layout.key {
            let new = columns.column(column);
            for (row, &hash) in hashes.iter().enumerate() {
                let key = key_of(new, row);
                let is_key = |other: u64| match other.checked_sub(start) {
                    Some(other) => key_of(new, other as usize) == key,
                    None => state.rows.key(other, column) == key,
                };
                buried.extend(keys.enter(hash, start + row as u64, is_key));
            }
        }
        let replaced = buried.iter().filter(|&&row_id| row_id < start).count();
        self.bury(&mut buried)?;
        let part = Arc::new(Part::new(RowIds::StartingAt(start), columns));
        self.publish(state.rows.then(part).without(&buried), *writer);
        drop(keys);
        Ok(Written { row_ids, replaced, vectors: appended })
    }

    /// Links vectors into each index, or into none.
    fn link(
        &self,
        vectors: &[FixedSizeListArray],
        row_ids: Range<u64>,
        writer: &mut u64,
        control: &Control<'_>,
    ) -> Result<Vec<Appended>> {
        let Range { start, end } = row_ids;
        // Others write to the indexes for moments only.
        let control = control.waiting();
        let mut appended = Vec::with_capacity(self.indexes.len());
        for (index, vectors) in self.indexes.iter().zip(vectors) {
            match index.append_unique_controlled(vectors, start, &control) {
                Ok(placed) => appended.push(placed),
                Err(error) => {
                    // Row ids that some of the indexes have seen are not given out again.
                    *writer = end;
                    let taken: Vec<u64> = (start..end).collect();
                    for index in self.indexes.iter().take(appended.len()) {
                        index.delete_batch(&known(index, &taken))?;
                    }
                    return Err(error);
                }
            }
        }
        *writer = end;
        Ok(appended)
    }

    /// The hashes of the keys of a batch.
    fn check_keys(&self, columns: &RecordBatch, key: usize, rows: &Rows, replace: bool) -> Result<Vec<u64>> {
        let column = columns.column(key);
        let keys = lock(&self.shared.keys);
        let mut hashes = Vec::with_capacity(columns.num_rows());
        let mut seen: HashTable<usize> = HashTable::new();
        for row in 0..columns.num_rows() {
            let value = key_of(column, row).ok_or(Error::NullKey { row })?;
            let hash = keys.hash(&value);
            if !replace {
                let is_key = |other| rows.key(other, key).as_ref() == Some(&value);
                let is_taken = keys.find(hash, is_key).is_some()
                    || seen.find(hash, |&other| key_of(column, other).as_ref() == Some(&value)).is_some();
                if is_taken {
                    return Err(Error::DuplicateKey { key: value.to_string(), row });
                }
                hashes.push(hash);
                seen.insert_unique(hash, row, |&other| hashes.get(other).copied().unwrap_or(0));
            } else {
                hashes.push(hash);
            }
        }
        Ok(hashes)
    }

    /// Deletes the live rows of some keys, all at one instant, or none of them if one is unknown. A key that is given
    /// twice counts once. Returns how many rows were deleted.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] for the first key that no live row has, [`Error::NoKey`] if the collection has no key, and
    /// [`Error::InvalidColumn`] if a key is not of the type of the key column.
    pub fn delete<'k, K: Into<Key<'k>>>(&self, keys: impl IntoIterator<Item = K>) -> Result<usize> {
        let _writing = self.lock_writer(&Control::new())?;
        let state = self.shared.current.load();
        let mut directory = lock(&self.shared.keys);
        let find = |key: K| {
            let key = key.into();
            let found = self.shared.find(&directory, &state, &key)?;
            found.ok_or_else(|| Error::UnknownKey { key: key.to_string() })
        };
        let row_ids = keys.into_iter().map(find).collect::<Result<Vec<u64>>>()?;
        self.delete_found(&state, &mut directory, row_ids)
    }

    /// Deletes the live rows of some row ids, all at one instant, or none of them if one is unknown. A row id that is
    /// given twice counts once. Returns how many rows were deleted.
    ///
    /// # Errors
    /// [`Error::UnknownRowId`] for the first row id that no live row has.
    pub fn delete_rows(&self, row_ids: &[u64]) -> Result<usize> {
        let _writing = self.lock_writer(&Control::new())?;
        let state = self.shared.current.load();
        let mut directory = lock(&self.shared.keys);
        if let Some(&row_id) = row_ids.iter().find(|&&row_id| !state.rows.is_live(row_id)) {
            return Err(Error::UnknownRowId { row_id });
        }
        self.delete_found(&state, &mut directory, row_ids.to_vec())
    }

    fn delete_found(&self, state: &State, keys: &mut Keys, mut row_ids: Vec<u64>) -> Result<usize> {
        let rows = &state.rows;
        self.bury(&mut row_ids)?;
        if let Some(column) = self.shared.layout.key {
            for &row_id in &row_ids {
                if let Some(key) = rows.key(row_id, column) {
                    keys.forget(keys.hash(&key), row_id);
                }
            }
        }
        self.publish(rows.without(&row_ids), state.next_row_id);
        Ok(row_ids.len())
    }

    /// Deletes rows that are alive from the indexes, each once.
    fn bury(&self, row_ids: &mut Vec<u64>) -> Result<()> {
        row_ids.sort_unstable();
        row_ids.dedup();
        if row_ids.is_empty() {
            return Ok(());
        }
        self.indexes.iter().try_for_each(|index| index.delete_batch(&known(index, row_ids)).map(|_| ()))
    }

    /// From now on readers see these rows. One caller at a time, who holds the keys.
    pub(super) fn publish(&self, rows: Rows, next_row_id: u64) {
        let readers = self.indexes.iter().map(Index::reader).collect();
        self.shared.current.store(Arc::new(State { rows, readers, next_row_id }));
    }
}

/// The rows that an index has, of some: not those without a usable vector.
fn known(index: &Index, row_ids: &[u64]) -> Vec<u64> {
    let reader = index.reader();
    row_ids.iter().copied().filter(|&row_id| reader.contains(row_id)).collect()
}

impl super::Shared {
    /// The live row of a key in the current state.
    pub(super) fn find(&self, keys: &Keys, current: &State, key: &Key<'_>) -> Result<Option<u64>> {
        let column = self.layout.key.ok_or(Error::NoKey)?;
        let field = self.layout.others.field(column);
        if !key.fits(field.data_type()) {
            return Err(invalid(field.name(), format!("its keys are {}, got {key}", field.data_type())));
        }
        Ok(keys.find(keys.hash(key), |row_id| current.rows.key(row_id, column).as_ref() == Some(key)))
    }
}
