//! Vectors with their row ids and versions: an index but for its graph, with the writes of every kind of index.
//!
//! Linking a batch takes long and is done first, unseen. What it changes for readers, new rows and dead ones, is one
//! version, published under the lock of the rows; deletes take that lock alone.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{Array, FixedSizeListArray};
use arrow_buffer::BooleanBuffer;

use crate::error::{Error, Result};
use crate::graph::HnswGraph;
use crate::index::row_lookup::Rows;
use crate::search::SearchParams;
use crate::search::version::{IndexVersion, Versions};
use crate::vectors::{Appended, ArrowFixedSizeListVectorStore, RowIds, VectorStoreSnapshot};

/// Rows looked up before a delete may come in between.
const AT_A_TIME: u32 = 4096;

/// What it means when a live row has the row id of a new one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum OnDuplicate {
    /// An error.
    Refuse,
    /// The new row takes its place.
    Replace,
    /// The caller knows that it cannot be.
    Trust,
}

/// The rows of an index.
pub(crate) struct Table {
    pub store: Arc<ArrowFixedSizeListVectorStore>,
    pub versions: Versions,
    /// Where rows are; whoever holds it may publish a version.
    rows: Mutex<Rows>,
    /// Ids are given out and linked in one order.
    pub appending: Mutex<()>,
}

impl Table {
    /// The rows of a store, all of them alive.
    pub fn new(store: ArrowFixedSizeListVectorStore) -> Self {
        let versions = Versions::new();
        versions.publish(IndexVersion::new(store.committed_len() as u32, 0));
        Self { store: Arc::new(store), versions, rows: Mutex::new(Rows::new()), appending: Mutex::new(()) }
    }

    /// What a search that starts now sees.
    pub fn version(&self) -> IndexVersion {
        self.versions.current()
    }

    /// What a search with these parameters sees.
    pub fn version_of(&self, params: &SearchParams) -> IndexVersion {
        let now = self.version();
        params.version.map_or(now, |version| version.at_most(now))
    }

    /// The vectors of a version.
    pub fn view(&self, version: IndexVersion) -> VectorStoreSnapshot<&ArrowFixedSizeListVectorStore> {
        self.store.view().prefix(version.vectors())
    }

    /// The vectors of the current version, for good.
    pub fn snapshot(&self) -> VectorStoreSnapshot {
        self.store.snapshot().prefix(self.version().vectors())
    }

    /// One bit for each vector id of a version: whether its row is alive.
    pub fn live_ids(&self, version: IndexVersion) -> BooleanBuffer {
        let version = version.at_most(self.version());
        BooleanBuffer::collect_bool(version.vectors(), |id| !self.versions.is_dead(id as u32, version))
    }

    /// The live rows alone, over the same buffers; their ids are given out anew. Appends wait meanwhile.
    pub fn compacted(&self) -> Self {
        let _one_at_a_time = self.lock_appending();
        let live: Vec<u32> = self.live_ids(self.version()).set_indices_u32().collect();
        Self::new(self.store.retain(&live))
    }

    /// Appends a batch, links it into the graph if there is one, and shows it.
    pub fn write(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
        graph: Option<&HnswGraph>,
    ) -> Result<Range<u32>> {
        let _one_at_a_time = self.lock_appending();
        // Nodes of another source may have been inserted through `graph()`.
        let (len, needed) = (self.store.committed_len(), graph.map_or(0, HnswGraph::len));
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        if on_duplicate == OnDuplicate::Refuse {
            self.store.check_batch(vectors, &row_ids)?;
            self.check_new(vectors.len(), &row_ids, len as u32)?;
        }
        let appended = self.store.append(vectors, row_ids.clone())?;
        let source = self.store.view();
        if let Some(graph) = graph {
            graph.insert_batch(graph.len() as u32..appended.ids.end, &source)?;
        }

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

    /// Deletes the live row of a row id.
    pub fn delete(&self, row_id: u64) -> Result<()> {
        let mut rows = self.lock_rows();
        let version = self.version();
        let id = self.find(&mut rows, row_id, version).ok_or(Error::UnknownRowId { row_id })?;
        let deletes = version.deletes() + 1;
        self.versions.bury(id, deletes);
        rows.forget(row_id, id);
        self.versions.publish(IndexVersion::new(version.vectors() as u32, deletes));
        Ok(())
    }

    /// Whether a live row has that row id.
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
    pub fn lock_rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock of appends, which guards nothing that a panic could spoil.
    fn lock_appending(&self) -> MutexGuard<'_, ()> {
        self.appending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
