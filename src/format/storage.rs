//! The vectors as Lance's flat storage batch, and back.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::format::{DISTANCE_TYPE_KEY, FLAT_COLUMN, ROW_ID_COLUMN};
use crate::vectors::VectorSource;
use crate::vectors::{ArrowFixedSizeListVectorStore, VectorStoreSnapshot};

impl<S: Deref<Target = ArrowFixedSizeListVectorStore> + Send + Sync> VectorStoreSnapshot<S> {
    /// Checks that Lance knows the distance type.
    pub(crate) fn check_lance(&self) -> Result<()> {
        self.distance_type().check_lance()
    }
}

impl VectorStoreSnapshot {
    /// The vectors in the form of Lance's flat storage: `_rowid: UInt64` and
    /// `flat: FixedSizeList`, row `r` for id `r`, as they came (not normalized). The metric is
    /// in the schema metadata, under `distance_type`.
    ///
    /// The elements are as they came too, whatever they are, so that the batch comes back without a loss
    /// ([`Index::from_lance_batches`](crate::Index::from_lance_batches)). Lance 14.0.2 does not search all of
    /// them in this form:
    ///
    /// | elements | in Lance |
    /// |---|---|
    /// | `Float16`, `Float32`, `Float64` | `FlatFloatStorage` searches them |
    /// | `UInt8` | `FlatBinStorage` searches them by Hamming distance, whatever the metric is said to be |
    /// | `Int8`, bfloat16 | `FlatFloatStorage` takes them, as it takes `UInt8`, and panics when it is searched |
    ///
    /// # Errors
    /// - [`Error::NotInLance`] if Lance does not know the distance type; elements are not refused,
    /// - [`Error::Arrow`] if Arrow refuses the size.
    pub fn to_record_batch(&self) -> Result<RecordBatch> {
        self.check_lance()?;
        self.batch_of(0..self.len() as u32)
    }

    /// The vectors of some ids, as they came.
    pub(crate) fn vectors_of(&self, ids: Range<u32>) -> Result<FixedSizeListArray> {
        let item = self.element_type().item();
        Ok(FixedSizeListArray::try_new(item, self.dim() as i32, self.values(ids)?, None)?)
    }

    /// The rows of some ids in that form, whatever the distance type.
    pub(crate) fn batch_of(&self, ids: Range<u32>) -> Result<RecordBatch> {
        let dim = self.dim();
        let row_ids: UInt64Array = ids.clone().map(|id| self.row_id(id)).collect::<Vec<_>>().into();
        let vectors = self.vectors_of(ids)?;
        let list = self.element_type().vectors(dim);
        let schema = Schema::new_with_metadata(
            vec![Field::new(ROW_ID_COLUMN, DataType::UInt64, false), Field::new(FLAT_COLUMN, list, true)],
            HashMap::from([(DISTANCE_TYPE_KEY.to_string(), self.distance_type().to_string())]),
        );
        Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(row_ids), Arc::new(vectors)])?)
    }
}

/// The parts of a storage batch.
pub(crate) struct Storage<'a> {
    pub distance_type: DistanceType,
    pub row_ids: &'a UInt64Array,
    pub vectors: &'a FixedSizeListArray,
}

impl<'a> Storage<'a> {
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let invalid = |problem| Error::InvalidBatch { kind: FLAT_COLUMN, problem };
        let name = batch.schema_ref().metadata().get(DISTANCE_TYPE_KEY);
        let name = name.ok_or_else(|| invalid(format!("no schema metadata {DISTANCE_TYPE_KEY:?}")))?;
        let column = |name| batch.column_by_name(name);
        let row_ids = column(ROW_ID_COLUMN).and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let vectors = column(FLAT_COLUMN).and_then(|array| array.as_fixed_size_list_opt());
        Ok(Self {
            distance_type: name.parse()?,
            row_ids: row_ids.ok_or_else(|| invalid(format!("no column {ROW_ID_COLUMN:?} of UInt64")))?,
            vectors: vectors.ok_or_else(|| invalid(format!("no column {FLAT_COLUMN:?} of FixedSizeList")))?,
        })
    }
}
