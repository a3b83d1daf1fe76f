//! Every error that a caller can reach, with its numbers, and that it changes nothing.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float64Array, UInt64Array};
use arrow_schema::{DataType, Field};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, Coding, DistanceType, Error, HnswGraph, Index, SearchParams,
    SkippedRows, VectorSource,
};

use crate::data::{Plain, build, graph_of, pair, uniform};
use crate::export::{Exported, bytes};

fn says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{error:?} says {message:?}, without {part:?}");
    }
}

/// Everything of an index that a failed call must leave alone.
fn state(index: &Index) -> (Vec<u8>, Vec<u8>, usize, usize, SkippedRows) {
    let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
    (bytes(&graph), bytes(&vectors), index.len(), index.reader().snapshot().len(), index.skipped())
}

#[test]
fn parameters_that_cannot_work() {
    let good = BuildParams::default();
    good.validate().unwrap();
    let cases = [
        (good.clone().num_edges(3), "m", "m must be at least 4, got 3"),
        (good.clone().num_edges(0), "m", "got 0"),
        (good.clone().num_edges(usize::MAX).ef_construction(usize::MAX), "m", "18446744073709551615"),
        (good.clone().num_edges(20).ef_construction(19), "ef_construction", "19"),
        (good.clone().max_level(0), "max_level", "0"),
    ];
    for (params, name, message) in cases {
        for error in [
            params.validate().err(),
            HnswGraph::try_new(params.clone()).err(),
            Index::hnsw(8, DistanceType::L2, params.clone()).err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{params:?} is accepted"));
            assert!(
                matches!(error, Error::InvalidParams { parameter, .. } if parameter == name),
                "{error:?}"
            );
            says(&error, &[name, message]);
        }
    }
    let error = ArrowFixedSizeListVectorStore::try_new(0, DistanceType::L2).err().unwrap();
    assert!(matches!(error, Error::InvalidParams { parameter: "dim", value: 0, .. }), "{error:?}");
    let error = Index::hnsw(0, DistanceType::L2, good).err().unwrap();
    assert!(matches!(error, Error::InvalidParams { parameter: "dim", value: 0, .. }), "{error:?}");
}

#[test]
fn appends_that_fail_change_nothing() {
    let rows = uniform(300, 8, 1);
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 100);
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(8, DistanceType::L2).unwrap());
    let before = state(&index);
    let three = uniform(3, 8, 2).array();

    let mut errors = Vec::new();
    let mut fails = |vectors: &FixedSizeListArray, row_ids: Result<u64, UInt64Array>| -> Error {
        let (ours, stores) = match &row_ids {
            Ok(start) => {
                (index.append(vectors, *start), store.append_batch(Arc::new(vectors.clone()), *start))
            }
            Err(ids) => {
                (index.append(vectors, ids), store.append_batch_with_row_ids(Arc::new(vectors.clone()), ids))
            }
        };
        let error = ours.unwrap_err();
        assert_eq!(error.to_string(), stores.unwrap_err().to_string());
        assert!(state(&index) == before, "{error}: the index changed");
        assert!(store.is_empty() && store.skipped() == SkippedRows::default(), "{error}: the store changed");
        errors.push(error.to_string());
        error
    };

    let error = fails(&uniform(3, 9, 2).array(), Ok(0));
    assert!(matches!(error, Error::DimensionMismatch { expected: 8, actual: 9 }), "{error:?}");
    says(&error, &["8", "9"]);

    let field = Arc::new(Field::new("item", DataType::Float64, true));
    let doubles = FixedSizeListArray::new(field, 8, Arc::new(Float64Array::from(vec![1.0; 24])), None);
    let error = fails(&doubles, Ok(0));
    assert!(matches!(error, Error::UnsupportedType { .. }), "{error:?}");
    says(&error, &["Float32", "Float64"]);

    for row_ids in [vec![1u64, 2], vec![1, 2, 3, 4], vec![]] {
        let count = row_ids.len();
        let error = fails(&three, Err(UInt64Array::from(row_ids)));
        assert!(matches!(error, Error::RowIdCount { rows: 3, row_ids } if row_ids == count), "{error:?}");
        says(&error, &["3", &count.to_string()]);
    }

    let error = fails(&three, Err(UInt64Array::from(vec![Some(1), Some(2), None])));
    assert!(matches!(error, Error::NullRowId { row: 2 }), "{error:?}");
    says(&error, &["2"]);

    let error = fails(&three, Ok(u64::MAX - 1));
    assert!(
        matches!(error, Error::RowIdOverflow { row_id_start, rows: 3 } if row_id_start == u64::MAX - 1),
        "{error:?}"
    );
    says(&error, &["18446744073709551614", "3"]);
    println!("{errors:#?}");

    assert_eq!(index.append(&three, u64::MAX - 10).unwrap(), 300..303);
    assert_eq!(store.append_batch(Arc::new(three), u64::MAX - 10).unwrap(), 0..3);
    assert_eq!(index.reader().snapshot().row_id(302), u64::MAX - 8);
    Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap())
        .check(&index.reader().snapshot(), "after the errors");
}

#[test]
fn queries_that_have_no_answer() {
    let rows = uniform(100, 4, 3);
    for distance_type in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
        let index = build(&rows, distance_type, &BuildParams::default(), 100);
        let (graph, snapshot) = (graph_of(&index), index.reader().snapshot());
        let errors = |query: &[f32]| -> [Error; 3] {
            [
                index.search(query, &SearchParams::new(5).ef(50)).unwrap_err(),
                index.search_exact(query, &SearchParams::new(5)).unwrap_err(),
                graph.search(query, &SearchParams::new(5).ef(50), &snapshot).unwrap_err(),
            ]
        };
        for wrong in [0, 3, 5] {
            for error in errors(&vec![0.5; wrong]) {
                assert!(
                    matches!(error, Error::DimensionMismatch { expected: 4, actual } if actual == wrong),
                    "{error:?}"
                );
                says(&error, &["4", &wrong.to_string()]);
            }
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for error in errors(&[0.5, 0.5, 0.5, bad]) {
                assert!(matches!(error, Error::UnusableQuery { position: 3, .. }), "{error:?}");
                says(&error, &["3"]);
            }
        }
        if distance_type == DistanceType::Cosine {
            for error in errors(&[0.0, -0.0, 0.0, 0.0]) {
                assert!(matches!(error, Error::UnusableQuery { position: 0, .. }), "{error:?}");
                says(&error, &["zero"]);
            }
        } else {
            assert_eq!(index.search(&[0.0; 4], &SearchParams::new(5).ef(50)).unwrap().into_vec().len(), 5);
        }
    }
}

#[test]
fn inserts_that_fail_change_nothing() {
    let rows = uniform(200, 6, 4);
    let source = Plain::new(&rows, DistanceType::L2);
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    graph.insert_batch(0..100, &source).unwrap();
    let before = bytes(&graph.to_lance_hnsw_batch(None).unwrap());
    let fails = |ids: Range<u32>, source: &Plain| -> Error {
        let error = graph.insert_batch(ids.clone(), source).unwrap_err();
        assert_eq!(graph.len(), 100, "{error}");
        assert!(
            bytes(&graph.to_lance_hnsw_batch(None).unwrap()) == before,
            "{error}: {ids:?} changed the graph"
        );
        error
    };

    for (start, end) in [(0, 10), (99, 150), (101, 150), (100, 50), (150, 100), (u32::MAX, 0)] {
        let error = fails(start..end, &source);
        assert!(
            matches!(error, Error::NonContiguousIds { expected: 100, start: s, end: e } if (s, e) == (start, end)),
            "{error:?}"
        );
        says(&error, &["100", &start.to_string()]);
    }
    assert!(matches!(
        graph.insert(102, &source).unwrap_err(),
        Error::NonContiguousIds { expected: 100, start: 102, .. }
    ));

    for end in [201, 5_000_000, 1 << 31] {
        let error = fails(100..end, &source);
        assert!(
            matches!(error, Error::SourceTooShort { len: 200, needed } if needed == end as usize),
            "{error:?}"
        );
        says(&error, &["200", &end.to_string()]);
    }

    let error = fails(100..200, &Plain::new(&rows, DistanceType::Dot));
    assert!(matches!(error, Error::SourceMismatch { .. }), "{error:?}");
    says(&error, &["l2", "dot"]);
    let error = fails(100..200, &Plain::new(&uniform(200, 7, 4), DistanceType::L2));
    assert!(matches!(error, Error::SourceMismatch { .. }), "{error:?}");
    says(&error, &["6", "7"]);

    graph.insert_batch(100..100, &source).unwrap();
    graph.insert_batch(100..200, &source).unwrap();
    Exported::read(&graph.to_lance_hnsw_batch(None).unwrap()).check(&source, "after the errors");

    let query = rows.row(0);
    let error = graph
        .search(query, &SearchParams::new(5).ef(50), &Plain::new(&rows, DistanceType::Cosine))
        .unwrap_err();
    assert!(matches!(error, Error::SourceMismatch { .. }), "{error:?}");
    let wide = uniform(200, 7, 4);
    let error = graph
        .search(wide.row(0), &SearchParams::new(5).ef(50), &Plain::new(&wide, DistanceType::L2))
        .unwrap_err();
    assert!(matches!(error, Error::SourceMismatch { .. }), "{error:?}");
}

#[test]
fn a_size_can_be_asked_for_any_parameters() {
    for m in [0, 1, 2, 16, 1 << 32, (1 << 32) + 1, usize::MAX] {
        for rows in [0, 1, 1_000_000, usize::MAX] {
            let bytes = HnswGraph::reserved_bytes(&BuildParams::default().num_edges(m), 100, rows);
            assert!(rows == 0 || bytes > 0, "m {m}, {rows} rows: {bytes}");
        }
    }
    let of = |codes| HnswGraph::reserved_bytes(&BuildParams::default().codes(codes), 100, 100_000);
    let lists = of(Coding::Off);
    assert!((270 * 100_000..300 * 100_000).contains(&lists), "{lists} bytes for 100,000 rows");
    let codes = of(Coding::Auto) - lists;
    assert!((116 * 100_000..140 * 100_000).contains(&codes), "{codes} bytes of codes for 100,000 rows");
}
