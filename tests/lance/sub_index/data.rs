//! Seeded vectors, exact answers, and the same rows as pennon and as Lance hold them.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use lance_index::vector::flat::index::FlatMetadata;
use lance_index::vector::flat::storage::FlatFloatStorage;
use lance_index::vector::graph::OrderedNode;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::builder::HnswQueryParams;
use lance_index::vector::quantizer::QuantizerStorage;
use lance_index::vector::storage::VectorStore;
use pennon::lance::FLAT_COLUMN;
use pennon::{ArrowFixedSizeListVectorStore, BuildParams, DistanceType, Hit, HnswGraph, SearchParams};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use crate::data::{K, METRICS, close, distance, lance_metric};

pub const EF: usize = 64;

/// Rows of `dim` floats, one after another.
#[derive(Clone)]
pub struct Vectors {
    pub dim: usize,
    values: Vec<f32>,
}

impl Vectors {
    pub fn random(n: usize, dim: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let values = (0..n * dim).map(|_| rng.random_range(-1.0_f32..1.0)).collect();
        Self { dim, values }
    }

    /// Around centers that rows and queries share.
    pub fn clustered(n: usize, dim: usize, seed: u64) -> Self {
        Self { dim, values: crate::data::clustered(dim, 0.4, n, seed) }
    }

    /// The vectors of a storage batch, in its order.
    pub fn of_storage(batch: &RecordBatch) -> Self {
        let flat = batch[FLAT_COLUMN].as_fixed_size_list();
        let values = flat.values().as_primitive::<Float32Type>().values().to_vec();
        Self { dim: flat.value_length() as usize, values }
    }

    pub fn repeated(row: &[f32], n: usize) -> Self {
        Self { dim: row.len(), values: row.repeat(n) }
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    pub fn slice(&self, rows: Range<usize>) -> Self {
        let values = self.values[rows.start * self.dim..rows.end * self.dim].to_vec();
        Self { dim: self.dim, values }
    }

    pub fn then(mut self, other: &Self) -> Self {
        assert_eq!(self.dim, other.dim);
        self.values.extend_from_slice(&other.values);
        self
    }

    pub fn array(&self) -> Arc<FixedSizeListArray> {
        self.array_with_nulls(None)
    }

    pub fn array_with_nulls(&self, nulls: Option<NullBuffer>) -> Arc<FixedSizeListArray> {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Arc::new(Float32Array::from(self.values.clone()));
        let array = FixedSizeListArray::try_new(item, self.dim as i32, values, nulls);
        Arc::new(array.unwrap())
    }
}

/// A store and the graph over it.
pub struct Built {
    pub store: Arc<ArrowFixedSizeListVectorStore>,
    pub graph: HnswGraph,
}

impl Built {
    pub fn new(vectors: &Vectors, metric: DistanceType, params: BuildParams) -> Self {
        let nothing = vectors.slice(0..0);
        let built = Self::around(HnswGraph::try_new(params).unwrap(), &nothing, metric);
        built.append(vectors);
        built
    }

    /// `graph` over a store of exactly `vectors`, which are already its nodes.
    pub fn around(graph: HnswGraph, vectors: &Vectors, metric: DistanceType) -> Self {
        let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(vectors.dim, metric).unwrap());
        if vectors.len() > 0 {
            store.append_batch(vectors.array(), 0).unwrap();
        }
        Self { store, graph }
    }

    /// Appends and links `vectors`; row ids go on from the rows before.
    pub fn append(&self, vectors: &Vectors) -> Range<u32> {
        let start = self.store.committed_len();
        if vectors.len() == 0 {
            return start as u32..start as u32;
        }
        let ids = self.store.append_batch(vectors.array(), start as u64).unwrap();
        self.graph.insert_batch(ids.clone(), &self.store.snapshot()).unwrap();
        ids
    }

    pub fn search(&self, query: &[f32]) -> Vec<Hit> {
        self.graph.search(query, &SearchParams::new(K).ef(EF), &self.store.snapshot()).unwrap().into_vec()
    }

    pub fn ids(&self, query: &[f32]) -> Vec<u32> {
        self.search(query).iter().map(|hit| hit.id).collect()
    }

    /// The vectors behind the graph as Lance's own flat storage.
    pub fn lance_storage(&self) -> FlatFloatStorage {
        let batch = self.store.snapshot().to_record_batch().unwrap();
        lance_storage(batch, self.store.dim(), self.store.distance_type())
    }
}

pub fn lance_storage(batch: RecordBatch, dim: usize, metric: DistanceType) -> FlatFloatStorage {
    FlatFloatStorage::try_from_batch(batch, &FlatMetadata { dim }, lance_metric(metric), None).unwrap()
}

/// Lance's own storage of `vectors`, row ids from 0.
pub fn lance_storage_of(vectors: &Vectors, metric: DistanceType) -> FlatFloatStorage {
    FlatFloatStorage::new(FixedSizeListArray::clone(&vectors.array()), lance_metric(metric))
}

pub fn lance_search(hnsw: &HNSW, storage: &impl VectorStore, query: &[f32]) -> Vec<OrderedNode> {
    let query: ArrayRef = Arc::new(Float32Array::from(query.to_vec()));
    hnsw.search_basic(query, K, &lance_query(EF), None, storage).unwrap()
}

pub fn lance_ids(hnsw: &HNSW, storage: &impl VectorStore, query: &[f32]) -> Vec<u32> {
    lance_search(hnsw, storage, query).iter().map(|hit| hit.id).collect()
}

pub fn lance_query(ef: usize) -> HnswQueryParams {
    HnswQueryParams { ef, lower_bound: None, upper_bound: None, dist_q_c: 0.0, use_acorn: false }
}

/// The ids of the `K` nearest rows, by a scan with Lance's kernels.
pub fn nearest(vectors: &Vectors, metric: DistanceType, query: &[f32]) -> Vec<u32> {
    let rows = (0_u32..).zip(vectors.rows());
    crate::data::nearest(metric, rows, query, K).into_iter().map(|row| row.0).collect()
}

/// Mean share of the `K` nearest rows that `answer` returns.
pub fn recall(
    vectors: &Vectors,
    metric: DistanceType,
    queries: &Vectors,
    answer: impl Fn(&[f32]) -> Vec<u32>,
) -> f64 {
    let wanted = K.min(vectors.len()) * queries.len();
    if wanted == 0 {
        return 1.0;
    }
    let found: usize = queries
        .rows()
        .map(|query| {
            let mut ids = answer(query);
            ids.sort_unstable();
            ids.dedup();
            let exact = nearest(vectors, metric, query);
            ids.iter().filter(|id| exact.contains(id)).count()
        })
        .sum();
    found as f64 / wanted as f64
}
