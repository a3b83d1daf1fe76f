//! Queries, and what a search is told beside them.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{Array, FixedSizeListArray, Float32Array, Int64Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field};
use pennon::{Error, HnswIndex, SearchParams};

use super::{COSINE, L2, QUERY, defaults, doubles, five, rows, ten};
use crate::data::{Rows, build, list, uniform};

#[test]
fn a_query_that_is_nan_or_infinite() {
    let error = "the query cannot be searched for: a value that is not finite at element 1";
    for element in [f32::NAN, f32::INFINITY] {
        refused!(ten().search(&[0.5, element], five()), Error::UnusableQuery { position: 1, .. }, error);
        refused!(
            ten().search_exact(&[0.5, element], five()),
            Error::UnusableQuery { position: 1, .. },
            error
        );
    }
}

#[test]
fn a_zero_query_under_cosine() {
    let outcome = build(&rows(10), COSINE, &defaults(), 10).search(&[0.0, 0.0], five());
    let error =
        "the query cannot be searched for: a zero vector has no cosine distance, first zero at element 0";
    refused!(outcome, Error::UnusableQuery { position: 0, .. }, error);
}

#[test]
fn a_query_of_another_dimension() {
    let error = "vectors have 2 dimensions here, got 3";
    let query = [0.5; 3];
    refused!(ten().search(&query, five()), Error::DimensionMismatch { expected: 2, actual: 3 }, error);
    refused!(ten().search_exact(&query, five()), Error::DimensionMismatch { expected: 2, actual: 3 }, error);
}

#[test]
fn one_query_of_many_that_is_unusable() {
    let queries = Rows { dim: 2, values: vec![0.5, 0.5, f32::NAN, 0.5] }.array();
    let error = "query 1: the query cannot be searched for: a value that is not finite at element 0";
    refused!(ten().search_batch(&queries, five()), Error::InvalidQuery { row: 1, .. }, error);
}

#[test]
fn one_query_of_many_with_a_null_element() {
    let values = Float32Array::from(vec![Some(0.5), Some(0.5), None, Some(0.5)]);
    let error = "query 1: the query cannot be searched for: a null at element 0";
    let queries = list(values, 2, "item", true, None);
    refused!(ten().search_batch(&queries, five()), Error::InvalidQuery { row: 1, .. }, error);
}

#[test]
fn queries_that_are_null() {
    let valid = NullBuffer::from(vec![false, true, false]);
    let values = Float32Array::from(vec![f32::NAN, 0.0, 0.5, 0.5, 0.0, 0.0]);
    let batch = ten().search_batch(&list(values, 2, "item", true, Some(valid)), five()).unwrap();
    assert_eq!(batch["query"].as_primitive::<UInt32Type>().values().to_vec(), [1; 5]);
}

#[test]
fn queries_of_another_type() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let whole = FixedSizeListArray::new(item, 2, Arc::new(Int64Array::from(vec![1; 4])), None);
    let expected = "FixedSizeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8";
    let message = format!("vectors must be {expected}, got {}", whole.data_type());
    refused!(ten().search_batch(&whole, five()), Error::UnsupportedType { .. }, message);
}

#[test]
fn queries_of_other_elements() {
    let found = ten().search_batch(&doubles(), five()).unwrap();
    let one = ten().search(&[1.0, 1.0], five()).unwrap();
    let row_ids = found["_rowid"].as_primitive::<UInt64Type>().values().to_vec();
    assert_eq!(row_ids, one.iter().map(|result| result.row_id).collect::<Vec<_>>().repeat(3));
}

#[test]
fn queries_of_another_dimension() {
    let outcome = ten().search_batch(&uniform(4, 3, 73).array(), five());
    let error = "vectors have 2 dimensions here, got 3";
    refused!(outcome, Error::DimensionMismatch { expected: 2, actual: 3 }, error);
}

#[test]
fn k_of_0() {
    assert!(ten().search(&QUERY, SearchParams::new(0, 50)).unwrap().is_empty());
    assert!(ten().search_exact(&QUERY, SearchParams::new(0, 50)).unwrap().is_empty());
}

#[test]
fn k_above_the_number_of_rows() {
    for k in [11, usize::MAX] {
        let all = ten().search(&QUERY, SearchParams::top(k)).unwrap();
        assert_eq!((all.len(), &all), (10, &ten().search_exact(&QUERY, SearchParams::top(k)).unwrap()));
    }
}

#[test]
fn ef_below_k() {
    let index = build(&rows(600), L2, &defaults(), 600);
    let found = index.search(&QUERY, SearchParams::new(80, 0)).unwrap();
    assert_eq!((found.len(), &found), (80, &index.search(&QUERY, SearchParams::new(80, 80)).unwrap()));
}

#[test]
fn an_empty_index() {
    let index = HnswIndex::try_new(2, L2, defaults()).unwrap();
    assert!(index.search(&QUERY, five()).unwrap().is_empty());
    assert!(index.search_exact(&QUERY, five()).unwrap().is_empty());
    assert!(index.cursor(&QUERY, five()).unwrap().next_k(5).is_empty());
    assert_eq!(index.search_batch(&rows(3).array(), five()).unwrap().num_rows(), 0);
    let (graph, vectors) = index.to_lance_batches().unwrap();
    assert!(HnswIndex::from_lance_batches(&graph, &vectors).unwrap().is_empty());
}

#[test]
fn an_inverted_range() {
    let outcome = ten().search(&QUERY, five().distance_range(2.5, 1.0));
    let error = "a distance range must not be inverted or NaN, got 2.5..1";
    refused!(outcome, Error::InvalidDistanceRange { .. }, error);
}

#[test]
fn a_range_to_nan() {
    let outcome = ten().search(&QUERY, five().distance_range(0.0, f32::NAN));
    let error = "a distance range must not be inverted or NaN, got 0..NaN";
    refused!(outcome, Error::InvalidDistanceRange { .. }, error);
}

#[test]
fn a_range_that_ends_where_it_starts() {
    let nearest = ten().search(&QUERY, five()).unwrap()[0].distance;
    assert!(ten().search(&QUERY, five().distance_range(nearest, nearest)).unwrap().is_empty());
}

#[test]
fn a_mask_of_another_length() {
    for bits in [0, 9, 11] {
        let mask = BooleanBuffer::new_set(bits);
        let error = format!("a mask by vector id needs 10 bits here, got {bits}");
        refused!(
            ten().search(&QUERY, five().mask(mask.clone())),
            Error::MaskLength { expected: 10, .. },
            error
        );
        refused!(
            ten().search_exact(&QUERY, five().mask(mask)),
            Error::MaskLength { expected: 10, .. },
            error
        );
    }
}

#[test]
fn gamma_that_is_nan_or_negative() {
    let index = build(&rows(600), L2, &defaults(), 600);
    let strict = index.search(&QUERY, five().gamma(0.0)).unwrap();
    for gamma in [f32::NAN, -1.0, f32::NEG_INFINITY] {
        assert_eq!(five().gamma(gamma).gamma, Some(0.0));
        assert_eq!(index.search(&QUERY, five().gamma(gamma)).unwrap(), strict);
    }
}

#[test]
fn a_deadline_in_the_past() {
    let index = build(&rows(2_000), L2, &defaults(), 2_000);
    let params = SearchParams::new(2_000, 2_000).deadline(Instant::now());
    let (found, stats) = index.search_with_stats(&QUERY, params).unwrap();
    assert!(!stats.complete && found.len() < 2_000, "{} rows, {stats:?}", found.len());
}
