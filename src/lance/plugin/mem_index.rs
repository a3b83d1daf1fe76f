//! The index of one MemTable.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::lance::dataset::mem_wal::index::{
    FlushContext, FlushOutcome, MemIndex, MemMatches, MemQuery, RankedMatch, RowPosition, SearchContext,
    VectorMemQuery,
};
use ::lance::dataset::mem_wal::write::StoredBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use lance_core::Result as LanceResult;

use super::params::{PennonMemIndexParams, Resolved};
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::HnswGraph;
use crate::index::HnswIndex;
use crate::params::{BuildParams, SearchParams};

/// Candidates of a search that nobody says anything about, unless it wants more rows: as in Lance's MemTables.
const DEFAULT_EF: usize = 64;

/// An [`HnswIndex`] over one vector column of a MemTable. Row ids are the positions of the rows in it.
///
/// [`PennonMemIndexPlugin`](super::PennonMemIndexPlugin) makes one for each MemTable. A row without a usable vector
/// (a tombstone's is null) gets no node; it never makes a put fail.
///
/// A search returns exactly `min(k, n)` of the `n` rows with a vector at or below the reader's position, with exact
/// distances, and meanwhile waits for no put. What Lance knows better how to refuse is declined: a query in another
/// metric, of another dimension, that is null, not finite, or zero under cosine.
pub struct PennonMemIndex {
    columns: [String; 1],
    pub(super) field_id: i32,
    dim: usize,
    pub(super) distance_type: DistanceType,
    pub(super) settings: Resolved,
    /// Made by the first insert: a writer creates indexes only to ask for their size.
    index: OnceLock<Arc<HnswIndex>>,
}

impl PennonMemIndex {
    /// An index without rows for vectors of `dim` elements in the field `field_id`, as the plugin makes it. No base
    /// index is looked at: unless `params` say so, a flush quantizes.
    ///
    /// # Errors
    /// As [`HnswIndex::try_new`], and
    /// - [`Error::NotInLance`] or [`Error::UnsupportedElement`] in a metric other than L2, cosine and dot,
    /// - [`Error::InvalidColumn`] if vectors in cosine are to be flushed as they are.
    pub fn try_new(
        column: &str,
        field_id: i32,
        dim: usize,
        distance_type: DistanceType,
        params: PennonMemIndexParams,
    ) -> Result<Self> {
        HnswIndex::try_new(dim, distance_type, params.build.clone())?;
        let settings = Resolved::try_new(column, distance_type.try_into()?, params, false)?;
        Self::of(column, field_id, dim, settings)
    }

    /// Allocates next to nothing.
    pub(super) fn of(column: &str, field_id: i32, dim: usize, settings: Resolved) -> Result<Self> {
        let distance_type = DistanceType::try_from(settings.metric)?;
        if distance_type == DistanceType::Hamming {
            let (distance_type, actual) = (distance_type.to_string(), "Float32".to_string());
            return Err(Error::UnsupportedElement { distance_type, requirement: "UInt8", actual });
        }
        let columns = [column.to_string()];
        Ok(Self { columns, field_id, dim, distance_type, settings, index: OnceLock::new() })
    }

    /// The index itself, from the first insert on.
    pub fn index(&self) -> Option<&Arc<HnswIndex>> {
        self.index.get()
    }

    fn index_or_new(&self) -> Result<&Arc<HnswIndex>> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = HnswIndex::try_new(self.dim, self.distance_type, self.settings.build.clone())?;
        Ok(self.index.get_or_init(|| Arc::new(index)))
    }

    fn vectors_of(&self, rows: &RecordBatch) -> Result<FixedSizeListArray> {
        let [column] = &self.columns;
        let invalid = |problem| Error::InvalidColumn { column: column.clone(), problem };
        let array = rows.column_by_name(column).ok_or_else(|| invalid("is not in the batch".to_string()))?;
        let vectors = array.as_fixed_size_list_opt().cloned();
        vectors.ok_or_else(|| invalid(format!("must be FixedSizeList<Float32>, got {}", array.data_type())))
    }

    fn append(&self, batches: &[(FixedSizeListArray, RowPosition)]) -> Result<()> {
        // A position is given out once.
        self.index_or_new()?.append_batches_unique(batches).map(drop)
    }

    /// The query and its vector, if this is for us to answer.
    fn vector_query<'a>(&self, query: &'a dyn MemQuery) -> Option<(&'a VectorMemQuery, &'a [f32])> {
        let query = query.as_any().downcast_ref::<VectorMemQuery>()?;
        if query.distance_type.is_some_and(|wanted| wanted != self.settings.metric) {
            return None;
        }
        let values = query.vector.values().as_primitive_opt::<Float32Type>()?;
        let is_one = query.vector.len() == 1 && query.vector.null_count() == 0 && values.null_count() == 0;
        let vector: &[f32] = values.values();
        let has_distance = vector.iter().all(|x| x.is_finite())
            && (self.distance_type != DistanceType::Cosine || vector.iter().any(|&x| x != 0.0));
        (is_one && vector.len() == self.dim && has_distance).then_some((query, vector))
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
    /// first of them is what it makes, whatever the capacity of the MemTable.
    fn resident_bytes(&self) -> usize {
        let held = self.index.get().map(|index| index.resident_bytes());
        size_of::<Self>() + held.unwrap_or_else(|| first_row_bytes(&self.settings.build))
    }

    fn search(&self, query: &dyn MemQuery, ctx: &SearchContext) -> LanceResult<Option<MemMatches>> {
        let Some((query, vector)) = self.vector_query(query) else { return Ok(None) };
        let Some(index) = self.index.get() else { return Ok(Some(MemMatches::ranked(Vec::new()))) };
        // More than all rows is all rows.
        let rows = index.len();
        let k = query.k.min(rows);
        let ef = query.ef.or(self.settings.ef).unwrap_or(DEFAULT_EF).max(k).min(rows);
        let hits = index.search(vector, SearchParams::new(k, ef).max_row_id(ctx.max_visible))?;
        // As Lance's exact search does: a distance that overflows ranks nowhere.
        let hits = hits.iter().filter(|hit| hit.distance.is_finite());
        let matches = hits.map(|hit| RankedMatch::new(hit.row_id, hit.distance)).collect();
        Ok(Some(MemMatches::ranked(matches)))
    }

    async fn flush(&self, ctx: &FlushContext<'_>) -> LanceResult<FlushOutcome> {
        self.write_generation(ctx.generation()?).await
    }
}

/// What the first insert allocates, and what the lists of its chunk take.
fn first_row_bytes(build: &BuildParams) -> usize {
    static EMPTY: OnceLock<usize> = OnceLock::new();
    // The same for every index without rows, whatever its dimension and parameters.
    let empty = EMPTY.get_or_init(|| {
        let index = HnswIndex::try_new(1, DistanceType::L2, BuildParams::default());
        index.map_or(0, |index| index.resident_bytes())
    });
    empty + HnswGraph::reserved_bytes(build, 1)
}

impl fmt::Debug for PennonMemIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PennonMemIndex")
            .field("column", &self.columns[0])
            .field("field_id", &self.field_id)
            .field("dim", &self.dim)
            .field("settings", &self.settings)
            .field("len", &self.index.get().map_or(0, |index| index.len()))
            .finish()
    }
}
