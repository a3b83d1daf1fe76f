//! Data for the benchmarks: seeded clusters, and an index over them.
#![allow(dead_code, clippy::unwrap_used)]

pub mod fbin;
pub mod measured;

use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, Index, SearchParams};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// `rows * dim` values around 64 centers.
pub fn clustered(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut centers = StdRng::seed_from_u64(7);
    let centers: Vec<f32> = (0..64 * dim).map(|_| centers.random_range(-1.0..1.0)).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let center = rng.random_range(0..64) * dim;
        values.extend(centers[center..center + dim].iter().map(|c| c + rng.random_range(-0.5..0.5)));
    }
    values
}

pub fn array(values: Vec<f32>, dim: usize) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::try_new(item, dim as i32, Arc::new(Float32Array::from(values)), None).unwrap()
}

pub fn index(rows: usize, dim: usize, distance_type: DistanceType) -> Index {
    let index = Index::hnsw(dim, distance_type, BuildParams::default().ef_construction(200)).unwrap();
    index.append(&array(clustered(rows, dim, 1), dim), 0).unwrap();
    index
}

/// recall@10 at `ef` over `queries`.
pub fn recall(index: &Index, queries: &[f32], ef: usize) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for query in queries.chunks_exact(index.dim()) {
        let truth = index.search_exact(query, &SearchParams::new(10)).unwrap().into_vec();
        let hits = index.search(query, &SearchParams::new(10).ef(ef)).unwrap().into_vec();
        found += hits.iter().filter(|hit| truth.iter().any(|t| t.id == hit.id)).count();
        wanted += truth.len();
    }
    found as f64 / wanted as f64
}
