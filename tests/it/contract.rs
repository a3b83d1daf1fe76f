//! The contract of the store, the graph and the index: ids, snapshots, order and number of results.

use std::sync::{Arc, OnceLock};

use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, Coding, DistanceType, HnswGraph, Index, SearchParams,
    VectorSource,
};
use proptest::prelude::{ProptestConfig, proptest};

use crate::data::{
    METRICS, Plain, Rows, Shape, assert_sorted, build, clustered, exact_distance, graph_of, ids, import,
    pair, uniform,
};
use crate::export::{Exported, bytes};

/// The names and the order of calls of Lance's MemTable code.
#[test]
fn store_append_snapshot_insert_search() {
    let rows = clustered(1_000, 16, 64, 1).0;
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(16, DistanceType::L2).unwrap());
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    assert!(store.is_empty() && graph.is_empty());
    for (start, batch) in rows.batches(250) {
        let added = store.append_batch(Arc::new(batch), 10_000 + start).unwrap();
        assert_eq!(added, start as u32..start as u32 + 250);
        let snapshot = store.snapshot();
        graph.insert_batch(added.clone(), &snapshot).unwrap();
        assert_eq!(
            (store.committed_len(), graph.len(), snapshot.len()),
            (added.end as usize, added.end as usize, added.end as usize)
        );
        for id in [added.start, added.start + 100, added.end - 1, 0] {
            let results = graph
                .search(rows.row(id as usize), &SearchParams::new(10).ef(100), &snapshot)
                .unwrap()
                .into_vec();
            assert_eq!(results.len(), 10);
            assert_eq!(
                (results[0].id, results[0].row_id, results[0].distance),
                (id, 10_000 + u64::from(id), 0.0)
            );
        }
    }
    Exported::read(&graph.to_lance_hnsw_batch(None).unwrap()).check(&store.snapshot(), "the example");
}

#[test]
fn index_store_and_one_by_one_build_the_same_graph() {
    let rows = uniform(600, 8, 2);
    let one = HnswGraph::try_new(BuildParams::default()).unwrap();
    let ranges = HnswGraph::try_new(BuildParams::default()).unwrap();
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(8, DistanceType::L2).unwrap());
    store.append_batch(Arc::new(rows.array()), 0).unwrap();
    for id in 0..600 {
        one.insert(id, &store.snapshot()).unwrap();
        ranges.insert_batch(id..id + 1, &store.snapshot()).unwrap();
    }
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 1);
    let exported = bytes(&one.to_lance_hnsw_batch(None).unwrap());
    assert!(exported == bytes(&ranges.to_lance_hnsw_batch(None).unwrap()), "insert and insert_batch differ");
    assert!(
        exported == bytes(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()),
        "the index builds another graph"
    );
}

/// The required methods of `VectorSource` are enough, and no shortcut of the Arrow store changes a bit.
#[test]
fn a_source_of_plain_vectors_does_the_same() {
    let rows = clustered(1_500, 19, 64, 3).0;
    let queries = clustered(20, 19, 64, 4).0;
    for distance_type in METRICS {
        let plain = Plain::new(&rows, distance_type);
        let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
        graph.insert_batch(0..700, &plain).unwrap();
        graph.insert_batch(700..1_500, &plain as &dyn VectorSource).unwrap();

        // A source of its own has no codes.
        let params = BuildParams::default().codes(Coding::Off);
        let index = Index::hnsw(19, distance_type, params).unwrap();
        for (start, array) in rows.batches_of(&[700, 800]) {
            index.append(&array, 10_000 + start).unwrap();
        }
        for query in queries.iter() {
            let ours = graph.search(query, &SearchParams::new(10).ef(50), &plain).unwrap().into_vec();
            let theirs = index.search(query, &SearchParams::new(10).ef(50)).unwrap().into_vec();
            assert_eq!(ours, theirs, "{distance_type}");
        }
        let same = bytes(&graph.to_lance_hnsw_batch(None).unwrap())
            == bytes(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
        assert!(same, "{distance_type}: the graphs differ");
    }
}

#[test]
fn a_snapshot_does_not_move_while_the_store_grows() {
    let rows = uniform(5_000, 5, 6);
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(5, DistanceType::Cosine).unwrap());
    let batches = rows.batches(313);
    store.append_batch(Arc::new(batches[0].1.clone()), 7).unwrap();
    let early = store.snapshot();
    let before: Vec<usize> = (0..313).map(|id| early.vector(id).as_ptr() as usize).collect();
    for (start, batch) in &batches[1..] {
        store.append_batch(Arc::new(batch.clone()), 7 + start).unwrap();
        assert_eq!(early.len(), 313);
    }
    let late = store.snapshot();
    assert_eq!((late.len(), late.dim(), late.distance_type()), (5_000, 5, DistanceType::Cosine));
    for id in 0..313 {
        assert_eq!(early.vector(id), rows.row(id as usize));
        assert_eq!(early.vector(id).as_ptr() as usize, before[id as usize], "row {id} moved");
        assert_eq!(early.row_id(id), u64::from(id) + 7);
    }
    for id in 0..5_000 {
        assert_eq!((late.vector(id), late.row_id(id)), (rows.row(id as usize), u64::from(id) + 7));
    }
    drop(store);
    assert_eq!(early.vector(312), rows.row(312), "a snapshot outlives its store");
}

/// The graph is ahead of an old snapshot: the answer is of its rows, and is never short of them.
#[test]
fn an_old_snapshot_keeps_answering_for_its_rows() {
    let rows = uniform(2_000, 8, 8);
    let index = build(&rows.part(0..500), DistanceType::L2, &BuildParams::default(), 500);
    let early = index.reader().snapshot();
    index.append(&rows.part(500..2_000).array(), 500).unwrap();
    assert_eq!((early.len(), index.reader().snapshot().len()), (500, 2_000));
    let plain = Plain::new(&rows.part(0..500), DistanceType::L2);
    let graph = graph_of(&index);
    for query in [rows.row(1_999), rows.row(499)] {
        for (k, ef) in [(1, 1), (10, 10), (10, 100), (499, 499), (500, 500), (500, 2_000), (501, 501)] {
            for source in [&early as &dyn VectorSource, &plain] {
                let results = graph.search(query, &SearchParams::new(k).ef(ef), source).unwrap().into_vec();
                assert_eq!(results.len(), k.min(500), "k = {k}, ef = {ef}");
                assert_sorted(&results, "an old snapshot");
                assert!(results.iter().all(|r| r.id < 500), "k = {k}, ef = {ef}: {results:?}");
            }
        }
    }
    for id in 0..500 {
        let results = graph.search(rows.row(id), &SearchParams::new(1).ef(100), &early).unwrap().into_vec();
        assert_eq!((results[0].id as usize, results[0].distance), (id, 0.0));
    }
}

#[test]
fn edges_of_k_and_ef() {
    let rows = uniform(50, 6, 9);
    let query = uniform(1, 6, 10).values;
    let empty = Index::hnsw(6, DistanceType::L2, BuildParams::default()).unwrap();
    assert!(empty.search(&query, &SearchParams::new(10).ef(50)).unwrap().into_vec().is_empty());
    assert!(empty.search_exact(&query, &SearchParams::new(10)).unwrap().into_vec().is_empty());
    let health = empty.health().unwrap();
    assert_eq!((health.nodes, health.reachable, health.edges, health.entry_point), (0, 0, 0, None));
    assert!(health.is_healthy(), "{health}");

    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 7);
    let all = index.search_exact(&query, &SearchParams::new(50)).unwrap().into_vec();
    for ef in [0, 1, 50, 1_000, usize::MAX] {
        assert!(index.search(&query, &SearchParams::new(0).ef(ef)).unwrap().into_vec().is_empty());
        for k in [50, 51, 1_000_000, usize::MAX] {
            assert_eq!(
                index.search(&query, &SearchParams::new(k).ef(ef)).unwrap().into_vec(),
                all,
                "k = {k}, ef = {ef}"
            );
        }
    }
    for k in 1..=50 {
        let low = index.search(&query, &SearchParams::new(k).ef(1)).unwrap().into_vec();
        let raised = index.search(&query, &SearchParams::new(k).ef(k)).unwrap().into_vec();
        assert_eq!(low, raised, "ef below k = {k} is k");
        assert_eq!(low.len(), k);
    }
    assert!(index.search_exact(&query, &SearchParams::new(0)).unwrap().into_vec().is_empty());
    assert_eq!(index.search_exact(&query, &SearchParams::new(usize::MAX)).unwrap().into_vec(), all);
}

fn shared_index() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut rows = clustered(2_000, 6, 64, 11).0;
        let copies = rows.part(0..100);
        rows.values.extend(copies.values);
        build(&rows, DistanceType::L2, &BuildParams::default().num_edges(6).ef_construction(30), 300)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// k only cuts the list that ef found.
    #[test]
    fn a_search_for_k_is_a_prefix_of_a_search_for_more(
        query in proptest::collection::vec(-1.5f32..1.5, 6),
        k in 1usize..60,
        more in 1usize..60,
        extra in 0usize..700,
    ) {
        let ef = k + more + extra;
        let long = shared_index().search(&query, &SearchParams::new(k + more).ef(ef)).unwrap().into_vec();
        let short = shared_index().search(&query, &SearchParams::new(k).ef(ef)).unwrap().into_vec();
        assert_eq!((short.len(), long.len()), (k, k + more));
        assert_sorted(&long, "prefix");
        assert_eq!(short, long[..k]);
    }
}

/// With every row asked for there is nothing to approximate: the graph must answer as the scan does.
#[test]
fn asking_for_all_rows_gives_all_rows_of_every_shape() {
    for shape in Shape::ALL {
        for (n, m, batch) in [
            (1, 4, 1),
            (2, 4, 1),
            (3, 16, 3),
            (17, 4, 1),
            (200, 4, 7),
            (600, 16, 600),
            (2_000, 4, 100),
            (2_000, 16, 2_000),
        ] {
            let rows = shape.rows(n, 8, 12);
            let params = BuildParams::default().num_edges(m).ef_construction(40);
            let index = build(&rows, DistanceType::L2, &params, batch);
            let elsewhere = uniform(1, 8, 13);
            for query in [rows.row(0), rows.row(n - 1), elsewhere.row(0)] {
                let case = format!("{shape:?}, n = {n}, m = {m}");
                let all = index.search(query, &SearchParams::new(n).ef(n)).unwrap().into_vec();
                assert_sorted(&all, &case);
                assert_eq!(all.len(), n, "{case}");
                assert_eq!(
                    all,
                    index.search_exact(query, &SearchParams::new(n)).unwrap().into_vec(),
                    "{case}"
                );
                let half = n.div_ceil(2);
                assert_eq!(
                    index.search(query, &SearchParams::new(half).ef(1)).unwrap().into_vec().len(),
                    half,
                    "{case}"
                );
                assert_eq!(
                    index.search(query, &SearchParams::new(10).ef(10)).unwrap().into_vec().len(),
                    n.min(10),
                    "{case}"
                );
            }
        }
    }
}

#[test]
fn the_exact_scan_agrees_with_f64() {
    for distance_type in METRICS {
        let rows = clustered(1_200, 21, 64, 14).0;
        let index = build(&rows, distance_type, &BuildParams::default(), 1_200);
        for query in clustered(10, 21, 64, 15).0.iter() {
            let results = index.search_exact(query, &SearchParams::new(1_200)).unwrap().into_vec();
            assert_eq!(results.len(), 1_200);
            assert_sorted(&results, "exact");
            for result in results {
                let exact = exact_distance(distance_type, query, rows.row(result.id as usize));
                assert!(
                    (f64::from(result.distance) - exact).abs() < 1e-4,
                    "{distance_type}: {result:?}, not {exact}"
                );
                assert_eq!(result.row_id, u64::from(result.id));
            }
        }
    }
}

#[test]
fn out_to_lance_and_back_answers_the_same() {
    for distance_type in METRICS {
        let rows = clustered(1_000, 12, 64, 16).0;
        let index = build(&rows, distance_type, &BuildParams::default(), 400);
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let back = import(&graph, &vectors).unwrap();
        assert_eq!((back.len(), back.dim(), back.distance_type()), (1_000, 12, distance_type));
        assert!(
            bytes(&graph) == bytes(&back.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()),
            "{distance_type}: the graph changed"
        );
        for query in clustered(20, 12, 64, 17).0.iter() {
            for ef in [10, 40, 200] {
                let ours = index.search(query, &SearchParams::new(10).ef(ef)).unwrap().into_vec();
                let theirs = back.search(query, &SearchParams::new(10).ef(ef)).unwrap().into_vec();
                assert_eq!(ids(&ours), ids(&theirs), "{distance_type}, ef = {ef}");
                assert!(
                    ours.iter()
                        .zip(&theirs)
                        .all(|(a, b)| a.row_id == b.row_id && (a.distance - b.distance).abs() < 1e-5)
                );
            }
        }
    }
}

#[test]
fn distance_types_have_names() {
    for (distance_type, name) in METRICS.into_iter().zip(["l2", "cosine", "dot"]) {
        assert_eq!(distance_type.to_string(), name);
        assert_eq!(name.to_uppercase().parse::<DistanceType>().unwrap(), distance_type);
        let theirs = lance_linalg::distance::DistanceType::try_from(name).unwrap();
        assert_eq!(theirs.to_string(), name, "Lance has the name");
    }
    for (distance_type, name) in [(DistanceType::Hamming, "hamming"), (DistanceType::L1, "l1")] {
        assert_eq!(distance_type.to_string(), name);
        assert_eq!(name.to_uppercase().parse::<DistanceType>().unwrap(), distance_type);
    }
    assert!("chebyshev".parse::<DistanceType>().is_err());
}

/// Row ids are the caller's: any, in any order, also twice if the caller says so.
#[test]
fn row_ids_are_the_callers() {
    let rows = Rows { dim: 2, values: vec![0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0] };
    let index = Index::hnsw(2, DistanceType::L2, BuildParams::default()).unwrap();
    let given = arrow_array::UInt64Array::from(vec![u64::MAX, 0, 7, 7]);
    assert_eq!(index.append_unique(&rows.array(), &given).unwrap(), 0..4);
    assert_eq!(index.append(&rows.array(), 1 << 40).unwrap(), 4..8);
    let results = index.search(&[0.0, 0.0], &SearchParams::new(8).ef(8)).unwrap().into_vec();
    let found: Vec<(u32, u64)> = results.iter().map(|r| (r.id, r.row_id)).collect();
    let big = 1u64 << 40;
    let expected =
        [(0, u64::MAX), (4, big), (1, 0), (5, big + 1), (2, 7), (6, big + 2), (3, 7), (7, big + 3)];
    assert_eq!(found, expected);
}
