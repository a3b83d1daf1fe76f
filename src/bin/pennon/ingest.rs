//! Fills an index with the rows of a file, in row order.

use std::time::{Duration, Instant};

use pennon::{BuildParams, DistanceType, HnswIndex};

use crate::failure::{Context, Result, fail};
use crate::progress;
use crate::row_ids;
use crate::table::Table;
use crate::vector_column::VectorColumn;

/// Rows appended at a time, however large the file's own batches are.
const CHUNK_ROWS: usize = 8192;

/// What to read: checked, so that mistakes show before hours of building.
#[derive(Debug)]
pub struct Source<'a> {
    table: &'a Table,
    vectors: VectorColumn,
    row_id: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// Fails unless the columns exist, have usable types, and there are rows.
    pub fn check(table: &'a Table, column: &str, row_id: Option<&'a str>) -> Result<Self> {
        // A missing column is the better message even of an empty file.
        table.field(column)?;
        if let Some(row_id) = row_id {
            row_ids::check(table, row_id)?;
        }
        if table.rows() == 0 {
            return fail(format!("{} has no rows", table.path().display()));
        }
        let vectors = VectorColumn::open(table, column)?;
        Ok(Self { table, vectors, row_id })
    }

    pub fn dim(&self) -> usize {
        self.vectors.dim()
    }

    /// Builds the index, on rayon's current pool. At least one row has a usable vector.
    pub fn build(&self, distance_type: DistanceType, params: &BuildParams) -> Result<Built> {
        let started = Instant::now();
        let index = HnswIndex::try_new(self.dim(), distance_type, params.clone())?;
        let progress = progress::bar(self.table.rows(), "building");
        let mut columns = vec![self.vectors.name()];
        columns.extend(self.row_id);
        let mut first_row = 0;
        for batch in self.table.batches(&columns)? {
            let batch = batch?;
            let vectors = self.vectors.vectors(&batch, first_row)?;
            let row_ids = match self.row_id {
                Some(column) => Some(row_ids::of_batch(&batch, Some(column), first_row)?),
                None => None,
            };
            for start in (0..batch.num_rows()).step_by(CHUNK_ROWS) {
                let rows = CHUNK_ROWS.min(batch.num_rows() - start);
                let vectors = vectors.slice(start, rows);
                let chunk_row = first_row + start as u64;
                let appended = match &row_ids {
                    Some(ids) => index.append(&vectors, ids.slice(start, rows)),
                    None => index.append(&vectors, chunk_row),
                };
                appended.context(|| {
                    let last_row = chunk_row + rows as u64 - 1;
                    let path = self.table.path().display();
                    format!("rows {chunk_row} to {last_row} of {path}")
                })?;
                progress.inc(rows as u64);
            }
            first_row += batch.num_rows() as u64;
        }
        drop(progress);
        if index.is_empty() {
            return fail(format!(
                "column '{}' of {} has no usable vector in {} rows: {}",
                self.vectors.name(),
                self.table.path().display(),
                self.table.rows(),
                skipped_reasons(&index)
            ));
        }
        Ok(Built { index, rows: self.table.rows(), elapsed: started.elapsed() })
    }
}

/// An index and what it took to build it.
pub struct Built {
    pub index: HnswIndex,
    pub rows: u64,
    pub elapsed: Duration,
}

/// Why rows have no vector in the index: `3 null, 1 non-finite`, or `0` if none was skipped.
pub fn skipped_reasons(index: &HnswIndex) -> String {
    let skipped = index.skipped();
    let reasons = [
        (skipped.null, "null"),
        (skipped.null_element, "with a null element"),
        (skipped.non_finite, "not finite"),
        (skipped.zero_norm, "of norm zero"),
    ];
    let reasons = reasons.iter().filter(|(rows, _)| *rows > 0);
    let reasons: Vec<String> = reasons.map(|(rows, reason)| format!("{rows} {reason}")).collect();
    if reasons.is_empty() {
        return "0".to_owned();
    }
    reasons.join(", ")
}
