//! An index in a directory: Arrow IPC files, and a manifest that says which of them are the index.
//!
//! ```text
//! pennon.json                 the manifest: parameters, and length and checksum of each file of one generation
//! pennon-graph-7.arrow        the `lance:hnsw` batch
//! pennon-vectors-7.arrow      Lance's flat storage: `_rowid`, `flat`; row `r` of the file for vector id `r`
//! pennon-tombstones-7.arrow   `__vector_id` of the dead rows
//! pennon-labels-7.arrow       the caller's batch, if there is one; row `r` for vector id `r`
//! pennon-rows-7.arrow         the other columns of a collection, and the row ids of its rows
//! pennon-column-1-7           the directory of the index of the second column of vectors of a collection
//! pennon-codes-7.arrow        compact codes of the vectors, in batches of a power of two of rows
//! pennon.lock                 locked by those who save
//! pennon.writer.lock          locked by those who load, change and save: `WriterLock`
//! ```
//! An index without a graph has no graph file, and one without codes no file of codes. Codes can be made from the
//! vectors again: a save without them is coded when it is loaded.
//!
//! The manifest has a format. Format 2 is written; it added indexes without a graph, and properties of the caller's.
//! Formats 1 and 2 are read. `docs/format.md` has the promise.
//!
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
mod lock;
mod manifest;
mod map;
mod open;
mod save;
mod set;

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::RecordBatch;

use crate::control::Control;
use crate::error::Result;
use crate::index::{Index, Reader};

pub use lock::WriterLock;
pub(crate) use set::{Columns, SAVED_ROW_ID_COLUMN, Set, load_set, save_set};

use open::Memory;

/// Column of the records of compact codes.
const CODE_COLUMN: &str = "__code";

/// What is saved beside an index, in the same generation of files.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// What the caller knows of the rows: row `id` for vector id `id`, dead rows included. Rows past the last vector id
    /// of the version that is saved are left out, so labels may be ahead of a writer.
    pub labels: Option<RecordBatch>,
    /// Names and values of the caller's choice, kept in the manifest.
    pub properties: BTreeMap<String, String>,
}

impl SaveOptions {
    /// Nothing beside the index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the labels.
    pub fn labels(mut self, labels: RecordBatch) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Adds a property, or replaces its value.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }
}

/// What was saved together: [`Index::load`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The index.
    pub index: Index,
    /// What the caller knew of its rows, if that was saved: row `id` for vector id `id`.
    pub labels: Option<RecordBatch>,
    /// Names and values of the caller's.
    pub properties: BTreeMap<String, String>,
}

impl Reader {
    /// Saves the version into a directory, which is made if it is not there. An index that was saved there before is
    /// replaced at one instant: until then, and if the process ends, it is what loads.
    ///
    /// Dead rows are saved as such, and stay dead: [compact](Index::compact) first to be rid of them. Searches, appends
    /// and deletes go on meanwhile; appends wait only while the graph is copied in memory. The save waits for other
    /// saves into the directory, those of other processes too. Those who have the older index loaded or mapped keep it.
    /// The names of the index's files start with `pennon`; others are left alone.
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
        self.save_with(dir, &SaveOptions::new())
    }

    /// [`save`](Self::save), and beside the index what the options hold.
    ///
    /// # Errors
    /// As [`save`](Self::save), and [`Error::LabelCount`](crate::Error::LabelCount) if there are fewer labels than
    /// vector ids.
    pub fn save_with(&self, dir: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        self.save_controlled(dir, options, &Control::new())
    }

    /// [`save_with`](Self::save_with) that can be watched and cancelled: it looks at `control` between batches of some
    /// megabytes. A save that is cancelled leaves the older index, and none of its files.
    ///
    /// # Errors
    /// As [`save_with`](Self::save_with), and [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn save_controlled(
        &self,
        dir: impl AsRef<Path>,
        options: &SaveOptions,
        control: &Control<'_>,
    ) -> Result<()> {
        save::save(dir.as_ref(), options, control, self, || self.checkpoint())
    }
}

impl Index {
    /// Saves the version that is current once other saves into the directory are done; see [`Reader::save`].
    ///
    /// # Errors
    /// As there.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_with(dir, &SaveOptions::new())
    }

    /// [`save`](Self::save), and beside the index what the options hold.
    ///
    /// # Errors
    /// As [`Reader::save_with`].
    pub fn save_with(&self, dir: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        self.save_controlled(dir, options, &Control::new())
    }

    /// [`save_with`](Self::save_with) that can be watched and cancelled; see [`Reader::save_controlled`].
    ///
    /// # Errors
    /// As there.
    pub fn save_controlled(
        &self,
        dir: impl AsRef<Path>,
        options: &SaveOptions,
        control: &Control<'_>,
    ) -> Result<()> {
        save::save(dir.as_ref(), options, control, &self.reader(), || self.checkpoint())
    }

    /// The index that was last saved into a directory, in memory, with the labels and properties of the same save.
    /// Vector ids and row ids are what they were, dead rows are dead, and appends go on where they stopped; rows that
    /// were skipped are counted anew.
    ///
    /// All bytes are read and compared with the length and the CRC-32 of their file. That finds each flipped bit and
    /// each burst of up to 32 bits, and any other damage with a probability of 1 - 2^-32. It is no protection from
    /// those who forge checksums too; what they make is an error or an index, and not a panic.
    ///
    /// Format 2 of the manifest is written, formats 1 and 2 are read.
    ///
    /// # Errors
    /// - [`Error::Io`](crate::Error::Io) if there is no index or it cannot be read,
    /// - [`Error::CorruptIndex`](crate::Error::CorruptIndex) if a file is not what was saved.
    pub fn load(dir: impl AsRef<Path>) -> Result<Loaded> {
        open::load(dir.as_ref(), Memory::Heap)
    }

    /// The index that was last saved into a directory, served from its files: vectors, compact codes, row ids,
    /// labels and the lists of level 0 stay in the page cache, where all processes that map the index share them, and
    /// take no memory of their own. The files are read once and compared, as by [`load`](Self::load); what is mapped is
    /// not checked again afterwards. An index that was saved without codes gets them in memory of the process.
    ///
    /// The index is read-only: changes are refused with [`Error::ReadOnly`](crate::Error::ReadOnly), until it is
    /// [compacted](Self::compact).
    ///
    /// # Safety
    /// As long as the index, its readers or anything that shares their buffers is there, nobody may write to the files
    /// or cut them off: what is read through them would change under references that promise that it does not.
    ///
    /// No save does, and on Unix the files are read-only, so that it cannot happen by mistake. Later saves into the
    /// directory, and the removal of all of it, do no harm: a local file system keeps the bytes of a file as long as it
    /// is mapped. A network file system may not, if the file is removed from another machine. On Windows, mapped files
    /// cannot be removed, and stay until a save after the mapping has ended.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    #[allow(unsafe_code, reason = "nothing but the caller can promise that files do not change")]
    pub unsafe fn load_mmap(dir: impl AsRef<Path>) -> Result<Loaded> {
        open::load(dir.as_ref(), Memory::Mapped)
    }
}
