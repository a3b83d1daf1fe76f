//! Datasets of seeded vectors, and how well an index answers on them: Lance's own exact scan is the oracle.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Int64Array, RecordBatch, RecordBatchIterator};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use lance::Dataset;
use lance::dataset::WriteParams;
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::ivf::IvfBuildParams;
use lance_index::vector::sq::builder::SQBuildParams;
use pennon::lance::AttachParams;
use pennon::{BuildParams, DistanceType};
use tempfile::TempDir;

use crate::data::{clustered, elements_of, thermometer};

pub use crate::data::{DIM, K, METRICS, lance_metric};

/// The name that Lance and Pennon give to an index on `vector`.
pub const INDEX: &str = "vector_idx";

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

/// `n` rows of `DIM` floats around centers that are the same for every seed.
pub fn vectors(n: usize, seed: u64) -> Vec<f32> {
    clustered(DIM, 0.4, n, seed)
}

/// Elements of a type for values around 0, such as [`vectors`] gives. Bytes have bits set instead.
pub fn elements(values: &[f32], data_type: &DataType) -> ArrayRef {
    let element = |&x: &f32| match data_type {
        DataType::UInt8 => thermometer(x),
        DataType::Int8 => x * 90.0,
        _ => x,
    };
    elements_of(data_type, &values.iter().map(element).collect::<Vec<_>>())
}

/// Rows with these values of `id`; the vector of a row depends on its id alone. Where `is_null` says so it is null.
pub fn rows(ids: Range<i64>, is_null: impl Fn(i64) -> bool) -> RecordBatch {
    rows_of(&DataType::Float32, ids, is_null)
}

/// The same with vectors of other elements.
pub fn rows_of(data_type: &DataType, ids: Range<i64>, is_null: impl Fn(i64) -> bool) -> RecordBatch {
    let values = vectors(ids.end as usize, 1).split_off(ids.start as usize * DIM);
    rows_with(data_type, ids, &values, is_null)
}

/// Rows with these vectors, one after the other.
pub fn rows_with(
    data_type: &DataType,
    ids: Range<i64>,
    values: &[f32],
    is_null: impl Fn(i64) -> bool,
) -> RecordBatch {
    let item = Arc::new(Field::new("item", data_type.clone(), true));
    let valid: NullBuffer = ids.clone().map(|id| !is_null(id)).collect::<Vec<bool>>().into();
    let values = elements(values, data_type);
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
    dataset_of(&DataType::Float32, uri, n, per_fragment).await
}

/// The same with vectors of other elements.
pub async fn dataset_of(data_type: &DataType, uri: &str, n: i64, per_fragment: usize) -> Dataset {
    let params = WriteParams { max_rows_per_file: per_fragment, ..Default::default() };
    Dataset::write(reader(vec![rows_of(data_type, 0..n, |_| false)]), uri, Some(params)).await.unwrap()
}

/// Parameters of a quick build.
pub fn params(distance_type: DistanceType) -> AttachParams {
    AttachParams::default().distance_type(distance_type)
}

/// A vector of the dataset's own elements.
fn query(dataset: &Dataset, values: &[f32]) -> ArrayRef {
    let DataType::FixedSizeList(item, _) = dataset.schema().field("vector").unwrap().data_type() else {
        panic!("no vectors")
    };
    elements(values, item.data_type())
}

/// Ids and distances of the `k` rows that Lance finds: by its index in so many partitions, or else by comparing all
/// rows.
pub async fn ranked(
    dataset: &Dataset,
    vector: &[f32],
    metric: DistanceType,
    k: usize,
    nprobes: Option<usize>,
) -> Vec<(i64, f32)> {
    let query = query(dataset, vector);
    let mut scan = dataset.scan();
    let scan = scan.project(&["id", "_distance"]).unwrap().nearest("vector", query.as_ref(), k).unwrap();
    scan.distance_metric(lance_metric(metric)).use_index(nprobes.is_some());
    scan.nprobes(nprobes.unwrap_or(64)).ef(64);
    let found = scan.try_into_batch().await.unwrap();
    let ids = found["id"].as_primitive::<Int64Type>().values().to_vec();
    ids.into_iter().zip(found["_distance"].as_primitive::<Float32Type>().values().to_vec()).collect()
}

/// The ids of the `K` rows that Lance finds, by its index or by comparing all rows.
pub async fn nearest(dataset: &Dataset, vector: &[f32], metric: DistanceType, use_index: bool) -> Vec<i64> {
    let found = ranked(dataset, vector, metric, K, use_index.then_some(64)).await;
    found.into_iter().map(|row| row.0).collect()
}

/// What Lance does for a query.
pub async fn plan(dataset: &Dataset) -> String {
    let DataType::FixedSizeList(_, dim) = dataset.schema().field("vector").unwrap().data_type() else {
        panic!("no vectors")
    };
    let query = query(dataset, &vec![0.5; dim as usize]);
    let mut scan = dataset.scan();
    scan.nearest("vector", query.as_ref(), K).unwrap().explain_plan(false).await.unwrap()
}

/// Asserts that the index is in the plan of a query.
pub async fn assert_used(dataset: &Dataset) {
    let plan = plan(dataset).await;
    assert!(plan.contains(&format!("ANNSubIndex: name={INDEX},")), "{plan}");
    assert!(plan.contains("ANNIvfPartition"), "{plan}");
}

/// The mean share of the true nearest rows that the index finds. Every answer has `K` rows.
pub async fn recall(dataset: &Dataset, metric: DistanceType) -> f64 {
    recall_in(dataset, metric, 64).await
}

/// The same where no more than so many partitions are searched. Of rows at the same distance any will do.
pub async fn recall_in(dataset: &Dataset, metric: DistanceType, nprobes: usize) -> f64 {
    let queries = vectors(20, 99);
    let rows = dataset.count_rows(None).await.unwrap();
    let mut hits = 0;
    for query in queries.chunks(DIM) {
        let found = ranked(dataset, query, metric, K, Some(nprobes)).await;
        assert!(found.len() == K || nprobes == 1, "{} rows", found.len());
        let all = ranked(dataset, query, metric, rows, None).await;
        let farthest = all[K - 1].1;
        let exact: HashMap<i64, f32> = all.into_iter().collect();
        hits += found.iter().filter(|(id, _)| exact[id] <= farthest).count();
    }
    hits as f64 / (K * 20) as f64
}

/// How much Lance's own IVF_HNSW_SQ finds, built over the same column with the same parameters. To be asked of a
/// dataset of its own.
pub async fn recall_of_lance_s_own(
    dataset: &mut Dataset,
    metric: DistanceType,
    partitions: usize,
    build: &BuildParams,
) -> f64 {
    let (ivf, hnsw) = (IvfBuildParams::new(partitions), HnswBuildParams::from(build));
    let sq = SQBuildParams::default();
    let params = VectorIndexParams::with_ivf_hnsw_sq_params(lance_metric(metric), ivf, hnsw, sq);
    let name = Some(INDEX.to_string());
    dataset.create_index(&["vector"], IndexType::Vector, name, &params, false).await.unwrap();
    assert_used(dataset).await;
    recall(dataset, metric).await
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
pub async fn distances(dataset: &Dataset, vector: &[f32], metric: DistanceType) -> Vec<(i64, f32)> {
    ranked(dataset, vector, metric, K, Some(64)).await
}
