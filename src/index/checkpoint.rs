//! One version of an index, apart, and an index put together again.

use std::sync::PoisonError;

use arrow_array::RecordBatch;

use crate::error::{Error, Result};
use crate::graph::HnswGraph;
use crate::index::HnswIndex;
use crate::search::version::Versions;
use crate::vectors::{ArrowFixedSizeListVectorStore, VectorStoreSnapshot};

/// What an index is in one version. It does not change with the index.
pub(crate) struct Checkpoint {
    /// The `lance:hnsw` batch of all vector ids of the version.
    pub graph: RecordBatch,
    /// As many vectors.
    pub vectors: VectorStoreSnapshot,
    /// The ids of dead rows, ascending.
    pub tombstones: Vec<u32>,
}

impl HnswIndex {
    /// The current version. Appends wait while the graph is copied.
    ///
    /// # Errors
    /// [`Error::ExportTooLarge`].
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        let one_at_a_time = self.table.appending.lock().unwrap_or_else(PoisonError::into_inner);
        // While nothing is appended, the version has all nodes, and the lists are taken as they are.
        let version = self.version();
        let graph = self.graph.to_hnsw_batch(Some(version.vectors()))?;
        drop(one_at_a_time);
        let vectors = self.table.store.snapshot().prefix(version.vectors());
        let tombstones = match version.deletes() {
            0 => Vec::new(),
            _ => {
                (0..version.vectors() as u32).filter(|&id| self.table.versions.is_dead(id, version)).collect()
            }
        };
        Ok(Checkpoint { graph, vectors, tombstones })
    }

    /// An index of the parts of another. `loaded_bytes` of them are on the heap.
    pub(crate) fn restored(
        store: ArrowFixedSizeListVectorStore,
        graph: HnswGraph,
        tombstones: &[u32],
        read_only: bool,
        loaded_bytes: usize,
    ) -> Self {
        let mut index = Self { read_only, loaded_bytes, ..Self::of(store, graph) };
        let vectors = index.table.store.committed_len() as u32;
        index.table.versions = Versions::starting_with(vectors, tombstones);
        index
    }

    /// Refuses changes of an index that is mapped from its files.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }
}
