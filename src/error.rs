//! The one error type: what was asked for, what was found, and the limit.

use std::io;
use std::path::PathBuf;

use arrow_schema::ArrowError;

use crate::distance::DistanceType;
use crate::search::IndexVersion;
use crate::vectors::ElementType;

/// Result with Pennon's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. A call that returns an error has changed nothing, with two exceptions: after a
/// [save](crate::Index::save) whose last step failed, the sync of the directory, the old or the new index may load; and
/// an append that was [cancelled](crate::Control::cancelled_by) may leave tombstones.
///
/// A message does not repeat that of its [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A build or construction parameter is outside its range.
    #[error("{parameter} must be {requirement}, got {value}")]
    InvalidParams {
        /// Name of the parameter.
        parameter: &'static str,
        /// The value given.
        value: u64,
        /// What it must be.
        requirement: String,
    },

    /// A query or an array has another dimension than the index.
    #[error("vectors have {expected} dimensions here, got {actual}")]
    DimensionMismatch {
        /// Dimension of the index, in elements.
        expected: usize,
        /// Dimension given, in elements.
        actual: usize,
    },

    /// An array is not of a type that can be indexed.
    #[error("vectors must be {expected}, got {actual}")]
    UnsupportedType {
        /// The type that is accepted.
        expected: &'static str,
        /// The Arrow type given.
        actual: String,
    },

    /// The distance type is not one that Pennon computes.
    #[error("distance type must be one of l2, cosine, dot, l1, hamming, got {actual:?}")]
    UnsupportedDistanceType {
        /// The name given.
        actual: String,
    },

    /// Compact codes are asked for by a name that is none of theirs.
    #[error("codes must be one of auto, bytes, off, got {actual:?}")]
    UnknownCoding {
        /// The name given.
        actual: String,
    },

    /// A distance type that has no meaning for the elements of the vectors.
    #[error("distance type {distance_type} needs {requirement} elements, got {actual}")]
    UnsupportedElement {
        /// The distance type.
        distance_type: DistanceType,
        /// The elements it is for.
        requirement: &'static str,
        /// The elements given.
        actual: ElementType,
    },

    /// Two rows of an array of lists have different lengths.
    #[error("row {row} has {actual} elements, the rows before it have {expected}")]
    RaggedList {
        /// Position of the row in its array.
        row: usize,
        /// Elements of the rows before it.
        expected: usize,
        /// Elements of the row.
        actual: usize,
    },

    /// Lance has nothing that an export could become.
    #[error("Lance has no {what} {actual}")]
    NotInLance {
        /// The property that is foreign to it.
        what: &'static str,
        /// Its value.
        actual: String,
    },

    /// A query has no distance to anything.
    #[error("the query cannot be searched for: {reason} at element {position}")]
    UnusableQuery {
        /// What is wrong with the element.
        reason: &'static str,
        /// Index of the first element that is unusable.
        position: usize,
    },

    /// Row ids were given, but not one for each row.
    #[error("{rows} rows need as many row ids, got {row_ids}")]
    RowIdCount {
        /// Rows in the array of vectors.
        rows: usize,
        /// Row ids given.
        row_ids: usize,
    },

    /// A row id is null.
    #[error("the row id of row {row} is null")]
    NullRowId {
        /// Position of the row in its batch.
        row: usize,
    },

    /// A row id is taken: an index holds one live row of each.
    #[error("row {row} has row id {row_id}, which another row has already")]
    DuplicateRowId {
        /// The row id.
        row_id: u64,
        /// Position of the row in its batch.
        row: usize,
    },

    /// A row is to be deleted that is not there.
    #[error("no live row has row id {row_id}")]
    UnknownRowId {
        /// The row id.
        row_id: u64,
    },

    /// A mask by vector id is not of the vectors that are searched.
    #[error("a mask by vector id needs {expected} bits here, got {actual}")]
    MaskLength {
        /// Vector ids of the version that is searched.
        expected: usize,
        /// Bits of the mask.
        actual: usize,
    },

    /// A mask by vector id was made for another generation than the one that is searched, or for none.
    #[error("a mask made for the vector ids of {} cannot be used with those of {}", owner(*.mask), owner(*.searched))]
    StaleMask {
        /// The generation of the mask; `None` if it was not made by a [`Reader`](crate::Reader).
        mask: Option<u64>,
        /// The generation that is searched; `None` for a graph that is searched without an index.
        searched: Option<u64>,
    },

    /// A version is of another generation or another index, or does not exist yet.
    #[error("the index has no version of {version}: it is at {current}")]
    StaleVersion {
        /// The version asked for.
        version: IndexVersion,
        /// The current version of the index.
        current: IndexVersion,
    },

    /// Something that goes by vector ids belongs to another generation.
    #[error("{what} belongs to generation {actual}, not to generation {expected}")]
    StaleIds {
        /// What goes by vector ids.
        what: &'static str,
        /// The generation that is needed.
        expected: u64,
        /// The generation given.
        actual: u64,
    },

    /// No distance can be in the range.
    #[error("a distance range must not be inverted or NaN, got {lower}..{upper}")]
    InvalidDistanceRange {
        /// First distance of the range.
        lower: f32,
        /// End of the range (exclusive).
        upper: f32,
    },

    /// One of many queries cannot be searched for.
    #[error("query {row} cannot be searched for")]
    InvalidQuery {
        /// Position of the query in its array.
        row: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },

    /// Counting up from the first row id leaves the range of `u64`.
    #[error("{rows} row ids from {row_id_start} on do not fit in 64 bits")]
    RowIdOverflow {
        /// Row id of the first row.
        row_id_start: u64,
        /// Rows in the batch.
        rows: usize,
    },

    /// Vector ids are below 2^31.
    #[error("{len} vectors and {added} more exceed the limit of {} vectors", crate::vectors::MAX_VECTORS)]
    TooManyVectors {
        /// Vectors held.
        len: usize,
        /// Vectors that were to be added.
        added: usize,
    },

    /// Ids are inserted in order, without gaps: a batch starts where the graph ends.
    #[error("ids to insert must start at {expected} and not end before they start, got {start}..{end}")]
    NonContiguousIds {
        /// The next id of the graph.
        expected: u32,
        /// First id given.
        start: u32,
        /// End of the ids given (exclusive).
        end: u32,
    },

    /// A vector source does not reach as far as the ids that are needed.
    #[error("the vector source holds {len} vectors, {needed} are needed")]
    SourceTooShort {
        /// Length of the source.
        len: usize,
        /// Length it should have at least.
        needed: usize,
    },

    /// A graph is used with vectors other than those it was built from.
    #[error("the graph was built with {what} {expected}, the vector source has {actual}")]
    SourceMismatch {
        /// The property that differs.
        what: &'static str,
        /// The graph's.
        expected: String,
        /// The source's.
        actual: String,
    },

    /// A batch is malformed, or not of the rows that it is given for.
    #[error("not a valid {kind} batch: {problem}")]
    InvalidBatch {
        /// `lance:hnsw` (the graph), `flat` (the vectors), `collection` (all columns), `filter` (what a filter gave),
        /// `metadata` (other columns) or `model` (centroids and bounds).
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// Lance's list columns have 32-bit offsets.
    #[error("the graph has {edges} edges, a lance:hnsw batch holds at most {}", i32::MAX)]
    ExportTooLarge {
        /// Edges on all levels.
        edges: u64,
    },

    /// Labels were given, but not one for each vector id.
    #[error("{vectors} vector ids need as many labels, got {labels}")]
    LabelCount {
        /// Vector ids of the version that is saved.
        vectors: usize,
        /// Labels given.
        labels: usize,
    },

    /// A file of a saved index is not what was saved.
    #[error("{} is not what was saved: {problem}", .file.display())]
    CorruptIndex {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A file or a directory cannot be read or written.
    #[error("{} cannot be read or written", .path.display())]
    Io {
        /// The file or the directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },

    /// The caller ended a long call by its [`Control`](crate::Control).
    #[error("the {operation} was cancelled after {done} of {total} rows")]
    Cancelled {
        /// What was cancelled: `append`, `compaction` or `save`.
        operation: &'static str,
        /// Rows that were done; none of what was done shows.
        done: u64,
        /// All rows.
        total: u64,
    },

    /// Another writer is at work, and the caller does not want to wait for it.
    #[error("another writer is at work")]
    Busy,

    /// Rows are to be appended for which the memory limit leaves no room.
    #[error(
        "the memory limit is {limit} bytes: {resident} are in use, and the rows to append may need {needed}"
    )]
    MemoryLimit {
        /// The limit, in bytes.
        limit: usize,
        /// Bytes in use: [`Index::resident_bytes`](crate::Index::resident_bytes).
        resident: usize,
        /// Bytes that the rows may need, at most.
        needed: usize,
    },

    /// An index that is mapped from its files does not change.
    #[error("the index is mapped from its files and read-only: load it, or compact it, to change it")]
    ReadOnly,

    /// A column is not there, or not of the kind that is needed.
    #[error("column {column:?}: {problem}")]
    InvalidColumn {
        /// Name of the column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },

    /// Rows are to be named by their keys, where no column is the key.
    #[error("the collection has no key column: its rows have row ids alone")]
    NoKey,

    /// A key is null.
    #[error("the key of row {row} is null")]
    NullKey {
        /// Position of the row in its batch.
        row: usize,
    },

    /// A key is taken: a collection holds one live row of each.
    #[error("row {row} has key {key}, which another row has already")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Position of the row in its batch.
        row: usize,
    },

    /// A row is named by a key that no live row has.
    #[error("no live row has key {key}")]
    UnknownKey {
        /// The key.
        key: String,
    },

    /// Arrow refused an array or a batch.
    #[error(transparent)]
    Arrow(#[from] ArrowError),

    /// A model of an index is not one for what is to be indexed.
    #[cfg(feature = "lance")]
    #[error("the model has {what} {model}, not {actual}")]
    ModelMismatch {
        /// The property that differs.
        what: &'static str,
        /// The model's.
        model: String,
        /// That of the column, the parameters, or the index.
        actual: String,
    },

    /// A segment of an index was built from fragments that are no longer there, or have other vectors now.
    #[cfg(feature = "lance")]
    #[error(
        "segment {uuid} was built from version {built}, of which fragments {fragments:?} are gone or changed in \
         version {current}: build it again"
    )]
    StaleSegment {
        /// The segment.
        uuid: uuid::Uuid,
        /// The version of the dataset that it was built from.
        built: u64,
        /// The version that it was to be committed to.
        current: u64,
        /// The fragments.
        fragments: Vec<u32>,
    },

    /// A partition of an index is too large to be built.
    #[cfg(feature = "lance")]
    #[error(
        "partition {partition} has {rows} rows and takes {needed} bytes to build, the limit is {limit}: \
         use more partitions, or more memory"
    )]
    PartitionMemory {
        /// The partition.
        partition: usize,
        /// Its rows.
        rows: u64,
        /// Bytes that a build of it takes.
        needed: u64,
        /// Bytes that it may take.
        limit: u64,
    },

    /// Lance could not read or write a dataset.
    #[cfg(feature = "lance")]
    #[error(transparent)]
    LanceDataset {
        /// Lance's own error.
        #[from]
        source: Box<lance_core::Error>,
    },

    /// Lance refused a batch.
    #[cfg(feature = "lance-index")]
    #[error("lance-index: {problem}")]
    Lance {
        /// Lance's own message.
        problem: String,
    },
}

/// Whose vector ids they are.
fn owner(generation: Option<u64>) -> String {
    generation.map_or("a source without an index".to_string(), |number| format!("generation {number}"))
}
