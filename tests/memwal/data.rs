//! Seeded vectors, exact answers, and rows as a MemTable holds them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use lance::dataset::mem_wal::index::{MemIndex, SearchContext, VectorMemQuery};
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub const METRICS: [DistanceType; 3] = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];
pub const DIM: usize = 16;
pub const K: usize = 10;

/// Around 32 centers that every seed shares.
pub fn vectors(rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut centers = SmallRng::seed_from_u64(4_242);
    let centers: Vec<f32> = (0..32 * DIM).map(|_| centers.random_range(-1.0..1.0)).collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..rows)
        .map(|_| {
            let center = rng.random_range(0..32) * DIM;
            centers[center..center + DIM].iter().map(|x| x + rng.random_range(-0.4_f32..0.4)).collect()
        })
        .collect()
}

pub fn list(rows: &[Vec<f32>]) -> FixedSizeListArray {
    list_with_nulls(rows, None)
}

pub fn list_with_nulls(rows: &[Vec<f32>], nulls: Option<NullBuffer>) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(rows.concat()));
    FixedSizeListArray::try_new(item, rows[0].len() as i32, values, nulls).unwrap()
}

pub fn null_list(rows: usize) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::new_null(item, DIM as i32, rows)
}

/// Rows of a table `id: Int64` (the primary key), `vec`; the ids count up.
pub fn batch(first_id: i64, vectors: FixedSizeListArray) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first_id..first_id + vectors.len() as i64);
    let key = HashMap::from([("lance-schema:unenforced-primary-key".to_string(), "true".to_string())]);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false).with_metadata(key),
        Field::new("vec", vectors.data_type().clone(), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(vectors)]).unwrap()
}

pub fn rows(vectors: &[Vec<f32>]) -> RecordBatch {
    batch(0, list(vectors))
}

/// An index as the plugin makes it, with default settings.
pub fn index(metric: DistanceType) -> PennonMemIndex {
    index_of(metric, DIM)
}

pub fn index_of(metric: DistanceType, dim: usize) -> PennonMemIndex {
    PennonMemIndex::try_new("vec", 1, dim, metric, PennonMemIndexParams::default()).unwrap()
}

pub fn query(vector: &[f32], k: usize) -> VectorMemQuery {
    VectorMemQuery { vector: list(&[vector.to_vec()]), k, ef: None, distance_type: None }
}

/// Positions and distances, as the index ranks them.
pub fn search(index: &dyn MemIndex, vector: &[f32], k: usize, max_visible: u64) -> Vec<(u64, f32)> {
    let answer = index.search(&query(vector, k), &SearchContext::new(max_visible)).unwrap();
    let matches = answer.expect("the index answers searches by vector");
    matches.as_ranked().unwrap().iter().map(|m| (m.position, m.score)).collect()
}

pub fn lance_metric(metric: DistanceType) -> LanceMetric {
    metric.try_into().unwrap()
}

/// Lance's own distance.
pub fn distance(metric: DistanceType, left: &[f32], right: &[f32]) -> f32 {
    lance_metric(metric).func::<f32>()(left, right)
}

/// Equal within 1e-4 relative, or 1e-5 near zero, where `1 - x` cancels.
pub fn close(left: f32, right: f32) -> bool {
    (left - right).abs() <= 1e-4 * right.abs().max(0.1)
}

/// The `k` nearest of some rows by a scan, nearest first.
pub fn nearest<'a, I: Copy + Ord>(
    metric: DistanceType,
    rows: impl IntoIterator<Item = (I, &'a [f32])>,
    query: &[f32],
    k: usize,
) -> Vec<(I, f32)> {
    let mut all: Vec<(I, f32)> =
        rows.into_iter().map(|(row, vector)| (row, distance(metric, query, vector))).collect();
    all.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
    all.truncate(k);
    all
}

/// How many of the rows found are among the nearest.
pub fn hits<I: Copy + Ord>(found: &[(I, f32)], nearest: &[(I, f32)]) -> usize {
    found.iter().filter(|(row, _)| nearest.iter().any(|(other, _)| other == row)).count()
}
