//! One partition of an index folded: its graph without the rows that are gone, and with new ones.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow_schema::Schema;
use arrow_select::take::take;
use roaring::RoaringTreemap;

use crate::error::Result;
use crate::format::hnsw_fields;
use crate::graph::{BuildParams, HnswGraph};
use crate::lance::attach::build_graph::{Progress, blocking, link_further, link_rows};
use crate::lance::attach::partitions::Kind;
use crate::lance::columns::{fixed_size, lists};
use crate::lance::index_files::Partition;
use crate::lance::segment_reader::StoredPartition;
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, VectorSource};

/// With fewer than one of so many rows left, a build of the rest is cheap, and better than what repair can do.
const REBUILD: usize = 4;
/// Rows that are widened at a time.
const BATCH_ROWS: u32 = 8_192;

/// What the partitions of a fold have in common.
pub(super) struct Refold {
    /// What graphs compare: vectors as they are stored, or the values of codes.
    pub kind: Kind,
    /// The bounds of the codes, where the partitions are stored as such.
    pub bounds: Option<Range<f64>>,
    /// Whether what is stored stays so.
    pub keeps_stored: bool,
    /// The row ids that are left.
    pub live: RoaringTreemap,
    /// How a graph is built where there is none to go on from.
    pub params: BuildParams,
}

/// A partition as it is to be written.
pub(super) struct Refolded {
    pub partition: Partition,
    /// What the files have for its first rows, if that stays.
    pub stored: Option<FixedSizeListArray>,
    pub counts: Counts,
}

/// Rows of partitions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub kept: u64,
    pub removed: u64,
    pub added: u64,
    /// Graphs that were built anew.
    pub rebuilt: usize,
}

/// A partition before its new rows are linked.
struct Begun {
    graph: HnswGraph,
    vectors: Arc<ArrowFixedSizeListVectorStore>,
    stored: Option<FixedSizeListArray>,
    /// The graph as it was, if nothing changes.
    same: Option<RecordBatch>,
    counts: Counts,
}

impl Refold {
    /// Folds a partition and the new rows that belong to it.
    pub async fn partition(
        self: &Arc<Self>,
        old: Option<StoredPartition>,
        new: Arc<ArrowFixedSizeListVectorStore>,
        progress: &mut Progress,
    ) -> Result<Refolded> {
        let Some(old) = old else {
            let (added, rebuilt) = (new.committed_len() as u64, usize::from(!new.is_empty()));
            let counts = Counts { added, rebuilt, ..Counts::default() };
            let partition = link_rows(new.snapshot(), &self.params, progress).await?;
            return Ok(Refolded { partition, stored: None, counts });
        };
        let this = Arc::clone(self);
        let Begun { graph, vectors, stored, same, counts } = blocking(move || this.begin(old, &new)).await?;
        progress.advance(counts.kept + counts.removed);
        if let Some(graph) = same {
            let partition = Partition { graph, vectors: vectors.snapshot() };
            return Ok(Refolded { partition, stored, counts });
        }
        let partition = link_further(graph, vectors.snapshot(), progress).await?;
        Ok(Refolded { partition, stored, counts })
    }

    fn begin(&self, old: StoredPartition, new: &ArrowFixedSizeListVectorStore) -> Result<Begun> {
        let StoredPartition { row_ids, vectors: stored, graph } = old;
        let values = match &self.bounds {
            Some(bounds) => middles(&stored, bounds)?,
            None => stored.clone(),
        };
        let store = self.kind.store()?;
        store.append_batch_with_row_ids(Arc::new(values), &row_ids)?;
        let rows = store.view();
        let live: Vec<u32> =
            (0..rows.len() as u32).filter(|&id| self.live.contains(rows.row_id(id))).collect();
        let vectors = store.emptied();
        vectors.extend_from(&store, &live);
        let added: Vec<u32> = (0..new.committed_len() as u32).collect();
        vectors.extend_from(new, &added);

        // Where the store did not take a row of the files, its ids are not those of the nodes.
        let is_whole = rows.len() == row_ids.len();
        let mut counts = Counts {
            kept: live.len() as u64,
            removed: (row_ids.len() - live.len()) as u64,
            added: added.len() as u64,
            rebuilt: 0,
        };
        let imported = match &graph {
            Some(batch) if is_whole && live.len() >= row_ids.len() / REBUILD => {
                Some(HnswGraph::from_lance_hnsw_batch(batch)?).filter(|graph| graph.len() <= rows.len())
            }
            _ => None,
        };
        let is_same = imported.as_ref().is_some_and(|imported| imported.len() == vectors.committed_len());
        let same = graph.filter(|_| is_same && counts.removed == 0).and_then(|graph| as_written(&graph));
        let graph = match imported {
            Some(graph) if counts.removed == 0 => graph,
            Some(graph) => {
                // What is behind the end of the graph is linked as new rows are.
                let linked = live.partition_point(|&id| (id as usize) < graph.len());
                graph.compacted(
                    &live[..linked],
                    &rows.prefix(graph.len()),
                    &vectors.view(),
                    &|_, _| Ok(()),
                )?
            }
            None => {
                counts.rebuilt = usize::from(!live.is_empty());
                HnswGraph::try_new(self.params.clone())?
            }
        };
        let stored =
            (is_whole && self.keeps_stored).then(|| rows_of(&stored, live, row_ids.len())).transpose()?;
        Ok(Begun { graph, vectors: Arc::new(vectors), stored, same, counts })
    }
}

/// The batch of a graph with the columns that are written; none if it has others.
fn as_written(graph: &RecordBatch) -> Option<RecordBatch> {
    let fields = hnsw_fields();
    let columns: Option<Vec<ArrayRef>> =
        fields.iter().map(|field| graph.column_by_name(field.name()).cloned()).collect();
    let schema = Schema::new_with_metadata(fields, graph.schema_ref().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns?).ok()
}

/// Some rows of lists, ascending.
fn rows_of(lists: &FixedSizeListArray, ids: Vec<u32>, rows: usize) -> Result<FixedSizeListArray> {
    let (element_type, dim) = ElementType::of_vectors(lists.data_type())?;
    let taken = if ids.len() == rows { None } else { Some(take(lists, &UInt32Array::from(ids), None)?) };
    let taken = taken.as_ref().and_then(|taken| taken.as_fixed_size_list_opt()).unwrap_or(lists);
    fixed_size(element_type, dim, Arc::clone(taken.values()))
}

/// The values of codes: each the middle of those that have this code, so that it gets it again.
fn middles(codes: &FixedSizeListArray, bounds: &Range<f64>) -> Result<FixedSizeListArray> {
    let dim = usize::try_from(codes.value_length()).unwrap_or(0);
    let codes = codes.values().as_primitive_opt::<UInt8Type>().map_or(&[] as &[u8], |codes| codes.values());
    let step = (bounds.end - bounds.start) / 255.0;
    let middle = |code: u8| (bounds.start + step * (f64::from(code) + 0.5)) as f32;
    let mut values: Vec<f32> = (0..u8::MAX).map(middle).collect();
    // The greatest code is of the bound and what is beyond it.
    let last = bounds.end as f32;
    values.push(if f64::from(last) < bounds.end { last.next_up() } else { last });
    lists(ElementType::Float32, dim, codes.iter().map(|&code| values[usize::from(code)]).collect())
}

/// Vectors as `f32`, with their row ids.
pub(super) fn as_f32(
    store: Arc<ArrowFixedSizeListVectorStore>,
) -> Result<Arc<ArrowFixedSizeListVectorStore>> {
    if store.element_type() == ElementType::Float32 {
        return Ok(store);
    }
    let (element_type, dim, distance_type) = (ElementType::Float32, store.dim(), store.distance_type());
    let wide = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
    let rows = store.view();
    let end = rows.len() as u32;
    for start in (0..end).step_by(BATCH_ROWS as usize) {
        let ids = start..end.min(start.saturating_add(BATCH_ROWS));
        let row_ids: UInt64Array = ids.clone().map(|id| rows.row_id(id)).collect::<Vec<_>>().into();
        let values = ids.flat_map(|id| rows.widened(id).into_owned()).collect();
        wide.append_batch_with_row_ids(Arc::new(lists(element_type, dim, values)?), &row_ids)?;
    }
    Ok(Arc::new(wide))
}

#[cfg(test)]
mod tests {
    use lance_index::vector::quantizer::Quantization;
    use lance_index::vector::sq::ScalarQuantizer;

    use super::*;

    #[test]
    fn the_value_of_a_code_has_this_code() {
        let codes = lists(ElementType::UInt8, 128, (0..=255_u8).map(f32::from).collect()).unwrap();
        for bounds in [-1.0..1.0, 0.0..1e-6, -3.0..1_000.0, 99.0..101.0, -1e20..3e20] {
            let values = middles(&codes, &bounds).unwrap();
            assert_eq!(values.len(), 2);
            let quantizer = ScalarQuantizer::with_bounds(8, 128, bounds.clone());
            let again = quantizer.quantize(&values).unwrap();
            assert_eq!(again.as_fixed_size_list().values(), codes.values(), "{bounds:?}");
        }
    }
}
