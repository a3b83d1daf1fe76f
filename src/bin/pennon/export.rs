//! `pennon export`: the live rows of an index as Lance's batches, each in an Arrow IPC file.

use std::io::BufWriter;
use std::path::Path;

use anyhow::{Result, bail};
use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;

use crate::arguments::ExportArguments;
use crate::open::{GRAPH_FILE, Opened, VECTORS_FILE};
use crate::output::{self, Report};

pub fn run(arguments: &ExportArguments, json: bool) -> Result<()> {
    let opened = Opened::open(&arguments.index.index, arguments.index.in_memory)?;
    let batches = opened.index.to_lance_batches()?;
    let (graph, vectors) = (arguments.output.join(GRAPH_FILE), arguments.output.join(VECTORS_FILE));
    if batches.graph.is_none() && graph.exists() {
        bail!("{} is the graph of other vectors: the index has none", graph.display());
    }
    let mut report = Report::default();
    report.add("rows", batches.vectors.num_rows());
    write(&vectors, &batches.vectors)?;
    report.add("vectors", vectors.display().to_string());
    if let Some(batch) = &batches.graph {
        write(&graph, batch)?;
        report.add("graph", graph.display().to_string());
    }
    report.print(json)
}

fn write(path: &Path, batch: &RecordBatch) -> Result<()> {
    output::write_file(path, |file| {
        let mut writer = FileWriter::try_new(BufWriter::new(file), batch.schema_ref())?;
        writer.write(batch)?;
        Ok(writer.finish()?)
    })
}
