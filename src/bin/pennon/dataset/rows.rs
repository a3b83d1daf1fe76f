//! The rows of a file as Lance writes them: all columns, the vectors as `FixedSizeList`.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use indicatif::ProgressBar;

use crate::failure::{Context, Result, fail};
use crate::progress;
use crate::table::{Batches, Table};
use crate::vector_column::VectorColumn;

/// All batches of a file, in row order.
pub struct TableRows {
    batches: Batches,
    vectors: VectorColumn,
    /// Position of the vector column.
    at: usize,
    schema: SchemaRef,
    first_row: u64,
    progress: ProgressBar,
}

impl TableRows {
    /// Fails unless there are rows and the column is one of vectors.
    pub fn open(table: &Table, column: &str) -> Result<Self> {
        let field = table.field(column)?;
        if table.rows() == 0 {
            return fail(format!("{} has no rows", table.path().display()));
        }
        let vectors = VectorColumn::open(table, column)?;
        let data_type = match field.data_type() {
            fixed @ DataType::FixedSizeList(..) => fixed.clone(),
            _ => {
                let dim = i32::try_from(vectors.dim()).context(|| format!("column '{column}'"))?;
                DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), dim)
            }
        };
        let at = table.schema().index_of(column).context(|| table.path().display().to_string())?;
        let mut fields: Vec<FieldRef> = table.schema().fields().to_vec();
        fields[at] = Arc::new(field.clone().with_data_type(data_type));
        let schema = Arc::new(Schema::new_with_metadata(fields, table.schema().metadata().clone()));
        let batches = table.all_batches()?;
        let progress = progress::bar(table.rows(), "writing");
        Ok(Self { batches, vectors, at, schema, first_row: 0, progress })
    }

    fn converted(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let vectors = self.vectors.vectors(batch, self.first_row)?;
        self.first_row += batch.num_rows() as u64;
        self.progress.inc(batch.num_rows() as u64);
        let mut columns = batch.columns().to_vec();
        columns[self.at] = Arc::new(vectors);
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .context(|| format!("column '{}'", self.vectors.name()))
    }
}

impl Iterator for TableRows {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.next()?;
        let batch = batch.and_then(|batch| self.converted(&batch));
        Some(batch.map_err(|failure| ArrowError::ExternalError(failure.to_string().into())))
    }
}

impl RecordBatchReader for TableRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
