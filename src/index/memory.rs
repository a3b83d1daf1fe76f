//! How much memory an index may take, and how much rows that are yet to come will take.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::generation::Generation;
use crate::index::write::OnDuplicate;
use crate::util::chunked::Chunked;

/// A limit of bytes that may change.
#[derive(Debug)]
pub(crate) struct MemoryLimit(AtomicUsize);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl MemoryLimit {
    pub fn set(&self, bytes: Option<usize>) {
        self.0.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub fn get(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&bytes| bytes < usize::MAX)
    }

    /// Refuses what may need more than the limit leaves. The bytes in use and those that are needed are asked for only
    /// if there is a limit.
    pub fn check(&self, resident: impl FnOnce() -> usize, needed: impl FnOnce() -> usize) -> Result<()> {
        let Some(limit) = self.get() else { return Ok(()) };
        let (resident, needed) = (resident(), needed());
        if resident.saturating_add(needed) > limit {
            return Err(Error::MemoryLimit { limit, resident, needed });
        }
        Ok(())
    }
}

impl Index {
    /// Refuses appends and upserts from now on that would make [`resident_bytes`](Self::resident_bytes) exceed so many
    /// bytes, or refuses none. It is kept by compactions, but not saved.
    ///
    /// Before an append allocates anything, what its rows may need at most is added to what is in use; if that exceeds
    /// the limit, the append is refused with [`Error::MemoryLimit`], and the index is as it was. The caller's buffers do
    /// not count.
    ///
    /// The limit is soft. Searches and deletes go on whatever they need, and working memory that more searches at once
    /// take than before is not foreseen. A compaction is not limited either: it holds two generations while it works, and
    /// leaves less in use than before if rows are dead.
    pub fn set_memory_limit(&self, bytes: Option<usize>) {
        self.memory_limit.set(bytes);
    }

    /// The [limit](Self::set_memory_limit) of resident bytes, if there is one.
    pub fn memory_limit(&self) -> Option<usize> {
        self.memory_limit.get()
    }

    /// Refuses rows for which the limit leaves no room.
    pub(super) fn check_memory(
        &self,
        generation: &Generation,
        rows: usize,
        on_duplicate: OnDuplicate,
    ) -> Result<()> {
        // That it is read-only is said first.
        generation.check_writable()?;
        self.memory_limit
            .check(|| generation.bytes_by_part().total(), || generation.growth(rows, on_duplicate))
    }

    /// Bytes that an append of so many rows needs at most.
    pub(crate) fn growth(&self, rows: usize) -> usize {
        self.generations.peek().growth(rows, OnDuplicate::Trust)
    }
}

impl Generation {
    /// Bytes by which the resident bytes grow at most with a batch of so many rows, unless searches take more.
    fn growth(&self, rows: usize, on_duplicate: OnDuplicate) -> usize {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let end = (self.store.committed_len() as u32).saturating_add(rows);
        let graph = self.graph.as_ref().map_or(0, |graph| graph.growth(rows, &self.store.view()));
        let codes = self.codes.as_ref().map_or(0, |codes| {
            Codes::bytes_for(self.store.dim(), end).saturating_sub(codes.resident_bytes())
        });
        let row_ids = match on_duplicate {
            OnDuplicate::Trust => 0,
            _ => self.lock_rows().growth(end),
        };
        let tombstones = match on_duplicate {
            OnDuplicate::Replace => {
                Chunked::<AtomicU32>::bytes_for(end).saturating_sub(self.versions.resident_bytes())
            }
            _ => 0,
        };
        graph + codes + row_ids + tombstones + self.store.growth(rows)
    }
}
