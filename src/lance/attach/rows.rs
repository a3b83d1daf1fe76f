//! The rows of a column that can be indexed, read from a dataset.

use std::sync::Arc;

use ::lance::Dataset;
use ::lance::dataset::scanner::DatasetRecordBatchStream;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};
use futures::TryStreamExt;
use lance_table::format::Fragment;
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::distance::DistanceType;
use crate::error::Result;
use crate::lance::ROW_ID_COLUMN;
use crate::lance::attach::column::Column;
use crate::vectors::ArrowFixedSizeListVectorStore;

/// Rows with a usable vector, in the order of the scan.
pub(super) struct Rows {
    /// The vectors as they are in the batches of the scan, with Lance's row ids.
    pub vectors: Arc<ArrowFixedSizeListVectorStore>,
    /// These batches, rows without a usable vector included: whoever has no more need of the store can free one after
    /// the other.
    pub batches: Vec<(FixedSizeListArray, UInt64Array)>,
    /// Rows read that have no usable vector.
    pub skipped: u64,
}

impl Rows {
    /// Reads the rows of the fragments that are not deleted. Which vectors are usable is what
    /// [`append_batch`](ArrowFixedSizeListVectorStore::append_batch) says.
    pub async fn read(
        dataset: &Dataset,
        column: &Column,
        fragments: &RoaringBitmap,
        distance_type: DistanceType,
    ) -> Result<Self> {
        let Column { element_type, dim, .. } = *column;
        let vectors = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type)?;
        let mut batches = Vec::new();
        if let Some(mut stream) = scan(dataset, column, fragments, None).await? {
            while let Some(batch) = stream.try_next().await? {
                let (list, row_ids) = parts(column, &batch)?;
                vectors.append_batch_with_row_ids(Arc::new(list.clone()), &row_ids)?;
                batches.push((list, row_ids));
            }
        }
        let skipped = vectors.skipped().total();
        Ok(Self { vectors: Arc::new(vectors), batches, skipped })
    }
}

/// What a scan holds in memory at most, about.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScanLimits {
    pub buffer_bytes: u64,
    pub batch_rows: usize,
}

/// Scans vectors and row ids of some fragments in their order; none if there are no fragments.
pub(super) async fn scan(
    dataset: &Dataset,
    column: &Column,
    fragments: &RoaringBitmap,
    limits: Option<ScanLimits>,
) -> Result<Option<DatasetRecordBatchStream>> {
    let fragments = fragments_of(dataset, fragments);
    if fragments.is_empty() {
        return Ok(None);
    }
    let mut scan = dataset.scan();
    scan.project(&[column.name.as_str()])?.with_row_id().with_fragments(fragments);
    if let Some(ScanLimits { buffer_bytes, batch_rows }) = limits {
        scan.io_buffer_size(buffer_bytes).batch_size(batch_rows).batch_readahead(1).fragment_readahead(1);
    }
    Ok(Some(scan.try_into_stream().await?))
}

/// The row ids of some fragments, without the rows that are deleted.
pub(super) async fn live_rows(dataset: &Dataset, fragments: &RoaringBitmap) -> Result<RoaringTreemap> {
    let mut live = RoaringTreemap::new();
    let fragments = fragments_of(dataset, fragments);
    if fragments.is_empty() {
        return Ok(live);
    }
    let mut scan = dataset.scan();
    scan.project::<&str>(&[])?.with_row_id().with_fragments(fragments);
    let mut stream = scan.try_into_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        let row_ids = batch.column_by_name(ROW_ID_COLUMN);
        let row_ids = row_ids.and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let none = || lance_core::Error::index("a scan gave no row ids");
        live.extend(row_ids.ok_or_else(none)?.values().iter().copied());
    }
    Ok(live)
}

fn fragments_of(dataset: &Dataset, fragments: &RoaringBitmap) -> Vec<Fragment> {
    let is_wanted = |fragment: &&Fragment| u32::try_from(fragment.id).is_ok_and(|id| fragments.contains(id));
    dataset.fragments().iter().filter(is_wanted).cloned().collect()
}

/// The vectors and the row ids of a batch.
pub(super) fn parts(column: &Column, batch: &RecordBatch) -> Result<(FixedSizeListArray, UInt64Array)> {
    let vectors = batch.column_by_name(&column.name).and_then(|array| array.as_fixed_size_list_opt());
    let row_ids = batch.column_by_name(ROW_ID_COLUMN);
    let row_ids = row_ids.and_then(|array| array.as_primitive_opt::<UInt64Type>());
    match (vectors, row_ids) {
        (Some(vectors), Some(row_ids)) => Ok((vectors.clone(), row_ids.clone())),
        _ => Err(column.invalid("a scan gave it without its vectors or row ids".to_string())),
    }
}
