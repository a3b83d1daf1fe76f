//! Elements and metrics that do not go together, and where that is said.

use std::collections::HashMap;
use std::sync::Arc;

use crate::data::pair;
use arrow_array::{Array, FixedSizeBinaryArray, FixedSizeListArray, Int32Array};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, ElementType, Error, Index, SearchParams,
    SkippedRows,
};

use super::columns::{ELEMENTS, child, column, index_of, item, list, query};
use crate::export::bytes;

const ANY: &str = "FixedSizeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8";

/// The error, with exactly this message.
fn refused<T>(outcome: pennon::Result<T>, message: &str) -> Error {
    let error = outcome.err().unwrap_or_else(|| panic!("no error: {message}"));
    assert_eq!(error.to_string(), message);
    error
}

fn fixed(item: Field, dim: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(item), dim)
}

#[test]
fn columns_say_what_they_are_of() {
    for element in ELEMENTS {
        for (name, nullable) in [("item", true), ("element", false), ("", true)] {
            let item = Arc::unwrap_or_clone(item(element)).with_name(name).with_nullable(nullable);
            assert_eq!(ElementType::of_vectors(&fixed(item, 48)).unwrap(), (element, 48));
        }
    }
    assert_eq!(ElementType::default(), ElementType::Float32);
    let names: Vec<String> = ELEMENTS.iter().map(ElementType::to_string).collect();
    assert_eq!(names, ["Float16", "BFloat16", "Float32", "Float64", "Int8", "UInt8"]);
}

#[test]
fn columns_of_anything_else_are_refused() {
    let item = |data_type| Field::new("item", data_type, true);
    let with_extension = |name: &str| {
        let metadata = HashMap::from([("ARROW:extension:name".to_owned(), name.to_owned())]);
        item(DataType::FixedSizeBinary(2)).with_metadata(metadata)
    };
    let lists = [
        DataType::Int32,
        DataType::Int16,
        DataType::UInt16,
        DataType::UInt64,
        DataType::Boolean,
        DataType::Utf8,
        DataType::Binary,
        DataType::FixedSizeBinary(2),
        DataType::FixedSizeBinary(4),
        fixed(item(DataType::Float32), 4),
    ];
    let lists = lists.map(|data_type| fixed(item(data_type), 8));
    let others = [
        fixed(with_extension("lance.float8"), 8),
        fixed(with_extension(""), 8),
        DataType::Float32,
        DataType::FixedSizeBinary(2),
        DataType::List(Arc::new(item(DataType::Float32))),
        DataType::LargeList(Arc::new(item(DataType::Float32))),
    ];
    for column in lists.into_iter().chain(others) {
        let message = format!("vectors must be {ANY}, got {column}");
        let error = refused(ElementType::of_vectors(&column), &message);
        assert!(matches!(error, Error::UnsupportedType { expected: ANY, .. }), "{error:?}");
    }
}

#[test]
fn hamming_is_for_bytes_alone() {
    for element in ELEMENTS {
        let hamming = DistanceType::Hamming;
        let outcomes = [
            Index::builder(8, hamming)
                .element_type(element)
                .params(BuildParams::default())
                .build()
                .map(|_| ()),
            ArrowFixedSizeListVectorStore::try_with_elements(element, 8, hamming).map(|_| ()),
        ];
        for outcome in outcomes {
            if element == ElementType::UInt8 {
                outcome.unwrap();
                continue;
            }
            let message = format!("distance type hamming needs UInt8 elements, got {element}");
            let error = refused(outcome, &message);
            assert!(
                matches!(&error, Error::UnsupportedElement { distance_type, requirement: "UInt8", actual }
                    if *distance_type == DistanceType::Hamming && *actual == element),
                "{error:?}"
            );
        }
    }
    let message = "distance type hamming needs UInt8 elements, got Float32";
    refused(Index::hnsw(8, DistanceType::Hamming, BuildParams::default()), message);
    refused(ArrowFixedSizeListVectorStore::try_new(8, DistanceType::Hamming), message);
}

#[test]
fn batches_of_other_elements_change_nothing() {
    let dim = 6;
    for element in ELEMENTS {
        let rows = column(element, DistanceType::L2, 40, dim, 14);
        let index = index_of(element, DistanceType::L2, &rows, 40);
        let before = index.to_lance_batches().map(pair).unwrap();
        let mut batches: Vec<FixedSizeListArray> = Vec::new();
        for other in ELEMENTS.into_iter().filter(|&other| other != element) {
            batches.push(column(other, DistanceType::L2, 3, dim, 15));
        }
        let whole = Arc::new(Int32Array::from(vec![1; 3 * dim]));
        batches.push(FixedSizeListArray::new(
            Arc::new(Field::new("item", DataType::Int32, true)),
            dim as i32,
            whole,
            None,
        ));
        let pairs = FixedSizeBinaryArray::new(2, Buffer::from_vec(vec![0_u8; 6 * dim]), None);
        batches.push(FixedSizeListArray::new(
            Arc::new(Field::new("item", DataType::FixedSizeBinary(2), true)),
            dim as i32,
            Arc::new(pairs),
            None,
        ));
        for batch in batches {
            let message = format!("vectors must be FixedSizeList<{element}>, got {}", batch.data_type());
            let store =
                ArrowFixedSizeListVectorStore::try_with_elements(element, dim, DistanceType::L2).unwrap();
            for error in [
                refused(index.append(&batch, 100), &message),
                refused(index.append_unique(&batch, 100), &message),
                refused(index.upsert(&batch, 0), &message),
                refused(store.append_batch(Arc::new(batch.clone()), 0), &message),
            ] {
                assert!(matches!(error, Error::UnsupportedType { .. }), "{error:?}");
            }
            assert!(store.is_empty() && store.skipped() == SkippedRows::default());
        }
        let wide = column(element, DistanceType::L2, 3, dim + 1, 15);
        let error = refused(index.append(&wide, 100), "vectors have 6 dimensions here, got 7");
        assert!(matches!(error, Error::DimensionMismatch { expected: 6, actual: 7 }), "{error:?}");

        let after = index.to_lance_batches().map(pair).unwrap();
        assert!(bytes(&after.0) == bytes(&before.0) && after.1 == before.1, "{element}: the index changed");
        assert_eq!((index.len(), index.skipped()), (40, SkippedRows::default()), "{element}");
    }
}

#[test]
fn queries_out_of_range_are_refused() {
    let rows = column(ElementType::Float64, DistanceType::L2, 20, 2, 16);
    let index = index_of(ElementType::Float64, DistanceType::L2, &rows, 20);
    let values = child(ElementType::Float64, &[0.5, 0.5, 0.5, 1e39], None);
    let queries = list(ElementType::Float64, 2, values, None);
    let error =
        refused(index.search_batch(&queries, &SearchParams::new(3)), "query 1 cannot be searched for");
    let Error::InvalidQuery { row: 1, source } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::UnusableQuery { position: 1, .. }), "{source:?}");
}

/// Lance has no L1: only an export says so, and everything before it works.
#[test]
fn l1_is_refused_where_it_leaves_for_lance() {
    for element in ELEMENTS {
        let rows = column(element, DistanceType::L1, 200, 8, 17);
        let index = index_of(element, DistanceType::L1, &rows, 100);
        for deleted in [false, true] {
            if deleted {
                index.delete(5).unwrap();
            }
            let message = "Lance has no distance type l1";
            for error in [
                refused(index.to_lance_batches(), message),
                refused(index.reader().graph().unwrap().to_lance_hnsw_batch(), message),
                refused(index.reader().snapshot().to_record_batch(), message),
            ] {
                assert!(
                    matches!(&error, Error::NotInLance { what: "distance type", actual } if actual == "l1"),
                    "{error:?}"
                );
            }
            let found = index.search(&query(&rows, 7), &SearchParams::new(3)).unwrap().into_vec();
            assert_eq!((found.len(), found[0].row_id, found[0].distance), (3, 7, 0.0), "{element}");
        }
        assert_eq!(index.reader().compacted().unwrap().len(), 199, "{element}");
        index.append(&rows.slice(5, 1), 5).unwrap();
    }
}
