//! `pennon eval`: recall and speed of an index for a list of search widths.

use std::path::{Path, PathBuf};

use pennon::{BuildParams, DistanceType, SearchParams};
use serde::Serialize;

use crate::arguments::{EvalArguments, at_least_one};
use crate::failure::{Result, fail};
use crate::fbin::GroundTruth;
use crate::ingest::{Source, skipped_reasons};
use crate::measure::{Measurement, measure};
use crate::query_set::QuerySet;
use crate::report::{Align, Facts, grid, grouped, print, print_json};
use crate::staging::OutputFile;
use crate::table::Table;
use crate::vector_column::VectorColumn;
use crate::{plot, pool};

#[derive(Serialize)]
struct Evaluation {
    base: PathBuf,
    rows: u64,
    indexed: usize,
    skipped: String,
    dimension: usize,
    metric: String,
    m: usize,
    ef_construction: usize,
    seed: u64,
    threads: usize,
    build_seconds: f64,
    queries: usize,
    queries_from: String,
    queries_skipped: usize,
    truth_from: String,
    k: usize,
    results: Vec<Measurement>,
}

/// Everything that was read and checked before the build.
struct Inputs<'a> {
    base: Source<'a>,
    queries: Option<(Table, VectorColumn)>,
    truth: Option<GroundTruth>,
}

pub fn run(arguments: &EvalArguments) -> Result<()> {
    at_least_one("--k", arguments.k)?;
    at_least_one("--threads", arguments.threads)?;
    let widths = widths(arguments)?;
    let params = arguments.graph.params()?;
    let plot = arguments.plot.as_deref().map(OutputFile::check).transpose()?;
    let Some(path) = arguments.base.as_ref().or(arguments.file.as_ref()) else {
        return fail("give FILE or --base");
    };
    let table = Table::open(path)?;
    let inputs = Inputs::check(&table, arguments)?;
    let evaluation =
        pool::install(Some(arguments.threads), || evaluate(path, &inputs, arguments, &params, &widths))?;
    if let Some(plot) = plot {
        let title = format!(
            "pennon: {}, {} x {}, {}",
            path.file_name().unwrap_or_default().display(),
            grouped(evaluation.rows),
            evaluation.dimension,
            evaluation.metric
        );
        plot.write(&plot::draw(&title, evaluation.k, &evaluation.results)?)?;
    }
    if arguments.json {
        return print_json(&evaluation);
    }
    print(&text(&evaluation))
}

/// The widths to measure, ascending; a search raises those below k to k.
fn widths(arguments: &EvalArguments) -> Result<Vec<usize>> {
    for ef in &arguments.ef {
        at_least_one("--ef", *ef)?;
    }
    let raised = arguments.ef.iter().map(|ef| (*ef).max(arguments.k));
    let mut widths: Vec<usize> = raised.collect();
    widths.sort_unstable();
    widths.dedup();
    Ok(widths)
}

impl<'a> Inputs<'a> {
    fn check(table: &'a Table, arguments: &'a EvalArguments) -> Result<Self> {
        let column = table.vector_column(&arguments.column);
        let base = Source::check(table, column, None)?;
        let queries = match &arguments.queries {
            Some(path) => Some(open_queries(path, &arguments.column, base.dim())?),
            None => None,
        };
        let truth = match (&arguments.ground_truth, &queries) {
            (Some(path), Some((queries, _))) => Some(read_truth(path, queries.rows(), arguments.k)?),
            _ => None,
        };
        Ok(Self { base, queries, truth })
    }
}

fn open_queries(path: &Path, column: &str, dim: usize) -> Result<(Table, VectorColumn)> {
    let table = Table::open(path)?;
    let column = VectorColumn::open(&table, table.vector_column(column))?;
    if column.dim() != dim {
        return fail(format!(
            "the queries in {} have dimension {}, the indexed vectors have {dim}",
            path.display(),
            column.dim()
        ));
    }
    Ok((table, column))
}

fn read_truth(path: &Path, queries: u64, k: usize) -> Result<GroundTruth> {
    let truth = GroundTruth::read(path)?;
    let name = path.display();
    if truth.queries as u64 != queries {
        let found = truth.queries;
        return fail(format!("{name} has neighbors of {found} queries, but there are {queries}"));
    }
    if truth.k < k {
        let found = truth.k;
        return fail(format!("{name} has {found} neighbors per query, --k is {k}"));
    }
    Ok(truth)
}

fn evaluate(
    path: &Path,
    inputs: &Inputs<'_>,
    arguments: &EvalArguments,
    params: &BuildParams,
    widths: &[usize],
) -> Result<Evaluation> {
    let distance_type = DistanceType::from(arguments.metric);
    let built = inputs.base.build(distance_type, params)?;
    let index = &built.index;
    let queries = match &inputs.queries {
        Some((table, column)) => QuerySet::read(table, column, distance_type)?,
        None => QuerySet::sampled(index),
    };
    // No search can use more than all rows; a library may allocate for what it is asked.
    let k = arguments.k.min(index.len());
    let truths = queries.truths(index, k, inputs.truth.as_ref())?;
    let mut results = Vec::with_capacity(widths.len());
    for ef in widths {
        let params = SearchParams::new(k, (*ef).min(index.len()));
        let measured = measure(index, &queries.queries, &truths, &params)?;
        results.push(Measurement { ef: *ef, ..measured });
    }
    Ok(Evaluation {
        base: path.to_owned(),
        rows: built.rows,
        indexed: index.len(),
        skipped: skipped_reasons(index),
        dimension: index.dim(),
        metric: distance_type.to_string(),
        m: params.m,
        ef_construction: params.ef_construction,
        seed: params.seed,
        threads: arguments.threads,
        build_seconds: built.elapsed.as_secs_f64(),
        queries: queries.queries.len(),
        queries_from: match &arguments.queries {
            Some(path) => path.display().to_string(),
            None => "rows of the file itself, evenly spaced".to_owned(),
        },
        queries_skipped: queries.skipped,
        truth_from: match &arguments.ground_truth {
            Some(path) => path.display().to_string(),
            None => "an exact scan".to_owned(),
        },
        k: arguments.k,
        results,
    })
}

fn text(evaluation: &Evaluation) -> String {
    let mut facts = Facts::default();
    facts.add(
        "base",
        format!(
            "{}, {} rows x {}, {}, skipped: {}",
            evaluation.base.display(),
            grouped(evaluation.rows),
            evaluation.dimension,
            evaluation.metric,
            evaluation.skipped
        ),
    );
    facts.add(
        "graph",
        format!(
            "m {}, ef_construction {}, seed {}, built in {:.2} s",
            evaluation.m, evaluation.ef_construction, evaluation.seed, evaluation.build_seconds
        ),
    );
    facts.add(
        "queries",
        format!(
            "{} from {}, skipped: {}",
            grouped(evaluation.queries as u64),
            evaluation.queries_from,
            evaluation.queries_skipped
        ),
    );
    facts.add("truth", evaluation.truth_from.as_str());
    facts.add("threads", evaluation.threads.to_string());
    format!("{facts}\n{}", results(evaluation))
}

fn results(evaluation: &Evaluation) -> String {
    let recall = format!("recall@{}", evaluation.k);
    let columns = [
        ("ef", Align::Right),
        (recall.as_str(), Align::Right),
        ("queries/s", Align::Right),
        ("mean us", Align::Right),
        ("p50 us", Align::Right),
        ("p99 us", Align::Right),
    ];
    let row = |result: &Measurement| {
        vec![
            result.ef.to_string(),
            format!("{:.4}", result.recall),
            format!("{:.0}", result.queries_per_second),
            format!("{:.1}", result.mean_us),
            format!("{:.1}", result.p50_us),
            format!("{:.1}", result.p99_us),
        ]
    };
    let rows: Vec<Vec<String>> = evaluation.results.iter().map(row).collect();
    grid(&columns, &rows)
}
