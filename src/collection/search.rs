//! How a collection is searched, and what it answers.

use std::ops::Deref;
use std::time::Instant;

use arrow_array::RecordBatch;

use crate::collection::Filter;
use crate::search::{SearchParams, SearchStats};

/// A search of a [`Collection`](crate::Collection): `CollectionSearch::new(10).ef(64).filter(&recent).columns(["id"])`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CollectionSearch {
    /// How the index is searched. A mask is narrowed by the filters; row ids are those of the collection.
    pub params: SearchParams,
    /// The column of vectors that is searched; the first if none is named.
    pub vector_column: Option<String>,
    /// The columns of the answer, in their order; all if none are named. `_rowid` can be named too.
    pub columns: Option<Vec<String>>,
    /// What rows must pass, all of them.
    pub filters: Vec<Filter>,
    /// Whether all rows that qualify are compared.
    pub exact: bool,
}

impl CollectionSearch {
    /// A search for the `k` nearest rows with 100 candidates.
    pub fn new(k: usize) -> Self {
        Self::from(SearchParams::new(k))
    }

    /// Sets the number of candidates that the walk keeps; see [`SearchParams::ef`].
    pub fn ef(mut self, ef: usize) -> Self {
        self.params = self.params.ef(ef);
        self
    }

    /// Searches this column of vectors.
    pub fn vector_column(mut self, column: impl Into<String>) -> Self {
        self.vector_column = Some(column.into());
        self
    }

    /// Sets the columns of the answer.
    pub fn columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Returns only rows that pass a filter. Several filters must all be passed.
    pub fn filter(mut self, filter: &Filter) -> Self {
        self.filters.push(filter.clone());
        self
    }

    /// Compares all rows that qualify.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Ends at this time with the best so far; [`CollectionHits::complete`] tells.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.params = self.params.deadline(deadline);
        self
    }
}

impl From<SearchParams> for CollectionSearch {
    fn from(params: SearchParams) -> Self {
        let (vector_column, columns, filters, exact) = (None, None, Vec::new(), false);
        Self { params, vector_column, columns, filters, exact }
    }
}

/// The rows that a search of a collection found, best first, as a record batch; it derefs to that.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct CollectionHits {
    batch: RecordBatch,
    row_ids: Vec<u64>,
    stats: Vec<SearchStats>,
}

impl CollectionHits {
    pub(super) fn new(batch: RecordBatch, row_ids: Vec<u64>, stats: Vec<SearchStats>) -> Self {
        Self { batch, row_ids, stats }
    }

    /// False if a deadline or a limit ended a search before it was done: then better rows may be missing.
    pub fn complete(&self) -> bool {
        self.stats.iter().all(|stats| stats.complete)
    }

    /// What the searches did: one for each column that was searched.
    pub fn stats(&self) -> &[SearchStats] {
        &self.stats
    }

    /// The row ids, best first.
    pub fn row_ids(&self) -> &[u64] {
        &self.row_ids
    }

    /// The rows.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
}

impl Deref for CollectionHits {
    type Target = RecordBatch;

    fn deref(&self) -> &RecordBatch {
        &self.batch
    }
}
