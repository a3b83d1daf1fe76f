//! The graph of a partition, built beside the tasks of the runtime.

use std::panic::resume_unwind;
use std::sync::Arc;

use arrow_array::Array;

use super::params::AttachParams;
use super::partitions::Share;
use crate::error::{Error, Result};
use crate::index::HnswIndex;
use crate::lance::files::Partition;

/// Rows that are linked between two reports. A caller that goes away is noticed as often.
const STEP_ROWS: usize = 8_192;

/// Tells the caller how many rows are done.
pub(super) struct Progress<'a> {
    params: &'a AttachParams,
    done: u64,
}

impl<'a> Progress<'a> {
    pub fn new(params: &'a AttachParams) -> Self {
        Self { params, done: 0 }
    }

    pub fn advance(&mut self, rows: u64) {
        self.done += rows;
        if let Some(report) = &self.params.progress {
            report(self.done);
        }
    }
}

/// Links the rows of a partition, in their order.
pub(super) async fn link_rows(
    share: Share,
    params: &AttachParams,
    progress: &mut Progress<'_>,
) -> Result<Partition> {
    let Share { vectors, row_ids, centroid } = share;
    let dim = usize::try_from(vectors.value_length()).unwrap_or(0);
    let index = Arc::new(HnswIndex::try_new(dim, params.distance_type, params.build.clone())?);
    for start in (0..vectors.len()).step_by(STEP_ROWS) {
        let rows = STEP_ROWS.min(vectors.len() - start);
        let (index, vectors, row_ids) =
            (Arc::clone(&index), vectors.slice(start, rows), row_ids.slice(start, rows));
        blocking(move || index.append_unique(&vectors, row_ids)).await?;
        progress.advance(rows as u64);
    }
    // All of these rows were found usable before, so that row `r` is node `r`.
    let graph = blocking(move || index.graph().to_lance_hnsw_batch(None)).await?;
    Ok(Partition { graph, vectors, row_ids, centroid })
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
