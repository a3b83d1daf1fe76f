//! What a search gives: rows, and what it did to find them.

use std::ops::Deref;
use std::sync::Arc;

use arrow_array::{Float32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Column of row ids, as Lance names it.
pub const ROW_ID_COLUMN: &str = "_rowid";
/// Column of distances, as Lance names it.
pub const DISTANCE_COLUMN: &str = "_distance";

/// One row of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The vector id, which belongs to one generation of an index.
    pub id: u32,
    /// What the caller calls the row.
    pub row_id: u64,
    /// Its exact distance to the query, in the index's metric.
    pub distance: f32,
}

/// The answer to one query: rows, nearest first, ties by vector id, with what it cost and whether it is complete.
///
/// It derefs to its rows: `hits.len()`, `hits[0]`, `hits.iter()`, `for hit in &hits`.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Hits {
    rows: Vec<Hit>,
    stats: SearchStats,
}

impl Hits {
    pub(crate) fn new(rows: Vec<Hit>, stats: SearchStats) -> Self {
        Self { rows, stats }
    }

    /// The answer to a query that is null.
    pub(crate) fn none() -> Self {
        let (distances, estimates, reranked, nodes, ef) = (0, 0, 0, 0, 0);
        let plan = SearchPlan::Scan;
        let stats = SearchStats { plan, distances, estimates, reranked, nodes, ef, complete: true };
        Self { rows: Vec::new(), stats }
    }

    /// False if a deadline or a limit ended the search before it was done: then nearer rows may be missing.
    pub fn complete(&self) -> bool {
        self.stats.complete
    }

    /// What the search did.
    pub fn stats(&self) -> &SearchStats {
        &self.stats
    }

    /// The row ids, nearest first.
    pub fn row_ids(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.rows.iter().map(|hit| hit.row_id)
    }

    /// The rows as a vector.
    pub fn into_vec(self) -> Vec<Hit> {
        self.rows
    }

    /// The rows as columns `_rowid: UInt64` and `_distance: Float32`, as a search in Lance gives them.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) if Arrow refuses the batch.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        let row_ids: UInt64Array = self.row_ids().collect::<Vec<_>>().into();
        let distances: Float32Array = self.rows.iter().map(|hit| hit.distance).collect::<Vec<_>>().into();
        Ok(RecordBatch::try_new(Self::schema(), vec![Arc::new(row_ids), Arc::new(distances)])?)
    }

    /// The schema of [`to_record_batch`](Self::to_record_batch).
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
            Field::new(DISTANCE_COLUMN, DataType::Float32, false),
        ]))
    }
}

impl Deref for Hits {
    type Target = [Hit];

    fn deref(&self) -> &[Hit] {
        &self.rows
    }
}

impl IntoIterator for Hits {
    type Item = Hit;
    type IntoIter = std::vec::IntoIter<Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a Hits {
    type Item = &'a Hit;
    type IntoIter = std::slice::Iter<'a, Hit>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

/// Which way a search went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchPlan {
    /// Through the graph; every row met may be returned.
    Graph,
    /// Through the graph, past rows that may not be returned.
    FilteredGraph,
    /// All rows that may be returned were compared with the query, at once or after a walk that gave up or did not
    /// find enough.
    Scan,
}

/// What a search did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SearchStats {
    /// The way it went.
    pub plan: SearchPlan,
    /// Distances computed from the vectors themselves.
    pub distances: u64,
    /// Distances estimated from compact codes, or bounded by them.
    pub estimates: u64,
    /// The part of `distances` that was computed for rows met by estimate.
    pub reranked: u64,
    /// Nodes expanded.
    pub nodes: u64,
    /// The number of candidates that the walk kept (`ef`).
    pub ef: usize,
    /// False if a deadline or a limit of distances ended the search before it was done.
    pub complete: bool,
}

impl SearchStats {
    /// Rows compared with the query, by estimate or by distance: what
    /// [`SearchParams::max_distances`](crate::SearchParams::max_distances) limits.
    pub fn compared(&self) -> u64 {
        self.distances + self.estimates - self.reranked
    }
}
