//! What a graph that Lance has loaded really holds.
//!
//! lance-index shows nobody the adjacency of a loaded graph: `HNSW::nodes` is `None`, its views are
//! private, and `to_batch` hands back the batch it was given, dropped edges and all. Two things
//! still tell. A search scores every neighbor of the nodes that it expands, and it scores them with
//! a distance function that a test may supply. And the deep size of the index counts the bytes of
//! each level that had to be rebuilt because an edge was dropped.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Float32Array, ListArray, RecordBatch, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::storage::{DistCalculator, VectorStore};
use lance_index::vector::v3::subindex::{IvfSubIndex, SubIndexType};
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::{HNSW_METADATA_KEY, NEIGHBORS_COLUMN};

use crate::sub_index::data::lance_query;

/// lance-core's error, whose crate this one does not depend on.
type LanceError = <SubIndexType as TryFrom<&'static str>>::Error;

/// A storage without vectors: `home` is at distance 0 from every query and all else at distance 1.
/// It writes down the ids that a search scores.
#[derive(Clone)]
struct Probe {
    home: u32,
    rows: usize,
    schema: SchemaRef,
    scored: Arc<Mutex<Vec<u32>>>,
}

struct Scorer<'a>(&'a Probe);

impl DistCalculator for Scorer<'_> {
    fn distance(&self, id: u32) -> f32 {
        self.0.scored.lock().unwrap().push(id);
        if id == self.0.home { 0.0 } else { 1.0 }
    }

    fn distance_all(&self, _k_hint: usize) -> Vec<f32> {
        (0..self.0.rows as u32).map(|id| self.distance(id)).collect()
    }
}

impl VectorStore for Probe {
    type DistanceCalculator<'a> = Scorer<'a>;

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn to_batches(&self) -> Result<impl Iterator<Item = RecordBatch> + Send, LanceError> {
        Ok(std::iter::empty::<RecordBatch>())
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn distance_type(&self) -> LanceMetric {
        LanceMetric::L2
    }

    fn row_id(&self, id: u32) -> u64 {
        u64::from(id)
    }

    fn row_ids(&self) -> impl Iterator<Item = &u64> {
        std::iter::empty::<&u64>()
    }

    fn append_batch(&self, _batch: RecordBatch, _column: &str) -> Result<Self, LanceError> {
        Ok(self.clone())
    }

    fn dist_calculator(&self, _query: ArrayRef, _dist_q_c: f32) -> Scorer<'_> {
        Scorer(self)
    }

    fn dist_calculator_from_id(&self, _id: u32) -> Scorer<'_> {
        Scorer(self)
    }
}

/// `batch` with `json` as the value of its `lance:hnsw` key.
pub fn with_metadata(batch: &RecordBatch, json: String) -> RecordBatch {
    let metadata = HashMap::from([(HNSW_METADATA_KEY.to_string(), json)]);
    let schema = Schema::clone(batch.schema_ref()).with_metadata(metadata);
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// The ids that Lance's search scores when it enters the graph of `batch` at `node`, to be compared
/// with [`Layout::scored_from`](crate::sub_index::layout::Layout::scored_from).
pub fn scored_by_lance(batch: &RecordBatch, node: u32) -> Vec<u32> {
    let json = &batch.schema_ref().metadata()[HNSW_METADATA_KEY];
    let mut metadata: serde_json::Value = serde_json::from_str(json).unwrap();
    metadata["entry_point"] = node.into();
    let hnsw = HNSW::load(with_metadata(batch, metadata.to_string())).unwrap();
    let scored = Arc::new(Mutex::new(Vec::new()));
    let probe =
        Probe { home: node, rows: hnsw.len(), schema: Arc::new(Schema::empty()), scored: scored.clone() };
    let query: ArrayRef = Arc::new(Float32Array::from(vec![0.0]));
    hnsw.search_basic(query, 1, &lance_query(1), None, &probe).unwrap();
    scored.lock().unwrap().clone()
}

/// Bytes that a loaded `batch` takes beside the batch itself. They grow when an edge is dropped.
pub fn bytes_beside(batch: &RecordBatch) -> usize {
    deep_size(&HNSW::load(batch.clone()).unwrap()) - batch.get_array_memory_size()
}

/// `DeepSizeOf` is lance-core's, and a supertrait of this one.
fn deep_size(index: &impl IvfSubIndex) -> usize {
    index.deep_size_of()
}

/// The same nodes, levels and metadata without a single edge: nothing in it can be dropped.
pub fn without_edges(batch: &RecordBatch) -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::UInt32, true));
    let offsets = OffsetBuffer::new_zeroed(batch.num_rows());
    let nothing = Arc::new(UInt32Array::from(Vec::<u32>::new()));
    let lists = ListArray::try_new(item, offsets, nothing, None).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[batch.schema_ref().index_of(NEIGHBORS_COLUMN).unwrap()] = Arc::new(lists);
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}
