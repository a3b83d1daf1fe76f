//! The exact index: the rows of an index without a graph, and perhaps a copy of them that is scanned faster.

mod pdx;

use std::ops::Range;
use std::sync::OnceLock;

use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use arrow_buffer::BooleanBuffer;

use crate::distance::DistanceType;
use crate::error::Result;
use crate::format::Storage;
use crate::index::table::{OnDuplicate, Table};
use crate::index::{IndexStats, ResidentBytes, search_batch};
use crate::search::scan::{GROUP, Sieves, search_all};
use crate::search::version::IndexVersion;
use crate::search::{SearchParams, SearchResult, SearchStats};
use crate::vectors::VectorSource;
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorStoreSnapshot};
use pdx::Columns;

/// An index without a graph: every search compares all rows that qualify with the query, and its answer is exact.
///
/// For a few thousand rows, for rows that are searched among few times, and to see what a graph misses. Everything else
/// is as in [`HnswIndex`](crate::HnswIndex): batches stay in the caller's buffers, rows are appended, updated and
/// deleted while any number of threads search, and a search sees one version. Of [`SearchParams`], `ef` is of no
/// consequence; [`SearchStats::plan`] is always a scan. A scan of many rows runs on rayon's current pool,
/// unless it has a limit of distances.
pub struct FlatIndex {
    table: Table,
    /// Made by the first [`freeze`](Self::freeze).
    columns: OnceLock<Columns>,
}

impl FlatIndex {
    /// An index without rows, for vectors of `dim` elements of `f32`.
    ///
    /// # Errors
    /// As [`try_with_elements`](Self::try_with_elements).
    pub fn try_new(dim: usize, distance_type: DistanceType) -> Result<Self> {
        Self::try_with_elements(ElementType::Float32, dim, distance_type)
    }

    /// An index without rows, for vectors of other elements.
    ///
    /// # Errors
    /// As [`ArrowFixedSizeListVectorStore::try_with_elements`].
    pub fn try_with_elements(
        element_type: ElementType,
        dim: usize,
        distance_type: DistanceType,
    ) -> Result<Self> {
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        Ok(Self::of(Table::new(store)))
    }

    fn of(table: Table) -> Self {
        Self { table, columns: OnceLock::new() }
    }

    /// The index of a batch that [`to_lance_batch`](Self::to_lance_batch) or Lance wrote. The vectors stay in its
    /// buffers; the metric is read from its schema metadata.
    ///
    /// # Errors
    /// - [`Error::InvalidBatch`](crate::Error::InvalidBatch) if the batch is malformed,
    /// - what [`try_with_elements`](Self::try_with_elements) and [`append_unique`](Self::append_unique) refuse.
    pub fn from_lance_batch(vectors: &RecordBatch) -> Result<Self> {
        let Storage { distance_type, row_ids, vectors } = Storage::of(vectors)?;
        let (element_type, dim) = ElementType::of_vectors(vectors.data_type())?;
        let index = Self::try_with_elements(element_type, dim, distance_type)?;
        index.append_unique(vectors, row_ids)?;
        Ok(index)
    }

    /// Appends a batch; see [`HnswIndex::append`](crate::HnswIndex::append).
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, vectors: &FixedSizeListArray, row_ids: impl Into<RowIds>) -> Result<Range<u32>> {
        self.table.write(vectors, row_ids.into(), OnDuplicate::Refuse, None)
    }

    /// Appends a batch of row ids that are new; see [`HnswIndex::append_unique`](crate::HnswIndex::append_unique).
    ///
    /// # Errors
    /// As there.
    pub fn append_unique(
        &self,
        vectors: &FixedSizeListArray,
        row_ids: impl Into<RowIds>,
    ) -> Result<Range<u32>> {
        self.table.write(vectors, row_ids.into(), OnDuplicate::Trust, None)
    }

    /// Appends a batch in the place of older rows; see [`HnswIndex::upsert`](crate::HnswIndex::upsert).
    ///
    /// # Errors
    /// As there.
    pub fn upsert(&self, vectors: &FixedSizeListArray, row_ids: impl Into<RowIds>) -> Result<Range<u32>> {
        self.table.write(vectors, row_ids.into(), OnDuplicate::Replace, None)
    }

    /// Deletes the live row of a row id; see [`HnswIndex::delete`](crate::HnswIndex::delete).
    ///
    /// # Errors
    /// [`Error::UnknownRowId`](crate::Error::UnknownRowId) if no live row has that row id.
    pub fn delete(&self, row_id: u64) -> Result<()> {
        self.table.delete(row_id)
    }

    /// Whether a live row has that row id. Waits for changes that are being made visible.
    pub fn contains(&self, row_id: u64) -> bool {
        self.table.contains(row_id)
    }

    /// Lays out the rows of now by columns as well, so that searches need not look at all elements of rows that are far
    /// away: PDX (Kuffo, Krippner and Boncz, *PDX: A Data Layout for Vector Similarity Search*,
    /// [arXiv 2503.04422](https://arxiv.org/abs/2503.04422)). Other than
    /// [`HnswIndex::freeze`](crate::HnswIndex::freeze), which returns a new index, this adds to the index itself: a copy
    /// of the vectors, 4 bytes an element more.
    ///
    /// Answers are the same to the bit. Rows that come later are scanned as they are until the next call, which goes on
    /// where this one ended; dead rows keep their place until [`compact`](Self::compact). Returns how many rows are
    /// laid out; only whole blocks of 64 are.
    ///
    /// Nothing is done for elements other than `f32`, and under other metrics than L2, cosine and dot. The copy is used
    /// where at least 1,024 rows are laid out and searched among, nine in ten of them qualify, and there is no limit of
    /// distances.
    pub fn freeze(&self) -> usize {
        let rows = self.table.view(self.version());
        let elements = self.element_type() == ElementType::Float32;
        if rows.len() < GROUP || !elements || !Columns::are_for(self.distance_type(), self.dim()) {
            return 0;
        }
        self.columns.get_or_init(|| Columns::new(&rows)).extend(&rows)
    }

    /// The nearest `params.k` rows, nearest first, ties by id: exactly `min(k, n)` of the `n` rows that are alive
    /// and admitted by `params`.
    ///
    /// # Errors
    /// As [`HnswIndex::search`](crate::HnswIndex::search).
    pub fn search(&self, query: &[f32], params: SearchParams) -> Result<Vec<SearchResult>> {
        self.search_with_stats(query, params).map(|(results, _)| results)
    }

    /// [`search`](Self::search), and what it did: a row that was compared counts as one distance, in whole or in part.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_with_stats(
        &self,
        query: &[f32],
        params: SearchParams,
    ) -> Result<(Vec<SearchResult>, SearchStats)> {
        let version = self.table.version_of(&params);
        self.search_version(query, &params, version)
    }

    fn search_version(
        &self,
        query: &[f32],
        params: &SearchParams,
        version: IndexVersion,
    ) -> Result<(Vec<SearchResult>, SearchStats)> {
        let columns = self.columns.get().filter(|_| params.max_distances.is_none());
        let sieves = columns.map(|columns| columns as &dyn Sieves);
        search_all(query, params, &self.table.view(version), Some((&self.table.versions, version)), sieves)
    }

    /// Searches for every row of an array; see [`HnswIndex::search_batch`](crate::HnswIndex::search_batch).
    ///
    /// # Errors
    /// As there.
    pub fn search_batch(&self, queries: &FixedSizeListArray, params: SearchParams) -> Result<RecordBatch> {
        let version = self.table.version_of(&params);
        let params = params.version(version);
        search_batch(queries, self.dim(), |query| {
            self.search_version(query, &params, version).map(|(results, _)| results)
        })
    }

    /// What a search that starts now sees. Searches of it later see the same: [`SearchParams::version`].
    pub fn version(&self) -> IndexVersion {
        self.table.version()
    }

    /// One bit for each vector id of a version: whether its row is alive.
    pub fn live_ids(&self, version: IndexVersion) -> BooleanBuffer {
        self.table.live_ids(version)
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.version().live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dead rows; [`compact`](Self::compact) makes an index without.
    pub fn tombstones(&self) -> usize {
        self.version().deletes() as usize
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.table.store.dim()
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.table.store.distance_type()
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.table.store.element_type()
    }

    /// Rows that were appended without a usable vector, and why.
    pub fn skipped(&self) -> SkippedRows {
        self.table.store.skipped()
    }

    /// The vectors by id, those of dead rows too.
    pub fn snapshot(&self) -> VectorStoreSnapshot {
        self.table.snapshot()
    }

    /// What the index holds.
    pub fn stats(&self) -> IndexStats {
        let version = self.version();
        IndexStats {
            live: version.live(),
            tombstones: version.deletes() as usize,
            skipped: self.skipped(),
            element_type: self.element_type(),
            dim: self.dim(),
            distance_type: self.distance_type(),
            params: None,
            levels: Vec::new(),
            bytes: self.bytes_by_part(),
        }
    }

    /// Bytes held beside what the caller gave: vectors and arrays of row ids.
    pub fn resident_bytes(&self) -> usize {
        self.bytes_by_part().total()
    }

    fn bytes_by_part(&self) -> ResidentBytes {
        let columns = self.columns.get().map_or(0, Columns::resident_bytes);
        ResidentBytes {
            vectors: self.table.store.resident_bytes() + columns,
            row_ids: self.table.lock_rows().resident_bytes(),
            tombstones: self.table.versions.resident_bytes(),
            // The columns count themselves; the store is in an `Arc`, beside its two counts.
            fixed: size_of::<Self>() - self.columns.get().map_or(0, |_| size_of::<Columns>())
                + 2 * size_of::<usize>(),
            ..ResidentBytes::default()
        }
    }

    /// A new index of the live rows alone, over the same buffers: ids are given out anew, in the old order, row ids
    /// stay. Appends wait meanwhile; rows that are deleted meanwhile are still in the new index, whose versions are its
    /// own and whose count of skipped rows is zero. Nothing in it is [frozen](Self::freeze).
    pub fn compact(&self) -> Self {
        Self::of(self.table.compacted())
    }

    /// The live rows as Lance's flat storage batch.
    ///
    /// # Errors
    /// As [`VectorStoreSnapshot::to_record_batch`].
    pub fn to_lance_batch(&self) -> Result<RecordBatch> {
        self.table.store.view().check_lance()?;
        let version = self.version();
        if version.deletes() > 0 {
            return self.compact().to_lance_batch();
        }
        self.table.store.snapshot().prefix(version.vectors()).to_record_batch()
    }
}
