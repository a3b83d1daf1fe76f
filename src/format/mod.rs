//! Lance's formats: the `lance:hnsw` graph batch and the flat storage batch.
//!
//! ```text
//! __vector_id: UInt32   __neighbors: List<UInt32>   _distance: List<Float32>
//! level 0:  id 0 .. id n-1, in this order          row = id = row of the storage
//! level 1:  the ids on it                          rows level_offsets[1]..level_offsets[2]
//! ...
//! schema metadata "lance:hnsw": {"entry_point": .., "params": {..}, "level_offsets": [0, n, ..]}
//! ```
//! `level_offsets` has `max_level + 1` entries, empty top levels included: readers of Lance 7 index it
//! by level. Neighbors come nearest first, none of them past the last node.

mod export;
mod import;
mod storage;

pub(crate) use storage::Storage;

pub use crate::search::{DISTANCE_COLUMN, ROW_ID_COLUMN};

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef};
use serde::{Deserialize, Serialize};

/// Schema metadata key of the graph batch.
pub const HNSW_METADATA_KEY: &str = "lance:hnsw";
/// Column of node ids in the graph batch.
pub const VECTOR_ID_COLUMN: &str = "__vector_id";
/// Column of neighbor ids in the graph batch.
pub const NEIGHBORS_COLUMN: &str = "__neighbors";
/// Column of the position of a query in its array, where several are answered.
pub const QUERY_INDEX_COLUMN: &str = "query_index";
/// Column of vectors in the storage batch.
pub const FLAT_COLUMN: &str = "flat";
/// Schema metadata key of the metric in the storage batch.
pub const DISTANCE_TYPE_KEY: &str = "distance_type";

/// Value of the schema metadata [`HNSW_METADATA_KEY`], as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanceHnswMetadata {
    /// Node at which a search starts.
    pub entry_point: u32,
    /// Parameters from which Lance rebuilds.
    pub params: LanceHnswParams,
    /// First row of each level, and the end of the last.
    pub level_offsets: Vec<usize>,
}

/// Lance's build parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LanceHnswParams {
    /// Number of levels the graph may have.
    pub max_level: u16,
    /// Neighbors of a new node on each level.
    pub m: usize,
    /// The most neighbors on level 0, where these are not `2 * m`. Lance passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub m0: Option<usize>,
    /// Candidates for them.
    pub ef_construction: usize,
    /// How far ahead Lance's search prefetches.
    #[serde(default)]
    pub prefetch_distance: Option<usize>,
}

/// An index as Lance's batches, of the same rows: row `r` of the vectors is node `r` of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct LanceBatches {
    /// The `lance:hnsw` batch; none for an index without a graph.
    pub graph: Option<RecordBatch>,
    /// Lance's flat storage batch: `_rowid` and `flat`.
    pub vectors: RecordBatch,
}

impl LanceBatches {
    /// Batches that Lance wrote.
    pub fn new(graph: Option<RecordBatch>, vectors: RecordBatch) -> Self {
        Self { graph, vectors }
    }
}

/// The item field of Lance's lists.
pub(crate) fn list_item(item: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(item, true))
}

pub(crate) fn hnsw_fields() -> Vec<Field> {
    vec![
        Field::new(VECTOR_ID_COLUMN, DataType::UInt32, true),
        Field::new(NEIGHBORS_COLUMN, DataType::List(list_item(DataType::UInt32)), true),
        Field::new(DISTANCE_COLUMN, DataType::List(list_item(DataType::Float32)), true),
    ]
}
