//! Many queries at once, Arrow in and Arrow out.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::format::{DISTANCE_COLUMN, ROW_ID_COLUMN};
use crate::index::HnswIndex;
use crate::search::{SearchParams, SearchResult};
use crate::vectors::{ElementType, widened};

/// The position of the query in its array.
const QUERY_COLUMN: &str = "query";

impl HnswIndex {
    /// Searches for every row of an array, of whatever elements, on rayon's current pool; all of them see one version of the index.
    ///
    /// The answers are rows of `query: UInt32` (the position of the query), `_rowid: UInt64` and
    /// `_distance: Float32`, by query and nearest first. A null query has none.
    ///
    /// # Errors
    /// - [`Error::UnsupportedType`] or [`Error::DimensionMismatch`] if these are not vectors of the index,
    /// - [`Error::InvalidQuery`] if a query cannot be searched for, as [`search`](Self::search),
    /// - what [`search`](Self::search) says of `params`.
    pub fn search_batch(&self, queries: &FixedSizeListArray, params: SearchParams) -> Result<RecordBatch> {
        let version = self.version_of(&params);
        let params = params.version(version);
        let dead = Some((&self.table.versions, version));
        let source = self.view(version);
        search_batch(queries, self.dim(), |query| {
            self.graph.search_version(query, &params, &source, dead).map(|(results, _)| results)
        })
    }
}

/// Searches for every row of an array with a search for one.
pub(crate) fn search_batch(
    queries: &FixedSizeListArray,
    dim: usize,
    search: impl Fn(&[f32]) -> Result<Vec<SearchResult>> + Sync,
) -> Result<RecordBatch> {
    let (element_type, actual) = ElementType::of_vectors(queries.data_type())?;
    if actual != dim {
        return Err(Error::DimensionMismatch { expected: dim, actual });
    }
    let nulls = queries.values().nulls().filter(|nulls| nulls.null_count() > 0);
    let values = widened(queries.values(), element_type).unwrap_or_default();
    let search_row = |row: usize| -> Result<Vec<SearchResult>> {
        if queries.is_null(row) {
            return Ok(Vec::new());
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
    let answers: Vec<Result<Vec<SearchResult>>> =
        (0..queries.len()).into_par_iter().map(search_row).collect();
    let answers: Vec<Vec<SearchResult>> = answers.into_iter().collect::<Result<_>>()?;
    let hits = || (0_u32..).zip(&answers).flat_map(|(query, hits)| hits.iter().map(move |hit| (query, hit)));
    let schema = Schema::new(vec![
        Field::new(QUERY_COLUMN, DataType::UInt32, false),
        Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
        Field::new(DISTANCE_COLUMN, DataType::Float32, false),
    ]);
    let query: UInt32Array = hits().map(|(query, _)| query).collect::<Vec<_>>().into();
    let row_id: UInt64Array = hits().map(|(_, hit)| hit.row_id).collect::<Vec<_>>().into();
    let distance: Float32Array = hits().map(|(_, hit)| hit.distance).collect::<Vec<_>>().into();
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(query), Arc::new(row_id), Arc::new(distance)])?)
}
