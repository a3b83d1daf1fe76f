//! Lance datasets: built from a file, given an index, searched by Lance, and read as a stream of rows.

use std::fs;
use std::iter;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, RecordBatchIterator};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures::StreamExt;
use lance::Dataset;
use lance::dataset::{ProjectionRequest, WriteMode, WriteParams};
use lance::index::DatasetIndexExt;
use pennon::lance::{AttachParams, DISTANCE_COLUMN, Quantizer, ROW_ID_COLUMN, attach_index};
use rayon::ThreadPoolBuilder;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::arguments::{BuildArguments, SearchArguments};
use crate::ingest::{Source, column_of};
use crate::input::{Batches, Input};
use crate::labels::in_order;
use crate::output::{self, Report};
use crate::search::{Answer, parse_like, parse_vector};

// No doc comment: clap would take it for the help of the command this is flattened into.
#[derive(Debug, Args)]
pub struct DatasetArguments {
    /// Directory to write a Lance dataset to: all columns of the file, with an index on the column of vectors
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "row_id", "keep", "elements", "flat"])]
    pub lance: Option<PathBuf>,
    /// Replace the rows of the Lance dataset at DIR: they become its next version
    #[arg(long, requires = "lance")]
    pub overwrite: bool,
    /// How a dataset's index stores vectors: flat (as they are) or sq (8 bits per element) [default: flat]
    #[arg(long, value_parser = PossibleValuesParser::new(["flat", "sq"]).map(quantizer), conflicts_with = "output")]
    pub quantizer: Option<Quantizer>,
    /// IVF partitions of a dataset's index [default: one for each 1,048,576 rows]
    #[arg(long, value_name = "N", conflicts_with = "output")]
    pub partitions: Option<NonZeroUsize>,
}

fn quantizer(name: String) -> Quantizer {
    if name == "sq" { Quantizer::Sq } else { Quantizer::Flat }
}

/// Whether a build is one of a dataset's index.
pub fn is_meant(arguments: &BuildArguments) -> bool {
    arguments.dataset.lance.is_some() || (arguments.output.is_none() && arguments.file.is_dir())
}

pub fn is_dataset(directory: &Path) -> bool {
    directory.join("_versions").is_dir()
}

pub fn build(arguments: &BuildArguments, json: bool) -> Result<()> {
    let params = params(arguments)?;
    let input = &arguments.file;
    let report = match &arguments.dataset.lance {
        Some(directory) if !input.is_dir() => create(arguments, directory, params)?,
        Some(directory) if fs::canonicalize(input).ok() != fs::canonicalize(directory).ok() => bail!(
            "the index of a dataset becomes a part of it: --lance must be {} or be left out",
            input.display()
        ),
        _ => {
            let mut dataset = open(input)?;
            let mut report = attach(&mut dataset, &arguments.column, params)?;
            report.add("dataset", input.display().to_string());
            report
        }
    };
    report.print(json)
}

fn params(arguments: &BuildArguments) -> Result<AttachParams> {
    let Some(build) = arguments.graph.params()? else { bail!("the index of a Lance dataset has a graph") };
    if let Some(threads) = arguments.threads {
        // The library builds on threads of its own, as many as the global pool has.
        ThreadPoolBuilder::new().num_threads(threads.get()).build_global().context("cannot start threads")?;
    }
    let params = AttachParams::default().distance_type(arguments.graph.metric()).build(build);
    let params = params.quantizer(arguments.dataset.quantizer.unwrap_or_default());
    Ok(match arguments.dataset.partitions {
        Some(partitions) => params.partitions(partitions.get()),
        None => params,
    })
}

/// Writes the rows of a file as a dataset, or as the next version of one, and then its index.
fn create(arguments: &BuildArguments, directory: &Path, params: AttachParams) -> Result<Report> {
    let name = directory.display();
    let input = Input::open(&arguments.file)?;
    let column = input.vector_column(&arguments.column);
    let vectors = Source::check(&input, column, None, None, &[])?.vectors().clone();
    let mode = match is_dataset(directory) {
        true if arguments.dataset.overwrite => WriteMode::Overwrite,
        true => bail!(
            "{name} is a Lance dataset: --overwrite replaces it, `pennon build {name}` adds an index to it"
        ),
        false => WriteMode::Create,
    };
    output::check_directory(directory)?;
    if matches!(mode, WriteMode::Create)
        && let Some(entry) = directory.read_dir().ok().and_then(|mut entries| entries.next()).transpose()?
    {
        bail!("cannot write {name}: it holds '{}'", entry.file_name().display());
    }
    let (schema, rows) = rows(&input, column, &vectors)?;
    let is_new = !directory.exists();
    let write = || -> Result<Report> {
        let options = WriteParams { mode, ..WriteParams::default() };
        let (rows, uri) = (RecordBatchIterator::new(rows, schema), uri(directory)?);
        let written = runtime()?.block_on(Dataset::write(rows, uri.as_str(), Some(options)));
        let mut dataset = written.with_context(|| format!("cannot write {name}"))?;
        attach(&mut dataset, column, params)
    };
    let mut report = write().inspect_err(|_| {
        // Nobody has had a use for it yet.
        if is_new {
            let _ = fs::remove_dir_all(directory);
        }
    })?;
    report.add("written_to", directory.display().to_string());
    Ok(report)
}

type Rows = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// All columns of a file, its vectors as lists of a fixed size.
fn rows(input: &Input, column: &str, vectors: &DataType) -> Result<(SchemaRef, Rows)> {
    let schema = input.schema();
    let at = schema.index_of(column)?;
    let mut fields = schema.fields().to_vec();
    fields[at] = Arc::new(Field::clone(&fields[at]).with_data_type(vectors.clone()));
    let fixed = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let batches = input.batches(&names)?;
    let (vectors, fields) = (vectors.clone(), Arc::clone(&fixed));
    let bar = output::progress(input.rows(), "writing");
    let convert = move |batch: Result<RecordBatch>| -> Result<RecordBatch> {
        let batch = batch?;
        let mut columns = batch.columns().to_vec();
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        columns[at] = cast_with_options(&columns[at], &vectors, &strict)?;
        bar.inc(batch.num_rows() as u64);
        Ok(RecordBatch::try_new(Arc::clone(&fields), columns)?)
    };
    let to_arrow = |error: anyhow::Error| ArrowError::ExternalError(format!("{error:#}").into());
    Ok((fixed, Box::new(batches.map(move |batch| convert(batch).map_err(to_arrow)))))
}

fn attach(dataset: &mut Dataset, column: &str, params: AttachParams) -> Result<Report> {
    let (started, before) = (Instant::now(), dataset.version().version);
    let rows = runtime()?.block_on(dataset.count_rows(None))?;
    let bar = output::progress(Some(rows as u64), "indexing");
    let metric = params.distance_type;
    let params = params.progress(move |done| bar.set_position(done));
    let index = runtime()?.block_on(attach_index(dataset, column, params))?;

    let mut report = Report::default();
    report.add("rows", rows);
    report.add("index", &index.name);
    if dataset.version().version == before {
        report.add("indexed", "nothing new");
        return Ok(report);
    }
    let fragments = index.fragment_bitmap.as_ref().map_or(0, |fragments| fragments.len());
    report.add("indexed", format!("{fragments} of {} fragments", dataset.fragments().len()));
    report.add("metric", metric);
    report.add("partitions", index.partitions);
    report.add("seconds", started.elapsed().as_secs_f64());
    Ok(report)
}

/// Searches a dataset as Lance does: through its index if it has one, else by comparing all rows.
pub fn search(arguments: &SearchArguments) -> Result<Answer> {
    let dataset = open(&arguments.index.index)?;
    let column = arguments.column.as_deref().unwrap_or("vector");
    let Some(field) = dataset.schema().field(column) else { bail!("the dataset has no column '{column}'") };
    let DataType::FixedSizeList(item, _) = field.data_type() else {
        bail!("column '{column}' has no vectors")
    };
    let (query, vector) = query(&dataset, column, arguments)?;
    let vector = cast(&vector, item.data_type())?;
    let (k, ef) = (arguments.k.get(), arguments.ef.max(arguments.k).get());
    let mut scan = dataset.scan();
    scan.project(&arguments.show)?.nearest(column, vector.as_ref(), k)?.ef(ef).with_row_id();
    if let Some(condition) = &arguments.condition {
        scan.filter(condition).with_context(|| format!("--where {condition}"))?.prefilter(true);
    }
    let found = runtime()?.block_on(scan.try_into_batch())?;
    let columns: Vec<&str> = [ROW_ID_COLUMN, DISTANCE_COLUMN]
        .into_iter()
        .chain(arguments.show.iter().map(String::as_str))
        .collect();
    let metric = match statistics(&dataset)?.into_iter().find(|index| index["fields"] == json!([field.id])) {
        Some(index) => index["statistics"]["indices"][0]["metric_type"].as_str().unwrap_or("l2").to_owned(),
        None => "l2".to_owned(),
    };
    Ok(Answer { query, metric, k, ef, rows: in_order(&found, &columns)? })
}

/// What is searched for, in words and in numbers.
fn query(dataset: &Dataset, column: &str, arguments: &SearchArguments) -> Result<(String, ArrayRef)> {
    if arguments.queries.is_some() {
        bail!("--queries is not for a Lance dataset");
    }
    if let Some(text) = &arguments.vector {
        return Ok(("a vector".to_owned(), Arc::new(Float32Array::from(parse_vector(text)?))));
    }
    let (name, found) = match (&arguments.like, arguments.row) {
        (Some(like), _) => {
            let (named, value) = parse_like(like)?;
            let mut scan = dataset.scan();
            let filter = format!("cast(`{named}` as string) = '{}'", value.replace('\'', "''"));
            scan.project(&[column])?.filter(&filter)?.limit(Some(1), None)?;
            (format!("a row with {like}"), runtime()?.block_on(scan.try_into_batch())?)
        }
        (None, Some(row_id)) => {
            let columns = ProjectionRequest::from_columns([column], dataset.schema());
            (format!("row {row_id}"), runtime()?.block_on(dataset.take_rows(&[row_id], columns))?)
        }
        (None, None) => bail!("give one of --like, --row and --vector"),
    };
    let vectors = column_of(&found, column)?.as_fixed_size_list();
    match vectors.is_empty() || vectors.is_null(0) {
        true => bail!("the dataset has no {name}, or it has no vector"),
        false => Ok((name, vectors.value(0))),
    }
}

/// What is in a dataset, as JSON and as text.
pub fn inspect(path: &Path) -> Result<(Value, String)> {
    let dataset = open(path)?;
    let rows = runtime()?.block_on(dataset.count_rows(None))?;
    let schema = Schema::from(dataset.schema());
    let columns: Vec<Value> = schema.fields().iter().map(|field| json!(field.to_string())).collect();
    let value = json!({
        "rows": rows, "version": dataset.version().version, "fragments": dataset.fragments().len(),
        "columns": columns, "indices": statistics(&dataset)?,
    });
    let text = serde_json::to_string_pretty(&value)?;
    Ok((value, format!("{text}\n")))
}

/// The indices of a dataset with what Lance says of them.
fn statistics(dataset: &Dataset) -> Result<Vec<Value>> {
    let indices = runtime()?.block_on(dataset.load_indices())?;
    let mut all: Vec<Value> = Vec::new();
    for index in indices.iter() {
        if all.iter().any(|other| other["name"] == index.name.as_str()) {
            continue;
        }
        let statistics = runtime()?.block_on(dataset.index_statistics(&index.name))?;
        let statistics: Value = serde_json::from_str(&statistics)?;
        all.push(json!({ "name": index.name, "fields": index.fields, "statistics": statistics }));
    }
    Ok(all)
}

/// The schema and the rows of a dataset.
pub fn header(path: &Path) -> Result<(SchemaRef, Option<u64>)> {
    let dataset = open(path)?;
    let rows = runtime()?.block_on(dataset.count_rows(None))?;
    Ok((Arc::new(Schema::from(dataset.schema())), Some(rows as u64)))
}

/// Some columns of all rows.
pub fn batches(path: &Path, columns: &[&str]) -> Result<Batches> {
    let dataset = open(path)?;
    let mut scan = dataset.scan();
    scan.project(columns)?.scan_in_order(true);
    let mut stream = runtime()?.block_on(scan.try_into_stream())?;
    Ok(Box::new(iter::from_fn(move || {
        let next = runtime().map(|runtime| runtime.block_on(stream.next())).transpose()?;
        Some(next.and_then(|batch| Ok(batch?)))
    })))
}

pub fn open(path: &Path) -> Result<Dataset> {
    let name = path.display();
    if !is_dataset(path) {
        bail!("{name} is a directory, but not a Lance dataset");
    }
    runtime()?.block_on(Dataset::open(&uri(path)?)).with_context(|| format!("cannot open {name}"))
}

fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().ok()).as_ref().context("cannot start threads")
}

/// An absolute path, which Lance takes as it is.
fn uri(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path)?;
    Ok(absolute.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_owned())
}
