//! Store, graph and versions together: vectors in, neighbors out.

mod batch;
mod checkpoint;
mod compact;
mod reorder;
mod row_lookup;
mod stats;
pub(crate) mod table;
mod write;

pub(crate) use batch::search_batch;
pub(crate) use checkpoint::Checkpoint;

use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::format::Storage;
use crate::graph::BuildParams;
use crate::graph::{Cursor, GraphHealth, HnswGraph};
use crate::index::table::Table;
use crate::search::scan;
use crate::search::version::IndexVersion;
use crate::search::{SearchParams, SearchResult, SearchStats};
use crate::vectors::VectorSource;
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorStoreSnapshot};
pub use stats::{IndexStats, ResidentBytes};

/// An index over Arrow vectors that is searchable while rows arrive, change and go.
///
/// All methods take `&self`: share it in an `Arc`.
///
/// # Consistency
/// A search sees one [version](Self::version) of the index. What had been appended, updated or deleted when the
/// search started is in it; of a batch that is under way it sees none of the rows or all of them, and of a row that is
/// replaced the old one or the new one, never both or neither. Searches wait for nobody. Appends and updates wait for
/// each other; a delete waits for neither, but for the moment in which another change is made visible.
pub struct HnswIndex {
    table: Table,
    graph: HnswGraph,
    /// Whether it is mapped from files.
    read_only: bool,
    /// Bytes of the files that it was loaded from, as far as they are on the heap.
    loaded_bytes: usize,
}

impl HnswIndex {
    /// An index without rows, for vectors of `dim` elements of `f32`.
    ///
    /// # Errors
    /// As [`try_with_elements`](Self::try_with_elements).
    pub fn try_new(dim: usize, distance_type: DistanceType, params: BuildParams) -> Result<Self> {
        Self::try_with_elements(ElementType::Float32, dim, distance_type, params)
    }

    /// An index without rows, for vectors of other elements; [`ElementType::of_vectors`] says what a column has.
    /// They stay as they are in the caller's buffers. Queries and distances are `f32`.
    ///
    /// # Errors
    /// - [`Error::InvalidParams`] if `dim` is 0 or above `i32::MAX`, or as [`HnswGraph::try_new`],
    /// - [`Error::UnsupportedElement`] if the distance type has no meaning for such elements.
    pub fn try_with_elements(
        element_type: ElementType,
        dim: usize,
        distance_type: DistanceType,
        params: BuildParams,
    ) -> Result<Self> {
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        Ok(Self::of(store, HnswGraph::try_new(params)?))
    }

    fn of(store: ArrowFixedSizeListVectorStore, graph: HnswGraph) -> Self {
        graph.set_metric(store.distance_type(), store.dim());
        Self { table: Table::new(store), graph, read_only: false, loaded_bytes: 0 }
    }

    /// The nearest `params.k` rows, nearest first, ties by id: exactly `min(k, n)` of the `n` rows that are alive
    /// and admitted by `params`.
    ///
    /// # Errors
    /// As [`HnswGraph::search`].
    pub fn search(&self, query: &[f32], params: SearchParams) -> Result<Vec<SearchResult>> {
        self.search_with_stats(query, params).map(|(results, _)| results)
    }

    /// [`search`](Self::search), and what it did.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_with_stats(
        &self,
        query: &[f32],
        params: SearchParams,
    ) -> Result<(Vec<SearchResult>, SearchStats)> {
        let version = self.version_of(&params);
        let dead = Some((&self.table.versions, version));
        self.graph.search_version(query, &params, &self.view(version), dead)
    }

    /// The nearest `params.k` rows by comparing `query` with every row that qualifies: what
    /// [`search`](Self::search) approximates. `ef` is of no consequence. Runs on rayon's current pool
    /// if there are many rows.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_exact(&self, query: &[f32], params: SearchParams) -> Result<Vec<SearchResult>> {
        let version = self.version_of(&params);
        let dead = Some((&self.table.versions, version));
        scan::search_all(query, &params, &self.view(version), dead, None).map(|(results, _)| results)
    }

    /// A search that gives out its rows page by page; see [`SearchCursor`].
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn cursor(&self, query: &[f32], params: SearchParams) -> Result<SearchCursor<'_>> {
        let version = self.version_of(&params);
        let dead = Some((&self.table.versions, version));
        Ok(SearchCursor(Cursor::try_new(&self.graph, query, params, self.view(version), dead)?))
    }

    fn version_of(&self, params: &SearchParams) -> IndexVersion {
        self.table.versions.at_least_first(self.table.version_of(params))
    }

    /// The vectors of a version.
    fn view(&self, version: IndexVersion) -> VectorStoreSnapshot<&ArrowFixedSizeListVectorStore> {
        self.table.view(version)
    }

    /// What a search that starts now sees. Searches of it later see the same:
    /// [`SearchParams::version`].
    pub fn version(&self) -> IndexVersion {
        self.table.version()
    }

    /// One bit for each vector id of a version: whether its row is alive.
    pub fn live_ids(&self, version: IndexVersion) -> BooleanBuffer {
        self.table.live_ids(self.table.versions.at_least_first(version))
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.version().live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dead rows, which searches still walk through; [`compact`](Self::compact) makes an index without.
    pub fn tombstones(&self) -> usize {
        self.version().deletes() as usize
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.table.store.dim()
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.table.store.distance_type()
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.table.store.element_type()
    }

    /// The parameters of the build.
    pub fn params(&self) -> &BuildParams {
        self.graph.params()
    }

    /// Rows that were appended without a usable vector, and why.
    pub fn skipped(&self) -> SkippedRows {
        self.table.store.skipped()
    }

    /// The shape of the graph, dead rows included.
    pub fn health(&self) -> GraphHealth {
        self.graph.health_below(self.version().vectors())
    }

    /// Bytes held beside what the caller gave: vectors, arrays of row ids and the batches of an import. What was
    /// [loaded](Self::load) counts, what is [mapped](Self::load_mmap) does not.
    pub fn resident_bytes(&self) -> usize {
        self.bytes_by_part().total()
    }

    /// The graph, to read. Nodes are vector ids, and those of dead rows are among them. What is inserted here has no
    /// rows in the index, and appends are refused or fail from then on.
    pub fn graph(&self) -> &HnswGraph {
        &self.graph
    }

    /// The vectors by id, those of dead rows too.
    pub fn snapshot(&self) -> VectorStoreSnapshot {
        self.table.snapshot()
    }

    /// The graph as a `lance:hnsw` batch and the vectors as Lance's flat storage batch, of the same rows: those
    /// that are alive. If some are dead, this exports what [`compact`](Self::compact) makes.
    ///
    /// # Errors
    /// As [`HnswGraph::to_lance_hnsw_batch`] and [`VectorStoreSnapshot::to_record_batch`].
    pub fn to_lance_batches(&self) -> Result<(RecordBatch, RecordBatch)> {
        let version = self.version();
        self.table.store.view().check_lance()?;
        if version.deletes() > 0 {
            return self.compact()?.to_lance_batches();
        }
        let vectors = self.table.store.snapshot().prefix(version.vectors());
        let graph = self.graph.to_lance_hnsw_batch(Some(VectorSource::len(&vectors)))?;
        Ok((graph, vectors.to_record_batch()?))
    }

    /// The index of two batches that [`to_lance_batches`](Self::to_lance_batches) or Lance wrote. The
    /// vectors stay in the buffers of their batch; the metric is read from its schema metadata.
    ///
    /// # Errors
    /// - [`Error::InvalidBatch`] if either batch is malformed, or they are not of the same rows,
    /// - what [`try_with_elements`](Self::try_with_elements) and [`append_unique`](Self::append_unique) refuse.
    pub fn from_lance_batches(graph: &RecordBatch, vectors: &RecordBatch) -> Result<Self> {
        let storage = Storage::of(vectors)?;
        let graph = HnswGraph::from_lance_hnsw_batch(graph)?;
        let (element_type, dim) = ElementType::of_vectors(storage.vectors.data_type())?;
        let distance_type = storage.distance_type;
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        store.append(storage.vectors, RowIds::from(storage.row_ids))?;
        let invalid = |problem| Err(Error::InvalidBatch { kind: "flat", problem });
        if store.skipped().total() > 0 {
            return invalid(format!("rows without a usable vector: {}", store.skipped()));
        }
        if store.committed_len() != graph.len() {
            return invalid(format!("{} vectors for {} nodes", store.committed_len(), graph.len()));
        }
        Ok(Self::of(store, graph))
    }
}

/// A search that goes on where it stopped: all pages together are every row that qualifies, each once.
///
/// It sees the version of the index in which it was made, however long it lives. Rows come nearest first within a
/// page, and as far as the walk can tell from page to page; a wider `ef` looks farther ahead. Deadlines and limits of
/// distances have no effect.
pub struct SearchCursor<'a>(Cursor<'a, VectorStoreSnapshot<&'a ArrowFixedSizeListVectorStore>>);

impl SearchCursor<'_> {
    /// The next `k` rows; fewer only when no more are left.
    pub fn next_k(&mut self, k: usize) -> Vec<SearchResult> {
        self.0.next_k(k)
    }
}
