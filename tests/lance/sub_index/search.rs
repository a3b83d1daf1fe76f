//! Lance's own search over an exported graph and its storage finds what pennon's finds.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, Float32Array, UInt64Array};
use arrow_buffer::NullBuffer;
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::prefilter::NoFilter;
use lance_index::vector::flat::storage::FlatFloatStorage;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::remap::remap_graph_repair;
use lance_index::vector::storage::VectorStore;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::lance::ROW_ID_COLUMN;
use pennon::{BuildParams, DistanceType, HnswGraph, Index, SearchParams};

use crate::kit::{import, pair};
use crate::sub_index::data::{
    Built, EF, K, METRICS, Vectors, close, lance_ids, lance_query, lance_search, lance_storage,
    lance_storage_of, recall,
};
use crate::sub_index::layout::Layout;

fn params() -> BuildParams {
    BuildParams::default().num_edges(16).ef_construction(100)
}

/// 5,000 rows in three batches, one with nulls and one with row ids of its own, and the row id of
/// every row that got a node.
fn mixed(metric: DistanceType) -> (Built, Vec<u64>) {
    let rows = Vectors::clustered(5_000, 24, 21);
    let built = Built::new(&rows.slice(0..1_000), metric, params());
    let mut row_ids: Vec<u64> = (0..1_000).collect();

    let valid: Vec<bool> = (0..2_000).map(|row| row % 97 != 5).collect();
    row_ids.extend((0..2_000_u64).filter(|row| row % 97 != 5).map(|row| 1_000_000 + row));
    let nulls = Some(NullBuffer::from(valid));
    let second = rows.slice(1_000..3_000).array_with_nulls(nulls);
    let ids = built.store.append_batch(second, 1_000_000).unwrap();
    built.graph.insert_batch(ids, &built.store.snapshot()).unwrap();

    let own: Vec<u64> = (0..2_000).map(|row| (1 << 40) - row).collect();
    row_ids.extend(&own);
    let third = rows.slice(3_000..5_000).array();
    let ids = built.store.append_batch_with_row_ids(third, &UInt64Array::from(own)).unwrap();
    built.graph.insert_batch(ids, &built.store.snapshot()).unwrap();
    (built, row_ids)
}

fn lance_searches_like_pennon(metric: DistanceType) {
    let (built, row_ids) = mixed(metric);
    let queries = Vectors::clustered(250, 24, 22);
    let batch = built.store.snapshot().to_record_batch().unwrap();
    let vectors = Vectors::of_storage(&batch);
    let stored = batch[ROW_ID_COLUMN].as_primitive::<UInt64Type>();
    assert_eq!(&stored.values()[..], &row_ids[..]);
    assert_eq!(stored.null_count(), 0);

    let storage = lance_storage(batch.clone(), 24, metric);
    let hnsw = HNSW::load(built.graph.to_lance_hnsw_batch(None).unwrap()).unwrap();
    let ours = recall(&vectors, metric, &queries, |query| built.ids(query));
    let lances = recall(&vectors, metric, &queries, |query| lance_ids(&hnsw, &storage, query));
    println!("{metric}: recall@{K} at ef {EF}: Lance {lances:.4}, pennon {ours:.4}");
    assert!((ours - lances).abs() <= 0.01, "{metric}: Lance {lances}, pennon {ours}");
    // The inner product is no metric, and its graphs find less at the same ef.
    let least = if metric == DistanceType::Dot { 0.90 } else { 0.95 };
    assert!(lances >= least, "{metric}: {lances}");

    for query in queries.rows() {
        let hits = built.search(query);
        for hit in &hits {
            assert_eq!(hit.row_id, row_ids[hit.id as usize]);
            assert_eq!(hit.row_id, storage.row_id(hit.id));
        }
        for node in lance_search(&hnsw, &storage, query) {
            if let Some(hit) = hits.iter().find(|hit| hit.id == node.id) {
                assert!(close(hit.distance, node.dist.0), "{hit:?} and {node:?}");
            }
        }
        let ids = lance_ids(&hnsw, &storage, query);
        let expected: Vec<u64> = ids.iter().map(|id| row_ids[*id as usize]).collect();
        assert_eq!(row_ids_of_a_query(&hnsw, &storage, query), expected);
    }
}

/// The way a Lance query goes: `IvfSubIndex::search`, which answers with row ids.
fn row_ids_of_a_query(hnsw: &HNSW, storage: &FlatFloatStorage, query: &[f32]) -> Vec<u64> {
    let query: ArrayRef = Arc::new(Float32Array::from(query.to_vec()));
    let filter = Arc::new(NoFilter);
    let metrics = NoOpMetricsCollector;
    let found = hnsw.search(query, K, lance_query(EF), storage, filter, &metrics).unwrap();
    found[ROW_ID_COLUMN].as_primitive::<UInt64Type>().values().to_vec()
}

#[test]
fn lance_searches_an_l2_export_like_pennon() {
    lance_searches_like_pennon(DistanceType::L2);
}

#[test]
fn lance_searches_a_cosine_export_like_pennon() {
    lance_searches_like_pennon(DistanceType::Cosine);
}

#[test]
fn lance_searches_a_dot_export_like_pennon() {
    lance_searches_like_pennon(DistanceType::Dot);
}

/// Compaction drops nodes and repairs the lists that named them; it needs `_distance` and reads the
/// batch far more closely than a search does. One case removes the entry point as well.
#[test]
fn lance_repairs_an_export_whose_rows_were_deleted() {
    let vectors = Vectors::clustered(2_000, 16, 23);
    let queries = Vectors::clustered(200, 16, 24);
    for metric in METRICS {
        let built = Built::new(&vectors, metric, params());
        let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
        let entry_point = Layout::decode(&batch).metadata.entry_point;
        for without_entry in [false, true] {
            let mut kept = vectors.slice(0..0);
            let mut new_ids = Vec::new();
            for (id, row) in (0u32..).zip(vectors.rows()) {
                let deleted = if id == entry_point { without_entry } else { id % 3 == 0 };
                new_ids.push((!deleted).then_some(kept.len() as u32));
                if !deleted {
                    kept = kept.then(&Vectors::repeated(row, 1));
                }
            }
            let storage = lance_storage_of(&kept, metric);
            let repaired = remap_graph_repair(&batch, &new_ids, &storage).unwrap();
            assert_eq!(Layout::decode(&repaired).reachable(), kept.len());
            let hnsw = HNSW::load(repaired.clone()).unwrap();
            let lances = recall(&kept, metric, &queries, |query| lance_ids(&hnsw, &storage, query));

            let graph = HnswGraph::from_lance_hnsw_batch(&repaired).unwrap();
            let again = Built::around(graph, &kept, metric);
            let ours = recall(&kept, metric, &queries, |query| again.ids(query));
            println!("{metric} repaired, {} rows: Lance {lances:.4}, pennon {ours:.4}", kept.len());
            assert!(lances >= 0.90 && ours >= lances - 0.01, "{metric}: {lances} and {ours}");
        }
    }
}

#[test]
fn the_batches_of_an_index_go_to_lance_and_come_back() {
    let vectors = Vectors::clustered(1_000, 16, 25);
    let queries = Vectors::clustered(200, 16, 26);
    for metric in METRICS {
        let index = Index::hnsw(16, metric, params()).unwrap();
        index.append(&*vectors.array(), 500).unwrap();
        let (graph, flat) = index.to_lance_batches().map(pair).unwrap();
        let storage = lance_storage(flat.clone(), 16, metric);
        let hnsw = HNSW::load(graph.clone()).unwrap();
        let back = import(&graph, &flat).unwrap();
        assert_eq!(back.distance_type(), metric);
        assert_eq!(back.params(), index.params());

        let lances = recall(&vectors, metric, &queries, |query| lance_ids(&hnsw, &storage, query));
        println!("{metric} batches of an index: Lance {lances:.4}");
        assert!(lances >= 0.90, "{metric}: {lances}");
        for query in queries.rows() {
            let search = SearchParams::new(K).ef(EF);
            let hits = back.search(query, &search).unwrap().into_vec();
            assert_eq!(hits, index.search(query, &search).unwrap().into_vec());
            assert!(hits.iter().all(|hit| hit.row_id == u64::from(hit.id) + 500));
        }
    }
}
