//! The index of one MemTable.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::lance::dataset::mem_wal::index::{
    FlushContext, FlushOutcome, MemIndex, MemMatches, MemQuery, RankedMatch, RowPosition, SearchContext,
};
use ::lance::dataset::mem_wal::write::StoredBatch;
use arrow_array::cast::AsArray;
use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use lance_core::Result as LanceResult;
use tracing::trace;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::lance::columns::lists;
use crate::lance::plugin::params::{PennonMemIndexParams, Resolved};
use crate::lance::plugin::query::Warned;
use crate::search::SearchParams;
use crate::vectors::ElementType;

/// Candidates of a search that nobody says anything about, unless it wants more rows. Lance's MemTables take 64;
/// this finds no less than they do (`cargo bench --bench memwal`).
const DEFAULT_EF: usize = 80;

/// An [`Index`] over one vector column of a MemTable. Row ids are the positions of the rows in it.
///
/// [`PennonMemIndexPlugin`](crate::lance::plugin::PennonMemIndexPlugin) makes one for each MemTable. A row without a usable vector
/// (a tombstone's is null) gets no node; it never makes a put fail.
///
/// A search returns exactly `min(k, n)` of the `n` rows with a vector at or below the reader's position, with exact
/// distances, and meanwhile waits for no put. Fewer come back only if distances overflow `f32`: such a row ranks
/// nowhere, as in Lance's exact search, and none takes its place.
///
/// A query is of the column's elements, or of `Float32` for a column of other floats, and is then rounded to them, as
/// Lance does in its own tables. What Lance knows better how to refuse is declined: a query in another metric, of
/// another dimension or of other elements, that is null, not finite, or zero under cosine.
pub struct PennonMemIndex {
    columns: [String; 1],
    pub(super) field_id: i32,
    pub(super) element_type: ElementType,
    pub(super) dim: usize,
    pub(super) distance_type: DistanceType,
    pub(super) settings: Resolved,
    /// Made by the first insert: a writer creates indexes only to ask for their size.
    index: OnceLock<Arc<Index>>,
    /// Bytes of the index with a row in it, if somebody has asked while there was none.
    first_row_bytes: OnceLock<usize>,
    pub(super) warned: Warned,
}

impl PennonMemIndex {
    /// An index without rows for vectors of `dim` elements of `f32` in the field `field_id`, as the plugin makes it. No
    /// base index is looked at: unless `params` say so, a flush quantizes.
    ///
    /// # Errors
    /// As [`try_with_elements`](Self::try_with_elements).
    pub fn try_new(
        column: &str,
        field_id: i32,
        dim: usize,
        distance_type: DistanceType,
        params: PennonMemIndexParams,
    ) -> Result<Self> {
        Self::try_with_elements(ElementType::Float32, column, field_id, dim, distance_type, params)
    }

    /// An index without rows, for vectors of other elements. Those under Hamming are never quantized.
    ///
    /// # Errors
    /// As [`IndexBuilder::build`](crate::IndexBuilder::build), and
    /// - [`Error::NotInLance`] if Lance has no such metric, or no quantizer for it that is asked for,
    /// - [`Error::InvalidColumn`] if Lance has no index of such vectors in that metric, or if vectors in cosine are to
    ///   be flushed as they are.
    pub fn try_with_elements(
        element_type: ElementType,
        column: &str,
        field_id: i32,
        dim: usize,
        distance_type: DistanceType,
        params: PennonMemIndexParams,
    ) -> Result<Self> {
        Index::builder(dim, distance_type).element_type(element_type).params(params.build.clone()).build()?;
        let settings = Resolved::try_new(column, distance_type.try_into()?, params, false)?;
        Self::of(element_type, column, field_id, dim, settings)
    }

    /// Allocates next to nothing.
    pub(super) fn of(
        element_type: ElementType,
        column: &str,
        field_id: i32,
        dim: usize,
        settings: Resolved,
    ) -> Result<Self> {
        let distance_type = DistanceType::try_from(settings.metric)?;
        element_type.check_indexed(column, distance_type)?;
        Ok(Self {
            columns: [column.to_string()],
            field_id,
            element_type,
            dim,
            distance_type,
            settings,
            index: OnceLock::new(),
            first_row_bytes: OnceLock::new(),
            warned: Warned::default(),
        })
    }

    /// The index itself, from the first insert on.
    pub fn index(&self) -> Option<&Arc<Index>> {
        self.index.get()
    }

    /// The name of the column of vectors.
    pub(super) fn column(&self) -> &str {
        &self.columns[0]
    }

    fn index_or_new(&self) -> Result<&Arc<Index>> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = self.new_index()?;
        Ok(self.index.get_or_init(|| Arc::new(index)))
    }

    fn new_index(&self) -> Result<Index> {
        let Self { element_type, dim, distance_type, .. } = *self;
        let build = self.settings.build.clone();
        Index::builder(dim, distance_type).element_type(element_type).params(build).build()
    }

    /// What the first row makes the index hold, found out with an index that is not kept.
    fn count_first_row(&self) -> Result<usize> {
        let (index, row) = (self.new_index()?, lists(self.element_type, self.dim, vec![1.0; self.dim])?);
        index.append_batches_unique(&[(row, 0)])?;
        Ok(index.resident_bytes())
    }

    fn vectors_of(&self, rows: &RecordBatch) -> Result<FixedSizeListArray> {
        let [column] = &self.columns;
        let invalid = |problem| Error::InvalidColumn { column: column.clone(), problem };
        let array = rows.column_by_name(column).ok_or_else(|| invalid("is not in the batch".to_string()))?;
        let vectors = array.as_fixed_size_list_opt().cloned();
        let (expected, actual) = (self.element_type, array.data_type());
        vectors.ok_or_else(|| invalid(format!("must be FixedSizeList of {expected}, got {actual}")))
    }

    fn append(&self, batches: &[(FixedSizeListArray, RowPosition)]) -> Result<()> {
        // A position is given out once.
        self.index_or_new()?.append_batches_unique(batches).map(drop)
    }
}

#[async_trait::async_trait]
impl MemIndex for PennonMemIndex {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn can_answer(&self, query: &dyn MemQuery) -> bool {
        self.vector_query(query).is_some()
    }

    fn insert(&self, batch: &RecordBatch, row_offset: RowPosition) -> LanceResult<()> {
        let vectors = self.vectors_of(batch)?;
        Ok(self.append(&[(vectors, row_offset)])?)
    }

    fn insert_batches(&self, batches: &[StoredBatch]) -> LanceResult<()> {
        let batches: Vec<_> = batches
            .iter()
            .map(|batch| Ok((self.vectors_of(&batch.data)?, batch.row_offset)))
            .collect::<Result<_>>()?;
        Ok(self.append(&batches)?)
    }

    /// Without the vectors, which are the MemTable's own. Memory grows with the rows, so what is reserved before the
    /// first of them is what that one makes it, whatever the capacity of the MemTable.
    fn resident_bytes(&self) -> usize {
        // Whatever could not be made here, the first insert could not make either.
        let first_row = || *self.first_row_bytes.get_or_init(|| self.count_first_row().unwrap_or(0));
        size_of::<Self>() + self.index.get().map_or_else(first_row, |index| index.resident_bytes())
    }

    fn search(&self, query: &dyn MemQuery, ctx: &SearchContext) -> LanceResult<Option<MemMatches>> {
        let Some((query, vector)) = self.vector_query(query) else { return Ok(None) };
        let Some(index) = self.index.get() else { return Ok(Some(MemMatches::ranked(Vec::new()))) };
        // More than all rows is all rows.
        let rows = index.len();
        let k = query.k.min(rows);
        let ef = query.ef.or(self.settings.ef).unwrap_or(DEFAULT_EF).max(k).min(rows);
        let hits = index.search(&vector, &SearchParams::new(k).ef(ef).max_row_id(ctx.max_visible))?;
        trace!(column = self.column(), k, ef, rows, found = hits.len(), "searched the MemTable's index");
        // As Lance's exact search does: a distance that overflows ranks nowhere.
        let hits = hits.iter().filter(|hit| hit.distance.is_finite());
        let matches = hits.map(|hit| RankedMatch::new(hit.row_id, hit.distance)).collect();
        Ok(Some(MemMatches::ranked(matches)))
    }

    async fn flush(&self, ctx: &FlushContext<'_>) -> LanceResult<FlushOutcome> {
        self.write_generation(ctx.generation()?).await
    }
}

impl fmt::Debug for PennonMemIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PennonMemIndex")
            .field("column", &self.columns[0])
            .field("field_id", &self.field_id)
            .field("element_type", &self.element_type)
            .field("dim", &self.dim)
            .field("settings", &self.settings)
            .field("len", &self.index.get().map_or(0, |index| index.len()))
            .finish()
    }
}
