//! Columns of rows that were found: those that an index keeps, or those of the file it was built from.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Schema;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use pennon::{Hit, Reader, VectorSource};

use crate::ingest::{column_of, row_ids};
use crate::input::Input;
use crate::open::Opened;

/// Where columns are looked up.
pub enum Labels<'a> {
    Kept { labels: &'a RecordBatch, reader: Reader },
    File { input: Input, row_id: Option<&'a str> },
    None,
}

impl<'a> Labels<'a> {
    pub fn kept(opened: &'a Opened) -> Self {
        match &opened.labels {
            Some(labels) => Self::Kept { labels, reader: opened.index.reader() },
            None => Self::None,
        }
    }

    /// Fails unless there is such a column.
    pub fn check(&self, column: &str) -> Result<()> {
        match self {
            Self::Kept { labels, .. } if labels.schema_ref().column_with_name(column).is_some() => Ok(()),
            Self::Kept { labels, .. } => {
                let names: Vec<&str> =
                    labels.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
                bail!(
                    "the index keeps no column '{column}', but: {}; --from FILE looks it up in a file",
                    names.join(", ")
                )
            }
            Self::File { input, .. } => input.field(column).map(drop),
            Self::None => bail!(
                "the index keeps no columns: build it with --keep {column}, or give --from FILE, the file it was built from"
            ),
        }
    }

    /// The row id of the first row whose column prints as the value.
    pub fn find(&self, column: &str, value: &str) -> Result<u64> {
        self.check(column)?;
        match self {
            Self::Kept { labels, reader } => {
                let live = reader.live_ids();
                let array = column_of(labels, column)?;
                let formatter = formatter(array, column)?;
                let mut ids = live.set_indices_u32().map(|id| id as usize);
                let id = ids.find(|&id| array.is_valid(id) && formatter.value(id).to_string() == value);
                let id = id.with_context(|| format!("no row of the index has {column}={value}"))?;
                Ok(reader.snapshot().row_id(id as u32))
            }
            Self::File { input, row_id } => {
                let mut first = 0;
                for batch in input.batches(&columns_and(&[column], *row_id))? {
                    let batch = batch?;
                    let array = column_of(&batch, column)?;
                    let formatter = formatter(array, column)?;
                    let is_it =
                        |&row: &usize| array.is_valid(row) && formatter.value(row).to_string() == value;
                    if let Some(row) = (0..batch.num_rows()).find(is_it) {
                        return Ok(ids_of(&batch, *row_id, first)?.value(row));
                    }
                    first += batch.num_rows() as u64;
                }
                bail!("no row of {} has {column}={value}", input.path().display())
            }
            Self::None => bail!("there are no columns"),
        }
    }

    /// Some columns of rows that were found, in the order given.
    pub fn fetch(&self, columns: &[String], hits: &[Hit]) -> Result<RecordBatch> {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        match self {
            Self::Kept { labels, .. } => {
                let ids = UInt32Array::from_iter_values(hits.iter().map(|hit| hit.id));
                Ok(take_record_batch(&in_order(labels, &columns)?, &ids)?)
            }
            Self::File { input, row_id } => {
                let wanted: Vec<u64> = hits.iter().map(|hit| hit.row_id).collect();
                fetch_from(input, *row_id, &columns, &wanted)
            }
            Self::None => bail!("there are no columns"),
        }
    }
}

/// The columns of the rows of a file that have these row ids, in their order.
fn fetch_from(input: &Input, row_id: Option<&str>, columns: &[&str], wanted: &[u64]) -> Result<RecordBatch> {
    let mut places: HashMap<u64, Option<(usize, usize)>> =
        wanted.iter().map(|&row_id| (row_id, None)).collect();
    let (mut kept, mut first, mut missing) = (Vec::new(), 0, places.len());
    for batch in input.batches(&columns_and(columns, row_id))? {
        if missing == 0 {
            break;
        }
        let batch = batch?;
        let mut rows = Vec::new();
        for (row, row_id) in (0..).zip(ids_of(&batch, row_id, first)?.values()) {
            if let Some(place @ None) = places.get_mut(row_id) {
                *place = Some((kept.len(), rows.len()));
                rows.push(row);
            }
        }
        if !rows.is_empty() {
            missing -= rows.len();
            kept.push(take_record_batch(&in_order(&batch, columns)?, &UInt32Array::from(rows))?);
        }
        first += batch.num_rows() as u64;
    }
    let place = |row_id: &u64| {
        let place = places.get(row_id).copied().flatten();
        place.with_context(|| {
            let name = input.path().display();
            format!("{name} has no row with row id {row_id}: is it the file that the index was built from?")
        })
    };
    let rows = wanted.iter().map(place).collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        let fields = columns.iter().map(|column| Ok(input.field(column)?.clone()));
        return Ok(RecordBatch::new_empty(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?))));
    }
    Ok(interleave_record_batch(&kept.iter().collect::<Vec<_>>(), &rows)?)
}

/// Row ids of a batch: a column, or positions in the file.
fn ids_of(batch: &RecordBatch, row_id: Option<&str>, first: u64) -> Result<UInt64Array> {
    match row_id {
        Some(column) => row_ids(batch, column, first),
        None => Ok(UInt64Array::from_iter_values(first..first + batch.num_rows() as u64)),
    }
}

fn columns_and<'a>(columns: &[&'a str], row_id: Option<&'a str>) -> Vec<&'a str> {
    columns.iter().copied().chain(row_id).collect()
}

/// Columns of a batch, in this order.
pub fn in_order(batch: &RecordBatch, columns: &[&str]) -> Result<RecordBatch> {
    let schema = batch.schema_ref();
    let indices = columns.iter().map(|column| Ok(schema.index_of(column)?));
    Ok(batch.project(&indices.collect::<Result<Vec<_>>>()?)?)
}

pub fn formatter<'a>(array: &'a dyn Array, column: &str) -> Result<ArrayFormatter<'a>> {
    const OPTIONS: FormatOptions<'static> = FormatOptions::new();
    ArrayFormatter::try_new(array, &OPTIONS).with_context(|| format!("cannot print column '{column}'"))
}

/// The columns of two batches of as many rows, beside each other.
pub fn beside(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch> {
    let fields = left.schema_ref().fields().iter().chain(right.schema_ref().fields());
    let schema = Schema::new(fields.cloned().collect::<Vec<_>>());
    let columns = left.columns().iter().chain(right.columns()).cloned().collect();
    let options = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
}
