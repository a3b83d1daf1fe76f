//! `pennon build`: an index of one column of vectors, saved in a directory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pennon::Index;
use rayon::ThreadPoolBuilder;

use crate::arguments::{BuildArguments, GraphArguments};
use crate::ingest::{OnDuplicate, Source, Taken};
use crate::input::Input;
use crate::measure::{self, SAMPLE_EF};
use crate::open::{self, Opened};
use crate::output::{self, Report};

pub fn run(arguments: &BuildArguments, json: bool) -> Result<()> {
    #[cfg(feature = "lance")]
    if crate::dataset::is_meant(arguments) {
        return crate::dataset::build(arguments, json);
    }
    let Some(output) = &arguments.output else {
        bail!("a build of a file needs --output DIR or --lance DIR");
    };
    output::check_directory(output)?;
    let input = Input::open(&arguments.file)?;
    let row_id = arguments.row_id.as_deref();
    let source = Source::check(&input, &arguments.column, arguments.elements, row_id, &arguments.keep)?;
    in_pool(arguments.threads, || {
        let started = Instant::now();
        let (index, taken) = index_of(&source, &input, &arguments.graph)?;
        let seconds = started.elapsed().as_secs_f64();

        let mut properties = BTreeMap::from([(open::COLUMN.to_owned(), arguments.column.clone())]);
        match row_id {
            Some(column) => properties.insert(open::ROW_ID.to_owned(), column.to_owned()),
            None => properties.insert(open::NEXT_ROW_ID.to_owned(), taken.rows.to_string()),
        };
        if let Some(elements) = arguments.elements {
            properties.insert(open::ELEMENTS.to_owned(), elements.to_string());
        }
        let opened = Opened { index, labels: taken.labels, properties };
        let lock = open::lock(output)?;
        opened.save(output)?;
        drop(lock);

        let index = &opened.index;
        let mut report = Report::default();
        report.add("rows", taken.rows);
        report.add("indexed", index.len());
        report.add("skipped", index.skipped());
        report.add("dimension", index.dim());
        report.add("elements", index.element_type());
        report.add("metric", index.distance_type());
        if let Some(graph) = index.reader().graph() {
            report.add("rows_by_highest_level", graph.level_histogram());
        }
        report.add("seconds", seconds);
        report.add("rows_per_second", (taken.rows as f64 / seconds.max(1e-9)) as u64);
        report.add("bytes_per_row_beside_vectors", index.resident_bytes() as f64 / index.len().max(1) as f64);
        if !arguments.no_sample {
            let sample = measure::sampled_recall(&index.reader())?;
            report.add("recall_at_10", sample.recall);
            report.add("recall_from", format!("{} rows as queries, ef {SAMPLE_EF}", sample.queries));
        }
        report.add("written_to", output.display().to_string());
        report.print(json)
    })
}

/// The index of all rows of a file; at least one has a usable vector.
pub fn index_of(source: &Source<'_>, input: &Input, graph: &GraphArguments) -> Result<(Index, Taken)> {
    let (elements, dim) = source.shape()?;
    let builder = Index::builder(dim, graph.metric()).element_type(elements);
    let builder = match graph.params()? {
        Some(params) => builder.params(params),
        None => builder.flat(),
    };
    let index = builder.build()?;
    let taken = source.fill(&index, 0, OnDuplicate::Never)?;
    if index.is_empty() {
        let name = input.path().display();
        bail!("{name} has no usable vector in {} rows, skipped: {}", taken.rows, index.skipped());
    }
    Ok((index, taken))
}

/// Runs `work` on a pool of so many threads, by default one for each CPU. What it does with rayon stays there.
pub fn in_pool<T: Send>(threads: Option<NonZeroUsize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    // To rayon 0 threads means one per CPU.
    let pool = ThreadPoolBuilder::new().num_threads(threads.map_or(0, NonZeroUsize::get));
    pool.build().context("cannot start threads")?.install(work)
}
