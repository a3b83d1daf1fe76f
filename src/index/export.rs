//! An index as Lance's batches, and an index put together from them or from files.

use arrow_array::{Array, RecordBatch};
use tracing::{debug, debug_span};

use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::format::{LanceBatches, Storage};
use crate::graph::{Coding, HnswGraph};
use crate::index::generation::Generation;
use crate::index::{Index, Reader};
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, RowIds, VectorSource, VectorStoreSnapshot};

/// What an index is in one version, to be written. It does not change with the index.
pub(crate) struct Checkpoint {
    /// The `lance:hnsw` batch of all vector ids of the version, if there is a graph.
    pub graph: Option<RecordBatch>,
    /// As many vectors.
    pub vectors: VectorStoreSnapshot,
    /// The ids of dead rows, ascending.
    pub tombstones: Vec<u32>,
    /// Whether the rows are coded.
    pub coding: Coding,
    reader: Reader,
}

impl Checkpoint {
    /// The compact codes of the vectors, if there are any.
    pub fn codes(&self) -> Option<&Codes> {
        self.reader.generation().codes_of(self.reader.version())
    }
}

impl Reader {
    /// The live rows: the graph as a `lance:hnsw` batch, if there is one, and the vectors as Lance's flat storage
    /// batch. If some rows are dead, these are the batches of the compacted index.
    ///
    /// # Errors
    /// As [`HnswGraph::to_lance_hnsw_batch`] and [`VectorStoreSnapshot::to_record_batch`].
    pub fn to_lance_batches(&self) -> Result<LanceBatches> {
        let _span = debug_span!("export", rows = self.len(), dead = self.tombstones()).entered();
        let vectors = self.snapshot();
        vectors.check_lance()?;
        if self.tombstones() > 0 {
            return self.compacted()?.to_lance_batches();
        }
        let graph = self.generation().graph.as_ref();
        let graph = graph.map(|graph| graph.to_lance_hnsw_batch(Some(vectors.len()))).transpose()?;
        let batches = LanceBatches { graph, vectors: vectors.to_record_batch()? };
        debug!(graph_rows = batches.graph.as_ref().map(RecordBatch::num_rows), "exported");
        Ok(batches)
    }

    /// All of the version, to be written. Appends wait while the graph is copied.
    ///
    /// # Errors
    /// [`Error::ExportTooLarge`].
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        let version = self.version();
        let graph = self.generation().graph.as_ref();
        let graph = graph.map(|graph| graph.to_hnsw_batch(Some(version.vectors()))).transpose()?;
        let tombstones = match version.deletes() {
            0 => Vec::new(),
            _ => (!&self.live_ids()).set_indices_u32().collect(),
        };
        let coding = match self.generation().graph {
            None if self.generation().codes.is_none() => Coding::Off,
            _ => Coding::Auto,
        };
        Ok(Checkpoint { graph, vectors: self.snapshot(), tombstones, coding, reader: self.clone() })
    }
}

impl Index {
    /// The current version as [`Reader::to_lance_batches`] gives it.
    ///
    /// # Errors
    /// As there.
    pub fn to_lance_batches(&self) -> Result<LanceBatches> {
        self.reader().to_lance_batches()
    }

    /// The index of batches that [`to_lance_batches`](Self::to_lance_batches) or Lance wrote: with a graph, if there
    /// is a batch of one. The vectors stay in the buffers of their batch; the metric is read from its schema metadata.
    ///
    /// # Errors
    /// - [`Error::InvalidBatch`] if either batch is malformed, or they are not of the same rows,
    /// - what [`builder`](Self::builder) and [`append_unique`](Self::append_unique) refuse.
    pub fn from_lance_batches(batches: &LanceBatches) -> Result<Self> {
        let _span = debug_span!("import", rows = batches.vectors.num_rows()).entered();
        let storage = Storage::of(&batches.vectors)?;
        let graph = batches.graph.as_ref().map(HnswGraph::from_lance_hnsw_batch).transpose()?;
        let (element_type, dim) = ElementType::of_vectors(storage.vectors.data_type())?;
        let distance_type = storage.distance_type;
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        store.append(storage.vectors, RowIds::from(storage.row_ids))?;
        let invalid = |problem| Err(Error::InvalidBatch { kind: "flat", problem });
        if let Some(graph) = &graph {
            if store.skipped().total() > 0 {
                return invalid(format!("rows without a usable vector: {}", store.skipped()));
            }
            if store.committed_len() != graph.len() {
                return invalid(format!("{} vectors for {} nodes", store.committed_len(), graph.len()));
            }
        }
        debug!(graph = graph.is_some(), rows = store.committed_len(), "imported");
        Ok(Self::of(Generation::new(store, graph, &[], Coding::default())))
    }

    /// The current version, to be written: while nothing is appended, it has all nodes, and the lists are taken as
    /// they are. Appends wait while the graph is copied.
    ///
    /// # Errors
    /// [`Error::ExportTooLarge`].
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        self.generations.append(|_| self.reader().checkpoint())
    }
}
