//! The rows of a column that can be indexed, read from a dataset.

use std::sync::Arc;

use ::lance::Dataset;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow_schema::DataType;
use futures::TryStreamExt;
use lance_table::format::Fragment;
use roaring::RoaringBitmap;

use super::column::Column;
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::lance::{ROW_ID_COLUMN, list_item};
use crate::source::VectorSource;
use crate::store::ArrowFixedSizeListVectorStore;

/// Rows with a usable vector, in the order of the scan.
pub(super) struct Rows {
    /// Without nulls.
    pub vectors: FixedSizeListArray,
    pub row_ids: UInt64Array,
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
        let is_wanted =
            |fragment: &&Fragment| u32::try_from(fragment.id).is_ok_and(|id| fragments.contains(id));
        let fragments: Vec<Fragment> = dataset.fragments().iter().filter(is_wanted).cloned().collect();
        let mut read = Reader::new(column, distance_type, &fragments);
        if !fragments.is_empty() {
            let mut scan = dataset.scan();
            scan.project(&[column.name.as_str()])?.with_row_id().with_fragments(fragments);
            let mut batches = scan.try_into_stream().await?;
            while let Some(batch) = batches.try_next().await? {
                read.take(&batch)?;
            }
        }
        read.finish()
    }

    pub fn len(&self) -> usize {
        self.vectors.len()
    }
}

struct Reader<'a> {
    column: &'a Column,
    distance_type: DistanceType,
    values: Vec<f32>,
    row_ids: Vec<u64>,
    skipped: u64,
}

impl<'a> Reader<'a> {
    fn new(column: &'a Column, distance_type: DistanceType, fragments: &[Fragment]) -> Self {
        let rows: usize = fragments.iter().filter_map(|fragment| fragment.physical_rows).sum();
        let (mut values, mut row_ids) = (Vec::new(), Vec::new());
        // Without it the vectors would be copied over and over, and take up to twice the memory. If there is not so
        // much, the numbers in the manifest may be wrong.
        let _ = values.try_reserve_exact(rows.saturating_mul(column.dim));
        let _ = row_ids.try_reserve_exact(rows);
        Self { column, distance_type, values, row_ids, skipped: 0 }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let vectors =
            batch.column_by_name(&self.column.name).and_then(|array| array.as_fixed_size_list_opt());
        let row_ids = batch.column_by_name(ROW_ID_COLUMN);
        let row_ids = row_ids.and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let (Some(vectors), Some(row_ids)) = (vectors, row_ids) else {
            return Err(self.column.invalid("a scan gave it without its vectors or row ids".to_string()));
        };
        let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(self.column.dim, self.distance_type)?);
        store.append_batch_with_row_ids(Arc::new(vectors.clone()), row_ids)?;
        let usable = store.snapshot();
        for id in 0..usable.len() as u32 {
            self.values.extend_from_slice(usable.vector(id));
            self.row_ids.push(usable.row_id(id));
        }
        self.skipped += store.skipped().total();
        Ok(())
    }

    fn finish(self) -> Result<Rows> {
        Ok(Rows {
            vectors: fixed_size(self.values, self.column.dim)?,
            row_ids: self.row_ids.into(),
            skipped: self.skipped,
        })
    }
}

/// Vectors that lie one after another.
pub(super) fn fixed_size(values: Vec<f32>, dim: usize) -> Result<FixedSizeListArray> {
    let size = i32::try_from(dim).map_err(|_| Error::InvalidParams {
        parameter: "dim",
        value: dim as u64,
        requirement: format!("at most {}", i32::MAX),
    })?;
    let values = Arc::new(Float32Array::new(values.into(), None));
    Ok(FixedSizeListArray::try_new(list_item(DataType::Float32), size, values, None)?)
}
