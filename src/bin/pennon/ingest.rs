//! The rows of a file, taken into an index in their order, with the columns that are kept beside it.

use std::iter;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use pennon::{ElementType, Index};

use crate::input::Input;
use crate::output;

/// Rows appended at a time, however large the file's own batches are.
const CHUNK_ROWS: usize = 8192;

/// What becomes of a row whose row id a live row has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It cannot be: nothing is compared where row ids are counted, in an index that was empty.
    Never,
    Refuse,
    Replace,
}

/// What to read of a file: checked, so that mistakes show before hours of building.
pub struct Source<'a> {
    input: &'a Input,
    column: &'a str,
    /// A `FixedSizeList`, whatever lists the file has.
    vectors: DataType,
    is_converted: bool,
    row_id: Option<&'a str>,
    keep: Vec<&'a str>,
}

/// What was taken in.
pub struct Taken {
    pub rows: u64,
    /// The columns that are kept, a row for each usable vector.
    pub labels: Option<RecordBatch>,
}

impl<'a> Source<'a> {
    /// Fails unless the columns exist and can be what they are asked to be.
    pub fn check(
        input: &'a Input,
        column: &'a str,
        elements: Option<ElementType>,
        row_id: Option<&'a str>,
        keep: &'a [String],
    ) -> Result<Self> {
        let name = input.path().display();
        let column = input.vector_column(column);
        if let Some(row_id) = row_id {
            let data_type = input.field(row_id)?.data_type();
            if !data_type.is_integer() {
                bail!("row id column '{row_id}' of {name} is {data_type}, not an integer type");
            }
        }
        for column in keep {
            input.field(column)?;
        }
        let as_read = fixed_size(input, column)?;
        let (found, dim) =
            ElementType::of_vectors(&as_read).with_context(|| format!("column '{column}' of {name}"))?;
        let vectors = match elements.filter(|&elements| elements != found) {
            None => as_read,
            Some(elements) => {
                let item = elements.to_string().parse();
                let item = item.ok().with_context(|| format!("vectors cannot be converted to {elements}"))?;
                DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), i32::try_from(dim)?)
            }
        };
        let is_converted = elements.is_some_and(|elements| elements != found);
        let keep = keep.iter().map(String::as_str).collect();
        Ok(Self { input, column, vectors, is_converted, row_id, keep })
    }

    /// The elements and the dimension of the vectors.
    pub fn shape(&self) -> Result<(ElementType, usize)> {
        Ok(ElementType::of_vectors(&self.vectors)?)
    }

    /// The type of the vectors: a `FixedSizeList`.
    #[cfg(feature = "lance")]
    pub fn vectors(&self) -> &DataType {
        &self.vectors
    }

    /// The schema of the columns that are kept.
    fn label_schema(&self) -> Result<SchemaRef> {
        let field = |name: &&str| Ok(self.input.field(name)?.clone().with_nullable(true));
        Ok(Arc::new(Schema::new(self.keep.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }

    /// Appends all rows to an index, on rayon's current pool. Without a column of row ids they count from `first` on.
    pub fn fill(&self, index: &Index, first: u64, on_duplicate: OnDuplicate) -> Result<Taken> {
        let bar = output::progress(self.input.rows(), "indexing");
        let columns: Vec<&str> =
            iter::once(self.column).chain(self.row_id).chain(self.keep.iter().copied()).collect();
        let label_schema = self.label_schema()?;
        let (mut row, mut labels) = (0, Vec::new());
        for batch in self.input.batches(&columns)? {
            let batch = batch?;
            let vectors = self.vectors_of(&batch)?;
            let row_ids = self.row_id.map(|column| row_ids(&batch, column, row)).transpose()?;
            let kept = self.keep.iter().map(|name| Ok(Arc::clone(column_of(&batch, name)?)));
            let kept = kept.collect::<Result<Vec<_>>>()?;
            for at in (0..batch.num_rows()).step_by(CHUNK_ROWS) {
                let rows = CHUNK_ROWS.min(batch.num_rows() - at);
                let vectors = vectors.slice(at, rows);
                let appended = match (&row_ids, on_duplicate) {
                    (None, OnDuplicate::Never) => index.append_unique(&vectors, first + row),
                    (None, OnDuplicate::Refuse) => index.append(&vectors, first + row),
                    (None, OnDuplicate::Replace) => index.upsert(&vectors, first + row),
                    (Some(ids), OnDuplicate::Replace) => index.upsert(&vectors, ids.slice(at, rows)),
                    (Some(ids), _) => index.append(&vectors, ids.slice(at, rows)),
                };
                let appended = appended.with_context(|| {
                    let last = row + rows as u64 - 1;
                    format!("rows {row} to {last} of {}, counted from 0 there", self.input.path().display())
                })?;
                if !kept.is_empty() {
                    let kept = RecordBatch::try_new(Arc::clone(&label_schema), kept.clone())?;
                    labels.extend(appended.runs().map(|run| kept.slice(at + run.start, run.len())));
                }
                row += rows as u64;
                bar.set_position(row);
            }
        }
        bar.finish_and_clear();
        if row == 0 {
            bail!("{} has no rows", self.input.path().display());
        }
        let labels = (!self.keep.is_empty()).then(|| concat_batches(&label_schema, &labels)).transpose()?;
        Ok(Taken { rows: row, labels })
    }

    fn vectors_of(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let vectors = column_of(batch, self.column)?;
        if !self.is_converted {
            return Ok(Arc::clone(vectors));
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let converted = cast_with_options(vectors, &self.vectors, &strict);
        converted.with_context(|| format!("column '{}' cannot be converted", self.column))
    }
}

/// The type of a column, where lists count as lists of the length of the first that is not null.
fn fixed_size(input: &Input, column: &str) -> Result<DataType> {
    let (item, is_large) = match input.field(column)?.data_type() {
        DataType::List(item) => (item, false),
        DataType::LargeList(item) => (item, true),
        other => return Ok(other.clone()),
    };
    let mut rows = 0;
    for batch in input.batches(&[column])? {
        let batch = batch?;
        let lists = column_of(&batch, column)?;
        let first = match is_large {
            true => lists.as_list::<i64>().iter().flatten().next(),
            false => lists.as_list::<i32>().iter().flatten().next(),
        };
        if let Some(first) = first {
            return Ok(DataType::FixedSizeList(Arc::clone(item), i32::try_from(first.len())?));
        }
        rows += batch.num_rows();
    }
    let name = input.path().display();
    match rows {
        0 => bail!("{name} has no rows"),
        _ => bail!("column '{column}' of {name} has no usable vector: all {rows} rows are null"),
    }
}

pub fn column_of<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(column).with_context(|| format!("column '{column}' is missing in a batch"))
}

/// The row ids in a column of a batch whose first row is row `first` of the file.
pub fn row_ids(batch: &RecordBatch, column: &str, first: u64) -> Result<UInt64Array> {
    let array = column_of(batch, column)?;
    // A value that does not fit becomes null.
    let ids = cast(array, &DataType::UInt64)?;
    let ids = ids.as_primitive::<UInt64Type>().clone();
    match (0..ids.len()).find(|&row| ids.is_null(row)) {
        None => Ok(ids),
        Some(row) => {
            let problem = if array.is_null(row) { "is null" } else { "is negative" };
            bail!("row id column '{column}' {problem} in row {}", first + row as u64)
        }
    }
}
