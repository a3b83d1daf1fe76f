//! Searches: exact ones are a scan in f64 over what is stored, those of the graph find nearly the same.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, UInt64Type};
use arrow_array::{Array, FixedSizeListArray};
use arrow_buffer::NullBuffer;
use pennon::{DistanceType, ElementType, Index, SearchParams, VectorSource};

use super::columns::{
    ELEMENTS, child, column, graph_bytes, index_of, list, numbers, oracle, pairs, query, stored, tolerance,
};
use crate::data::{Tally, assert_sorted, ids, in_pool};

/// Beam for a recall of 0.95: inner products are not a metric and need a wider one.
fn ef(distance_type: DistanceType) -> usize {
    if distance_type == DistanceType::Dot { 256 } else { 100 }
}

#[test]
fn an_exact_search_is_the_scan_in_f64() {
    for (element, distance_type) in pairs() {
        let mut worst = 0.0f64;
        for dim in [3, 24, 65, 200] {
            let case = format!("{element}, {distance_type}, dim {dim}");
            let all = column(element, distance_type, 305, dim, dim as u64);
            let rows = stored(&all);
            let index = index_of(element, distance_type, &all.slice(0, 300), 120);
            for row in 300..305 {
                let query = query(&all, row);
                let found = index.search_exact(&query, &SearchParams::new(300)).unwrap().into_vec();
                assert_eq!(found.len(), 300, "{case}");
                assert_sorted(&found, &case);
                for result in found {
                    let row = &rows[result.id as usize];
                    let exact = oracle(distance_type, &query, row);
                    let allowed = tolerance(element, distance_type, &query, row);
                    let off = (f64::from(result.distance) - exact).abs();
                    assert!(off <= allowed, "{case}: {result:?}, not {exact}");
                    if allowed > 0.0 {
                        worst = worst.max(off / allowed);
                    }
                }
            }
        }
        println!("{element}, {distance_type}: within {worst:.3} tolerances of f64");
    }
}

/// One distance at a time, many at a time, from a query or from a row: to the bit the same, and the same back.
#[test]
fn all_ways_to_a_distance_agree() {
    for (element, distance_type) in pairs() {
        let array = column(element, distance_type, 40, 37, 2);
        let index = index_of(element, distance_type, &array, 13);
        let (snapshot, rows) = (index.reader().snapshot(), stored(&array));
        assert_eq!((snapshot.element_type(), index.element_type()), (element, element));
        for left in 0..40 {
            let vector = snapshot.widened(left);
            assert_eq!(vector.to_vec(), query(&array, left as usize), "{element}: row {left}");
            let kept: &[f32] = if element == ElementType::Float32 { &vector } else { &[] };
            assert_eq!(snapshot.vector(left), kept, "{element}: row {left} in place");
            assert_eq!(vector.len(), rows[left as usize].len());
            for result in index.search_exact(&vector, &SearchParams::new(40)).unwrap().into_vec() {
                let right = result.id;
                let there = snapshot.distance_between(left, right);
                let back = snapshot.distance_between(right, left);
                let case = format!("{element}, {distance_type}: from {left} to {right}");
                assert_eq!(there, result.distance, "{case}, searched for");
                assert_eq!(there, snapshot.distance_to(&vector, right), "{case}, as a query");
                assert_eq!(there.to_bits(), back.to_bits(), "{case}: {there}, and {back} back");
            }
        }
    }
}

#[test]
fn recall_of_the_graph_does_not_depend_on_the_elements() {
    for (element, distance_type) in pairs() {
        let all = column(element, distance_type, 1_260, 24, 3);
        let rows = stored(&all.slice(0, 1_200));
        let index = index_of(element, distance_type, &all.slice(0, 1_200), 500);
        let health = index.health().unwrap();
        assert!(health.is_healthy(), "{element}, {distance_type}: {health}");
        let mut tally = Tally::default();
        for row in 1_200..1_260 {
            let query = query(&all, row);
            let distances: Vec<f64> = rows.iter().map(|row| oracle(distance_type, &query, row)).collect();
            let found =
                index.search(&query, &SearchParams::new(10).ef(ef(distance_type))).unwrap().into_vec();
            tally.count(&distances, 10, |_| true, ids(&found), "recall");
        }
        let recall = tally.recall();
        println!("{element}, {distance_type}: recall@10 {recall:.4}");
        assert!(recall >= 0.95, "{element}, {distance_type}: recall {recall}");
    }
}

#[test]
fn asking_for_all_rows_gives_all_rows() {
    for (element, distance_type) in pairs() {
        let array = column(element, distance_type, 400, 16, 4);
        let index = index_of(element, distance_type, &array, 100);
        let query = query(&array, 7);
        let all = index.search(&query, &SearchParams::new(400).ef(400)).unwrap().into_vec();
        assert_eq!(all.len(), 400);
        assert_eq!(
            all,
            index.search_exact(&query, &SearchParams::new(400)).unwrap().into_vec(),
            "{element}, {distance_type}"
        );
    }
}

/// The answers to an array of queries, as (query, row id, distance).
fn answers(index: &Index, queries: &FixedSizeListArray) -> Vec<(i32, u64, f32)> {
    let batch = index.search_batch(queries, &SearchParams::new(5)).unwrap().to_record_batch().unwrap();
    let query = batch["query_index"].as_primitive::<Int32Type>().values();
    let row_id = batch["_rowid"].as_primitive::<UInt64Type>().values();
    let distance = batch["_distance"].as_primitive::<Float32Type>().values();
    (0..batch.num_rows()).map(|at| (query[at], row_id[at], distance[at])).collect()
}

/// The same by one search each.
fn one_by_one(index: &Index, queries: &FixedSizeListArray) -> Vec<(i32, u64, f32)> {
    let mut answers = Vec::new();
    for row in (0..queries.len()).filter(|&row| queries.is_valid(row)) {
        let found = index.search(&query(queries, row), &SearchParams::new(5)).unwrap().into_vec();
        answers.extend(found.iter().map(|result| (row as i32, result.row_id, result.distance)));
    }
    answers
}

/// Queries of the index's own elements, of any others, from slices, and with nulls between.
#[test]
fn queries_may_be_of_any_elements() {
    for (element, distance_type) in pairs() {
        let index = index_of(element, distance_type, &column(element, distance_type, 300, 9, 5), 300);
        for asked in ELEMENTS {
            if distance_type == DistanceType::Hamming && asked != ElementType::UInt8 {
                continue;
            }
            let whole = column(asked, distance_type, 24, 9, 6);
            let valid = NullBuffer::from((0..24).map(|row| row % 5 != 2).collect::<Vec<_>>());
            let holes = list(asked, 9, whole.values().clone(), Some(valid));
            for queries in [whole.slice(0, 24), whole.slice(3, 11), holes.slice(1, 20)] {
                let found = answers(&index, &queries);
                assert_eq!(found, one_by_one(&index, &queries), "{asked} for {element}, {distance_type}");
                assert_eq!(found.len(), 5 * (queries.len() - queries.null_count()));
            }
        }
    }
}

/// Bytes under Hamming may be asked for as `f32`.
#[test]
fn queries_of_f32_are_answered_as_those_of_the_elements() {
    for (element, distance_type) in pairs() {
        let index = index_of(element, distance_type, &column(element, distance_type, 300, 9, 5), 300);
        let queries = column(element, distance_type, 24, 9, 7);
        let wide = child(ElementType::Float32, &numbers(queries.values()), None);
        let wide = list(ElementType::Float32, 9, wide, None);
        assert_eq!(answers(&index, &queries), answers(&index, &wide), "{element}, {distance_type}");
    }
}

#[test]
fn the_same_batches_give_the_same_bytes_on_any_number_of_threads() {
    for (element, distance_type) in pairs() {
        let array = column(element, distance_type, 700, 20, 8);
        let built = |threads| {
            in_pool(threads, || {
                let index = index_of(element, distance_type, &array, 400);
                graph_bytes(&index)
            })
        };
        let one = built(1);
        for threads in [1, 4] {
            assert!(one == built(threads), "{element}, {distance_type}: {threads} threads");
        }
    }
}
