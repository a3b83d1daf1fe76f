//! The graph of a partition, built beside the tasks of the runtime.

use std::panic::resume_unwind;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{BuildParams, HnswGraph};
use crate::lance::index_files::Partition;
use crate::vectors::VectorSource;
use crate::vectors::VectorStoreSnapshot;

/// Rows that are linked between two reports. A caller that goes away is noticed as often.
const STEP_ROWS: u32 = 8_192;

/// Is told how many rows are done.
pub(super) type Report = Option<Arc<dyn Fn(u64) + Send + Sync>>;

/// Tells the caller how many rows are done.
pub(super) struct Progress {
    report: Report,
    done: u64,
}

impl Progress {
    pub fn new(report: Report) -> Self {
        Self { report, done: 0 }
    }

    pub fn advance(&mut self, rows: u64) {
        self.done += rows;
        if let Some(report) = &self.report {
            report(self.done);
        }
    }
}

/// Links the rows of a partition, in their order: node `r` is row `r`.
pub(super) async fn link_rows(
    vectors: VectorStoreSnapshot,
    params: &BuildParams,
    progress: &mut Progress,
) -> Result<Partition> {
    link_further(HnswGraph::try_new(params.clone())?, vectors, progress).await
}

/// Links the rows of a partition that a graph of the first of them does not have.
pub(super) async fn link_further(
    graph: HnswGraph,
    vectors: VectorStoreSnapshot,
    progress: &mut Progress,
) -> Result<Partition> {
    let (graph, rows) = (Arc::new(graph), vectors.len() as u32);
    for start in (graph.len() as u32..rows).step_by(STEP_ROWS as usize) {
        let ids = start..rows.min(start.saturating_add(STEP_ROWS));
        let linked = ids.len() as u64;
        let (graph, vectors) = (Arc::clone(&graph), vectors.clone());
        blocking(move || graph.insert_batch(ids, &vectors)).await?;
        progress.advance(linked);
    }
    let graph = blocking(move || graph.to_lance_hnsw_batch(None)).await?;
    Ok(Partition { graph, vectors })
}

/// Runs what takes long on a thread that no task waits for.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        // The runtime is shutting down.
        Err(failed) => Err(Error::from(lance_core::Error::from(failed))),
    }
}
