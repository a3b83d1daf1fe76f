//! Parameters of a build, vector sources, code of the caller's, and batches to import.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::{ArrayRef, ListArray, RecordBatch, UInt32Array, new_empty_array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field};
use pennon::lance::{DISTANCE_TYPE_KEY, HNSW_METADATA_KEY};
use pennon::{DistanceType, ElementType, Error, HnswGraph, Index, RowMask, SearchParams, VectorSource};
use serde_json::{Value, json};

use super::{L2, QUERY, defaults, five, rows, ten, with_metadata};
use crate::data::{Plain, build, ids, import, pair, uniform};

/// The graph of the ten rows.
fn graph() -> HnswGraph {
    let graph = HnswGraph::try_new(defaults()).unwrap();
    graph.insert_batch(0..10, &ten().reader().snapshot()).unwrap();
    graph
}

#[test]
fn m_below_4() {
    let outcome = Index::hnsw(2, L2, defaults().num_edges(3));
    refused!(outcome, Error::InvalidParams { parameter: "m", value: 3, .. }, "m must be at least 4, got 3");
}

#[test]
fn m_above_4096() {
    let outcome = Index::hnsw(2, L2, defaults().num_edges(4_097).ef_construction(5_000));
    let error = "m must be at most 4096, got 4097";
    refused!(outcome, Error::InvalidParams { parameter: "m", value: 4_097, .. }, error);
}

#[test]
fn ef_construction_below_m() {
    let outcome = Index::hnsw(2, L2, defaults().ef_construction(15));
    let error = "ef_construction must be at least m = 16, got 15";
    refused!(outcome, Error::InvalidParams { parameter: "ef_construction", value: 15, .. }, error);
}

#[test]
fn max_level_of_0() {
    let outcome = Index::hnsw(2, L2, defaults().max_level(0));
    let error = "max_level must be at least 1, got 0";
    refused!(outcome, Error::InvalidParams { parameter: "max_level", value: 0, .. }, error);
}

#[test]
fn a_dimension_of_0() {
    let error = "dim must be from 1 to 2147483647, got 0";
    let outcome = Index::hnsw(0, L2, defaults());
    refused!(outcome, Error::InvalidParams { parameter: "dim", value: 0, .. }, error);
}

#[test]
fn an_unknown_metric() {
    let error = r#"distance type must be one of l2, cosine, dot, l1, hamming, got "chebyshev""#;
    refused!("chebyshev".parse::<DistanceType>(), Error::UnsupportedDistanceType { .. }, error);
}

#[test]
fn hamming_for_other_elements() {
    let error = "distance type hamming needs UInt8 elements, got Int8";
    let outcome =
        Index::builder(2, DistanceType::Hamming).element_type(ElementType::Int8).params(defaults()).build();
    refused!(outcome, Error::UnsupportedElement { requirement: "UInt8", .. }, error);
    let error = "distance type hamming needs UInt8 elements, got Float32";
    let outcome = Index::hnsw(2, DistanceType::Hamming, defaults());
    refused!(outcome, Error::UnsupportedElement { .. }, error);
}

#[test]
fn a_column_that_cannot_be_indexed() {
    for (data_type, name) in
        [(DataType::Int32, "Int32"), (DataType::FixedSizeBinary(2), "FixedSizeBinary(2)")]
    {
        let column = DataType::FixedSizeList(Arc::new(Field::new("item", data_type, true)), 8);
        let expected = "FixedSizeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8";
        let error = format!("vectors must be {expected}, got FixedSizeList(8 x {name})");
        refused!(ElementType::of_vectors(&column), Error::UnsupportedType { .. }, error);
    }
}

#[test]
fn an_export_under_l1() {
    let index = build(&rows(10), DistanceType::L1, &defaults(), 10);
    let error = "Lance has no distance type l1";
    refused!(index.to_lance_batches(), Error::NotInLance { what: "distance type", .. }, error);
    assert_eq!(index.search(&QUERY, &five()).unwrap().into_vec().len(), 5);
}

#[test]
fn ids_that_do_not_follow() {
    let outcome = graph().insert_batch(12..13, &Plain::new(&rows(20), L2));
    let error = "ids to insert must start at 10 and not end before they start, got 12..13";
    refused!(outcome, Error::NonContiguousIds { expected: 10, start: 12, end: 13 }, error);
}

#[test]
fn a_source_shorter_than_the_ids() {
    let outcome = graph().insert(10, &Plain::new(&rows(10), L2));
    let error = "the vector source holds 10 vectors, 11 are needed";
    refused!(outcome, Error::SourceTooShort { len: 10, needed: 11 }, error);
}

#[test]
fn a_source_shorter_than_the_graph() {
    let found = graph().search(&QUERY, &SearchParams::new(10), &Plain::new(&rows(6), L2)).unwrap().into_vec();
    let mut found = ids(&found);
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_source_of_another_metric() {
    let dot = Plain::new(&rows(20), DistanceType::Dot);
    let error = "the graph was built with distance type l2, the vector source has dot";
    refused!(graph().insert(10, &dot), Error::SourceMismatch { what: "distance type", .. }, error);
    refused!(graph().search(&QUERY, &five(), &dot), Error::SourceMismatch { .. }, error);
}

#[test]
fn a_source_of_another_dimension() {
    let outcome = graph().insert(10, &Plain::new(&uniform(20, 3, 74), L2));
    let error = "the graph was built with dimension 2, the vector source has 3";
    refused!(outcome, Error::SourceMismatch { what: "dimension", .. }, error);
}

#[test]
fn a_source_that_panics() {
    struct Panics(Plain, AtomicBool);
    impl VectorSource for Panics {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn dim(&self) -> usize {
            self.0.dim()
        }
        fn distance_type(&self) -> DistanceType {
            self.0.distance_type()
        }
        fn row_id(&self, id: u32) -> u64 {
            self.0.row_id(id)
        }
        fn vector(&self, id: u32) -> &[f32] {
            assert!(!self.1.load(Ordering::Relaxed), "as this test wants");
            self.0.vector(id)
        }
    }
    let source = Panics(Plain::new(&rows(20), L2), AtomicBool::new(false));
    let graph = HnswGraph::try_new(defaults()).unwrap();
    graph.insert_batch(0..10, &source).unwrap();
    let before = graph.search(&QUERY, &five(), &source).unwrap().into_vec();
    source.1.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| graph.insert_batch(10..20, &source))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| graph.search(&QUERY, &five(), &source))).is_err());
    source.1.store(false, Ordering::Relaxed);
    assert_eq!((graph.len(), graph.search(&QUERY, &five(), &source).unwrap().into_vec()), (10, before));
    graph.insert_batch(10..20, &source).unwrap();
    assert_eq!(graph.len(), 20);
}

#[test]
fn a_mask_that_panics() {
    let index = ten();
    let params = || {
        SearchParams::new(10).mask(RowMask::predicate(|row_id| {
            assert!(row_id != 3, "as this test wants");
            true
        }))
    };
    let queries = rows(3).array();
    assert!(catch_unwind(AssertUnwindSafe(|| index.search(&QUERY, &params()))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| index.search_exact(&QUERY, &params()))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| index.search_batch(&queries, &params()))).is_err());
    let page = || index.cursor(&QUERY, &params()).unwrap().next_k(10);
    assert!(catch_unwind(AssertUnwindSafe(page)).is_err());
    assert_eq!(index.append(&queries, 10).unwrap(), 10..13);
    index.delete(3).unwrap();
    assert_eq!(index.search(&QUERY, &SearchParams::new(20)).unwrap().into_vec().len(), 12);
}

#[test]
fn a_malformed_graph_batch() {
    let (graph, vectors) = ten().to_lance_batches().map(pair).unwrap();
    let bare = with_metadata(&graph, HNSW_METADATA_KEY, None);
    let error = r#"not a valid lance:hnsw batch: no schema metadata "lance:hnsw""#;
    refused!(HnswGraph::from_lance_hnsw_batch(&bare), Error::InvalidBatch { kind: "lance:hnsw", .. }, error);
    refused!(import(&bare, &vectors), Error::InvalidBatch { .. }, error);
}

/// A batch of so many nodes without an edge, with `m` of 4,096, that are on the highest level too or on level 0 alone.
fn without_edges(nodes: u32, on_the_highest: bool) -> RecordBatch {
    let upper = if on_the_highest { nodes } else { 0 };
    let (graph, _) = ten().to_lance_batches().map(pair).unwrap();
    let mut metadata: Value = serde_json::from_str(&graph.schema().metadata()[HNSW_METADATA_KEY]).unwrap();
    let mut level_offsets = vec![nodes; 34];
    level_offsets[0] = 0;
    level_offsets[33] = nodes + upper;
    metadata["level_offsets"] = json!(level_offsets);
    metadata["entry_point"] = json!(0);
    metadata["params"]["m"] = json!(4_096);
    let schema = graph.schema();
    let empty = |field: &Field| -> ArrayRef {
        let DataType::List(item) = field.data_type() else { panic!("{field} has no lists") };
        let offsets = OffsetBuffer::from_lengths(vec![0; (nodes + upper) as usize]);
        Arc::new(ListArray::new(Arc::clone(item), offsets, new_empty_array(item.data_type()), None))
    };
    let ids = UInt32Array::from_iter_values((0..nodes).chain(0..upper));
    let columns = vec![Arc::new(ids) as ArrayRef, empty(schema.field(1)), empty(schema.field(2))];
    let batch = RecordBatch::try_new(schema, columns).unwrap();
    with_metadata(&batch, HNSW_METADATA_KEY, Some(&metadata.to_string()))
}

#[test]
fn a_graph_batch_of_long_and_empty_lists() {
    let (_, vectors) = build(&rows(20_000), L2, &defaults(), 20_000).to_lance_batches().map(pair).unwrap();
    let index = import(&without_edges(20_000, false), &vectors).unwrap();
    let reader = index.reader();
    let graph = reader.graph().unwrap();
    // 1.3 GB if a list had room for 8,192 edges.
    let most = (64 << 20) + 64 * 20_000 * 12;
    let resident = graph.resident_bytes();
    assert!(resident < most + (8 << 20), "{resident} bytes");
    assert_eq!((graph.params().m, graph.params().m0), (128, Some(256)));
    assert_eq!(reader.search(&QUERY, &SearchParams::new(20_000)).unwrap().len(), 20_000);
    index.append(&uniform(500, 2, 3).array(), 20_000).unwrap();
    assert_eq!(index.search(&QUERY, &SearchParams::new(30_000)).unwrap().len(), 20_500);
}

#[test]
fn a_graph_batch_of_more_lists_than_it_justifies() {
    let outcome = HnswGraph::from_lance_hnsw_batch(&without_edges(30_000, true));
    let error = "not a valid lance:hnsw batch: its lists would take 129875968 bytes, what it holds justifies at most 113188864";
    refused!(outcome, Error::InvalidBatch { kind: "lance:hnsw", .. }, error);
}

#[test]
fn a_malformed_vector_batch() {
    let (graph, vectors) = ten().to_lance_batches().map(pair).unwrap();
    let bare = with_metadata(&vectors, DISTANCE_TYPE_KEY, None);
    let error = r#"not a valid flat batch: no schema metadata "distance_type""#;
    refused!(import(&graph, &bare), Error::InvalidBatch { kind: "flat", .. }, error);
    let error = "not a valid flat batch: 9 vectors for 10 nodes";
    refused!(import(&graph, &vectors.slice(0, 9)), Error::InvalidBatch { .. }, error);
}
