//! One interface for an index with a graph and one without.

use std::ops::Range;

use arrow_array::{FixedSizeListArray, RecordBatch};

use crate::distance::DistanceType;
use crate::error::Result;
use crate::flat::FlatIndex;
use crate::graph::{SearchResult, SearchStats};
use crate::index::{HnswIndex, IndexStats};
use crate::params::SearchParams;
use crate::store::RowIds;
use crate::version::IndexVersion;

/// An index of vectors whose rows change, behind one object: `Box<dyn VectorIndex>`.
///
/// [`HnswIndex`] finds nearly all of the nearest rows in little time, [`FlatIndex`] all of them in the time of a scan.
/// All methods take `&self`: share it in an `Arc`. What differs between the two is the recall, the cost and
/// [`flush`](Self::flush); and a graph that is mapped from its files refuses changes
/// ([`Error::ReadOnly`](crate::Error::ReadOnly)). What only one of them can do is said on its own type.
pub trait VectorIndex: Send + Sync {
    /// Appends a batch of vectors, and returns the vector ids of the usable rows; see [`HnswIndex::append`].
    ///
    /// # Errors
    /// As there; the index is as it was then.
    fn append(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Range<u32>>;

    /// Appends a batch in the place of older rows with the same row ids; see [`HnswIndex::upsert`].
    ///
    /// # Errors
    /// As there; the index is as it was then.
    fn upsert(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Range<u32>>;

    /// Deletes the live row of a row id.
    ///
    /// # Errors
    /// [`Error::UnknownRowId`](crate::Error::UnknownRowId) if no live row has that row id.
    fn delete(&self, row_id: u64) -> Result<()>;

    /// Whether a live row has that row id.
    fn contains(&self, row_id: u64) -> bool;

    /// The nearest `params.k` rows of those that qualify, nearest first, ties by id.
    ///
    /// # Errors
    /// As [`HnswIndex::search`].
    fn search(&self, query: &[f32], params: SearchParams) -> Result<Vec<SearchResult>> {
        self.search_with_stats(query, params).map(|(results, _)| results)
    }

    /// [`search`](Self::search), and what it did.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    fn search_with_stats(
        &self,
        query: &[f32],
        params: SearchParams,
    ) -> Result<(Vec<SearchResult>, SearchStats)>;

    /// Searches for every row of an array: `query: UInt32`, `_rowid: UInt64` and `_distance: Float32`; see
    /// [`HnswIndex::search_batch`].
    ///
    /// # Errors
    /// As there.
    fn search_batch(&self, queries: &FixedSizeListArray, params: SearchParams) -> Result<RecordBatch>;

    /// What a search that starts now sees.
    fn version(&self) -> IndexVersion;

    /// Rows that are alive.
    fn len(&self) -> usize;

    /// Whether no row is alive.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements per vector.
    fn dim(&self) -> usize;

    /// The metric.
    fn distance_type(&self) -> DistanceType;

    /// What the index holds.
    fn stats(&self) -> IndexStats;

    /// The live rows of one version in Lance's format, to be written somewhere. The index stays as it was and goes on;
    /// rows that arrive meanwhile are in the next flush. Takes what a copy of the vectors takes, and a
    /// [compaction](HnswIndex::compact) if rows are dead.
    ///
    /// # Errors
    /// [`Error::NotInLance`](crate::Error::NotInLance) if Lance does not know the metric, and as
    /// [`HnswIndex::to_lance_batches`].
    fn flush(&self) -> Result<Flushed>;
}

/// What [`VectorIndex::flush`] gives.
#[derive(Clone, Debug)]
pub struct Flushed {
    /// Lance's flat storage: `_rowid` and `flat`, with the metric in the schema metadata.
    /// [`FlatIndex::from_lance_batch`] reads it.
    pub vectors: RecordBatch,
    /// The `lance:hnsw` batch of the same rows, from an index that has a graph. [`HnswIndex::from_lance_batches`] reads
    /// both.
    pub graph: Option<RecordBatch>,
}

/// The trait of a type whose own methods are those of the trait, but for `flush`.
macro_rules! vector_index {
    ($type:ty, |$index:ident| $flush:expr) => {
        impl VectorIndex for $type {
            fn append(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Range<u32>> {
                <$type>::append(self, vectors, row_ids)
            }

            fn upsert(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Range<u32>> {
                <$type>::upsert(self, vectors, row_ids)
            }

            fn delete(&self, row_id: u64) -> Result<()> {
                <$type>::delete(self, row_id)
            }

            fn contains(&self, row_id: u64) -> bool {
                <$type>::contains(self, row_id)
            }

            fn search_with_stats(
                &self,
                query: &[f32],
                params: SearchParams,
            ) -> Result<(Vec<SearchResult>, SearchStats)> {
                <$type>::search_with_stats(self, query, params)
            }

            fn search_batch(
                &self,
                queries: &FixedSizeListArray,
                params: SearchParams,
            ) -> Result<RecordBatch> {
                <$type>::search_batch(self, queries, params)
            }

            fn version(&self) -> IndexVersion {
                <$type>::version(self)
            }

            fn len(&self) -> usize {
                <$type>::len(self)
            }

            fn dim(&self) -> usize {
                <$type>::dim(self)
            }

            fn distance_type(&self) -> DistanceType {
                <$type>::distance_type(self)
            }

            fn stats(&self) -> IndexStats {
                <$type>::stats(self)
            }

            fn flush(&self) -> Result<Flushed> {
                let $index = self;
                $flush
            }
        }
    };
}

vector_index!(HnswIndex, |index| {
    let (graph, vectors) = index.to_lance_batches()?;
    Ok(Flushed { vectors, graph: Some(graph) })
});

vector_index!(FlatIndex, |index| Ok(Flushed { vectors: index.to_lance_batch()?, graph: None }));
