//! An index in a directory: Arrow IPC files, and a manifest that says which of them are the index.
//!
//! ```text
//! pennon.json                 the manifest: parameters, and length and checksum of each file of one generation
//! pennon-graph-7.arrow        the `lance:hnsw` batch
//! pennon-vectors-7.arrow      Lance's flat storage: `_rowid`, `flat`; row `r` of the file for vector id `r`
//! pennon-tombstones-7.arrow   `__vector_id` of the dead rows
//! pennon-labels-7.arrow       the caller's batch, if there is one; row `r` for vector id `r`
//! pennon.lock                 locked by whoever saves
//! ```
//! A file is written once, under the number of a new generation, made read-only, and never changed. A save is
//! ```text
//! 1  the files of a new generation, each synced; the directory, synced
//! 2  pennon.json.new, synced
//! 3  pennon.json.new becomes pennon.json              the one step that anybody can see
//! 4  the directory, synced
//! 5  the files of other generations are removed       those who read or map them keep them
//! ```
//! Up to step 3 the manifest names the old files, which are all there, and from then on the new ones, which are all
//! there. So whenever a save ends, by whatever cause, one of the two loads. What it left behind, which no manifest
//! names, is removed by the next one. That goes by the names alone, so they are such as nobody else gives; and a save
//! that fails removes the files it has made itself, and nothing else, unless it was the rename or a sync that failed.
//!
//! [`manifest`] and [`checksum`] are what is checked, [`directory`] the names and the system calls, [`save`] and [`open`] the
//! two ways, [`ipc`] and [`map`] the bytes.

mod checksum;
mod directory;
mod ipc;
mod manifest;
mod map;
mod open;
mod save;

use std::path::Path;

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::index::HnswIndex;
use open::{Memory, Saved};

impl HnswIndex {
    /// Saves the current [version](Self::version) into a directory, which is made if it is not there. An index that
    /// was saved there before is replaced at one instant: until then, and if the process ends, it is what loads.
    ///
    /// Dead rows are saved as such, and stay dead: [`compact`](Self::compact) first to be rid of them. Searches and
    /// deletes go on meanwhile; appends wait while the graph is copied in memory, not while it is written. Other saves
    /// into the directory are waited for, those of other processes too. Whoever has the older index loaded or mapped
    /// keeps it. The names of the index's files start with `pennon`: others are left alone.
    ///
    /// # Errors
    /// - [`Error::Io`] if the directory cannot be written, or the disk is full: the older index is as it was, unless
    ///   the error is of the last sync, when either may load. An index that cannot be read, also one of another format,
    ///   is replaced as any other,
    /// - [`Error::ExportTooLarge`] as [`HnswGraph::to_lance_hnsw_batch`].
    ///
    /// [`Error::Io`]: crate::Error::Io
    /// [`Error::ExportTooLarge`]: crate::Error::ExportTooLarge
    /// [`HnswGraph::to_lance_hnsw_batch`]: crate::HnswGraph::to_lance_hnsw_batch
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        save::save(self, dir.as_ref(), None)
    }

    /// [`save`](Self::save), and beside the index what the caller knows of its rows: row `id` of `labels` for vector
    /// id `id`, dead rows included. Rows past the last vector id of the version that is saved are left out, so labels
    /// may be ahead of a writer.
    ///
    /// # Errors
    /// As [`save`](Self::save), and [`Error::LabelCount`](crate::Error::LabelCount) if there are fewer labels than
    /// vector ids.
    pub fn save_with_labels(&self, dir: impl AsRef<Path>, labels: &RecordBatch) -> Result<()> {
        save::save(self, dir.as_ref(), Some(labels))
    }

    /// The index that was last saved into a directory, in memory. Vector ids and row ids are what they were, dead rows
    /// are dead in all versions, also in those of the index that was saved, and appends go on where they stopped; rows
    /// that were skipped are counted anew.
    ///
    /// All bytes but those of labels, which [`load_labels`](Self::load_labels) looks at, are read and compared with the
    /// length and the CRC-32 of their file. That finds each flipped bit and
    /// each burst of up to 32 bits, and any other damage with a probability of 1 - 2^-32. It is no protection from
    /// those who forge checksums too; what they make is an error or an index, and not a panic.
    ///
    /// # Errors
    /// - [`Error::Io`](crate::Error::Io) if there is no index or it cannot be read,
    /// - [`Error::CorruptIndex`](crate::Error::CorruptIndex) if a file is not what was saved.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        Saved::open(dir.as_ref())?.index(Memory::Heap)
    }

    /// The same, served from its files: vectors, row ids and the lists of level 0 stay in the page cache, where all
    /// processes that map the index share them, and take no memory of their own. The files are read once and
    /// compared, as by [`load`](Self::load); what is mapped is not checked again afterwards.
    ///
    /// The index is read-only: changes are refused with [`Error::ReadOnly`](crate::Error::ReadOnly). A
    /// [compaction](Self::compact) of it can be changed.
    ///
    /// Nobody may write to the files that are mapped, or cut them off: searches would have wrong answers or worse, or
    /// the system would end the process. No save does, and on Unix the files are read-only, so that it cannot happen by
    /// mistake. Later saves into the directory, and the removal of all of it, do no harm: a local file system
    /// keeps the bytes of a file as long as it is mapped. A network file system may not, if the file is removed from
    /// another machine. On Windows, mapped files cannot be removed, and stay until a save after the mapping has ended.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_mmap(dir: impl AsRef<Path>) -> Result<Self> {
        Saved::open(dir.as_ref())?.index(Memory::Mapped)
    }

    /// The labels that were saved with the index of a directory, if there were any: row `id` for vector id `id`.
    /// After a save that came between this and the load of the index, they are those of the later one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_labels(dir: impl AsRef<Path>) -> Result<Option<RecordBatch>> {
        Saved::open(dir.as_ref())?.labels()
    }
}
