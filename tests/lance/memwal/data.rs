//! Vectors as rows of a MemTable, and what its index answers.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Int64Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use half::f16;
use lance::dataset::mem_wal::index::{MemIndex, SearchContext, VectorMemQuery};
use pennon::DistanceType;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams};

use crate::data::{elements_of, thermometer};

pub use crate::data::{DIM, K, METRICS, close, distance, lance_metric, nearest};

/// Around centers that every seed shares.
pub fn vectors(rows: usize, seed: u64) -> Vec<Vec<f32>> {
    clustered(DIM, 0.4, rows, seed)
}

/// Of `dim` elements, which are up to `spread` from those of a center.
pub fn clustered(dim: usize, spread: f32, rows: usize, seed: u64) -> Vec<Vec<f32>> {
    crate::data::clustered(dim, spread, rows, seed).chunks(dim).map(<[f32]>::to_vec).collect()
}

/// [`scaled`](crate::data::scaled) directions.
pub fn scaled(directions: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let dim = directions[0].len();
    crate::data::scaled(dim, &directions.concat()).chunks(dim).map(<[f32]>::to_vec).collect()
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
    let values = elements_of(data_type, &rows.concat());
    FixedSizeListArray::try_new(item, rows[0].len() as i32, values, nulls).unwrap()
}

/// [`vectors`] that elements of a type can be, without a loss.
pub fn vectors_of(data_type: &DataType, rows: usize, seed: u64) -> Vec<Vec<f32>> {
    let element = |x: f32| match data_type {
        DataType::Float16 => f16::from_f32(x).to_f32(),
        DataType::UInt8 => thermometer(x),
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

/// How many of the rows found are among the nearest.
pub fn hits<I: Copy + Ord>(found: &[(I, f32)], nearest: &[(I, f32)]) -> usize {
    found.iter().filter(|(row, _)| nearest.iter().any(|(other, _)| other == row)).count()
}
