//! `pennon inspect`: what is in an index.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::HumanCount;
use pennon::{GraphHealth, HnswGraph};
use serde_json::{Value, json};

use crate::arguments::InspectArguments;
use crate::open::{self, Location, Opened};
use crate::output;

pub fn run(arguments: &InspectArguments, json: bool) -> Result<()> {
    let path = &arguments.index.index;
    let (value, text) = match Location::of(path)? {
        #[cfg(feature = "lance")]
        Location::Dataset => crate::dataset::inspect(path)?,
        Location::Lance { graph: Some(graph), vectors: None } => graph_alone(&graph)?,
        _ => index(path, arguments.index.in_memory)?,
    };
    if json { output::print_json(&value) } else { output::print(&text) }
}

fn index(path: &Path, in_memory: bool) -> Result<(Value, String)> {
    let opened = Opened::open(path, in_memory)?;
    let (stats, health) = (opened.index.stats(), opened.index.health());
    let labels = opened.labels.as_ref().map(|labels| labels.schema());
    let labels = labels.iter().flat_map(|schema| schema.fields()).collect::<Vec<_>>();
    let files = files(path)?;
    let mut text = format!("{stats}\n");
    if let Some(health) = &health {
        let _ = writeln!(text, "\n{health}");
    }
    for (name, value) in &opened.properties {
        let _ = write!(text, "\nproperty {name} = {value}");
    }
    for label in &labels {
        let _ = write!(text, "\nkept column {}: {}", label.name(), label.data_type());
    }
    for (file, bytes) in &files {
        let _ = write!(text, "\n{:>15} bytes in {}", HumanCount(*bytes).to_string(), file.display());
    }
    let labels: Vec<_> = labels
        .iter()
        .map(|label| json!({ "name": label.name(), "type": label.data_type().to_string() }))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(path, bytes)| json!({ "path": path.display().to_string(), "bytes": bytes }))
        .collect();
    let value = json!({
        "stats": stats, "health": health, "healthy": health.as_ref().is_none_or(GraphHealth::is_healthy),
        "properties": opened.properties, "labels": labels, "files": files,
    });
    Ok((value, format!("{}\n", text.trim_end())))
}

fn graph_alone(path: &Path) -> Result<(Value, String)> {
    let graph = HnswGraph::from_lance_hnsw_batch(&open::read_batch(path)?)?;
    let (params, health) = (graph.params(), graph.health());
    let text = format!(
        "m             {}\nef            {} in the build\n{health}\n",
        params.m, params.ef_construction
    );
    let value = json!({ "params": params, "health": health, "healthy": health.is_healthy() });
    Ok((value, text))
}

/// The files of an index with their lengths.
fn files(path: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    let paths = match path.is_dir() {
        true => fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
        false => vec![path.to_owned()],
    };
    for path in paths {
        let metadata = fs::metadata(&path)?;
        if metadata.is_file() && metadata.len() > 0 {
            files.push((path, metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}
