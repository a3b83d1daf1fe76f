//! `pennon inspect`: what is in the graph of an index.

use std::fs;
use std::path::{Path, PathBuf};

use arrow_schema::DataType;
use pennon::lance::{DISTANCE_TYPE_KEY, FLAT_COLUMN};
use pennon::{GraphHealth, HnswGraph};
use serde::Serialize;

use crate::arguments::InspectArguments;
use crate::failure::{Context, Result, decode, fail};
use crate::histogram;
use crate::index_dir::{self, GRAPH_FILE, VECTORS_FILE};
use crate::report::{Facts, grouped, levels, print, print_json};
use crate::table::Table;

/// Lines of a histogram, at most.
const HISTOGRAM_LINES: usize = 20;

#[derive(Serialize)]
struct Inspection {
    nodes: usize,
    metric: Option<String>,
    dimension: Option<i32>,
    m: usize,
    m0: usize,
    ef_construction: usize,
    max_level: u16,
    entry_point: Option<u32>,
    level_nodes: Vec<usize>,
    level_histogram: Vec<usize>,
    edges: u64,
    mean_degree: f64,
    max_degree: Vec<usize>,
    degree_histogram: Vec<usize>,
    reachable: usize,
    unreachable: usize,
    /// The first of them.
    unreachable_nodes: Vec<u32>,
    lists_over_cap: usize,
    components: usize,
    healthy: bool,
    files: Vec<FileSize>,
}

#[derive(Serialize)]
struct FileSize {
    path: PathBuf,
    bytes: u64,
}

pub fn run(arguments: &InspectArguments) -> Result<()> {
    let path = &arguments.path;
    if path.is_dir() {
        index_dir::check(path)?;
        let vectors = path.join(VECTORS_FILE);
        let (metric, dimension) = vector_facts(&vectors)?;
        let mut inspection = inspect_graph(&path.join(GRAPH_FILE))?;
        inspection.metric = metric;
        inspection.dimension = dimension;
        inspection.files.push(file_size(&vectors)?);
        report(&inspection, arguments.json)
    } else {
        report(&inspect_graph(path)?, arguments.json)
    }
}

fn inspect_graph(path: &Path) -> Result<Inspection> {
    let batch = index_dir::read_batch(path)?;
    let graph = decode(path, || HnswGraph::from_lance_hnsw_batch(&batch))?;
    let params = graph.params();
    let health: GraphHealth = graph.health();
    Ok(Inspection {
        nodes: health.nodes,
        metric: None,
        dimension: None,
        m: params.m,
        m0: params.m0.unwrap_or(2 * params.m),
        ef_construction: params.ef_construction,
        max_level: params.max_level,
        entry_point: health.entry_point,
        edges: health.edges,
        mean_degree: health.mean_degree(),
        reachable: health.reachable,
        unreachable: health.unreachable(),
        components: health.components,
        healthy: health.is_healthy(),
        level_histogram: health.level_histogram(),
        unreachable_nodes: health.unreachable_nodes,
        lists_over_cap: health.lists_over_cap,
        level_nodes: health.level_nodes,
        max_degree: health.max_degree,
        degree_histogram: health.degree_histogram,
        files: vec![file_size(path)?],
    })
}

/// The distance type and the dimension that the schema of the vectors states.
fn vector_facts(path: &Path) -> Result<(Option<String>, Option<i32>)> {
    let table = Table::open(path)?;
    let metric = table.schema().metadata().get(DISTANCE_TYPE_KEY).cloned();
    match table.field(FLAT_COLUMN)?.data_type() {
        DataType::FixedSizeList(_, dimension) => Ok((metric, Some(*dimension))),
        other => {
            fail(format!("column '{FLAT_COLUMN}' of {} is {other}, not a FixedSizeList", path.display()))
        }
    }
}

fn file_size(path: &Path) -> Result<FileSize> {
    let metadata = fs::metadata(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(FileSize { path: path.to_owned(), bytes: metadata.len() })
}

fn report(inspection: &Inspection, json: bool) -> Result<()> {
    if json {
        return print_json(inspection);
    }
    let mut text = facts(inspection).to_string();
    let histograms = [
        ("edges per node on level 0", &inspection.degree_histogram),
        ("highest level of a node", &inspection.level_histogram),
    ];
    for (title, counts) in histograms {
        text.push_str(&histogram::titled(title, counts, HISTOGRAM_LINES));
    }
    print(&text)
}

fn facts(inspection: &Inspection) -> Facts {
    let mut facts = Facts::default();
    facts.add("nodes", grouped(inspection.nodes as u64));
    if let Some(metric) = &inspection.metric {
        facts.add("metric", metric);
    }
    if let Some(dimension) = inspection.dimension {
        facts.add("dimension", dimension.to_string());
    }
    facts.add("m", inspection.m.to_string());
    facts.add("m0", inspection.m0.to_string());
    facts.add("ef_construction", inspection.ef_construction.to_string());
    facts.add("max_level", inspection.max_level.to_string());
    let entry_point = inspection.entry_point;
    facts.add("entry point", entry_point.map_or("none".to_owned(), |id| id.to_string()));
    facts.add("levels", levels(&inspection.level_nodes));
    facts.add(
        "edges on level 0",
        format!("{} ({:.1} per node)", grouped(inspection.edges), inspection.mean_degree),
    );
    let max_degree = inspection.max_degree.iter().map(ToString::to_string);
    facts.add("max degree by level", max_degree.collect::<Vec<_>>().join("  "));
    facts.add(
        "reachable",
        format!(
            "{} of {} on level 0 from the entry point ({} unreachable, {} components)",
            grouped(inspection.reachable as u64),
            grouped(inspection.nodes as u64),
            inspection.unreachable,
            inspection.components
        ),
    );
    if inspection.unreachable > 0 {
        let first: Vec<String> = inspection.unreachable_nodes.iter().map(ToString::to_string).collect();
        let dots = if first.len() < inspection.unreachable { ", ..." } else { "" };
        facts.add("unreachable", format!("{}{dots}", first.join(", ")));
    }
    if inspection.lists_over_cap > 0 {
        facts.add("lists over their cap", grouped(inspection.lists_over_cap as u64));
    }
    for file in &inspection.files {
        let bytes = grouped(file.bytes);
        facts.add("bytes", format!("{bytes} in {}", file.path.display()));
    }
    facts
}
