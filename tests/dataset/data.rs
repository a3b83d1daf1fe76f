//! Datasets of seeded vectors, and how well an index answers on them: Lance's own exact scan is the oracle.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, RecordBatchIterator};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use lance::Dataset;
use lance::dataset::WriteParams;
use lance::index::DatasetIndexExt;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;
use pennon::lance::AttachParams;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

pub const DIM: usize = 16;
pub const K: usize = 10;
/// The name that Lance and Pennon give to an index on `vector`.
pub const INDEX: &str = "vector_idx";
const CENTERS: usize = 32;

/// Runs a future to its end.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// A directory that is empty at first.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn uri(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path().display())
    }
}

/// `n` rows of `DIM` floats around centers that are the same for every seed, so that rows and queries share them.
pub fn vectors(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(4_242);
    let centers: Vec<f32> = (0..CENTERS * DIM).map(|_| rng.random_range(-1.0_f32..1.0)).collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(n * DIM);
    for _ in 0..n {
        let center = rng.random_range(0..CENTERS);
        for x in &centers[center * DIM..(center + 1) * DIM] {
            let noise: f32 = rng.random_range(-0.4..0.4);
            values.push(x + noise);
        }
    }
    values
}

/// Rows with these values of `id`; the vector of a row depends on its id alone. Where `is_null` says so it is null.
pub fn rows(ids: Range<i64>, is_null: impl Fn(i64) -> bool) -> RecordBatch {
    let values = vectors(ids.end as usize, 1).split_off(ids.start as usize * DIM);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let valid: NullBuffer = ids.clone().map(|id| !is_null(id)).collect::<Vec<bool>>().into();
    let values = Arc::new(Float32Array::from(values));
    let vectors = FixedSizeListArray::try_new(item, DIM as i32, values, Some(valid)).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let vectors: ArrayRef = Arc::new(vectors);
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("vector", vectors, true)]).unwrap()
}

pub fn reader(
    batches: Vec<RecordBatch>,
) -> RecordBatchIterator<Vec<Result<RecordBatch, arrow_schema::ArrowError>>> {
    let schema = batches[0].schema();
    RecordBatchIterator::new(batches.into_iter().map(Ok).collect::<Vec<_>>(), schema)
}

/// A new dataset of `n` rows without nulls, in fragments of `per_fragment` rows.
pub async fn dataset(uri: &str, n: i64, per_fragment: usize) -> Dataset {
    let params = WriteParams { max_rows_per_file: per_fragment, ..Default::default() };
    Dataset::write(reader(vec![rows(0..n, |_| false)]), uri, Some(params)).await.unwrap()
}

/// Parameters of a quick build.
pub fn params(distance_type: DistanceType) -> AttachParams {
    AttachParams::default().distance_type(distance_type)
}

pub fn lance_metric(metric: DistanceType) -> LanceMetric {
    LanceMetric::try_from(metric).unwrap()
}

/// The ids of the `K` rows that Lance finds, by its index or by comparing all rows.
pub async fn nearest(dataset: &Dataset, query: &[f32], metric: DistanceType, use_index: bool) -> Vec<i64> {
    let query = Float32Array::from(query.to_vec());
    let mut scan = dataset.scan();
    let scan = scan.project(&["id"]).unwrap().nearest("vector", &query, K).unwrap();
    scan.distance_metric(lance_metric(metric)).use_index(use_index).nprobes(64).ef(64);
    let found = scan.try_into_batch().await.unwrap();
    found["id"].as_primitive::<Int64Type>().values().to_vec()
}

/// What Lance does for a query.
pub async fn plan(dataset: &Dataset) -> String {
    let DataType::FixedSizeList(_, dim) = dataset.schema().field("vector").unwrap().data_type() else {
        panic!("no vectors")
    };
    let query = Float32Array::from(vec![0.5; dim as usize]);
    let mut scan = dataset.scan();
    scan.nearest("vector", &query, K).unwrap().explain_plan(false).await.unwrap()
}

/// Asserts that the index is in the plan of a query.
pub async fn assert_used(dataset: &Dataset) {
    let plan = plan(dataset).await;
    assert!(plan.contains(&format!("ANNSubIndex: name={INDEX},")), "{plan}");
    assert!(plan.contains("ANNIvfPartition"), "{plan}");
}

/// The mean share of the true nearest rows that the index finds. Every answer has `K` rows.
pub async fn recall(dataset: &Dataset, metric: DistanceType) -> f64 {
    let queries = vectors(20, 99);
    let mut hits = 0;
    for query in queries.chunks(DIM) {
        let found = nearest(dataset, query, metric, true).await;
        let truth = nearest(dataset, query, metric, false).await;
        assert_eq!((found.len(), truth.len()), (K, K));
        hits += found.iter().filter(|id| truth.contains(id)).count();
    }
    hits as f64 / (K * 20) as f64
}

/// Asserts that the index is used and finds at least so much.
#[track_caller]
pub fn assert_recall(recall: f64, at_least: f64, what: &str) {
    println!("{what}: recall {recall:.3}");
    assert!(recall >= at_least, "{what}: recall {recall:.3}, expected {at_least}");
}

/// Lance's own description of the index.
pub async fn statistics(dataset: &Dataset) -> serde_json::Value {
    serde_json::from_str(&dataset.index_statistics(INDEX).await.unwrap()).unwrap()
}

/// The segments of the index, by their fragments.
pub async fn segments(dataset: &Dataset) -> Vec<Vec<u32>> {
    let indices = dataset.load_indices_by_name(INDEX).await.unwrap();
    let mut fragments: Vec<Vec<u32>> =
        indices.iter().map(|index| index.fragment_bitmap.as_ref().unwrap().iter().collect()).collect();
    fragments.sort();
    fragments
}

/// Directories below `_indices`: one for every segment whose files are there.
pub fn index_dirs(uri: &str) -> usize {
    std::fs::read_dir(format!("{uri}/_indices")).map_or(0, Iterator::count)
}

/// The distances that a query with the index reports, with the ids.
pub async fn distances(dataset: &Dataset, query: &[f32], metric: DistanceType) -> Vec<(i64, f32)> {
    let query = Float32Array::from(query.to_vec());
    let mut scan = dataset.scan();
    let scan = scan.project(&["id", "_distance"]).unwrap().nearest("vector", &query, K).unwrap();
    let found = scan.distance_metric(lance_metric(metric)).ef(64).try_into_batch().await.unwrap();
    let ids = found["id"].as_primitive::<Int64Type>().values().to_vec();
    ids.into_iter().zip(found["_distance"].as_primitive::<Float32Type>().values().to_vec()).collect()
}
