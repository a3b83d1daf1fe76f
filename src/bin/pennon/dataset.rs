//! `pennon build` with a Lance dataset: one that is there gets an index, or a file becomes one that has an index.

mod arguments;
mod rows;

pub use arguments::DatasetArguments;

use std::fs;
use std::path::Path;
use std::time::Instant;

use lance::Dataset;
use pennon::DistanceType;
use pennon::lance::{AttachParams, attach_index};
use rayon::ThreadPoolBuilder;
use tokio::runtime::Runtime;

use crate::arguments::{BuildArguments, at_least_one};
use crate::failure::{Context, Failure, Result, fail};
use crate::progress;
use crate::report::{Facts, grouped, print};
use crate::staging::{self, OutputDirectory};
use crate::table::Table;
use rows::TableRows;

/// What Lance keeps in the directory of a dataset. One with anything else is not ours to replace.
const ENTRIES: &[&str] = &["_deletions", "_indices", "_refs", "_transactions", "_versions", "data"];
/// The entry that every dataset has.
const VERSIONS: &str = "_versions";

/// Whether a build is one of a dataset's index.
pub fn is_meant(arguments: &BuildArguments) -> bool {
    arguments.dataset.lance.is_some() || (arguments.output.is_none() && arguments.file.is_dir())
}

pub fn run(arguments: &BuildArguments) -> Result<()> {
    let params = params(arguments)?;
    let input = &arguments.file;
    // First of all: a dataset that a killed build had set aside is to be found in its place.
    staging::clear_abandoned(arguments.dataset.lance.as_deref().unwrap_or(input));
    let facts = match &arguments.dataset.lance {
        Some(directory) if !input.is_dir() => create(arguments, directory, params)?,
        Some(directory) if !is_same(input, directory) => {
            return fail(format!(
                "the index of a dataset becomes a part of it: --lance must be {} or be left out",
                input.display()
            ));
        }
        _ => attach_to(input, &arguments.column, params)?,
    };
    print(&facts.to_string())
}

fn params(arguments: &BuildArguments) -> Result<AttachParams> {
    let build = arguments.graph.params()?;
    at_least_one("--partitions", arguments.dataset.partitions)?;
    if let Some(threads) = arguments.threads {
        at_least_one("--threads", threads)?;
        // The library builds on threads of its own, as many as the global pool has.
        let pool = ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().context(|| "cannot start threads".to_owned())?;
    }
    let params = AttachParams::default().distance_type(DistanceType::from(arguments.metric)).build(build);
    let storage = arguments.dataset.quantizer.into();
    Ok(params.quantizer(storage).partitions(arguments.dataset.partitions))
}

/// Writes the rows of a file as a new dataset with an index. It appears complete or not at all.
fn create(arguments: &BuildArguments, directory: &Path, params: AttachParams) -> Result<Facts> {
    let table = Table::open(&arguments.file)?;
    let column = table.vector_column(&arguments.column);
    let rows = TableRows::open(&table, column)?;
    if is_dataset(directory) && !arguments.dataset.overwrite {
        let name = directory.display();
        return fail(format!(
            "{name} is a Lance dataset: --overwrite replaces it, `pennon build {name}` adds an index to it"
        ));
    }
    let replaceable: &'static [&'static str] = if arguments.dataset.overwrite { ENTRIES } else { &[] };
    let output = OutputDirectory::check(directory, replaceable)?;
    let mut facts = Facts::default();
    output.write(|fresh| {
        let uri = uri(fresh)?;
        facts = runtime()?.block_on(async {
            let written = Dataset::write(rows, uri.as_str(), None).await;
            let mut dataset = written.context(|| format!("cannot write {}", directory.display()))?;
            attach(&mut dataset, column, params).await
        })?;
        Ok(())
    })?;
    facts.add("written to", directory.display().to_string());
    Ok(facts)
}

fn attach_to(directory: &Path, column: &str, params: AttachParams) -> Result<Facts> {
    let name = directory.display();
    if !is_dataset(directory) {
        return fail(format!("{name} is a directory, but not a Lance dataset"));
    }
    let uri = uri(directory)?;
    let mut facts = runtime()?.block_on(async {
        let opened = Dataset::open(&uri).await;
        let mut dataset = opened.context(|| format!("cannot open {name}"))?;
        attach(&mut dataset, column, params).await
    })?;
    facts.add("dataset", name.to_string());
    Ok(facts)
}

async fn attach(dataset: &mut Dataset, column: &str, params: AttachParams) -> Result<Facts> {
    let (started, before) = (Instant::now(), dataset.version().version);
    let rows = dataset.count_rows(None).await.context(|| "cannot count the rows".to_owned())?;
    let bar = progress::bar(rows as u64, "building");
    let partitions = params.partitions;
    let metric = params.distance_type;
    let params = params.progress(move |done| bar.set_position(done));
    let index = attach_index(dataset, column, params).await?;

    let mut facts = Facts::default();
    facts.add("rows", grouped(rows as u64));
    facts.add("index", index.name);
    if dataset.version().version == before {
        facts.add("indexed", "nothing new");
        return Ok(facts);
    }
    let fragments = index.fragment_bitmap.map_or(0, |fragments| fragments.len());
    facts.add("indexed", format!("{} of {} fragments", fragments, dataset.fragments().len()));
    facts.add("metric", metric.to_string());
    facts.add("partitions", partitions.to_string());
    facts.add("seconds", format!("{:.2}", started.elapsed().as_secs_f64()));
    Ok(facts)
}

fn runtime() -> Result<Runtime> {
    Runtime::new().context(|| "cannot start threads".to_owned())
}

fn is_dataset(directory: &Path) -> bool {
    directory.join(VERSIONS).is_dir()
}

fn is_same(left: &Path, right: &Path) -> bool {
    matches!((fs::canonicalize(left), fs::canonicalize(right)), (Ok(left), Ok(right)) if left == right)
}

/// An absolute path, which Lance takes as it is.
fn uri(path: &Path) -> Result<String> {
    let path = std::path::absolute(path).context(|| path.display().to_string())?;
    let not_text = || Failure::new(format!("{}: the path is not UTF-8", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(not_text)
}
