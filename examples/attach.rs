//! An index on an ordinary Lance dataset: built by Pennon, of Lance's own type, searched by Lance.
//!
//! Here the dataset is a directory. In an object store it has a URI such as `s3://bucket/words.lance`: depend on `lance`
//! with the feature of that store (`aws`, `azure`, `gcp`), and open it with `DatasetBuilder::from_uri(uri)`. The calls
//! of Pennon are the same; its files are written through the dataset's own store.
//!
//! ```sh
//! cargo run --release --features lance --example attach
//! ```

use std::error::Error;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Int32Array, RecordBatch, RecordBatchIterator,
};
use lance::Dataset;
use lance::dataset::WriteParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;
use pennon::lance::{AttachParams, Quantizer, attach_index};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const DIM: i32 = 32;

/// Rows `id`, `vector` with random vectors.
fn rows(ids: std::ops::Range<i32>) -> Result<RecordBatch, Box<dyn Error>> {
    let mut rng = SmallRng::seed_from_u64(ids.start as u64);
    let vectors =
        ids.clone().map(|_| Some((0..DIM).map(|_| Some(rng.random_range(-1.0..1.0))).collect::<Vec<_>>()));
    let vectors: ArrayRef =
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, DIM));
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(ids));
    Ok(RecordBatch::try_from_iter([("id", ids), ("vector", vectors)])?)
}

/// Ids of the nearest rows, by Lance: with an index, or by comparing all rows.
async fn nearest(
    dataset: &Dataset,
    query: &Float32Array,
    filter: Option<&str>,
    index: bool,
) -> lance::Result<Vec<i32>> {
    let mut scan = dataset.scan();
    scan.nearest("vector", query, 10)?.distance_metric(LanceMetric::Cosine);
    // On disk Lance's own ef is 1.5 k, which finds less.
    scan.use_index(index).nprobes(4).ef(100).project(&["id"])?;
    if let Some(filter) = filter {
        scan.filter(filter)?.prefilter(true);
    }
    let found = scan.try_into_batch().await?;
    Ok(found["id"].as_primitive::<Int32Type>().values().to_vec())
}

/// Attaches an index, searches, and goes on after an append.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let uri = dir.path().join("rows.lance");
    let uri = uri.to_str().ok_or("a path that is not UTF-8")?;
    let batch = rows(0..4_000)?;
    let schema = batch.schema();
    let mut dataset =
        Dataset::write(RecordBatchIterator::new([Ok(batch)], schema.clone()), uri, None).await?;

    let params =
        AttachParams::default().distance_type(DistanceType::Cosine).quantizer(Quantizer::Flat).partitions(4);
    let index = attach_index(&mut dataset, "vector", params.clone()).await?;
    println!("{} over {} rows", index.name, dataset.count_rows(None).await?);

    let queries = rows(9_000_000..9_000_020)?;
    let queries = queries["vector"].as_fixed_size_list();
    let plan = {
        let mut scan = dataset.scan();
        let query = queries.value(0);
        scan.nearest("vector", query.as_primitive::<Float32Type>(), 10)?.distance_metric(LanceMetric::Cosine);
        scan.explain_plan(false).await?
    };
    assert!(plan.contains("ANNSubIndex: name=vector_idx"), "{plan}");

    for filter in [None, Some("id % 3 = 0")] {
        let mut found = 0;
        for query in queries.iter().flatten() {
            let query = query.as_primitive::<Float32Type>();
            let exact = nearest(&dataset, query, filter, false).await?;
            let by_index = nearest(&dataset, query, filter, true).await?;
            assert_eq!(by_index.len(), 10);
            found += by_index.iter().filter(|id| exact.contains(id)).count();
        }
        println!("filter {filter:?}: {found} of the {} nearest rows", queries.len() * 10);
        assert!(found >= queries.len() * 9);
    }

    // After an append the new fragments alone are indexed, as a further segment.
    let batch = rows(4_000..5_000)?;
    let append = RecordBatchIterator::new([Ok(batch.clone())], schema);
    dataset.append(append, Some(WriteParams::default())).await?;
    attach_index(&mut dataset, "vector", params).await?;
    let newest = batch["vector"].as_fixed_size_list().value(7);
    let found = nearest(&dataset, newest.as_primitive(), None, true).await?;
    println!("the row that was appended 8th is found as {}", found[0]);
    assert_eq!(found[0], 4_007);
    Ok(())
}
