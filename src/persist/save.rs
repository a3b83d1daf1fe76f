//! Writing: all files of a new generation, and then the manifest that names them.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema};
use tracing::{info, info_span};

use crate::control::{Control, Stage};
use crate::error::{Error, Result};
use crate::format::VECTOR_ID_COLUMN;
use crate::graph::BuildParams;
use crate::index::{Checkpoint, Reader};
use crate::persist::CODE_COLUMN;
use crate::persist::SaveOptions;
use crate::persist::checksum::{Sum, write_file};
use crate::persist::directory::{self, Generation, Part};
use crate::persist::manifest::{FORMAT, Files, Manifest};
use crate::persist::set::Columns;
use crate::vectors::VectorSource;

/// Vectors are copied and written in batches of about so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Their rows are a multiple of this, so that none of the store's blocks of ids lies in two batches.
const BATCH_ROWS: usize = 256;

/// Saves what `checkpoint` gives under the lock of the directory: the last of two saves has the later version. It is
/// of the index of `reader`, and of no older version.
pub(super) fn save(
    dir: &Path,
    options: &SaveOptions,
    control: &Control<'_>,
    reader: &Reader,
    checkpoint: impl FnOnce() -> Result<Checkpoint>,
) -> Result<()> {
    let _span = info_span!("save", dir = %dir.display()).entered();
    let saved = check_labels(options.labels.as_ref(), reader.version().vectors()).and_then(|()| {
        directory::make_directory(dir)?;
        let _lock = directory::lock(dir)?;
        save_locked(dir, options, control, reader.params(), &checkpoint()?, None)
    });
    told(saved)
}

/// Traces a save that failed; one that did not is traced where its sizes are known.
pub(super) fn told(saved: Result<()>) -> Result<()> {
    saved.inspect_err(|error| info!(%error, "not saved"))
}

/// Saves an index, and the other columns of a collection, in a directory that is locked.
pub(super) fn save_locked(
    dir: &Path,
    options: &SaveOptions,
    control: &Control<'_>,
    params: Option<&BuildParams>,
    checkpoint: &Checkpoint,
    rows: Option<&Columns>,
) -> Result<()> {
    let vectors = checkpoint.vectors.len();
    check_labels(options.labels.as_ref(), vectors)?;
    let labels = options.labels.as_ref().map(|labels| labels.slice(0, vectors));

    // Nothing of the older index is needed, not even that its manifest can be read.
    let named = Manifest::read(dir).map_or(0, |manifest| manifest.generation);
    let mut generation = Generation::after(named, dir)?;
    let number = generation.number;
    let coded = checkpoint.codes().map_or(0, |_| vectors);
    let proceed = |done: usize| control.check(Stage::Save, done as u64, (vectors + coded) as u64);
    let written = write_files(&mut generation, checkpoint, labels.as_ref(), rows, &proceed)?;
    proceed(vectors + coded)?;
    // The names have to be durable before a manifest mentions them.
    directory::sync_directory(dir)?;
    let manifest = Manifest {
        format: FORMAT,
        generation: number,
        distance_type: checkpoint.vectors.distance_type(),
        dim: checkpoint.vectors.dim(),
        vectors,
        tombstones: checkpoint.tombstones.len(),
        params: params.cloned(),
        coding: checkpoint.coding,
        properties: options.properties.clone(),
        files: written,
    };
    let bytes = manifest.files.bytes();
    directory::stage_manifest(dir, &manifest.encode()?)?;
    // From here on nothing of this generation may be removed: a reader might see it already.
    generation.keep();
    directory::publish_manifest(dir)?;
    directory::sync_directory(dir)?;
    directory::remove_all_but(number, dir);
    info!(files = number, vectors, dead = checkpoint.tombstones.len(), bytes, "saved");
    Ok(())
}

fn check_labels(labels: Option<&RecordBatch>, vectors: usize) -> Result<()> {
    match labels.map(RecordBatch::num_rows) {
        Some(labels) if labels < vectors => Err(Error::LabelCount { vectors, labels }),
        _ => Ok(()),
    }
}

/// Writes all files but the manifest, as long as `proceed` does not refuse: it is asked before each batch of vectors or
/// codes, with how many rows of these are written.
fn write_files(
    generation: &mut Generation<'_>,
    checkpoint: &Checkpoint,
    labels: Option<&RecordBatch>,
    rows: Option<&Columns>,
    proceed: &dyn Fn(usize) -> Result<()>,
) -> Result<Files> {
    proceed(0)?;
    let dead = Field::new(VECTOR_ID_COLUMN, DataType::UInt32, false);
    let ids = UInt32Array::from(checkpoint.tombstones.clone());
    let tombstones = RecordBatch::try_new(Arc::new(Schema::new(vec![dead])), vec![Arc::new(ids)])?;
    Ok(Files {
        graph: checkpoint.graph.as_ref().map(|graph| write(generation, Part::Graph, graph)).transpose()?,
        vectors: write_vectors(generation, checkpoint, proceed)?,
        tombstones: write(generation, Part::Tombstones, &tombstones)?,
        labels: labels.map(|labels| write(generation, Part::Labels, labels)).transpose()?,
        rows: rows.map(|rows| write_rows(generation, rows)).transpose()?,
        codes: write_codes(generation, checkpoint, proceed)?,
    })
}

fn write(generation: &mut Generation<'_>, part: Part, batch: &RecordBatch) -> Result<Sum> {
    write_file(generation.create(part)?, batch.schema_ref(), [Ok(batch.clone())])
}

fn write_rows(generation: &mut Generation<'_>, rows: &Columns) -> Result<Sum> {
    write_file(generation.create(Part::Rows)?, &rows.schema, rows.batches.iter().cloned().map(Ok))
}

fn write_vectors(
    generation: &mut Generation<'_>,
    checkpoint: &Checkpoint,
    proceed: &dyn Fn(usize) -> Result<()>,
) -> Result<Sum> {
    let vectors = &checkpoint.vectors;
    let len = vectors.len() as u32;
    let row = vectors.dim().saturating_mul(size_of::<f32>());
    let rows = (BATCH_BYTES / row / BATCH_ROWS).max(1) * BATCH_ROWS;
    let batches = (0..len).step_by(rows).map(|start| {
        proceed(start as usize)?;
        let end = start.saturating_add(rows as u32).min(len);
        vectors.batch_of(start..end)
    });
    // An empty index has a schema too, from which the type of its elements is read.
    let schema = vectors.batch_of(0..0)?.schema();
    write_file(generation.create(Part::Vectors)?, &schema, batches)
}

/// Records in batches of a power of two of rows, so that each is found by its id where it lies.
fn write_codes(
    generation: &mut Generation<'_>,
    checkpoint: &Checkpoint,
    proceed: &dyn Fn(usize) -> Result<()>,
) -> Result<Option<Sum>> {
    let Some(codes) = checkpoint.codes() else { return Ok(None) };
    let record_len = codes.record_len();
    // What Arrow has no size for is coded when it is loaded.
    let Ok(width) = i32::try_from(record_len) else { return Ok(None) };
    let rows = (BATCH_BYTES / record_len).max(1).next_power_of_two() as u32;
    let schema =
        Arc::new(Schema::new(vec![Field::new(CODE_COLUMN, DataType::FixedSizeBinary(width), false)]));
    let end = checkpoint.vectors.len() as u32;
    let batches = (0..end).step_by(rows as usize).map(|start| {
        proceed((end + start) as usize)?;
        let mut records = Vec::with_capacity(rows as usize * record_len);
        codes.read_records(start..start.saturating_add(rows).min(end), &mut records);
        let records = FixedSizeBinaryArray::try_new(width, Buffer::from_vec(records), None)?;
        Ok(RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(records)])?)
    });
    Ok(Some(write_file(generation.create(Part::Codes)?, &schema, batches)?))
}
