//! Which searches the index takes, and how it reads them.

use std::any::Any;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array, Float64Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use lance::dataset::mem_wal::index::{MemIndex, MemQuery, SearchContext, VectorMemQuery};
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;

use crate::memwal::data::{
    DIM, METRICS, index, lance_metric, list, list_with_nulls, query, rows, search, vectors,
};

/// A query of some other index.
#[derive(Debug)]
struct Foreign;

impl MemQuery for Foreign {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn of(vector: FixedSizeListArray) -> VectorMemQuery {
    VectorMemQuery { vector, k: 3, ef: None, distance_type: None }
}

/// Declined while planning, and again if it is asked all the same.
fn declines(index: &dyn MemIndex, query: &dyn MemQuery) -> bool {
    let answer = index.search(query, &SearchContext::new(u64::MAX)).unwrap();
    assert_eq!(answer.is_some(), index.can_answer(query), "{query:?}");
    answer.is_none()
}

#[test]
fn another_metric_is_declined_and_none_is_the_index_s_own() {
    let all = [LanceMetric::L2, LanceMetric::Cosine, LanceMetric::Dot, LanceMetric::Hamming];
    for metric in METRICS {
        let index = index(metric);
        index.insert(&rows(&vectors(20, 1)), 0).unwrap();
        let with = |distance_type| VectorMemQuery { distance_type, ..query(&vectors(1, 2)[0], 3) };
        assert!(!declines(&index, &with(None)));
        for asked in all {
            assert_eq!(declines(&index, &with(Some(asked))), asked != lance_metric(metric));
        }
    }
}

#[test]
fn what_is_no_vector_of_this_index_is_declined_with_rows_and_without() {
    let vector = vectors(1, 2).remove(0);
    let mut not_finite = vector.clone();
    not_finite[5] = f32::NAN;
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    let doubles = Float64Array::from(vec![0.5; DIM]);
    let doubles = FixedSizeListArray::try_new(item, DIM as i32, Arc::new(doubles), None).unwrap();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let hole = Float32Array::from((0..DIM).map(|i| (i != 3).then_some(1.0)).collect::<Vec<Option<f32>>>());
    let hole = FixedSizeListArray::try_new(item, DIM as i32, Arc::new(hole), None).unwrap();
    let others = [
        of(list(&[vector[..DIM - 1].to_vec()])),
        of(list(&[[vector.as_slice(), &[0.0]].concat()])),
        of(list(&vectors(2, 2))),
        of(list(&vectors(1, 2)).slice(0, 0)),
        of(list_with_nulls(std::slice::from_ref(&vector), Some(NullBuffer::from(vec![false])))),
        of(list(&[not_finite])),
        of(doubles),
        of(hole),
    ];
    for filled in [false, true] {
        let index = index(DistanceType::L2);
        if filled {
            index.insert(&rows(&vectors(20, 1)), 0).unwrap();
        }
        assert!(declines(&index, &Foreign));
        for other in &others {
            assert!(declines(&index, other), "{other:?}");
        }
        assert!(!declines(&index, &query(&vector, 3)));
    }
}

#[test]
fn a_zero_vector_is_declined_in_cosine_alone() {
    for metric in METRICS {
        let index = index(metric);
        index.insert(&rows(&vectors(20, 1)), 0).unwrap();
        assert_eq!(declines(&index, &query(&[0.0; DIM], 3)), metric == DistanceType::Cosine);
    }
}

#[test]
fn a_query_may_be_a_slice() {
    let all = vectors(20, 1);
    let index = index(DistanceType::L2);
    index.insert(&rows(&all), 0).unwrap();
    let sliced = of(list(&all).slice(7, 1));
    let answer = index.search(&sliced, &SearchContext::new(u64::MAX)).unwrap().unwrap();
    let first = &answer.as_ranked().unwrap()[0];
    assert_eq!((first.position, first.score), (7, 0.0));
}

#[test]
fn any_k_and_any_ef_are_taken() {
    let all = vectors(300, 1);
    let index = index(DistanceType::L2);
    index.insert(&rows(&all), 0).unwrap();
    for (k, expected) in [(0, 0), (1, 1), (299, 299), (300, 300), (301, 300), (usize::MAX, 300)] {
        assert_eq!(search(&index, &all[0], k, u64::MAX).len(), expected);
        for ef in [0, 1, 1_000, usize::MAX] {
            let query = VectorMemQuery { ef: Some(ef), ..query(&all[0], k) };
            let answer = index.search(&query, &SearchContext::new(u64::MAX)).unwrap().unwrap();
            assert_eq!(answer.as_ranked().unwrap().len(), expected, "k {k}, ef {ef}");
        }
    }
}
