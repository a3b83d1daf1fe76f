//! Rows whose vectors follow from their key and a version, and the exact answers over them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use half::f16;

const DIM: usize = 64;
const CENTERS: u64 = 40;

/// Live rows: the version of each key.
pub struct Rows {
    elements: DataType,
    versions: BTreeMap<i64, u64>,
}

impl Rows {
    pub fn new(elements: DataType, ids: Range<i64>, version: u64) -> Self {
        Self { elements, versions: ids.map(|id| (id, version)).collect() }
    }

    /// Adds rows, or takes their versions.
    pub fn replace(&mut self, other: &Self) {
        self.versions.extend(&other.versions);
    }

    /// `id`, `text`, `vector`.
    pub fn batch(&self) -> Result<RecordBatch> {
        let values = self.versions.iter().flat_map(|(&id, &version)| vector(id, version));
        let values: ArrayRef = match self.elements {
            DataType::Float16 => Arc::new(Float16Array::from_iter_values(values.map(f16::from_f32))),
            _ => Arc::new(Float32Array::from_iter_values(values)),
        };
        let item = Arc::new(Field::new("item", self.elements.clone(), true));
        let vectors = FixedSizeListArray::try_new(item, DIM as i32, values, None)?;
        let texts = self.versions.iter().map(|(id, version)| format!("row {id}, version {version}"));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("text", DataType::Utf8, true),
            Field::new("vector", vectors.data_type().clone(), true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(self.versions.keys().copied())),
            Arc::new(StringArray::from_iter_values(texts)),
            Arc::new(vectors),
        ];
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    /// Some keys, evenly over all, each with a number.
    pub fn some(&self, n: usize) -> impl Iterator<Item = (i64, u64)> {
        let step = self.versions.len() / n;
        self.versions.keys().copied().step_by(step).take(n).zip(100..)
    }

    /// The keys of the nearest rows, of those that a filter lets pass.
    pub fn nearest(&self, query: &[f32], k: usize, passes: impl Fn(i64) -> bool) -> Vec<i64> {
        let rows = self.versions.iter().filter(|row| passes(*row.0));
        let mut all: Vec<_> = rows.map(|(&id, &version)| (cosine(query, &vector(id, version)), id)).collect();
        all.sort_by(|left, right| left.0.total_cmp(&right.0));
        all.truncate(k);
        all.into_iter().map(|row| row.1).collect()
    }

    pub fn distance(&self, query: &[f32], id: i64) -> Option<f32> {
        self.versions.get(&id).map(|&version| cosine(query, &vector(id, version)))
    }
}

/// Numbers from -1 to 1 that follow from a seed.
fn numbers(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// The vector of a row, near one of 40 centers.
pub fn vector(id: i64, version: u64) -> Vec<f32> {
    let seed = (id as u64).wrapping_mul(1_000_003) ^ (version << 48);
    let center = numbers(seed % CENTERS).take(DIM);
    center.zip(numbers(seed)).map(|(center, noise)| center + 0.5 * noise).collect()
}

/// A query near a row.
pub fn near(id: i64, seed: u64) -> Vec<f32> {
    vector(id, 1).iter().zip(numbers(seed)).map(|(x, noise)| x + 0.1 * noise).collect()
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    1.0 - dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
