//! One version of an index, to read.

use std::fmt;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};
use arrow_buffer::BooleanBuffer;
use tracing::trace;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::{BuildParams, GraphHealth, HnswGraph};
use crate::index::Cursor;
use crate::index::batch::{self, BatchHits};
use crate::index::generation::Generation;
use crate::search::query::check_query;
use crate::search::scan::search_all;
use crate::search::{Hits, IndexVersion, RowMask, SearchParams};
use crate::vectors::{ElementType, VectorSource, VectorStoreSnapshot};

/// One version of an [`Index`](crate::Index), to read: whatever is appended, updated, deleted or compacted meanwhile,
/// every call sees the same rows.
///
/// It waits for nobody and nobody waits for it. It is cheap to make, to clone and to send to another thread. After a
/// compaction it keeps the older generation in memory, until it is dropped.
#[derive(Clone)]
pub struct Reader {
    generation: Arc<Generation>,
    version: IndexVersion,
}

/// One row of an index.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The vector id, which belongs to one generation of an index.
    pub id: u32,
    /// What the caller calls the row.
    pub row_id: u64,
    /// The vector, as `f32` whatever its elements are.
    pub vector: Vec<f32>,
}

impl Reader {
    /// The current version of a generation.
    pub(super) fn new(generation: Arc<Generation>) -> Self {
        Self { version: generation.version(), generation }
    }

    /// A version of a generation.
    pub(super) fn at(generation: Arc<Generation>, version: IndexVersion) -> Result<Self> {
        if generation.versions.knows(version) {
            return Ok(Self { generation, version });
        }
        Err(Error::StaleVersion { version, current: generation.version() })
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The version that is read: [`Index::reader_at`](crate::Index::reader_at) reads it again.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// The nearest `params.k` rows, nearest first, ties by vector id: exactly `min(k, n)` of the `n` rows that are
    /// alive and admitted by `params`. Without a graph the answer is exact, and `ef` has no effect.
    ///
    /// # Errors
    /// As [`HnswGraph::search`], and [`Error::StaleMask`] if the mask holds vector ids of another generation.
    pub fn search(&self, query: &[f32], params: &SearchParams) -> Result<Hits> {
        self.generation.search(query, params, self.version)
    }

    /// The nearest `params.k` rows by comparing `query` with every row that qualifies: what [`search`](Self::search)
    /// approximates. `ef` has no effect. Runs on rayon's current pool if there are many rows, unless
    /// [`max_distances`](SearchParams::max_distances) is set.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_exact(&self, query: &[f32], params: &SearchParams) -> Result<Hits> {
        self.generation.search_exact(query, params, self.version)
    }

    /// Searches for every row of an array, of any elements, on rayon's current pool. A null query has no hits.
    ///
    /// # Errors
    /// - [`Error::UnsupportedType`] or [`Error::DimensionMismatch`] if these are not vectors that the index can be
    ///   searched for,
    /// - [`Error::InvalidQuery`] for the first query that cannot be searched for, as [`search`](Self::search),
    /// - what [`search`](Self::search) says of `params`.
    pub fn search_batch(&self, queries: &FixedSizeListArray, params: &SearchParams) -> Result<BatchHits> {
        batch::search_batch(queries, self.dim(), |query| self.search(query, params))
    }

    /// A search that gives out its rows page by page; see [`Cursor`].
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn cursor(&self, query: &[f32], params: &SearchParams) -> Result<Cursor> {
        Cursor::try_new(self.clone(), query, params)
    }

    /// The exact distances of some rows, in the order of `row_ids`; `None` for a row id that no live row has.
    ///
    /// # Errors
    /// What [`search`](Self::search) says of `query`.
    pub fn score(&self, query: &[f32], row_ids: &[u64]) -> Result<Vec<Option<f32>>> {
        let view = self.generation.view(self.version);
        check_query(query, &view)?;
        let found = self.generation.find(row_ids, self.version);
        let ids: Vec<u32> = found.iter().flatten().copied().collect();
        let mut distances = vec![0.0; ids.len()];
        view.distances_to(&view.prepare(query), &ids, &mut distances);
        let mut distances = distances.into_iter();
        Ok(found.into_iter().map(|id| id.and_then(|_| distances.next())).collect())
    }

    /// The live row of a row id.
    ///
    /// # Errors
    /// None today.
    pub fn get(&self, row_id: u64) -> Result<Option<Row>> {
        let found = self.generation.find(&[row_id], self.version);
        let view = self.generation.view(self.version);
        let row = |id| Row { id, row_id, vector: view.widened(id).into_owned() };
        Ok(found.into_iter().flatten().next().map(row))
    }

    /// The vectors of some rows; null for a row id that no live row has.
    pub(crate) fn vectors_of(&self, row_ids: &[u64]) -> Result<FixedSizeListArray> {
        let found = self.generation.find(row_ids, self.version);
        self.generation.view(self.version).gather(&found)
    }

    /// Whether a live row has that row id.
    pub fn contains(&self, row_id: u64) -> bool {
        self.generation.find(&[row_id], self.version).iter().any(Option::is_some)
    }

    /// A mask of vector ids, from a `BooleanBuffer` or a `BooleanArray`: one bit for each of the
    /// [`version().vectors()`](IndexVersion::vectors) ids, as [`live_ids`](Self::live_ids) has them. It can be used
    /// with readers of the same generation that have as many. Masks of other kinds are given back.
    ///
    /// # Errors
    /// [`Error::MaskLength`] if there is not one bit for each vector id, [`Error::StaleMask`] for vector ids of another
    /// generation.
    pub fn mask(&self, mask: impl Into<RowMask>) -> Result<RowMask> {
        mask.into().bound(self.version.vectors(), self.version.generation())
    }

    /// One bit for each vector id: whether its row is alive.
    pub fn live_ids(&self) -> BooleanBuffer {
        self.generation.live_ids(self.version)
    }

    /// The row ids of the live rows, in the order of vector ids.
    pub fn live_row_ids(&self) -> UInt64Array {
        let view = self.generation.view(self.version);
        self.live_ids().set_indices_u32().map(|id| view.row_id(id)).collect::<Vec<_>>().into()
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.version.live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dead rows, which searches still walk through; [`Index::compact`](crate::Index::compact) removes them.
    pub fn tombstones(&self) -> usize {
        self.version.deletes() as usize
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.generation.store.dim()
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.generation.store.distance_type()
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.generation.store.element_type()
    }

    /// The parameters of the build, if there is a graph.
    pub fn params(&self) -> Option<&BuildParams> {
        self.generation.graph.as_ref().map(HnswGraph::params)
    }

    /// The vectors by id, those of dead rows too.
    pub fn snapshot(&self) -> VectorStoreSnapshot {
        self.generation.store.snapshot().prefix(self.version.vectors())
    }

    /// The graph, if there is one, to look at. Its nodes are vector ids, and those of dead rows are among them.
    pub fn graph(&self) -> Option<GraphView<'_>> {
        let graph = self.generation.graph.as_ref()?;
        Some(GraphView { graph, nodes: self.version.vectors() })
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Reader");
        debug.field("version", &self.version).field("dim", &self.dim());
        debug.field("distance_type", &self.distance_type()).field("params", &self.params());
        debug.finish_non_exhaustive()
    }
}

impl Generation {
    /// Searches a version, through the graph if there is one.
    pub fn search(&self, query: &[f32], params: &SearchParams, version: IndexVersion) -> Result<Hits> {
        match &self.graph {
            Some(graph) => {
                let hits = graph.search_version(query, params, &self.view(version), self.dead(version));
                hits.inspect(|hits| self.searched(hits))
            }
            None => self.search_exact(query, params, version),
        }
    }

    /// Compares every row of a version that qualifies.
    pub fn search_exact(&self, query: &[f32], params: &SearchParams, version: IndexVersion) -> Result<Hits> {
        self.scan(query, params, version).inspect(|hits| self.searched(hits))
    }

    /// Compares every row of a version that qualifies, as a part of something else than a search.
    pub fn scan(&self, query: &[f32], params: &SearchParams, version: IndexVersion) -> Result<Hits> {
        search_all(query, params, &self.view(version), self.dead(version), self.codes_of(version))
    }

    /// Counts a search.
    fn searched(&self, hits: &Hits) {
        self.tally.searched(hits.stats());
        // Costs one load of a static as long as nobody traces searches.
        trace!(rows = hits.len(), stats = ?hits.stats(), "searched");
    }
}

/// The graph of an index as of one version, to look at.
#[derive(Clone, Copy)]
pub struct GraphView<'a> {
    graph: &'a HnswGraph,
    nodes: usize,
}

impl GraphView<'_> {
    /// Nodes, those of dead rows included.
    pub fn len(&self) -> usize {
        self.nodes
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes == 0
    }

    /// The parameters of the build.
    pub fn params(&self) -> &BuildParams {
        self.graph.params()
    }

    /// Walks the whole graph and says what shape it is in. Appends wait meanwhile, searches do not.
    pub fn health(&self) -> GraphHealth {
        self.graph.health_below(self.nodes)
    }

    /// `level_histogram()[l]` nodes have `l` as their highest level. Appends wait meanwhile.
    pub fn level_histogram(&self) -> Vec<usize> {
        self.graph.level_histogram(self.nodes)
    }

    /// The graph as a `lance:hnsw` batch, dead rows included; see [`HnswGraph::to_lance_hnsw_batch`].
    ///
    /// # Errors
    /// As [`HnswGraph::to_lance_hnsw_batch`].
    pub fn to_lance_hnsw_batch(&self) -> Result<RecordBatch> {
        self.graph.to_lance_hnsw_batch(Some(self.nodes))
    }

    /// Bytes of everything the graph holds.
    pub fn resident_bytes(&self) -> usize {
        self.graph.resident_bytes()
    }

    #[cfg(feature = "lance-index")]
    pub(crate) fn graph(&self) -> &HnswGraph {
        self.graph
    }
}

impl fmt::Debug for GraphView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, params) = (self.nodes, self.params());
        f.debug_struct("GraphView").field("nodes", &nodes).field("params", params).finish_non_exhaustive()
    }
}
