//! Columns of every element type, what they hold in f64, and the exact answers over it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeBinaryArray, FixedSizeListArray, PrimitiveArray,
};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef};
use half::{bf16, f16};
use pennon::{BuildParams, DistanceType, ElementType, Index, SkippedRows};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::clustered;

pub const ELEMENTS: [ElementType; 6] = [
    ElementType::Float16,
    ElementType::BFloat16,
    ElementType::Float32,
    ElementType::Float64,
    ElementType::Int8,
    ElementType::UInt8,
];

/// Every element type with every metric that makes sense for it.
pub fn pairs() -> impl Iterator<Item = (ElementType, DistanceType)> {
    let all = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot, DistanceType::L1];
    let of_each = ELEMENTS.into_iter().flat_map(move |element| all.map(|metric| (element, metric)));
    of_each.chain([(ElementType::UInt8, DistanceType::Hamming)])
}

/// The item field of a list, named as Arrow names it.
pub fn item(element: ElementType) -> FieldRef {
    let data_type = match element {
        ElementType::Float16 => DataType::Float16,
        ElementType::BFloat16 => DataType::FixedSizeBinary(2),
        ElementType::Float32 => DataType::Float32,
        ElementType::Float64 => DataType::Float64,
        ElementType::Int8 => DataType::Int8,
        ElementType::UInt8 => DataType::UInt8,
        other => panic!("an element type that is not tested: {other}"),
    };
    let field = Field::new("item", data_type, true);
    let extension = HashMap::from([("ARROW:extension:name".to_owned(), "lance.bfloat16".to_owned())]);
    Arc::new(if element == ElementType::BFloat16 { field.with_metadata(extension) } else { field })
}

/// Values as the nearest elements of a type.
pub fn child(element: ElementType, values: &[f64], nulls: Option<NullBuffer>) -> ArrayRef {
    fn primitive<T: ArrowPrimitiveType>(
        values: &[f64],
        nulls: Option<NullBuffer>,
        nearest: fn(f64) -> T::Native,
    ) -> ArrayRef {
        let values: ScalarBuffer<T::Native> = values.iter().map(|&x| nearest(x)).collect();
        Arc::new(PrimitiveArray::<T>::new(values, nulls))
    }
    match element {
        ElementType::Float16 => primitive::<Float16Type>(values, nulls, f16::from_f64),
        ElementType::BFloat16 => {
            let bytes: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f64(x).to_le_bytes()).collect();
            Arc::new(FixedSizeBinaryArray::new(2, Buffer::from_vec(bytes), nulls))
        }
        ElementType::Float32 => primitive::<Float32Type>(values, nulls, |x| x as f32),
        ElementType::Float64 => primitive::<Float64Type>(values, nulls, |x| x),
        ElementType::Int8 => primitive::<Int8Type>(values, nulls, |x| x.round() as i8),
        ElementType::UInt8 => primitive::<UInt8Type>(values, nulls, |x| x.round() as u8),
        other => panic!("an element type that is not tested: {other}"),
    }
}

pub fn list(
    element: ElementType,
    dim: usize,
    child: ArrayRef,
    nulls: Option<NullBuffer>,
) -> FixedSizeListArray {
    FixedSizeListArray::try_new(item(element), dim as i32, child, nulls).unwrap()
}

/// Rows in clusters: fractions that no type holds exactly, bytes from all over their range, and under Hamming the bits
/// of a cluster with an eighth of them flipped.
pub fn column(
    element: ElementType,
    distance_type: DistanceType,
    n: usize,
    dim: usize,
    seed: u64,
) -> FixedSizeListArray {
    let values: Vec<f64> = if distance_type == DistanceType::Hamming {
        bits(n, dim, seed).into_iter().map(f64::from).collect()
    } else {
        let between_minus_2_and_2 = clustered(n, dim, 16, seed).0.values.into_iter().map(f64::from);
        let scaled = between_minus_2_and_2.map(|x| match element {
            ElementType::Int8 => 60.0 * x,
            ElementType::UInt8 => 60.0 * (x + 2.0),
            _ => x / 3.0,
        });
        scaled.collect()
    };
    list(element, dim, child(element, &values, None), None)
}

fn bits(n: usize, dim: usize, seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let centers: Vec<u8> = (0..16 * dim).map(|_| rng.random()).collect();
    let mut values = Vec::with_capacity(n * dim);
    for _ in 0..n {
        let start = rng.random_range(0..16) * dim;
        for center in &centers[start..start + dim] {
            let flipped = rng.random::<u8>() & rng.random::<u8>() & rng.random::<u8>();
            values.push(center ^ flipped);
        }
    }
    values
}

/// The elements of an array, one at a time.
pub fn numbers(values: &dyn Array) -> Vec<f64> {
    fn primitive<T: ArrowPrimitiveType>(values: &dyn Array, widen: fn(T::Native) -> f64) -> Vec<f64> {
        values.as_primitive::<T>().values().iter().map(|&x| widen(x)).collect()
    }
    match values.data_type() {
        DataType::Float16 => primitive::<Float16Type>(values, f16::to_f64),
        DataType::Float32 => primitive::<Float32Type>(values, f64::from),
        DataType::Float64 => primitive::<Float64Type>(values, |x| x),
        DataType::Int8 => primitive::<Int8Type>(values, f64::from),
        DataType::UInt8 => primitive::<UInt8Type>(values, f64::from),
        DataType::FixedSizeBinary(2) => {
            let pairs = values.as_fixed_size_binary();
            let bytes = (0..pairs.len()).map(|at| [pairs.value(at)[0], pairs.value(at)[1]]);
            bytes.map(|bytes| bf16::from_le_bytes(bytes).to_f64()).collect()
        }
        other => panic!("no elements are of type {other}"),
    }
}

/// What is stored, row by row.
pub fn stored(array: &FixedSizeListArray) -> Vec<Vec<f64>> {
    (0..array.len()).map(|row| numbers(array.value(row).as_ref())).collect()
}

/// A row as a query.
pub fn query(array: &FixedSizeListArray, row: usize) -> Vec<f32> {
    numbers(array.value(row).as_ref()).into_iter().map(|x| x as f32).collect()
}

/// An index of all rows, in batches of `batch`; row ids are positions.
pub fn index_of(
    element: ElementType,
    distance_type: DistanceType,
    array: &FixedSizeListArray,
    batch: usize,
) -> Index {
    let dim = array.value_length() as usize;
    let index = Index::builder(dim, distance_type)
        .element_type(element)
        .params(BuildParams::default())
        .build()
        .unwrap();
    for start in (0..array.len()).step_by(batch) {
        let rows = batch.min(array.len() - start);
        index.append(&array.slice(start, rows), start as u64).unwrap();
    }
    assert_eq!((index.len(), index.skipped()), (array.len(), SkippedRows::default()));
    index
}

fn sum(query: &[f32], row: &[f64], term: fn(f64, f64) -> f64) -> f64 {
    query.iter().zip(row).map(|(&x, &y)| term(f64::from(x), y)).sum()
}

/// The distance in f64 from a query to what is stored.
pub fn oracle(distance_type: DistanceType, query: &[f32], row: &[f64]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64| sum(query, row, term);
    match distance_type {
        DistanceType::L2 => sum(|x, y| (x - y) * (x - y)),
        DistanceType::Cosine => {
            1.0 - sum(|x, y| x * y) / (sum(|x, _| x * x).sqrt() * sum(|_, y| y * y).sqrt())
        }
        DistanceType::Dot => 1.0 - sum(|x, y| x * y),
        DistanceType::L1 => sum(|x, y| (x - y).abs()),
        DistanceType::Hamming => sum(|x, y| f64::from((x as u8 ^ y as u8).count_ones())),
        other => panic!("no oracle for {other}"),
    }
}

/// What rounding may cost: a little of the size of the terms that are summed, and doubles are rounded to `f32` before.
/// Sums over bytes are exact.
pub fn tolerance(element: ElementType, distance_type: DistanceType, query: &[f32], row: &[f64]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64| sum(query, row, term);
    let is_byte = matches!(element, ElementType::Int8 | ElementType::UInt8);
    match distance_type {
        DistanceType::Cosine => 5e-6,
        _ if is_byte => 0.0,
        DistanceType::L2 => 2e-6 * sum(|x, y| x * x + y * y),
        DistanceType::L1 => 1e-6 * sum(|x, y| x.abs() + y.abs()),
        _ => 1e-6 * (1.0 + sum(|x, y| (x * y).abs())),
    }
}

/// The graph as it is saved: of any metric, also of one that no batch for Lance can have.
pub fn graph_bytes(index: &Index) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    index.save(home.path()).unwrap();
    std::fs::read(home.path().join("pennon-graph-1.arrow")).unwrap()
}
