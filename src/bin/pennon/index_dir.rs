//! The directory of an index: `graph.arrow` (Lance's `lance:hnsw` batch) and `vectors.arrow`.

use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_select::concat::concat_batches;
use pennon::HnswIndex;

use crate::failure::{Context, Result, decode, fail};
use crate::staging::OutputDirectory;
use crate::table::Table;

pub const GRAPH_FILE: &str = "graph.arrow";
pub const VECTORS_FILE: &str = "vectors.arrow";

/// The only files in the directory; one with others is not ours to replace.
pub const FILES: &[&str] = &[GRAPH_FILE, VECTORS_FILE];

/// Writes the index, in place of an earlier one.
pub fn save(index: &HnswIndex, output: &OutputDirectory) -> Result<()> {
    let (graph, vectors) = index.to_lance_batches()?;
    output.write(|directory| {
        write_ipc(&directory.join(GRAPH_FILE), &graph)?;
        write_ipc(&directory.join(VECTORS_FILE), &vectors)
    })
}

/// Reads the index of a directory.
pub fn load(directory: &Path) -> Result<HnswIndex> {
    check(directory)?;
    let graph = read_batch(&directory.join(GRAPH_FILE))?;
    let vectors = read_batch(&directory.join(VECTORS_FILE))?;
    decode(directory, || HnswIndex::from_lance_batches(&graph, &vectors))
}

/// Fails unless the directory holds both files.
pub fn check(directory: &Path) -> Result<()> {
    let name = directory.display();
    if !directory.exists() {
        return fail(format!("{name}: no such directory"));
    }
    if !directory.is_dir() {
        return fail(format!("{name} is not a directory"));
    }
    let missing = FILES.iter().find(|file| !directory.join(file).exists());
    if let Some(file) = missing {
        return fail(format!("{name} is not a pennon index: it has no {file}"));
    }
    Ok(())
}

/// All batches of a file as one, with the schema's metadata.
pub fn read_batch(path: &Path) -> Result<RecordBatch> {
    let table = Table::open(path)?;
    let mut batches = table.all_batches()?.collect::<Result<Vec<_>>>()?;
    if batches.len() == 1
        && let Some(batch) = batches.pop()
    {
        return Ok(batch);
    }
    decode(path, || concat_batches(table.schema(), &batches))
}

fn write_ipc(path: &Path, batch: &RecordBatch) -> Result<()> {
    let name = path.file_name().unwrap_or_default().display();
    let what = || format!("cannot write {name}");
    let file = File::create(path).context(what)?;
    let mut writer = FileWriter::try_new_buffered(file, batch.schema_ref()).context(what)?;
    writer.write(batch).context(what)?;
    let buffered = writer.into_inner().context(what)?;
    let file = buffered.into_inner().context(what)?;
    file.sync_all().context(what)
}
