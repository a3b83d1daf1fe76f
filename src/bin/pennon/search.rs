//! `pennon search`: the nearest rows to a row, a vector, or each vector of a file.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{ArrayRef, Float32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use pennon::lance::{DISTANCE_COLUMN, QUERY_INDEX_COLUMN, ROW_ID_COLUMN};
use pennon::{Hits, SearchParams};
use rayon::prelude::*;
use serde_json::json;

use crate::arguments::SearchArguments;
use crate::labels::{Labels, beside, formatter};
use crate::measure::{Queries, Query};
use crate::open::Opened;
use crate::output::{self, Format, Report};

/// Characters of a cell that are printed.
const CELL_WIDTH: usize = 60;

/// What was found, as it is printed or written.
pub struct Answer {
    /// What the search was for.
    pub query: String,
    pub metric: String,
    pub k: usize,
    pub ef: usize,
    /// Columns `_rowid`, `_distance` and those to show; before them `query_index`, if the queries are a file's.
    pub rows: RecordBatch,
}

pub fn run(arguments: &SearchArguments, json: bool) -> Result<()> {
    if let Some(out) = &arguments.out {
        Format::of(out)?;
    }
    #[cfg(feature = "lance")]
    if crate::dataset::is_dataset(&arguments.index.index) {
        return report(&crate::dataset::search(arguments)?, arguments, json);
    }
    let opened = Opened::open(&arguments.index.index, arguments.index.in_memory)?;
    let labels = Labels(opened.labels.as_ref());
    for column in &arguments.show {
        labels.check(column)?;
    }
    let reader = opened.index.reader();
    let (query, queries) = queries(arguments, &opened, &labels)?;
    // No search can use more than all rows; a library may allocate for what it is asked.
    let (k, ef) = (arguments.k.get(), arguments.ef.max(arguments.k).get());
    let mut params = SearchParams::new(k.min(reader.len())).ef(ef.min(reader.len()));
    if let Some(condition) = &arguments.condition {
        params = params.mask(labels.mask(&reader, condition)?);
    }
    let search = |query: &Query| -> Result<Hits> {
        reader.search(&query.vector, &params).with_context(|| format!("query {}", query.position))
    };
    let found = match &queries[..] {
        [query] => vec![reader.search(&query.vector, &params)?],
        queries => queries.par_iter().map(search).collect::<Result<Vec<_>>>()?,
    };
    let positions = arguments.queries.is_some().then(|| queries.iter().map(|query| query.position));
    let mut rows = batch_of(positions, &found)?;
    if !arguments.show.is_empty() {
        let hits = found.iter().flat_map(|hits| hits.iter().copied());
        rows = beside(&rows, &labels.fetch(&arguments.show, hits)?)?;
    }
    let metric = opened.index.distance_type().to_string();
    report(&Answer { query, metric, k, ef, rows }, arguments, json)
}

/// What is searched for, in words and in numbers.
fn queries(
    arguments: &SearchArguments,
    opened: &Opened,
    labels: &Labels<'_>,
) -> Result<(String, Vec<Query>)> {
    let index = &opened.index;
    if let Some(path) = &arguments.queries {
        let read = Queries::read(path, opened.column(arguments.column.as_deref()), index)?;
        let (count, skipped) = (read.queries.len(), read.skipped);
        return Ok((format!("each of {count} queries ({skipped} skipped)"), read.queries));
    }
    let one = |vector| vec![Query { position: 0, vector }];
    if let Some(text) = &arguments.vector {
        let vector = parse_vector(text)?;
        let (given, dim) = (vector.len(), index.dim());
        if given != dim {
            bail!("--vector has {given} numbers, the vectors of the index have {dim}");
        }
        return Ok(("a vector".to_owned(), one(vector)));
    }
    let (row_id, name) = match (&arguments.like, arguments.row) {
        (Some(like), _) => {
            let (column, value) = parse_like(like)?;
            let row_id = labels.find(&index.reader(), column, value)?;
            (row_id, format!("row {row_id} ({column}={value})"))
        }
        (None, Some(row_id)) => (row_id, format!("row {row_id}")),
        (None, None) => bail!("give one of --like, --row, --vector and --queries"),
    };
    match index.get(row_id)? {
        Some(row) => Ok((name, one(row.vector))),
        None => bail!("{name} is not among the {} rows of the index", index.len()),
    }
}

/// The numbers of `0.1,0.2` or `[0.1, 0.2]`.
pub fn parse_vector(text: &str) -> Result<Vec<f32>> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).trim();
    if bare.is_empty() {
        bail!("--vector is empty");
    }
    let number = |(position, number): (usize, &str)| {
        let number = number.trim();
        number
            .parse()
            .ok()
            .with_context(|| format!("--vector: element {position} is '{number}', not a number"))
    };
    bare.split(',').enumerate().map(number).collect()
}

/// The column and the value of `COLUMN=VALUE`; the value may hold further equals signs.
pub fn parse_like(text: &str) -> Result<(&str, &str)> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column, value)),
        _ => bail!("--like has to be COLUMN=VALUE, got '{text}'"),
    }
}

/// The rows of all answers, with the positions of their queries.
fn batch_of(positions: Option<impl Iterator<Item = u64>>, found: &[Hits]) -> Result<RecordBatch> {
    let hits = || found.iter().flat_map(|hits| hits.iter());
    let row_ids = UInt64Array::from_iter_values(hits().map(|hit| hit.row_id));
    let distances = Float32Array::from_iter_values(hits().map(|hit| hit.distance));
    let mut fields = vec![
        Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
        Field::new(DISTANCE_COLUMN, DataType::Float32, false),
    ];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(row_ids), Arc::new(distances)];
    if let Some(positions) = positions {
        let repeated = positions.zip(found).flat_map(|(position, hits)| hits.iter().map(move |_| position));
        fields.insert(0, Field::new(QUERY_INDEX_COLUMN, DataType::UInt64, false));
        columns.insert(0, Arc::new(UInt64Array::from_iter_values(repeated)));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn report(answer: &Answer, arguments: &SearchArguments, json: bool) -> Result<()> {
    let Answer { query, metric, k, ef, rows } = answer;
    if let Some(out) = &arguments.out {
        Format::of(out)?.write(out, rows)?;
        let mut report = Report::default();
        report.add("query", query);
        report.add("rows", rows.num_rows());
        report.add("written_to", out.display().to_string());
        return report.print(json);
    }
    if json {
        let neighbors = output::json_rows(rows)?;
        return output::print_json(
            &json!({ "query": query, "metric": metric, "k": k, "ef": ef, "neighbors": neighbors }),
        );
    }
    let table = table(rows)?;
    let found = match arguments.queries {
        Some(_) => *k,
        None => rows.num_rows(),
    };
    output::print(&format!("{found} nearest rows to {query}, distance {metric}, ef {ef}\n{table}"))
}

fn table(rows: &RecordBatch) -> Result<String> {
    let schema = rows.schema();
    let headings: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let columns = headings.iter().zip(rows.columns());
    let formatters = columns.map(|(name, array)| formatter(array, name)).collect::<Result<Vec<_>>>()?;
    let cell = |column: usize, row: usize| {
        let text = output::one_line(&formatters[column].value(row).to_string());
        match headings[column] {
            DISTANCE_COLUMN => text.parse::<f32>().map_or(text, |distance| format!("{distance:.6}")),
            _ if text.chars().count() <= CELL_WIDTH => text,
            _ => text.chars().take(CELL_WIDTH - 3).chain("...".chars()).collect(),
        }
    };
    let rank = if headings.contains(&QUERY_INDEX_COLUMN) { None } else { Some("rank") };
    let row = |row: usize| {
        let rank = rank.map(|_| (row + 1).to_string());
        rank.into_iter().chain((0..headings.len()).map(|column| cell(column, row))).collect::<Vec<_>>()
    };
    let rows: Vec<_> = (0..rows.num_rows()).map(row).collect();
    output::table(&rank.into_iter().chain(headings.iter().copied()).collect::<Vec<_>>(), &rows)
}
