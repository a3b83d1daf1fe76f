//! The columns that an index keeps: rows found by them, filtered by them and shown with them.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Schema;
use arrow_select::take::take_record_batch;
use pennon::{Hit, Reader, RowMask, VectorSource};

use crate::ingest::column_of;

/// The columns that an index keeps, by vector id.
pub struct Labels<'a>(pub Option<&'a RecordBatch>);

impl<'a> Labels<'a> {
    fn columns(&self) -> Result<&'a RecordBatch> {
        self.0.context("the index keeps no columns: build it with --keep COLUMN,...")
    }

    /// Fails unless there is such a column.
    pub fn check(&self, column: &str) -> Result<()> {
        let fields = self.columns()?.schema_ref().fields();
        if fields.find(column).is_some() {
            return Ok(());
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        bail!("the index keeps no column '{column}', but: {}", names.join(", "))
    }

    /// The row id of the first row whose column prints as the value.
    pub fn find(&self, reader: &Reader, column: &str, value: &str) -> Result<u64> {
        self.check(column)?;
        let array = column_of(self.columns()?, column)?;
        let (live, formatter) = (reader.live_ids(), formatter(array, column)?);
        let is_it =
            |&id: &u32| array.is_valid(id as usize) && formatter.value(id as usize).to_string() == value;
        let id = live.set_indices_u32().find(is_it);
        let id = id.with_context(|| format!("no row of the index has {column}={value}"))?;
        Ok(reader.snapshot().row_id(id))
    }

    /// The rows that meet a condition in SQL.
    #[cfg(feature = "datafusion")]
    pub fn mask(&self, reader: &Reader, condition: &str) -> Result<RowMask> {
        let labels = self.columns()?;
        let test = pennon::sql::condition(condition, labels.schema_ref())
            .with_context(|| format!("--where {condition}"))?;
        Ok(reader.mask(test(labels)?)?)
    }

    #[cfg(not(feature = "datafusion"))]
    pub fn mask(&self, _: &Reader, _: &str) -> Result<RowMask> {
        bail!("this pennon is without the feature datafusion, which --where needs")
    }

    /// Some columns of rows that were found, in the order given.
    pub fn fetch(&self, columns: &[String], hits: impl Iterator<Item = Hit>) -> Result<RecordBatch> {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let ids = UInt32Array::from_iter_values(hits.map(|hit| hit.id));
        Ok(take_record_batch(&in_order(self.columns()?, &columns)?, &ids)?)
    }
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
