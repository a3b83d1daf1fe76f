//! The index files of a flushed generation: the MemTable's graph, as it is.

use ::lance::dataset::mem_wal::index::{FlushOutcome, GenerationWrite};
use lance_core::Result as LanceResult;

use super::PennonMemIndex;
use crate::error::Result;
use crate::index::HnswIndex;
use crate::lance::Storage;
use crate::lance::files::{IndexFiles, Partition, details};

/// The version that Lance gives its own vector index files.
const INDEX_VERSION: i32 = 1;

impl PennonMemIndex {
    /// Writes the index into a generation. Its rows are in the generation's file in the order of their positions, so
    /// a position is the row id.
    pub(super) async fn write_generation(
        &self,
        generation: &GenerationWrite<'_>,
    ) -> LanceResult<FlushOutcome> {
        let Some(index) = self.index().filter(|index| !index.is_empty()).cloned() else {
            return Ok(FlushOutcome::Skip);
        };
        // The export reads the whole graph: not on a thread that other tasks wait for.
        let partition = tokio::task::spawn_blocking(move || partition_of(&index)).await??;

        let (uuid, dir) = generation.new_index_dir();
        let files = IndexFiles {
            store: generation.object_store,
            dir,
            version: generation.storage_version,
            quantizer: self.settings.quantizer,
            distance_type: self.distance_type,
        };
        files.write(&[partition]).await?;
        let details = details(self.distance_type, self.settings.quantizer, &self.settings.build)?;
        let metadata = generation.index_metadata(uuid, vec![self.field_id], details, INDEX_VERSION);
        Ok(FlushOutcome::Wrote(Box::new(metadata)))
    }
}

/// All rows as the only partition, which every query probes: its centroid may be any.
fn partition_of(index: &HnswIndex) -> Result<Partition> {
    let (graph, storage) = index.to_lance_batches()?;
    let Storage { vectors, row_ids, .. } = Storage::of(&storage)?;
    let (vectors, row_ids) = (vectors.clone(), row_ids.clone());
    Ok(Partition { graph, vectors, row_ids, centroid: vec![0.0; index.dim()] })
}
