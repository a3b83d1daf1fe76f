//! What a reader sees of an index that changes: a version, and the rows that are dead in it.
//!
//! A version is one word: vectors (high half) and deletes (low half), so that a change of both, an update, shows at
//! one instant. Every delete has a number, counted from 1, and a dead vector holds the number of the delete that hid
//! it: it is dead in the versions from that one on, and alive in those before.
//!
//! ```text
//! writer, under a lock:  cell of the dead vector = number      Relaxed
//!                        word = (vectors, deletes)             Release
//! reader:                word                                  Acquire
//!                        cell: 0 or above deletes is alive     Relaxed
//! ```
//! A cell that a reader's version covers was stored before the word it loaded; what it may see besides are later
//! deletes, whose numbers are above its own.
//!
//! A loaded index begins with dead vectors: its first version has as many deletes as these are, each of them dead from
//! number 1 on, and an older version, which was of the index that was saved, means the first.

use std::sync::OnceLock;

use crate::util::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::util::chunked::Chunked;

/// A state of an index, to search it as of then: [`SearchParams::version`](crate::SearchParams::version).
/// It keeps nothing alive and costs nothing to hold. It is of one index: a compacted or loaded one has versions of its
/// own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexVersion {
    vectors: u32,
    deletes: u32,
}

impl IndexVersion {
    pub(crate) fn new(vectors: u32, deletes: u32) -> Self {
        Self { vectors, deletes }
    }

    /// Vector ids given out: those of dead rows too.
    pub fn vectors(self) -> usize {
        self.vectors as usize
    }

    /// Rows deleted or replaced so far.
    pub(crate) fn deletes(self) -> u32 {
        self.deletes
    }

    /// No later than `now`: a version of another index means nothing here.
    pub(crate) fn at_most(self, now: Self) -> Self {
        Self { vectors: self.vectors.min(now.vectors), deletes: self.deletes.min(now.deletes) }
    }

    /// Rows that are alive.
    pub(crate) fn live(self) -> usize {
        self.vectors.saturating_sub(self.deletes) as usize
    }
}

/// The current version and the dead vectors of all versions.
pub(crate) struct Versions {
    word: AtomicU64,
    /// Deletes of the first version.
    first: u32,
    /// Made by the first delete.
    deleted_by: OnceLock<Chunked<AtomicU32>>,
}

impl Versions {
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), first: 0, deleted_by: OnceLock::new() }
    }

    /// Those of an index that begins with so many vectors, some of which are dead in all versions.
    pub fn starting_with(vectors: u32, dead: &[u32]) -> Self {
        let first = IndexVersion::new(vectors, dead.len() as u32);
        let versions = Self { first: first.deletes, ..Self::new() };
        dead.iter().for_each(|&id| versions.bury(id, 1));
        versions.publish(first);
        versions
    }

    /// No earlier than the first, as far as deletes go.
    pub fn at_least_first(&self, version: IndexVersion) -> IndexVersion {
        IndexVersion { deletes: version.deletes.max(self.first), ..version }
    }

    pub fn current(&self) -> IndexVersion {
        // Pairs with `publish`: the cells of all deletes that the word counts were stored before.
        let word = self.word.load(Ordering::Acquire);
        IndexVersion { vectors: (word >> 32) as u32, deletes: word as u32 }
    }

    /// From now on searches see `version`. One writer at a time.
    pub fn publish(&self, version: IndexVersion) {
        let word = u64::from(version.vectors) << 32 | u64::from(version.deletes);
        self.word.store(word, Ordering::Release);
    }

    /// Marks a vector dead from the delete of that number on. One writer at a time.
    pub fn bury(&self, id: u32, number: u32) {
        self.deleted_by.get_or_init(Chunked::new).get_or_grow(id).store(number, Ordering::Relaxed);
    }

    /// Whether a vector is dead in a version.
    #[inline]
    pub fn is_dead(&self, id: u32, version: IndexVersion) -> bool {
        let cell = self.deleted_by.get().and_then(|cells| cells.get(id));
        let number = cell.map_or(0, |cell| cell.load(Ordering::Relaxed));
        number != 0 && number <= version.deletes
    }

    pub fn resident_bytes(&self) -> usize {
        self.deleted_by.get().map_or(0, Chunked::resident_bytes)
    }
}
