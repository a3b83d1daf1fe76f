//! Changes of a generation: append, update, delete.
//!
//! Linking a batch takes long and is done first, unseen. What it changes for readers, new rows and dead ones, is one
//! version, published under the lock of the rows; deletes take that lock alone.

use arrow_array::{Array, FixedSizeListArray};

use crate::control::{Control, Stage};
use crate::error::{Error, Result};
use crate::index::generation::Generation;
use crate::index::row_lookup::Rows;
use crate::vectors::{Appended, MAX_VECTORS, Placed, RowIds, SkippedRows, VectorSource};

/// Rows looked up before a delete may come in between.
const AT_A_TIME: usize = 4096;
/// Rows coded between two looks at whether to go on, where there is no graph.
const CODED_AT_A_TIME: u32 = 16 << 10;

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

impl Generation {
    /// Appends a batch, links it into the graph if there is one, and shows it. One caller at a time.
    pub fn write(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.check_writable()?;
        if on_duplicate == OnDuplicate::Refuse {
            self.store.check_batch(vectors, &row_ids)?;
            self.check_new(vectors.len(), &row_ids)?;
        }
        control.check(Stage::Append, 0, vectors.len() as u64)?;
        let skipped = self.store.skipped();
        let placed = self.store.append(vectors, row_ids.clone())?;
        if let Err(error) = self.link(placed.ids.end, control) {
            self.take_back(placed.ids.start, skipped);
            return Err(error);
        }

        let mut rows = self.lock_rows();
        let version = self.version();
        let mut deletes = version.deletes();
        if on_duplicate == OnDuplicate::Replace {
            rows.catch_up(placed.ids.start, &self.store.view(), |id| self.versions.is_dead(id, version));
            deletes = self.bury_replaced(&mut rows, &placed, &row_ids, vectors.len());
            self.tally.replaced(deletes - version.deletes());
        }
        self.versions.publish(version.then(placed.ids.end, deletes));
        Ok(Appended::new(version.generation(), vectors.len(), placed))
    }

    /// Appends several batches, whose row ids are new, as one. One caller at a time.
    pub fn write_batches(&self, batches: &[(FixedSizeListArray, u64)]) -> Result<Appended> {
        self.check_writable()?;
        let len = self.store.committed_len();
        let added: usize = batches.iter().map(|(vectors, _)| vectors.len()).sum();
        if len.saturating_add(added) > MAX_VECTORS as usize {
            return Err(Error::TooManyVectors { len, added });
        }
        for (vectors, start) in batches {
            self.store.check_batch(vectors, &RowIds::StartingAt(*start))?;
        }
        let (mut before, mut runs) = (0, Vec::new());
        for (vectors, start) in batches {
            let placed = self.store.append(vectors, RowIds::StartingAt(*start))?;
            runs.extend(placed.runs.into_iter().map(|(at, rows)| (before + at, rows)));
            before += vectors.len() as u32;
        }
        let end = self.store.committed_len() as u32;
        self.link(end, &Control::new())?;
        let _publishing = self.lock_rows();
        let version = self.version();
        self.versions.publish(version.then(end, version.deletes()));
        Ok(Appended::new(version.generation(), added, Placed { ids: len as u32..end, runs }))
    }

    /// Links all vectors below `end` into the graph, or codes them where there is none.
    fn link(&self, end: u32, control: &Control<'_>) -> Result<()> {
        let rows = self.store.view();
        let proceed = |done, total| control.check(Stage::Append, done, total);
        if let Some(graph) = &self.graph {
            return graph.insert_batch_while(graph.len() as u32..end, &rows, &proceed);
        }
        let Some(codes) = &self.codes else { return Ok(()) };
        let first = codes.len();
        let mut coded = first;
        while coded < end {
            proceed(u64::from(coded - first), u64::from(end - first))?;
            coded = end.min(coded.saturating_add(CODED_AT_A_TIME));
            codes.extend(coded, |id| rows.widened(id));
        }
        proceed(u64::from(coded - first), u64::from(end - first))
    }

    /// Takes back the rows from `start` on, which no version shows yet, as if so many had been skipped before. Those that
    /// are linked or coded cannot be undone: they become dead rows. One caller at a time.
    fn take_back(&self, start: u32, skipped: SkippedRows) {
        let done = match (&self.graph, &self.codes) {
            (Some(graph), _) => graph.show_linked(),
            (None, Some(codes)) => codes.len(),
            (None, None) => start,
        };
        let end = done.max(start);
        // SAFETY: versions end at `start`, and whoever reads the index, reads a version. Graph and codes do not reach
        // past `end`, and the caller is the only writer, whose views end here.
        #[allow(unsafe_code, reason = "only the writer knows that nobody was given the ids")]
        unsafe {
            self.store.truncate(end, skipped);
        }
        if end == start {
            return;
        }
        let mut rows = self.lock_rows();
        let version = self.version();
        let mut deletes = version.deletes();
        for id in start..end {
            deletes += 1;
            self.versions.bury(id, deletes);
        }
        rows.pass(start, end);
        self.versions.publish(version.then(end, deletes));
    }

    /// Checks that no row of a batch has the row id of a live row, or of another one of the batch. Deletes can go on
    /// in between: they make no duplicates.
    fn check_new(&self, batch: usize, row_ids: &RowIds) -> Result<()> {
        self.catch_up(self.store.committed_len() as u32);
        let ascending = row_ids.ascending_from();
        if ascending.is_some_and(|first| self.lock_rows().are_below(first)) {
            return Ok(());
        }
        let twice = ascending.map_or_else(|| row_ids.first_twice(), |_| None);
        for start in (0..batch).step_by(AT_A_TIME) {
            let rows = self.lock_rows();
            let version = self.version();
            let is_live = |row_id| self.find_entered(&rows, row_id, version).is_some();
            let mut chunk = start..batch.min(start + AT_A_TIME);
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
    fn bury_replaced(&self, rows: &mut Rows, placed: &Placed, row_ids: &RowIds, len: usize) -> u32 {
        let source = self.store.view();
        let now = self.version();
        let (mut next, mut deletes) = (placed.ids.start, now.deletes());
        let mut runs = placed.runs.iter().map(|&(at, rows)| at as usize..(at + rows) as usize).peekable();
        for row in 0..len {
            let row_id = row_ids.get(row);
            if let Some(old) = self.find_entered(rows, row_id, now.then(next, deletes)) {
                deletes += 1;
                self.versions.bury(old, deletes);
                rows.forget(row_id, old);
            }
            while runs.next_if(|run| run.end <= row).is_some() {}
            if runs.peek().is_some_and(|run| run.contains(&row)) {
                rows.enter(row_id, next, 1, &source, &|_| false);
                next += 1;
            }
        }
        deletes
    }

    /// Deletes the live rows of some row ids, all of them or none. Returns how many.
    pub fn delete(&self, rows: &mut Rows, row_ids: &[u64]) -> Result<usize> {
        self.check_writable()?;
        let version = self.version();
        let is_dead = |id| self.versions.is_dead(id, version);
        rows.catch_up(version.vectors() as u32, &self.store.view(), is_dead);
        let find = |&row_id: &u64| {
            let id = self.find_entered(rows, row_id, version).ok_or(Error::UnknownRowId { row_id })?;
            Ok((id, row_id))
        };
        let mut found = row_ids.iter().map(find).collect::<Result<Vec<(u32, u64)>>>()?;
        found.sort_unstable();
        found.dedup();
        let mut deletes = version.deletes();
        for &(id, row_id) in &found {
            deletes += 1;
            self.versions.bury(id, deletes);
            rows.forget(row_id, id);
        }
        self.versions.publish(version.then(version.vectors() as u32, deletes));
        self.tally.deleted(found.len());
        Ok(found.len())
    }
}
