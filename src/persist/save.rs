//! Writing: all files of a new generation, and then the manifest that names them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema};

use super::files::{self, Part, at};
use super::manifest::{FORMAT, Files, Manifest};
use super::sum::{Sum, write_file};
use crate::error::{Error, Result};
use crate::index::{Checkpoint, HnswIndex};
use crate::lance::VECTOR_ID_COLUMN;
use crate::source::VectorSource;

/// Vectors are copied and written in batches of about so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Their rows are a multiple of this, so that none of the store's blocks of ids lies in two batches.
const BATCH_ROWS: usize = 256;

pub(super) fn save(index: &HnswIndex, dir: &Path, labels: Option<&RecordBatch>) -> Result<()> {
    check_labels(labels, index.version().vectors())?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    let _lock = files::lock(dir)?;
    // Taken under the lock: the last of two saves has the later version.
    let checkpoint = index.checkpoint()?;
    let vectors = checkpoint.vectors.len();
    check_labels(labels, vectors)?;
    let labels = labels.map(|labels| labels.slice(0, vectors));

    let last = files::of_all_generations(dir)?.into_iter().map(|file| file.1).max();
    let generation = last.unwrap_or(0).saturating_add(1);
    let staged = write_files(dir, generation, &checkpoint, labels.as_ref()).and_then(|written| {
        // The names have to last before a manifest mentions them.
        files::sync_directory(dir)?;
        let manifest = Manifest {
            format: FORMAT,
            generation,
            distance_type: index.distance_type(),
            dim: index.dim(),
            vectors,
            tombstones: checkpoint.tombstones.len(),
            params: index.params().clone(),
            files: written,
        };
        files::stage_manifest(dir, &manifest.encode()?)
    });
    if let Err(error) = staged {
        files::remove(dir, |of| of == generation);
        return Err(error);
    }
    // From here on nothing of this generation may be removed: whoever reads might see it already.
    files::publish_manifest(dir)?;
    files::sync_directory(dir)?;
    files::remove(dir, |of| of != generation);
    Ok(())
}

fn check_labels(labels: Option<&RecordBatch>, vectors: usize) -> Result<()> {
    match labels.map(RecordBatch::num_rows) {
        Some(labels) if labels < vectors => Err(Error::LabelCount { vectors, labels }),
        _ => Ok(()),
    }
}

fn write_files(
    dir: &Path,
    generation: u64,
    checkpoint: &Checkpoint,
    labels: Option<&RecordBatch>,
) -> Result<Files> {
    let path = |part: Part| dir.join(part.file_name(generation));
    let write = |part: Part, batch: &RecordBatch| -> Result<Sum> {
        write_file(&path(part), batch.schema_ref(), [Ok(batch.clone())])
    };
    let dead = Field::new(VECTOR_ID_COLUMN, DataType::UInt32, false);
    let ids = UInt32Array::from(checkpoint.tombstones.clone());
    let tombstones = RecordBatch::try_new(Arc::new(Schema::new(vec![dead])), vec![Arc::new(ids)])?;
    Ok(Files {
        graph: write(Part::Graph, &checkpoint.graph)?,
        vectors: write_vectors(&path(Part::Vectors), checkpoint)?,
        tombstones: write(Part::Tombstones, &tombstones)?,
        labels: labels.map(|labels| write(Part::Labels, labels)).transpose()?,
    })
}

fn write_vectors(path: &Path, checkpoint: &Checkpoint) -> Result<Sum> {
    let vectors = &checkpoint.vectors;
    let len = vectors.len() as u32;
    let row = vectors.dim().saturating_mul(size_of::<f32>());
    let rows = (BATCH_BYTES / row / BATCH_ROWS).max(1) * BATCH_ROWS;
    let batches = (0..len).step_by(rows).map(|start| {
        let end = start.saturating_add(rows as u32).min(len);
        vectors.batch_of(start..end)
    });
    // An empty index has a schema too, from which the type of its elements is read.
    let schema = vectors.batch_of(0..0)?.schema();
    write_file(path, &schema, batches)
}
