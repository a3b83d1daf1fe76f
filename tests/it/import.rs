//! Batches from elsewhere: each forgery is refused with a typed error or mended, and none panics.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, UInt32Array, UInt64Array};
use arrow_schema::{Field, Schema};
use pennon::lance::{
    DISTANCE_COLUMN, DISTANCE_TYPE_KEY, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN,
};
use pennon::{BuildParams, DistanceType, Error, HnswGraph, SearchParams};
use serde_json::{Value, json};

use crate::data::{build, graph_of, import, pair, uniform};
use crate::export::Exported;

/// The batch with its schema metadata, and maybe one column, replaced.
fn forged(batch: &RecordBatch, key: Option<(&str, String)>, column: Option<(&str, ArrayRef)>) -> RecordBatch {
    let schema = batch.schema();
    let metadata: HashMap<String, String> =
        key.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut columns = batch.columns().to_vec();
    if let Some((name, array)) = column {
        let at = schema.index_of(name).unwrap();
        fields[at] = Field::new(name, array.data_type().clone(), true);
        columns[at] = array;
    }
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), columns).unwrap()
}

/// An honest pair of batches: 500 nodes on up to 4 levels.
struct Honest {
    graph: RecordBatch,
    vectors: RecordBatch,
    metadata: Value,
}

impl Honest {
    fn new() -> Self {
        let index = build(&uniform(500, 6, 5), DistanceType::L2, &BuildParams::default().max_level(4), 500);
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let metadata = serde_json::from_str(&graph.schema().metadata()[HNSW_METADATA_KEY]).unwrap();
        Self { graph, vectors, metadata }
    }

    fn with_metadata(&self, pointer: &str, value: &Value) -> RecordBatch {
        let mut metadata = self.metadata.clone();
        *metadata.pointer_mut(pointer).unwrap() = value.clone();
        forged(&self.graph, Some((HNSW_METADATA_KEY, metadata.to_string())), None)
    }

    fn with_column(&self, name: &str, column: ArrayRef) -> RecordBatch {
        forged(&self.graph, Some((HNSW_METADATA_KEY, self.metadata.to_string())), Some((name, column)))
    }

    fn without_column(&self, name: &str) -> RecordBatch {
        let schema = self.graph.schema();
        let others: Vec<usize> =
            (0..schema.fields().len()).filter(|&at| schema.field(at).name() != name).collect();
        self.graph.project(&others).unwrap()
    }

    fn with_neighbors(&self, edit: impl Fn(&mut Vec<u32>)) -> RecordBatch {
        let (field, offsets, values, _) = self.graph[NEIGHBORS_COLUMN].as_list::<i32>().clone().into_parts();
        let mut edges = values.as_primitive::<UInt32Type>().values().to_vec();
        edit(&mut edges);
        let column = ListArray::new(field, offsets, Arc::new(UInt32Array::from(edges)), None);
        self.with_column(NEIGHBORS_COLUMN, Arc::new(column))
    }
}

#[test]
fn a_batch_that_cannot_be_right_is_refused() {
    let honest = Honest::new();
    let refused = |batch: &RecordBatch, case: &str| {
        let error =
            HnswGraph::from_lance_hnsw_batch(batch).err().unwrap_or_else(|| panic!("{case} is accepted"));
        assert!(matches!(error, Error::InvalidBatch { .. }), "{case}: {error:?}");
        println!("{case}: {error}");
        assert!(import(batch, &honest.vectors).is_err(), "{case}");
    };

    refused(&forged(&honest.graph, None, None), "no metadata");
    refused(&forged(&honest.graph, Some((HNSW_METADATA_KEY, "{".into())), None), "half a JSON");
    let rows = honest.graph.num_rows();
    for (pointer, value) in [
        ("/entry_point", json!(500)),
        ("/entry_point", json!(u32::MAX)),
        ("/entry_point", json!(-1)),
        ("/params/m", json!(u64::MAX)),
        ("/params/m", json!(-16)),
        ("/params/max_level", json!(65_536)),
        ("/level_offsets", json!([])),
        ("/level_offsets", json!([0])),
        ("/level_offsets", json!([0, 0, rows, rows, rows])),
        ("/level_offsets", json!([0, 499, rows, rows, rows])),
        ("/level_offsets", json!([0, 500, 400, rows, rows])),
        ("/level_offsets", json!([0, 500, rows + 1, rows + 1, rows + 1])),
        ("/level_offsets", json!([0, u64::MAX, u64::MAX, u64::MAX, u64::MAX])),
        ("/level_offsets", json!([1, 500, rows, rows, rows])),
    ] {
        refused(&honest.with_metadata(pointer, &value), &format!("{pointer} = {value}"));
    }

    let mut ids = honest.graph[VECTOR_ID_COLUMN].as_primitive::<UInt32Type>().values().to_vec();
    ids.swap(0, 1);
    let column = |ids: &[u32]| -> ArrayRef { Arc::new(UInt32Array::from(ids.to_vec())) };
    refused(&honest.with_column(VECTOR_ID_COLUMN, column(&ids)), "level 0 out of order");
    ids.swap(0, 1);
    ids[rows - 1] = 500;
    refused(&honest.with_column(VECTOR_ID_COLUMN, column(&ids)), "an upper node that level 0 lacks");
    let wide = Arc::new(UInt64Array::from(vec![0u64; rows]));
    refused(&honest.with_column(VECTOR_ID_COLUMN, wide.clone()), "ids of 64 bits");
    refused(&honest.with_column(NEIGHBORS_COLUMN, wide), "numbers for lists");
    for missing in [VECTOR_ID_COLUMN, NEIGHBORS_COLUMN] {
        refused(&honest.without_column(missing), &format!("no {missing}"));
    }
}

#[test]
fn vectors_that_are_not_the_graphs_are_refused() {
    let Honest { graph, vectors, .. } = Honest::new();
    let accepted = |vectors: &RecordBatch| import(&graph, vectors).is_ok();
    assert!(!accepted(&vectors.slice(0, 499)), "499 vectors for 500 nodes");
    assert!(!accepted(&forged(&vectors, None, None)), "no distance type");
    assert!(
        !accepted(&forged(&vectors, Some((DISTANCE_TYPE_KEY, "hamming".into())), None)),
        "a distance of bits"
    );
    assert!(!accepted(&graph), "the graph as its own vectors");
    assert!(accepted(&vectors));
}

/// What would only cost recall is mended: all rows are found, and more can be appended.
#[test]
fn a_batch_that_is_only_poor_is_mended() {
    let honest = Honest::new();
    let last = honest.graph.num_rows();
    let extra = uniform(200, 6, 6);
    for (case, batch) in [
        ("m = 0", honest.with_metadata("/params/m", &json!(0))),
        ("max_level = 0", honest.with_metadata("/params/max_level", &json!(0))),
        ("no level above 0", honest.with_metadata("/level_offsets", &json!([0, 500, 500, 500, 500]))),
        ("levels that overlap", honest.with_metadata("/level_offsets", &json!([0, 500, 500, last, last]))),
        ("another entry point", honest.with_metadata("/entry_point", &json!(499))),
        ("no distances", honest.without_column(DISTANCE_COLUMN)),
        ("an edge to nobody", honest.with_neighbors(|edges| edges[7] = 500)),
        ("an edge to the reserved id", honest.with_neighbors(|edges| edges[7] = u32::MAX)),
        ("all edges to one node", honest.with_neighbors(|edges| edges.fill(3))),
        ("all edges to nobody", honest.with_neighbors(|edges| edges.fill(u32::MAX))),
    ] {
        let index = import(&batch, &honest.vectors).unwrap_or_else(|e| panic!("{case}: {e}"));
        for rows in [500, 700] {
            let health = index.health().unwrap();
            assert_eq!((health.nodes, health.reachable), (rows, rows), "{case}: {health}");
            let query = extra.row(0);
            let all = index.search(query, &SearchParams::new(rows).ef(rows)).unwrap().into_vec();
            assert_eq!(
                all,
                index.search_exact(query, &SearchParams::new(rows)).unwrap().into_vec(),
                "{case}"
            );
            if rows == 500 {
                assert_eq!(index.append(&extra.array(), 500).unwrap(), 500..700, "{case}");
            }
        }
        let exported = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
        assert_eq!((exported.nodes(), exported.reachable()), (700, 700), "{case}");
    }
}

#[test]
fn an_imported_graph_is_searched_where_it_lies_until_the_first_insert() {
    let rows = uniform(3_000, 8, 6);
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 3_000);
    let batch = index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap();
    let snapshot = index.reader().snapshot();
    let search = |graph: &HnswGraph| {
        (0..100)
            .map(|at| {
                graph.search(rows.row(at), &SearchParams::new(10).ef(64), &snapshot).unwrap().into_vec()
            })
            .collect::<Vec<_>>()
    };

    let empty = HnswGraph::try_new(BuildParams::default()).unwrap().resident_bytes();
    let graph = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
    let lists = 3_000 * 2 * 16 * 4;
    assert!(
        graph.resident_bytes() - empty < lists / 4,
        "{} bytes over an empty graph",
        graph.resident_bytes() - empty
    );
    assert_eq!(search(&graph), search(&graph_of(&index)));

    // The same row again, as a new one.
    index.append(&rows.part(0..1).array(), 3_000).unwrap();
    graph.insert(3_000, &index.reader().snapshot()).unwrap();
    assert!(
        graph.resident_bytes() - empty > lists,
        "{} bytes after an insert",
        graph.resident_bytes() - empty
    );
    assert_eq!((graph.len(), graph.health().unreachable()), (3_001, 0));
    let twins = graph
        .search(rows.row(0), &SearchParams::new(2).ef(64), &index.reader().snapshot())
        .unwrap()
        .into_vec();
    assert_eq!(
        twins.iter().map(|twin| (twin.id, twin.distance)).collect::<Vec<_>>(),
        [(0, 0.0), (3_000, 0.0)]
    );
}
