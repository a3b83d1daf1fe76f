//! The index: generations of rows with a graph or none, changed by writers and read through readers.

mod batch;
mod compact;
mod counters;
mod cursor;
mod export;
mod generation;
mod handover;
mod memory;
mod reader;
mod row_lookup;
mod stats;
mod write;

use std::fmt;
use std::time::Instant;

use arrow_array::{Array, FixedSizeListArray};
use tracing::{debug, debug_span};

use crate::control::Control;
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::{BuildParams, Coding, GraphHealth, HnswGraph};
use crate::search::{Hits, IndexVersion, SearchParams};
use crate::vectors::{
    Appended, ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, fixed_size_lists,
};

use handover::Handover;
pub(crate) use memory::MemoryLimit;
use write::OnDuplicate;

pub use batch::BatchHits;
pub use compact::Compaction;
pub use counters::Counters;
pub use cursor::Cursor;
pub(crate) use export::Checkpoint;
pub(crate) use generation::Generation;
pub use handover::CompactionStep;
pub use reader::{GraphView, Reader, Row};
pub use stats::{IndexStats, ResidentBytes};

/// An index over Arrow vectors that is searchable while rows arrive, change and go: with an HNSW graph, or flat, when
/// every search compares all rows that qualify and is exact.
///
/// All methods take `&self`: share it in an `Arc`. A [`Reader`] sees one version of it; the methods here that read are
/// short for those of a new reader.
///
/// # Consistency
/// A reader sees one [version](Self::version) of the index. What had been appended, updated or deleted when it was made
/// is in it; of a batch that is under way it sees none of the rows or all of them, and of a row that is replaced the
/// old one or the new one, never both or neither. Readers wait for nobody. Appends and updates wait for each other; a
/// delete waits for neither, only for the moment in which another change is made visible. A
/// [compaction](Self::compact) goes on beside all of them.
pub struct Index {
    generations: Handover<Generation>,
    dim: usize,
    distance_type: DistanceType,
    element_type: ElementType,
    params: Option<BuildParams>,
    memory_limit: MemoryLimit,
}

/// How an index without rows is made: [`Index::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct IndexBuilder {
    dim: usize,
    distance_type: DistanceType,
    element_type: ElementType,
    params: Option<BuildParams>,
    codes: Option<Coding>,
    memory_limit: Option<usize>,
}

impl IndexBuilder {
    /// Sets the elements of the vectors; [`ElementType::of_vectors`] says what a column has. They stay as they are in
    /// the caller's buffers. Queries and distances are `f32`.
    pub fn element_type(mut self, element_type: ElementType) -> Self {
        self.element_type = element_type;
        self
    }

    /// Sets the parameters of the graph.
    pub fn params(mut self, params: BuildParams) -> Self {
        self.params = Some(params);
        self
    }

    /// Sets whether the index keeps compact codes of its vectors: of the graph this is
    /// [`BuildParams::codes`](crate::BuildParams::codes), and an index without one scans by them.
    pub fn codes(mut self, codes: Coding) -> Self {
        self.codes = Some(codes);
        self
    }

    /// Asks for no graph.
    pub fn flat(mut self) -> Self {
        self.params = None;
        self
    }

    /// Refuses appends and upserts that would make [`Index::resident_bytes`] exceed so many bytes; see
    /// [`Index::set_memory_limit`].
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The index.
    ///
    /// # Errors
    /// - [`Error::InvalidParams`](crate::Error::InvalidParams) if `dim` is 0 or above `i32::MAX`, or as
    ///   [`HnswGraph::try_new`],
    /// - [`Error::UnsupportedElement`](crate::Error::UnsupportedElement) if the distance type has no meaning for such
    ///   elements.
    pub fn build(self) -> Result<Index> {
        let Self { dim, distance_type, element_type, params, codes, memory_limit } = self;
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        let params = params.map(|params| match codes {
            Some(codes) => params.codes(codes),
            None => params,
        });
        let graph = params.map(HnswGraph::try_new).transpose()?;
        let index = Index::of(Generation::new(store, graph, &[], codes.unwrap_or_default()));
        index.set_memory_limit(memory_limit);
        Ok(index)
    }
}

impl Index {
    /// An index without rows, for vectors of `dim` elements of `f32`, with a graph.
    ///
    /// # Errors
    /// As [`IndexBuilder::build`].
    pub fn hnsw(dim: usize, distance_type: DistanceType, params: BuildParams) -> Result<Self> {
        Self::builder(dim, distance_type).params(params).build()
    }

    /// An index without rows and without a graph, for vectors of `dim` elements of `f32`: for a few thousand rows, for
    /// rows that are seldom searched, and to see what a graph misses. A scan of many rows runs on rayon's current pool.
    ///
    /// # Errors
    /// As [`IndexBuilder::build`].
    pub fn flat(dim: usize, distance_type: DistanceType) -> Result<Self> {
        Self::builder(dim, distance_type).flat().build()
    }

    /// An index without rows: with a graph of the default parameters over `f32`, unless told otherwise.
    pub fn builder(dim: usize, distance_type: DistanceType) -> IndexBuilder {
        let (element_type, params) = (ElementType::default(), Some(BuildParams::default()));
        let (codes, memory_limit) = (None, None);
        IndexBuilder { dim, distance_type, element_type, params, codes, memory_limit }
    }

    /// The index that begins with a generation.
    pub(crate) fn of(generation: Generation) -> Self {
        Self {
            dim: generation.store.dim(),
            distance_type: generation.store.distance_type(),
            element_type: generation.store.element_type(),
            params: generation.graph.as_ref().map(HnswGraph::params).cloned(),
            generations: Handover::new(generation),
            memory_limit: MemoryLimit::default(),
        }
    }

    /// Appends a batch of vectors, which stay in the caller's buffers: row `i` under the row id `row_ids + i` if that
    /// is a `u64`, or under row ids of the caller's choice if it is a `UInt64Array`. Returns the vector ids of the
    /// usable rows, which are searchable from now on, all at once, and says which rows were skipped.
    ///
    /// `vectors` is a `FixedSizeList`, or a `List` or `LargeList` whose rows have one length; the latter are copied
    /// only if null rows have another length than the others. Rows without a usable vector are skipped and counted:
    /// [`append_batch`](ArrowFixedSizeListVectorStore::append_batch) says which.
    ///
    /// # Errors
    /// The index is as it was if
    /// - the elements are of another type ([`Error::UnsupportedType`]),
    /// - the lists have another length than `dim` ([`Error::DimensionMismatch`]), or different lengths
    ///   ([`Error::RaggedList`]),
    /// - there is not one row id for each row ([`Error::RowIdCount`], [`Error::NullRowId`],
    ///   [`Error::RowIdOverflow`]),
    /// - a live row or another row of the batch has the same row id ([`Error::DuplicateRowId`]),
    /// - there are too many vectors ([`Error::TooManyVectors`]), or the memory limit leaves no room
    ///   ([`Error::MemoryLimit`]),
    /// - it is mapped from files ([`Error::ReadOnly`]).
    ///
    /// [`Error::UnsupportedType`]: crate::Error::UnsupportedType
    /// [`Error::DimensionMismatch`]: crate::Error::DimensionMismatch
    /// [`Error::RaggedList`]: crate::Error::RaggedList
    /// [`Error::RowIdCount`]: crate::Error::RowIdCount
    /// [`Error::NullRowId`]: crate::Error::NullRowId
    /// [`Error::RowIdOverflow`]: crate::Error::RowIdOverflow
    /// [`Error::DuplicateRowId`]: crate::Error::DuplicateRowId
    /// [`Error::TooManyVectors`]: crate::Error::TooManyVectors
    /// [`Error::MemoryLimit`]: crate::Error::MemoryLimit
    /// [`Error::ReadOnly`]: crate::Error::ReadOnly
    pub fn append(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_controlled(vectors, row_ids, &Control::new())
    }

    /// [`append`](Self::append) that can be watched and cancelled, or does not wait for other writers. It looks at
    /// `control` before it begins, between sub-batches of at most 512 rows, and before the rows show.
    ///
    /// An append that is cancelled has appended nothing: none of its rows shows, and their row ids are free. Rows that
    /// were linked before it was cancelled leave vector ids without a row: tombstones, which hold the buffers of the
    /// batch and go with the next compaction.
    ///
    /// # Errors
    /// As [`append`](Self::append), and
    /// - [`Error::Cancelled`] if the caller ended it,
    /// - [`Error::Busy`] if another writer is at work and it is not to wait.
    ///
    /// [`Error::Cancelled`]: crate::Error::Cancelled
    /// [`Error::Busy`]: crate::Error::Busy
    pub fn append_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Refuse, control)
    }

    /// [`append`](Self::append) that does not wait for other writers: [`Control::no_wait`].
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::Busy`](crate::Error::Busy) if another writer is at work.
    pub fn try_append(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_controlled(vectors, row_ids, &Control::new().no_wait())
    }

    /// [`append`](Self::append) for row ids that the caller knows to be new: they are not compared, and no memory is
    /// spent on them until a row is deleted, checked or asked for. If two live rows share a row id after all, both are
    /// found, and deletes and updates mean the later.
    ///
    /// # Errors
    /// As [`append`](Self::append), except for duplicates.
    pub fn append_unique(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.append_unique_controlled(vectors, row_ids, &Control::new())
    }

    /// [`append_unique`](Self::append_unique) that can be watched and cancelled, as
    /// [`append_controlled`](Self::append_controlled).
    ///
    /// # Errors
    /// As [`append_controlled`](Self::append_controlled), except for duplicates.
    pub fn append_unique_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Trust, control)
    }

    /// [`append_unique`](Self::append_unique) for several batches at once, each with the row id of its first row: they
    /// are linked together, and all their rows show at one instant.
    ///
    /// # Errors
    /// As [`append_unique`](Self::append_unique); nothing of any batch is appended then.
    pub fn append_batches_unique(&self, batches: &[(FixedSizeListArray, u64)]) -> Result<Appended> {
        let rows: usize = batches.iter().map(|(vectors, _)| vectors.len()).sum();
        let _span = debug_span!("append", rows, batches = batches.len()).entered();
        self.append_once(&Control::new(), |generation| {
            self.check_memory(generation, rows, OnDuplicate::Trust)?;
            generation.write_batches(batches)
        })
    }

    /// Appends a batch whose rows take the place of live rows with the same row ids: searches see the old ones or
    /// the new ones. Of rows with the same row id in the batch the last one stays. A row that is skipped because it
    /// has no usable vector also ends the older one.
    ///
    /// # Errors
    /// As [`append`](Self::append), except for duplicates.
    pub fn upsert(&self, vectors: &dyn Array, row_ids: impl Into<RowIds>) -> Result<Appended> {
        self.upsert_controlled(vectors, row_ids, &Control::new())
    }

    /// [`upsert`](Self::upsert) that can be watched and cancelled, as [`append_controlled`](Self::append_controlled). If
    /// it is cancelled, the older rows stay.
    ///
    /// # Errors
    /// As [`append_controlled`](Self::append_controlled), except for duplicates.
    pub fn upsert_controlled(
        &self,
        vectors: &dyn Array,
        row_ids: impl Into<RowIds>,
        control: &Control<'_>,
    ) -> Result<Appended> {
        self.write(vectors, row_ids.into(), OnDuplicate::Replace, control)
    }

    fn write(
        &self,
        vectors: &dyn Array,
        row_ids: RowIds,
        on_duplicate: OnDuplicate,
        control: &Control<'_>,
    ) -> Result<Appended> {
        let rows = vectors.len();
        let _span = match on_duplicate {
            OnDuplicate::Replace => debug_span!("upsert", rows),
            _ => debug_span!("append", rows),
        }
        .entered();
        let vectors = fixed_size_lists(vectors, self.dim)?;
        self.append_once(control, |generation| {
            self.check_memory(generation, rows, on_duplicate)?;
            generation.write(&vectors, row_ids, on_duplicate, control)
        })
    }

    /// Appends once no other writer does, or not at all if one does and the caller does not want to wait.
    fn append_once(
        &self,
        control: &Control<'_>,
        append: impl FnOnce(&Generation) -> Result<Appended>,
    ) -> Result<Appended> {
        let outcome = self.generations.try_append(append).unwrap_or_else(|append| {
            if !control.waits() {
                return Err(Error::Busy);
            }
            let began = Instant::now();
            self.generations.append(|generation| {
                generation.tally.waited(began.elapsed());
                debug!(nanos = began.elapsed().as_nanos() as u64, "waited for another writer");
                append(generation)
            })
        });
        self.generations.peek().tally.appended(outcome.as_ref());
        told(outcome)
    }

    /// Deletes the live row of a row id: no search that starts after this returns it; those of older readers do.
    /// Takes constant time, except that rows appended since the last delete or check are first entered in a directory.
    /// Does not wait for an append that is under way, whose rows are not there yet; only for the moment in which
    /// another change is made visible.
    ///
    /// # Errors
    /// [`Error::UnknownRowId`](crate::Error::UnknownRowId) if no live row has that row id,
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) if the index is mapped from files.
    pub fn delete(&self, row_id: u64) -> Result<()> {
        self.delete_batch(&[row_id]).map(|_| ())
    }

    /// Deletes the live rows of some row ids, all at one instant, or none of them if one is unknown. A row id that is
    /// given twice counts once. Returns how many rows were deleted.
    ///
    /// # Errors
    /// As [`delete`](Self::delete), for the first unknown row id.
    pub fn delete_batch(&self, row_ids: &[u64]) -> Result<usize> {
        let _span = debug_span!("delete", rows = row_ids.len()).entered();
        let deleted = self.generations.change(|generation, rows| generation.delete(rows, row_ids));
        match &deleted {
            Ok(rows) => debug!(rows, "deleted"),
            Err(error) => debug!(%error, "nothing was deleted"),
        }
        deleted
    }

    /// The current version of the index, to read.
    pub fn reader(&self) -> Reader {
        Reader::new(self.generations.current())
    }

    /// A version of the index, to read. Versions of an older generation cannot be read any more, except through the
    /// readers that were made before the compaction.
    ///
    /// # Errors
    /// [`Error::StaleVersion`](crate::Error::StaleVersion) if the version is of another generation or another index.
    pub fn reader_at(&self, version: IndexVersion) -> Result<Reader> {
        Reader::at(self.generations.current(), version)
    }

    /// [`Reader::search`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, query: &[f32], params: &SearchParams) -> Result<Hits> {
        // No reference count is written to, which the threads that search would have to share.
        let generation = self.generations.peek();
        generation.search(query, params, generation.version())
    }

    /// [`Reader::search_exact`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn search_exact(&self, query: &[f32], params: &SearchParams) -> Result<Hits> {
        self.reader().search_exact(query, params)
    }

    /// [`Reader::search_batch`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn search_batch(&self, queries: &FixedSizeListArray, params: &SearchParams) -> Result<BatchHits> {
        self.reader().search_batch(queries, params)
    }

    /// [`Reader::cursor`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn cursor(&self, query: &[f32], params: &SearchParams) -> Result<Cursor> {
        self.reader().cursor(query, params)
    }

    /// [`Reader::score`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn score(&self, query: &[f32], row_ids: &[u64]) -> Result<Vec<Option<f32>>> {
        self.reader().score(query, row_ids)
    }

    /// [`Reader::get`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, row_id: u64) -> Result<Option<Row>> {
        self.reader().get(row_id)
    }

    /// Whether a live row has that row id.
    pub fn contains(&self, row_id: u64) -> bool {
        self.reader().contains(row_id)
    }

    /// What a reader that is made now sees.
    pub fn version(&self) -> IndexVersion {
        self.generations.peek().version()
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.version().live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dead rows, which searches still walk through; [`compact`](Self::compact) removes them.
    pub fn tombstones(&self) -> usize {
        self.version().deletes() as usize
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.distance_type
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The parameters of the build, if there is a graph.
    pub fn params(&self) -> Option<&BuildParams> {
        self.params.as_ref()
    }

    /// Rows that were appended without a usable vector since the index was made or loaded, and why.
    pub fn skipped(&self) -> SkippedRows {
        self.generations.peek().store.skipped()
    }

    /// The shape of the graph, dead rows included; `None` if there is none. Appends wait meanwhile.
    pub fn health(&self) -> Option<GraphHealth> {
        self.reader().graph().map(|graph| graph.health())
    }
}

/// Traces what became of an append.
fn told(outcome: Result<Appended>) -> Result<Appended> {
    match &outcome {
        Ok(appended) => debug!(
            generation = appended.generation(),
            first_id = appended.start,
            rows = appended.len(),
            skipped = appended.rows() - appended.len(),
            "appended"
        ),
        Err(error) => debug!(%error, "nothing was appended"),
    }
    outcome
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Index");
        debug.field("version", &self.version()).field("dim", &self.dim);
        debug.field("distance_type", &self.distance_type).field("element_type", &self.element_type);
        debug.field("params", &self.params).finish_non_exhaustive()
    }
}
