//! `pennon eval`: recall and speed of an index for a list of search widths.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use indicatif::HumanCount;
use pennon::{BuildParams, Index, SkippedRows};
use rayon::prelude::*;
use serde::Serialize;

use crate::arguments::EvalArguments;
use crate::build::{in_pool, index_of};
use crate::fbin::GroundTruth;
use crate::ingest::Source;
use crate::input::Input;
use crate::measure::{Measurement, Queries, Query, Truth, measure};
use crate::open::{Location, Opened};
use crate::output;

/// Rows of the index that serve as queries, if no others are given.
const SAMPLE_ROWS: usize = 1000;

#[derive(Serialize)]
struct Evaluation {
    path: String,
    indexed: usize,
    skipped: SkippedRows,
    dimension: usize,
    metric: String,
    params: Option<BuildParams>,
    threads: usize,
    /// Of an index that was built for this.
    build_seconds: Option<f64>,
    queries: usize,
    queries_from: String,
    queries_skipped: u64,
    truth_from: String,
    k: usize,
    results: Vec<Measurement>,
}

pub fn run(arguments: &EvalArguments, json: bool) -> Result<()> {
    arguments.graph.params()?;
    let truth = arguments.ground_truth.as_deref().map(GroundTruth::read).transpose()?;
    if let Some(truth) = truth.as_ref().filter(|truth| truth.k < arguments.k.get()) {
        bail!("the ground truth has {} neighbors per query, -k is {}", truth.k, arguments.k);
    }
    let evaluation = in_pool(Some(arguments.threads), || evaluate(arguments, truth.as_ref()))?;
    if json { output::print_json(&evaluation) } else { output::print(&text(&evaluation)?) }
}

/// The index to measure, the column it is of, and how long it took to build.
fn open(arguments: &EvalArguments) -> Result<(Index, String, Option<f64>)> {
    let path = &arguments.path;
    let given = arguments.column.as_deref();
    if matches!(Location::of(path)?, Location::Saved | Location::Lance { .. }) {
        if arguments.graph.any() {
            bail!("{} is an index: --metric and the options of a build are for files", path.display());
        }
        let opened = Opened::open(path, arguments.in_memory)?;
        let column = opened.column(given).to_owned();
        return Ok((opened.index, column, None));
    }
    let input = Input::open(path)?;
    let column = given.unwrap_or("vector");
    let source = Source::check(&input, column, None, None, &[])?;
    let started = std::time::Instant::now();
    let (index, _) = index_of(&source, &input, &arguments.graph)?;
    Ok((index, column.to_owned(), Some(started.elapsed().as_secs_f64())))
}

fn evaluate(arguments: &EvalArguments, given: Option<&GroundTruth>) -> Result<Evaluation> {
    let (index, column, build_seconds) = open(arguments)?;
    let reader = index.reader();
    if reader.is_empty() {
        bail!("{} has no rows", arguments.path.display());
    }
    let Queries { queries, skipped: queries_skipped } = match &arguments.queries {
        Some(path) => Queries::read(path, &column, &index)?,
        None => Queries::sampled(&reader, SAMPLE_ROWS),
    };
    let all = queries.len() as u64 + queries_skipped;
    if let Some(given) = given.filter(|given| given.queries as u64 != all) {
        bail!("the ground truth has neighbors of {} queries, but there are {all}", given.queries);
    }
    // No search can use more than all rows; a library may allocate for what it is asked.
    let k = arguments.k.get().min(reader.len());
    let truth = |query: &Query| match given {
        Some(given) => Truth::given(&reader, &query.vector, &given.nearest(query.position as usize, k)),
        None => Truth::exact(&reader, &query.vector, k),
    };
    let truths = queries.par_iter().map(truth).collect::<Result<Vec<_>>>()?;
    // A search raises the widths below k to k.
    let mut widths: Vec<usize> = arguments.ef.iter().map(|&ef| ef.max(arguments.k).get()).collect();
    widths.sort_unstable();
    widths.dedup();
    let at = |ef: usize| {
        let measured = measure(&reader, &queries, &truths, k, ef.min(reader.len()))?;
        Ok(Measurement { ef, ..measured })
    };
    let results = widths.into_iter().map(at).collect::<Result<Vec<_>>>()?;
    let from = |path: &Option<PathBuf>, other: &str| {
        path.as_deref().map(Path::display).map_or(other.to_owned(), |path| path.to_string())
    };
    Ok(Evaluation {
        path: arguments.path.display().to_string(),
        indexed: reader.len(),
        skipped: index.skipped(),
        dimension: reader.dim(),
        metric: reader.distance_type().to_string(),
        params: reader.params().cloned(),
        threads: arguments.threads.get(),
        build_seconds,
        queries: queries.len(),
        queries_from: from(&arguments.queries, "rows of the index itself, evenly spaced"),
        queries_skipped,
        truth_from: from(&arguments.ground_truth, "an exact scan"),
        k,
        results,
    })
}

fn text(evaluation: &Evaluation) -> Result<String> {
    let Evaluation { path, indexed, skipped, dimension, metric, threads, k, .. } = evaluation;
    let graph = match &evaluation.params {
        Some(params) => format!("m {}, ef_construction {}", params.m, params.ef_construction),
        None => "none: all rows are compared".to_owned(),
    };
    let built =
        evaluation.build_seconds.map_or(String::new(), |seconds| format!(", built in {seconds:.2} s"));
    let head = format!(
        "base     {}, {} rows x {dimension}, {metric}, skipped: {skipped}\n\
         graph    {graph}{built}\n\
         queries  {} from {}, skipped: {}\n\
         truth    {}\n\
         threads  {threads}\n",
        path,
        HumanCount(*indexed as u64),
        HumanCount(evaluation.queries as u64),
        evaluation.queries_from,
        evaluation.queries_skipped,
        evaluation.truth_from,
    );
    let recall = format!("recall@{k}");
    let row = |result: &Measurement| {
        vec![
            format!("{:>4}", result.ef),
            format!("{:.4}", result.recall),
            format!("{:>9.0}", result.queries_per_second),
            format!("{:>7.1}", result.mean_us),
            format!("{:>7.1}", result.p50_us),
            format!("{:>7.1}", result.p99_us),
        ]
    };
    let rows: Vec<_> = evaluation.results.iter().map(row).collect();
    let table = output::table(&["ef", &recall, "queries/s", "mean us", "p50 us", "p99 us"], &rows)?;
    Ok(format!("{head}{table}"))
}
