//! Store and graph together: vectors in, neighbors out.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};

use crate::distance::{DistanceType, PreparedQuery};
use crate::error::{Error, Result};
use crate::graph::{GraphHealth, HnswGraph, ScoredPoint, SearchResult, check_query};
use crate::lance::Storage;
use crate::params::{BuildParams, SearchParams};
use crate::source::VectorSource;
use crate::store::{ArrowFixedSizeListVectorStore, SkippedRows, VectorStoreSnapshot};

/// An index over Arrow vectors that is searchable while rows arrive.
///
/// All methods take `&self`: share it in an `Arc`. Appends wait for each other; searches wait for
/// nobody. A search sees every batch whose append had returned, and of one that is under way none of
/// its rows or all of them.
pub struct HnswIndex {
    store: Arc<ArrowFixedSizeListVectorStore>,
    graph: HnswGraph,
    /// Ids are given out and linked in one order.
    appending: Mutex<()>,
}

impl HnswIndex {
    /// An index without rows, for vectors of `dim` elements.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] if `dim` is 0 or above `i32::MAX`, or as [`HnswGraph::try_new`].
    pub fn try_new(dim: usize, distance_type: DistanceType, params: BuildParams) -> Result<Self> {
        Ok(Self {
            store: Arc::new(ArrowFixedSizeListVectorStore::try_new(dim, distance_type)?),
            graph: HnswGraph::try_new(params)?,
            appending: Mutex::new(()),
        })
    }

    /// Appends a batch of vectors, which stay in the caller's buffers; row `i` has row id
    /// `row_id_start + i`. Returns the ids of the usable rows, which are searchable from now on.
    ///
    /// Rows without a usable vector are skipped and counted:
    /// [`ArrowFixedSizeListVectorStore::append_batch`] says which.
    ///
    /// # Errors
    /// As [`ArrowFixedSizeListVectorStore::append_batch`]; the index is then as it was.
    pub fn append(&self, vectors: &FixedSizeListArray, row_id_start: u64) -> Result<Range<u32>> {
        self.append_with(|store| store.append_batch(Arc::new(vectors.clone()), row_id_start))
    }

    /// Appends a batch under row ids of the caller's choice.
    ///
    /// # Errors
    /// As [`ArrowFixedSizeListVectorStore::append_batch_with_row_ids`]; the index is then as it was.
    pub fn append_with_row_ids(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: &UInt64Array,
    ) -> Result<Range<u32>> {
        self.append_with(|store| store.append_batch_with_row_ids(Arc::new(vectors.clone()), row_ids))
    }

    fn append_with(
        &self,
        append: impl FnOnce(&ArrowFixedSizeListVectorStore) -> Result<Range<u32>>,
    ) -> Result<Range<u32>> {
        let _one_at_a_time = self.appending.lock().unwrap_or_else(PoisonError::into_inner);
        // Nodes of another source may have been inserted through `graph()`.
        let (len, needed) = (self.store.committed_len(), self.graph.len());
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        let ids = append(&self.store)?;
        self.graph.insert_batch(self.graph.len() as u32..ids.end, &self.store.view())?;
        Ok(ids)
    }

    /// The nearest `params.k` rows, nearest first, ties by id; all of them if there are fewer.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] or [`Error::UnusableQuery`], as [`HnswGraph::search`].
    pub fn search(&self, query: &[f32], params: SearchParams) -> Result<Vec<SearchResult>> {
        self.graph.search(query, params, &self.store.view())
    }

    /// The nearest `k` rows by comparing `query` with every row: what [`search`](Self::search)
    /// approximates.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_exact(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>> {
        const BLOCK: u32 = 256;
        let source = self.store.view();
        let len = self.graph.len().min(source.len()) as u32;
        check_query(query, &source)?;
        let query = PreparedQuery::new(query, source.distance_type());
        let mut nearest = BinaryHeap::new();
        let mut distances = [0.0; BLOCK as usize];
        for start in (0..len).step_by(BLOCK as usize) {
            let ids: Vec<u32> = (start..len.min(start.saturating_add(BLOCK))).collect();
            let distances = &mut distances[..ids.len()];
            source.distances_to(&query, &ids, distances);
            for (&id, &distance) in ids.iter().zip(distances.iter()) {
                nearest.push(ScoredPoint { id, distance }.key());
                if nearest.len() > k {
                    nearest.pop();
                }
            }
        }
        let points = nearest.into_sorted_vec().into_iter().map(ScoredPoint::from_key);
        Ok(points
            .map(|p| SearchResult { id: p.id, row_id: source.row_id(p.id), distance: p.distance })
            .collect())
    }

    /// Rows that can be found.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether no row can be found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.store.dim()
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.store.distance_type()
    }

    /// The parameters of the build.
    pub fn params(&self) -> &BuildParams {
        self.graph.params()
    }

    /// Rows that were appended without a usable vector, and why.
    pub fn skipped(&self) -> SkippedRows {
        self.store.skipped()
    }

    /// The shape of the graph.
    pub fn health(&self) -> GraphHealth {
        self.graph.health()
    }

    /// Bytes held beside the caller's vectors.
    pub fn resident_bytes(&self) -> usize {
        size_of::<Self>() + self.store.resident_bytes() + self.graph.resident_bytes()
    }

    /// The graph.
    pub fn graph(&self) -> &HnswGraph {
        &self.graph
    }

    /// The vectors of the rows that can be found now.
    pub fn snapshot(&self) -> VectorStoreSnapshot {
        self.store.snapshot().prefix(self.graph.len())
    }

    /// The graph as a `lance:hnsw` batch and the vectors as Lance's flat storage batch, of the same
    /// rows.
    ///
    /// # Errors
    /// As [`HnswGraph::to_lance_hnsw_batch`] and [`VectorStoreSnapshot::to_record_batch`].
    pub fn to_lance_batches(&self) -> Result<(RecordBatch, RecordBatch)> {
        let vectors = self.snapshot();
        let graph = self.graph.to_lance_hnsw_batch(Some(vectors.len()))?;
        Ok((graph, vectors.to_record_batch()?))
    }

    /// The index of two batches that [`to_lance_batches`](Self::to_lance_batches) or Lance wrote. The
    /// vectors stay in the buffers of their batch; the metric is read from its schema metadata.
    ///
    /// # Errors
    /// - [`Error::InvalidBatch`] if either batch is malformed, or they are not of the same rows,
    /// - what [`try_new`](Self::try_new) and [`append_with_row_ids`](Self::append_with_row_ids) refuse.
    pub fn from_lance_batches(graph: &RecordBatch, vectors: &RecordBatch) -> Result<Self> {
        let storage = Storage::of(vectors)?;
        let graph = HnswGraph::from_lance_hnsw_batch(graph)?;
        let dim = usize::try_from(storage.vectors.value_length()).unwrap_or(0);
        let store = ArrowFixedSizeListVectorStore::try_new(dim, storage.distance_type)?;
        store.append_batch_with_row_ids(Arc::new(storage.vectors.clone()), storage.row_ids)?;
        let invalid = |problem| Err(Error::InvalidBatch { kind: "flat", problem });
        if store.skipped().total() > 0 {
            return invalid(format!("rows without a usable vector: {}", store.skipped()));
        }
        if store.committed_len() != graph.len() {
            return invalid(format!("{} vectors for {} nodes", store.committed_len(), graph.len()));
        }
        Ok(Self { store: Arc::new(store), graph, appending: Mutex::new(()) })
    }
}
