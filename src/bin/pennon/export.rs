//! `pennon export`: the live rows of an index as Lance's batches, each in an Arrow IPC file.

use anyhow::{Result, bail};

use crate::arguments::ExportArguments;
use crate::open::{GRAPH_FILE, Opened, VECTORS_FILE};
use crate::output::{Format, Report};

pub fn run(arguments: &ExportArguments, json: bool) -> Result<()> {
    let opened = Opened::open(&arguments.index.index, arguments.index.in_memory)?;
    let batches = opened.index.to_lance_batches()?;
    let (graph, vectors) = (arguments.output.join(GRAPH_FILE), arguments.output.join(VECTORS_FILE));
    if batches.graph.is_none() && graph.exists() {
        bail!("{} is the graph of other vectors: the index has none", graph.display());
    }
    let mut report = Report::default();
    report.add("rows", batches.vectors.num_rows());
    Format::Arrow.write(&vectors, &batches.vectors)?;
    report.add("vectors", vectors.display().to_string());
    if let Some(batch) = &batches.graph {
        Format::Arrow.write(&graph, batch)?;
        report.add("graph", graph.display().to_string());
    }
    report.print(json)
}
