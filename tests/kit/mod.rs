//! What tests of several binaries ask of an index: its parts, and itself from them.
#![allow(dead_code, reason = "no binary needs all of it")]

pub mod traces;

use std::path::Path;

use arrow_array::RecordBatch;
use pennon::{Hit, Hits, HnswGraph, Index, LanceBatches, Result, SearchStats};

/// The rows of an answer, and what it cost.
pub fn with_stats(hits: Hits) -> (Vec<Hit>, SearchStats) {
    let stats = *hits.stats();
    (hits.into_vec(), stats)
}

/// The batches of an index with a graph: the graph and the vectors.
pub fn pair(batches: LanceBatches) -> (RecordBatch, RecordBatch) {
    (batches.graph.unwrap(), batches.vectors)
}

/// The index of a graph and its vectors.
pub fn import(graph: &RecordBatch, vectors: &RecordBatch) -> Result<Index> {
    Index::from_lance_batches(&LanceBatches::new(Some(graph.clone()), vectors.clone()))
}

/// A copy of an index's graph, of which dead rows are nodes as well.
pub fn graph_of(index: &Index) -> HnswGraph {
    HnswGraph::from_lance_hnsw_batch(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()).unwrap()
}

/// The index of a directory, in memory.
pub fn load(dir: impl AsRef<Path>) -> Result<Index> {
    Index::load(dir).map(|loaded| loaded.index)
}

/// The index of a directory, mapped from its files.
pub fn open_mapped(dir: impl AsRef<Path>) -> Result<Index> {
    // SAFETY: what tests do to files that are mapped is to remove them, which leaves the mapping as it is.
    #[allow(unsafe_code, reason = "the files are those of the test")]
    let loaded = unsafe { Index::load_mmap(dir) };
    loaded.map(|loaded| loaded.index)
}

/// The labels of a directory.
pub fn load_labels(dir: impl AsRef<Path>) -> Result<Option<RecordBatch>> {
    Index::load(dir).map(|loaded| loaded.labels)
}
