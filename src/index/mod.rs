//! The index: generations of rows with a graph or none, changed by writers and read through readers.

mod batch;
mod changes;
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

use arrow_array::FixedSizeListArray;

use crate::distance::DistanceType;
use crate::error::Result;
use crate::graph::{BuildParams, Coding, GraphHealth, HnswGraph};
use crate::search::{Hits, IndexVersion, SearchParams};
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, SkippedRows};

use handover::Handover;
pub(crate) use memory::MemoryLimit;

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

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Index");
        debug.field("version", &self.version()).field("dim", &self.dim);
        debug.field("distance_type", &self.distance_type).field("element_type", &self.element_type);
        debug.field("params", &self.params).finish_non_exhaustive()
    }
}
