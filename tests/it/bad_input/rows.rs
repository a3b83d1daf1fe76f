//! Rows, row ids and deletes.

use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Float64Array, ListArray, RecordBatch, UInt64Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use pennon::lance::{DISTANCE_TYPE_KEY, FLAT_COLUMN, ROW_ID_COLUMN};
use pennon::{
    Appended, DistanceType, ElementType, Error, HnswGraph, Index, Result, RowIds, SearchParams, SkippedRows,
};

use super::{COSINE, L2, QUERY, defaults, doubles, five, rows, ten, with_metadata};
use crate::data::{Plain, Rows, graph_of, import, list, pair, uniform};

/// Appends to ten rows and checks that an error changed nothing.
fn append(vectors: &FixedSizeListArray, row_ids: impl Into<RowIds>) -> Result<Appended> {
    let index = ten();
    let outcome = index.append(vectors, row_ids);
    let state = (index.len(), index.version().vectors(), index.skipped(), graph_of(&index).len());
    assert!(outcome.is_ok() || state == (10, 10, SkippedRows::default(), 10), "{state:?}");
    outcome
}

/// Appends a row between two good ones, which keep their row ids, and says why it was skipped.
fn skipped(distance_type: DistanceType, row: [Option<f32>; 2], valid: bool) -> SkippedRows {
    let index = Index::hnsw(2, distance_type, defaults()).unwrap();
    let values = Float32Array::from(vec![Some(1.0), Some(2.0), row[0], row[1], Some(2.0), Some(1.0)]);
    let rows = list(values, 2, "item", true, Some(NullBuffer::from(vec![true, valid, true])));
    assert_eq!(index.append(&rows, 100).unwrap(), 0..2);
    assert_eq!([100, 101, 102].map(|row_id| index.contains(row_id)), [true, false, true]);
    assert_eq!((index.len(), index.search(&QUERY, &five()).unwrap().into_vec().len()), (2, 2));
    index.skipped()
}

#[test]
fn an_element_that_is_nan_or_infinite() {
    for element in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let non_finite = SkippedRows { non_finite: 1, ..SkippedRows::default() };
        assert_eq!(skipped(L2, [Some(1.0), Some(element)], true), non_finite);
    }
}

#[test]
fn a_double_beyond_f32() {
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    let values = Float64Array::from(vec![1.0, 2.0, 1.0, 1e39, 1.0, 1e38]);
    let rows = FixedSizeListArray::new(item, 2, Arc::new(values), None);
    let index = Index::builder(2, L2).element_type(ElementType::Float64).params(defaults()).build().unwrap();
    assert_eq!(index.append(&rows, 100).unwrap(), 0..2);
    assert_eq!(index.skipped(), SkippedRows { non_finite: 1, ..SkippedRows::default() });
    assert_eq!([100, 101, 102].map(|row_id| index.contains(row_id)), [true, false, true]);
}

#[test]
fn a_null_row() {
    let null = SkippedRows { null: 1, ..SkippedRows::default() };
    assert_eq!(skipped(L2, [Some(1.0), Some(1.0)], false), null);
}

#[test]
fn a_null_element() {
    let null_element = SkippedRows { null_element: 1, ..SkippedRows::default() };
    assert_eq!(skipped(L2, [Some(1.0), None], true), null_element);
}

#[test]
fn a_zero_row_under_cosine() {
    let zero_norm = SkippedRows { zero_norm: 1, ..SkippedRows::default() };
    assert_eq!(skipped(COSINE, [Some(0.0), Some(-0.0)], true), zero_norm);
    let zero = Rows { dim: 2, values: vec![0.0; 2] }.array();
    assert_eq!(append(&zero, 100).unwrap(), 10..11);
}

#[test]
fn vectors_of_another_type() {
    let message = format!("vectors must be FixedSizeList<Float32>, got {}", doubles().data_type());
    refused!(append(&doubles(), 100), Error::UnsupportedType { .. }, message);
}

#[test]
fn vectors_of_another_dimension() {
    let wide = uniform(3, 3, 72).array();
    let error = "vectors have 2 dimensions here, got 3";
    refused!(append(&wide, 100), Error::DimensionMismatch { expected: 2, actual: 3 }, error);
}

#[test]
fn ragged_lists() {
    let (graph, vectors) = ten().to_lance_batches().map(pair).unwrap();
    let ragged = (0..10).map(|row| Some(vec![Some(0.5); 1 + row % 2]));
    let ragged: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(ragged));
    let columns = [(ROW_ID_COLUMN, vectors[ROW_ID_COLUMN].clone()), (FLAT_COLUMN, ragged)];
    let vectors = with_metadata(&RecordBatch::try_from_iter(columns).unwrap(), DISTANCE_TYPE_KEY, Some("l2"));
    let error = r#"not a valid flat batch: no column "flat" of FixedSizeList"#;
    refused!(import(&graph, &vectors), Error::InvalidBatch { kind: "flat", .. }, error);
}

#[test]
fn more_than_u32_max_vectors() {
    let graph = HnswGraph::try_new(defaults()).unwrap();
    let error = "4294967295 vectors and 1 more exceed the limit of 2147483648 vectors";
    let outcome = graph.insert(u32::MAX, &Plain::new(&rows(1), L2));
    refused!(outcome, Error::TooManyVectors { len: 4_294_967_295, added: 1 }, error);
    assert!(graph.is_empty());
}

#[test]
fn row_ids_past_u64_max() {
    let error = "3 row ids from 18446744073709551614 on do not fit in 64 bits";
    refused!(append(&rows(3).array(), u64::MAX - 1), Error::RowIdOverflow { rows: 3, .. }, error);
    assert_eq!(append(&rows(3).array(), u64::MAX - 2).unwrap(), 10..13);
}

#[test]
fn row_ids_of_another_count() {
    let outcome = append(&rows(3).array(), UInt64Array::from(vec![100, 101]));
    let error = "3 rows need as many row ids, got 2";
    refused!(outcome, Error::RowIdCount { rows: 3, row_ids: 2 }, error);
}

#[test]
fn a_null_row_id() {
    let outcome = append(&rows(3).array(), UInt64Array::from(vec![Some(100), Some(101), None]));
    refused!(outcome, Error::NullRowId { row: 2 }, "the row id of row 2 is null");
}

#[test]
fn a_row_id_that_a_live_row_has() {
    let outcome = append(&rows(3).array(), UInt64Array::from(vec![100, 7, 101]));
    let error = "row 1 has row id 7, which another row has already";
    refused!(outcome, Error::DuplicateRowId { row_id: 7, row: 1 }, error);
    let null = list(Float32Array::from(vec![0.5; 2]), 2, "item", true, Some(NullBuffer::new_null(1)));
    let error = "row 0 has row id 9, which another row has already";
    refused!(append(&null, 9), Error::DuplicateRowId { row_id: 9, row: 0 }, error);
    let index = ten();
    assert_eq!(index.upsert(&rows(3).array(), 9).unwrap(), 10..13);
    assert_eq!((index.len(), index.tombstones()), (12, 1));
}

#[test]
fn a_row_id_twice_in_a_batch() {
    let twice = UInt64Array::from(vec![100, 101, 100]);
    let error = "row 2 has row id 100, which another row has already";
    refused!(append(&rows(3).array(), &twice), Error::DuplicateRowId { row_id: 100, row: 2 }, error);
    let index = ten();
    let ids = index.upsert(&rows(3).array(), &twice).unwrap();
    assert_eq!((index.len(), index.contains(100)), (12, true));
    // Row 2 is at its own place as well, under row id 2.
    let found = index.search(rows(3).row(2), &SearchParams::new(2)).unwrap().into_vec();
    assert_eq!(found.iter().map(|r| (r.row_id, r.distance)).collect::<Vec<_>>(), [(2, 0.0), (100, 0.0)]);
    assert_eq!(found[1].id, ids.end - 1);
}

#[test]
fn a_delete_of_an_unknown_row_id() {
    let index = ten();
    refused!(index.delete(10), Error::UnknownRowId { row_id: 10 }, "no live row has row id 10");
    index.delete(3).unwrap();
    refused!(index.delete(3), Error::UnknownRowId { row_id: 3 }, "no live row has row id 3");
    assert_eq!((index.len(), index.tombstones()), (9, 1));
}
