//! Seeded vectors of each element type, and Lance's own distances between them.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float16Array, Float32Array, Float64Array, Int8Array, UInt8Array};
use arrow_schema::DataType;
use half::f16;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub const METRICS: [DistanceType; 3] = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];
pub const DIM: usize = 16;
pub const K: usize = 10;
const CENTERS: usize = 32;

/// `n` vectors, one after another, with elements up to `spread` from those of a center. The centers depend on `dim`
/// alone, so rows and queries share them.
pub fn clustered(dim: usize, spread: f32, n: usize, seed: u64) -> Vec<f32> {
    let mut rng = SmallRng::seed_from_u64(4_242);
    let centers: Vec<f32> = (0..CENTERS * dim).map(|_| rng.random_range(-1.0..1.0)).collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(n * dim);
    for _ in 0..n {
        let center = rng.random_range(0..CENTERS) * dim;
        let elements = &centers[center..center + dim];
        values.extend(elements.iter().map(|x| x + rng.random_range(-spread..spread)));
    }
    values
}

/// These directions, but of every four vectors one of 1e-30 and one of 1e25, whose length `f32` cannot square.
pub fn scaled(dim: usize, directions: &[f32]) -> Vec<f32> {
    let scale = |row: usize| [1.0_f32, 1e-30, 1.0, 1e25][row % 4];
    directions.iter().enumerate().map(|(at, x)| x * scale(at / dim)).collect()
}

/// Values as elements of a type.
pub fn elements_of(data_type: &DataType, values: &[f32]) -> ArrayRef {
    let values = values.iter().copied();
    match data_type {
        DataType::Float16 => Arc::new(Float16Array::from_iter_values(values.map(f16::from_f32))),
        DataType::Float32 => Arc::new(Float32Array::from_iter_values(values)),
        DataType::Float64 => Arc::new(Float64Array::from_iter_values(values.map(f64::from))),
        DataType::UInt8 => Arc::new(UInt8Array::from_iter_values(values.map(|x| x as u8))),
        DataType::Int8 => Arc::new(Int8Array::from_iter_values(values.map(|x| x as i8))),
        other => panic!("no vectors of {other}"),
    }
}

/// A byte with a bit for every third that the value is above -1.4: two values differ in as many bits as they are
/// thirds apart.
pub fn thermometer(value: f32) -> f32 {
    let steps = ((value + 1.4) * 3.0).round().clamp(0.0, 8.0) as u32;
    ((1_u32 << steps) - 1) as f32
}

pub fn lance_metric(metric: DistanceType) -> LanceMetric {
    LanceMetric::try_from(metric).unwrap()
}

/// Lance's own distance; of bytes under Hamming the bits that differ.
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
