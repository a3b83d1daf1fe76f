//! The index files of a flushed generation: the MemTable's graph, as it is.

use ::lance::dataset::mem_wal::index::{FlushOutcome, GenerationWrite};
use lance_core::Result as LanceResult;
use tracing::{debug, info};

use crate::error::{Error, Result};
use crate::index::Reader;
use crate::lance::HNSW_METADATA_KEY;
use crate::lance::columns::lists;
use crate::lance::index_files::{IndexFiles, Partition, details};
use crate::lance::plugin::PennonMemIndex;

/// The version that Lance gives its own vector index files.
const INDEX_VERSION: i32 = 1;

impl PennonMemIndex {
    /// Writes the index into a generation. Its rows are in the generation's file in the order of their positions, so
    /// a position is the row id.
    pub(super) async fn write_generation(
        &self,
        generation: &GenerationWrite<'_>,
    ) -> LanceResult<FlushOutcome> {
        let reader = self.index().map(|index| index.reader()).filter(|reader| !reader.is_empty());
        let column = self.column();
        let Some(reader) = reader else {
            debug!(column, "no row of the MemTable has a vector: nothing to flush");
            return Ok(FlushOutcome::Skip);
        };
        let rows = reader.len();
        // The export reads the whole graph: not on a thread that other tasks wait for.
        let partition = tokio::task::spawn_blocking(move || partition_of(&reader)).await??;

        let (uuid, dir) = generation.new_index_dir();
        let files = IndexFiles {
            store: generation.object_store,
            dir,
            version: generation.storage_version,
            quantizer: self.settings.quantizer,
            distance_type: self.distance_type,
        };
        // Every query probes the only partition: its centroid may be any.
        let centroid = lists(self.element_type, self.dim, vec![0.0; self.dim])?;
        files.write(&[partition], &centroid).await?;
        let details = details(self.distance_type, self.settings.quantizer, &self.settings.build)?;
        let metadata = generation.index_metadata(uuid, vec![self.field_id], details, INDEX_VERSION);
        let kind = self.settings.quantizer.index_type();
        info!(column, rows, of = generation.total_rows, %kind, %uuid, "wrote the MemTable's graph");
        Ok(FlushOutcome::Wrote(Box::new(metadata)))
    }
}

/// All rows as one partition.
fn partition_of(reader: &Reader) -> Result<Partition> {
    // A MemTable deletes no rows, but others who have the index can.
    if reader.tombstones() > 0 {
        return partition_of(&reader.compacted()?.reader());
    }
    let vectors = reader.snapshot();
    let Some(graph) = reader.graph() else {
        let problem = "the index has no graph".to_string();
        return Err(Error::InvalidBatch { kind: HNSW_METADATA_KEY, problem });
    };
    Ok(Partition { graph: graph.to_lance_hnsw_batch()?, vectors })
}
