//! Queries, and what a search is told beside them.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt64Type};
use arrow_array::{Array, FixedSizeListArray, Float32Array, Int64Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field};
use pennon::{Error, Index, SearchParams};

use super::{COSINE, L2, QUERY, defaults, doubles, five, rows, ten};
use crate::data::{Rows, build, graph_of, import, list, pair, uniform, with_stats};

#[test]
fn a_query_that_is_nan_or_infinite() {
    let error = "the query cannot be searched for: a value that is not finite at element 1";
    for element in [f32::NAN, f32::INFINITY] {
        refused!(ten().search(&[0.5, element], &five()), Error::UnusableQuery { position: 1, .. }, error);
        refused!(
            ten().search_exact(&[0.5, element], &five()),
            Error::UnusableQuery { position: 1, .. },
            error
        );
    }
}

#[test]
fn a_zero_query_under_cosine() {
    let outcome = build(&rows(10), COSINE, &defaults(), 10).search(&[0.0, 0.0], &five());
    let error =
        "the query cannot be searched for: a zero vector has no cosine distance, first zero at element 0";
    refused!(outcome, Error::UnusableQuery { position: 0, .. }, error);
}

#[test]
fn a_query_of_another_dimension() {
    let error = "vectors have 2 dimensions here, got 3";
    let query = [0.5; 3];
    refused!(ten().search(&query, &five()), Error::DimensionMismatch { expected: 2, actual: 3 }, error);
    refused!(ten().search_exact(&query, &five()), Error::DimensionMismatch { expected: 2, actual: 3 }, error);
}

#[test]
fn one_query_of_many_that_is_unusable() {
    let queries = Rows { dim: 2, values: vec![0.5, 0.5, f32::NAN, 0.5] }.array();
    let error = "query 1 cannot be searched for";
    refused!(ten().search_batch(&queries, &five()), Error::InvalidQuery { row: 1, .. }, error);
}

#[test]
fn one_query_of_many_with_a_null_element() {
    let values = Float32Array::from(vec![Some(0.5), Some(0.5), None, Some(0.5)]);
    let error = "query 1 cannot be searched for";
    let queries = list(values, 2, "item", true, None);
    refused!(ten().search_batch(&queries, &five()), Error::InvalidQuery { row: 1, .. }, error);
}

#[test]
fn queries_that_are_null() {
    let valid = NullBuffer::from(vec![false, true, false]);
    let values = Float32Array::from(vec![f32::NAN, 0.0, 0.5, 0.5, 0.0, 0.0]);
    let batch = ten().search_batch(&list(values, 2, "item", true, Some(valid)), &five()).unwrap();
    assert_eq!(batch.iter().map(|hits| hits.len()).collect::<Vec<_>>(), [0, 5, 0]);
    let batch = batch.to_record_batch().unwrap();
    assert_eq!(batch["query_index"].as_primitive::<Int32Type>().values().to_vec(), [1; 5]);
}

#[test]
fn queries_of_another_type() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let whole = FixedSizeListArray::new(item, 2, Arc::new(Int64Array::from(vec![1; 4])), None);
    let expected = "FixedSizeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8";
    let message = format!("vectors must be {expected}, got {}", whole.data_type());
    refused!(ten().search_batch(&whole, &five()), Error::UnsupportedType { .. }, message);
}

#[test]
fn queries_of_other_elements() {
    let found = ten().search_batch(&doubles(), &five()).unwrap().to_record_batch().unwrap();
    let one = ten().search(&[1.0, 1.0], &five()).unwrap().into_vec();
    let row_ids = found["_rowid"].as_primitive::<UInt64Type>().values().to_vec();
    assert_eq!(row_ids, one.iter().map(|result| result.row_id).collect::<Vec<_>>().repeat(3));
}

#[test]
fn queries_of_another_dimension() {
    let outcome = ten().search_batch(&uniform(4, 3, 73).array(), &five());
    let error = "vectors have 2 dimensions here, got 3";
    refused!(outcome, Error::DimensionMismatch { expected: 2, actual: 3 }, error);
}

#[test]
fn k_of_0() {
    assert!(ten().search(&QUERY, &SearchParams::new(0).ef(50)).unwrap().into_vec().is_empty());
    assert!(ten().search_exact(&QUERY, &SearchParams::new(0).ef(50)).unwrap().into_vec().is_empty());
}

#[test]
fn k_above_the_number_of_rows() {
    for k in [11, usize::MAX] {
        let all = ten().search(&QUERY, &SearchParams::new(k)).unwrap().into_vec();
        assert_eq!(
            (all.len(), &all),
            (10, &ten().search_exact(&QUERY, &SearchParams::new(k)).unwrap().into_vec())
        );
    }
}

#[test]
fn ef_below_k() {
    let index = build(&rows(600), L2, &defaults(), 600);
    let found = index.search(&QUERY, &SearchParams::new(80).ef(0)).unwrap().into_vec();
    assert_eq!(
        (found.len(), &found),
        (80, &index.search(&QUERY, &SearchParams::new(80).ef(80)).unwrap().into_vec())
    );
}

#[test]
fn an_empty_index() {
    let index = Index::hnsw(2, L2, defaults()).unwrap();
    assert!(index.search(&QUERY, &five()).unwrap().into_vec().is_empty());
    assert!(index.search_exact(&QUERY, &five()).unwrap().into_vec().is_empty());
    assert!(index.cursor(&QUERY, &five()).unwrap().next_k(5).is_empty());
    assert_eq!(
        index.search_batch(&rows(3).array(), &five()).unwrap().to_record_batch().unwrap().num_rows(),
        0
    );
    let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
    assert!(import(&graph, &vectors).unwrap().is_empty());
}

#[test]
fn an_inverted_range() {
    let outcome = ten().search(&QUERY, &five().distance_range(2.5..1.0));
    let error = "a distance range must not be inverted or NaN, got 2.5..1";
    refused!(outcome, Error::InvalidDistanceRange { .. }, error);
}

#[test]
fn a_range_to_nan() {
    let outcome = ten().search(&QUERY, &five().distance_range(0.0..f32::NAN));
    let error = "a distance range must not be inverted or NaN, got 0..NaN";
    refused!(outcome, Error::InvalidDistanceRange { .. }, error);
}

#[test]
fn a_range_that_ends_where_it_starts() {
    let nearest = ten().search(&QUERY, &five()).unwrap().into_vec()[0].distance;
    assert!(ten().search(&QUERY, &five().distance_range(nearest..nearest)).unwrap().into_vec().is_empty());
}

#[test]
fn a_mask_of_another_length() {
    for bits in [0, 9, 11] {
        let error = format!("a mask by vector id needs 10 bits here, got {bits}");
        let mask = BooleanBuffer::new_set(bits);
        refused!(ten().reader().mask(mask.clone()), Error::MaskLength { expected: 10, .. }, error);
        let graph = graph_of(&ten());
        let source = ten().reader().snapshot();
        refused!(
            graph.search(&QUERY, &five().mask(mask), &source),
            Error::MaskLength { expected: 10, .. },
            error
        );
    }
}

#[test]
fn a_mask_of_another_generation() {
    let index = ten();
    let reader = index.reader();
    let mask = reader.mask(BooleanBuffer::new_set(10)).unwrap();
    index.compact().unwrap();
    let [older, newer] = [reader.version().generation(), index.version().generation()];
    let of = |from: String, to: String| {
        format!("a mask made for the vector ids of {from} cannot be used with those of {to}")
    };
    let generation = |number: u64| format!("generation {number}");
    let none = || "a source without an index".to_string();
    let error = of(generation(older), generation(newer));
    refused!(index.search(&QUERY, &five().mask(&mask)), Error::StaleMask { .. }, error);
    refused!(index.search_exact(&QUERY, &five().mask(&mask)), Error::StaleMask { .. }, error);
    let unbound = five().mask(BooleanBuffer::new_set(10));
    refused!(
        index.search(&QUERY, &unbound),
        Error::StaleMask { mask: None, .. },
        of(none(), generation(newer))
    );
    let outcome = graph_of(&index).search(&QUERY, &five().mask(&mask), &reader.snapshot());
    refused!(outcome, Error::StaleMask { searched: None, .. }, of(generation(older), none()));
    assert_eq!(reader.search(&QUERY, &five().mask(&mask)).unwrap().len(), 5);
}

#[test]
fn a_version_of_another_generation() {
    let index = ten();
    let version = index.version();
    index.compact().unwrap();
    let error = format!("the index has no version of {version}: it is at {}", index.version());
    refused!(index.reader_at(version), Error::StaleVersion { .. }, error);
    let current = ten().version();
    let error = format!("the index has no version of {current}: it is at {}", index.version());
    refused!(index.reader_at(current), Error::StaleVersion { .. }, error);
}

#[test]
fn a_deadline_in_the_past() {
    let index = build(&rows(2_000), L2, &defaults(), 2_000);
    let params = SearchParams::new(2_000).ef(2_000).deadline(Instant::now());
    let (found, stats) = with_stats(index.search(&QUERY, &params).unwrap());
    assert!(!stats.complete && found.len() < 2_000, "{} rows, {stats:?}", found.len());
}
