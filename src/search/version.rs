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
//! A loaded or compacted index may begin with dead vectors: its first version has as many deletes as these are, and no
//! earlier version is handed out.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::util::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::util::chunked::Chunked;

/// A state of an index, to read it as of then: [`Index::reader_at`](crate::Index::reader_at).
///
/// It keeps nothing alive and costs nothing to hold. It belongs to one generation of one index: a compaction begins
/// another generation, and in that one, as in any other index, it is an error and never an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IndexVersion {
    generation: u64,
    vectors: u32,
    deletes: u32,
}

impl IndexVersion {
    pub(crate) fn new(generation: u64, vectors: u32, deletes: u32) -> Self {
        Self { generation, vectors, deletes }
    }

    /// The number of the generation. No two generations in a process have the same, whatever their index.
    pub fn generation(self) -> u64 {
        self.generation
    }

    /// Vector ids given out: those of dead rows too.
    pub fn vectors(self) -> usize {
        self.vectors as usize
    }

    /// Vectors that are dead: rows deleted or replaced since the generation began, and those it began with.
    pub fn deletes(self) -> u32 {
        self.deletes
    }

    /// The version after more vectors and more deletes of its generation.
    pub(crate) fn then(self, vectors: u32, deletes: u32) -> Self {
        Self { vectors, deletes, ..self }
    }

    /// Rows that are alive.
    pub(crate) fn live(self) -> usize {
        self.vectors.saturating_sub(self.deletes) as usize
    }
}

impl fmt::Display for IndexVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, vectors, deletes } = self;
        write!(f, "generation {generation}, {vectors} vectors, {deletes} of them dead")
    }
}

/// The current version of a generation, and the dead vectors of all its versions.
pub(crate) struct Versions {
    /// The number of the generation.
    generation: u64,
    word: AtomicU64,
    /// Deletes of the first version.
    first: u32,
    /// Made by the first delete.
    deleted_by: OnceLock<Chunked<AtomicU32>>,
}

impl Versions {
    /// Those of a generation that begins with so many vectors, some of which are dead in all versions.
    pub fn starting_with(generation: u64, vectors: u32, dead: &[u32]) -> Self {
        let first = IndexVersion::new(generation, vectors, dead.len() as u32);
        let word = AtomicU64::new(0);
        let versions = Self { generation, word, first: first.deletes, deleted_by: OnceLock::new() };
        dead.iter().for_each(|&id| versions.bury(id, 1));
        versions.publish(first);
        versions
    }

    /// Whether a version is one that [`current`](Self::current) can have given.
    pub fn knows(&self, version: IndexVersion) -> bool {
        let now = self.current();
        version.generation == self.generation
            && version.vectors <= now.vectors
            && (self.first..=now.deletes).contains(&version.deletes)
    }

    /// What a reader sees from now on.
    pub fn current(&self) -> IndexVersion {
        // Pairs with `publish`: the cells of all deletes that the word counts were stored before.
        let word = self.word.load(Ordering::Acquire);
        IndexVersion::new(self.generation, (word >> 32) as u32, word as u32)
    }

    /// From now on readers see `version`. One writer at a time.
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
