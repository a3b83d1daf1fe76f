//! Seeded vectors, exact answers, and rows as a MemTable holds them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array};
use arrow_array::{Int64Array, RecordBatch, UInt8Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use half::f16;
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
    clustered(DIM, 0.4, rows, seed)
}

/// The same of other dimensions, and with elements up to `spread` from those of the center.
pub fn clustered(dim: usize, spread: f32, rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut centers = SmallRng::seed_from_u64(4_242);
    let centers: Vec<f32> = (0..32 * dim).map(|_| centers.random_range(-1.0..1.0)).collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..rows)
        .map(|_| {
            let center = rng.random_range(0..32) * dim;
            centers[center..center + dim].iter().map(|x| x + rng.random_range(-spread..spread)).collect()
        })
        .collect()
}

/// The same directions, but of every four rows one of 1e-30 and one of 1e25, whose length `f32` cannot square.
pub fn scaled(directions: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let scale = |row: usize| [1.0_f32, 1e-30, 1.0, 1e25][row % 4];
    let rows = directions.iter().enumerate();
    rows.map(|(row, direction)| direction.iter().map(|x| x * scale(row)).collect()).collect()
}

pub fn list(rows: &[Vec<f32>]) -> FixedSizeListArray {
    list_of(&DataType::Float32, rows)
}

/// Vectors of other elements, which have these values.
pub fn list_of(data_type: &DataType, rows: &[Vec<f32>]) -> FixedSizeListArray {
    list_with_nulls_of(data_type, rows, None)
}

pub fn list_with_nulls(rows: &[Vec<f32>], nulls: Option<NullBuffer>) -> FixedSizeListArray {
    list_with_nulls_of(&DataType::Float32, rows, nulls)
}

fn list_with_nulls_of(
    data_type: &DataType,
    rows: &[Vec<f32>],
    nulls: Option<NullBuffer>,
) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", data_type.clone(), true));
    let values = rows.concat().into_iter();
    let values: ArrayRef = match data_type {
        DataType::Float16 => Arc::new(Float16Array::from_iter_values(values.map(f16::from_f32))),
        DataType::Float32 => Arc::new(Float32Array::from_iter_values(values)),
        DataType::Float64 => Arc::new(Float64Array::from_iter_values(values.map(f64::from))),
        DataType::UInt8 => Arc::new(UInt8Array::from_iter_values(values.map(|x| x as u8))),
        other => panic!("no vectors of {other}"),
    };
    FixedSizeListArray::try_new(item, rows[0].len() as i32, values, nulls).unwrap()
}

/// [`vectors`] that elements of a type can be, without a loss. Bytes have a bit for every third above -1.4.
pub fn vectors_of(data_type: &DataType, rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let element = |x: f32| match data_type {
        DataType::Float16 => f16::from_f32(x).to_f32(),
        DataType::UInt8 => {
            let thirds = ((x + 1.4) * 3.0).round().clamp(0.0, 8.0) as u32;
            ((1_u32 << thirds) - 1) as f32
        }
        _ => x,
    };
    let rows = vectors(rows, seed).into_iter();
    rows.map(|row| row.into_iter().map(&element).collect()).collect()
}

pub fn null_list(rows: usize) -> FixedSizeListArray {
    null_list_of(&DataType::Float32, rows)
}

pub fn null_list_of(data_type: &DataType, rows: usize) -> FixedSizeListArray {
    null_list_of_dim(data_type, DIM, rows)
}

pub fn null_list_of_dim(data_type: &DataType, dim: usize, rows: usize) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", data_type.clone(), true));
    FixedSizeListArray::new_null(item, dim as i32, rows)
}

/// Rows of a table `id: Int64` (the primary key), `vec`; the ids count up.
pub fn batch(first_id: i64, vectors: impl Array + 'static) -> RecordBatch {
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

/// Lance's own distance; the bits that differ in bytes.
pub fn distance(metric: DistanceType, left: &[f32], right: &[f32]) -> f32 {
    if metric == DistanceType::Hamming {
        let bits = left.iter().zip(right).map(|(&x, &y)| (x as u8 ^ y as u8).count_ones());
        return bits.sum::<u32>() as f32;
    }
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
