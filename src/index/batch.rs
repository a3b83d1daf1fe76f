//! Many queries at once, Arrow in and Arrow out.

use std::ops::Deref;
use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float32Array, Int32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::format::{DISTANCE_COLUMN, QUERY_INDEX_COLUMN, ROW_ID_COLUMN};
use crate::search::{Hit, Hits};
use crate::vectors::{ElementType, widened};

/// The answers to several queries, in their order. It derefs to them: `batch[0]`, `batch.iter()`.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct BatchHits(Vec<Hits>);

impl BatchHits {
    /// False if a deadline or a limit ended the search for one of the queries before it was done.
    pub fn complete(&self) -> bool {
        self.0.iter().all(Hits::complete)
    }

    /// The answers as a vector.
    pub fn into_vec(self) -> Vec<Hits> {
        self.0
    }

    /// The rows as columns `query_index: Int32` (the position of the query), `_rowid: UInt64` and
    /// `_distance: Float32`, by query and nearest first, as Lance gives them.
    ///
    /// # Errors
    /// [`Error::Arrow`] if Arrow refuses the batch.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        let hits =
            || (0_i32..).zip(&self.0).flat_map(|(query, hits)| hits.iter().map(move |hit| (query, hit)));
        let query: Int32Array = hits().map(|(query, _)| query).collect::<Vec<_>>().into();
        let row_id: UInt64Array = hits().map(|(_, hit): (i32, &Hit)| hit.row_id).collect::<Vec<_>>().into();
        let distance: Float32Array = hits().map(|(_, hit)| hit.distance).collect::<Vec<_>>().into();
        let columns = vec![Arc::new(query) as _, Arc::new(row_id) as _, Arc::new(distance) as _];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }

    /// The schema of [`to_record_batch`](Self::to_record_batch).
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new(QUERY_INDEX_COLUMN, DataType::Int32, false),
            Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
            Field::new(DISTANCE_COLUMN, DataType::Float32, false),
        ]))
    }
}

impl FromIterator<Hits> for BatchHits {
    fn from_iter<I: IntoIterator<Item = Hits>>(answers: I) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl Deref for BatchHits {
    type Target = [Hits];

    fn deref(&self) -> &[Hits] {
        &self.0
    }
}

impl IntoIterator for BatchHits {
    type Item = Hits;
    type IntoIter = std::vec::IntoIter<Hits>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a BatchHits {
    type Item = &'a Hits;
    type IntoIter = std::slice::Iter<'a, Hits>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Searches for every row of an array with a search for one.
pub(super) fn search_batch(
    queries: &FixedSizeListArray,
    dim: usize,
    search: impl Fn(&[f32]) -> Result<Hits> + Sync,
) -> Result<BatchHits> {
    let (element_type, actual) = ElementType::of_vectors(queries.data_type())?;
    if actual != dim {
        return Err(Error::DimensionMismatch { expected: dim, actual });
    }
    let nulls = queries.values().nulls().filter(|nulls| nulls.null_count() > 0);
    let values = widened(queries.values(), element_type).unwrap_or_default();
    let search_row = |row: usize| -> Result<Hits> {
        if queries.is_null(row) {
            return Ok(Hits::none());
        }
        let elements = row * actual..(row + 1) * actual;
        let is_null = |at| nulls.is_some_and(|nulls| nulls.is_null(at));
        if let Some(position) = elements.clone().position(is_null) {
            let source = Box::new(Error::UnusableQuery { reason: "a null", position });
            return Err(Error::InvalidQuery { row, source });
        }
        search(&values[elements]).map_err(|e| match e {
            Error::UnusableQuery { .. } => Error::InvalidQuery { row, source: Box::new(e) },
            other => other,
        })
    };
    // The error of the first query that has one, on however many threads.
    let answers: Vec<Result<Hits>> = (0..queries.len()).into_par_iter().map(search_row).collect();
    answers.into_iter().collect::<Result<_>>().map(BatchHits)
}
