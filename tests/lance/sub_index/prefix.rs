//! `to_lance_hnsw_batch(Some(k))`: a graph of the first `k` rows that stands on its own.

use pennon::{BuildParams, DistanceType};

use crate::sub_index::data::{Built, METRICS, Vectors, lance_ids, lance_storage, recall};
use crate::sub_index::laws::assert_lawful;
use crate::sub_index::layout::Layout;

const N: usize = 3_000;

fn assert_prefixes_stand_alone(metric: DistanceType, m: usize, least: f64) {
    let vectors = Vectors::clustered(N, 16, 51);
    let queries = Vectors::clustered(200, 16, 52);
    let params = BuildParams::default().num_edges(m).ef_construction(100);
    let built = Built::new(&vectors, metric, params.clone());
    let flat = built.store.snapshot().to_record_batch().unwrap();
    for limit in [0, 1, N / 3, N - 1, N, N + 10] {
        let n = limit.min(N);
        let known = vectors.slice(0..n);
        let batch = built.graph.to_lance_hnsw_batch(Some(limit)).unwrap();
        let hnsw = assert_lawful(&batch, &known, metric, &params);
        if n == 0 {
            assert_eq!(batch.num_rows(), 0);
            continue;
        }
        assert!(Layout::decode(&batch).metadata.entry_point < n as u32);
        let storage = lance_storage(flat.slice(0, n), 16, metric);
        let lances = recall(&known, metric, &queries, |query| lance_ids(&hnsw, &storage, query));
        println!("{metric} m {m}: the first {limit} of {N}: recall {lances:.4}");
        assert!(lances >= least, "{metric}, the first {limit} of {N}: {lances}");
    }
}

#[test]
fn a_prefix_export_stands_alone_in_every_metric() {
    for metric in METRICS {
        assert_prefixes_stand_alone(metric, 16, 0.95);
    }
}

/// Few edges per node: those that a cut prefix loses are missed soonest.
#[test]
fn a_prefix_export_is_reachable_at_the_smallest_m() {
    assert_prefixes_stand_alone(DistanceType::L2, 4, 0.80);
}

#[test]
fn the_whole_prefix_is_the_whole_export() {
    let vectors = Vectors::clustered(500, 8, 53);
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    let built = Built::new(&vectors, DistanceType::L2, params);
    let whole = built.graph.to_lance_hnsw_batch(None).unwrap();
    for limit in [500, 501, usize::MAX] {
        assert_eq!(built.graph.to_lance_hnsw_batch(Some(limit)).unwrap(), whole);
    }
}

/// A prefix that ends inside a later batch, and one that ends where an earlier batch did.
#[test]
fn a_prefix_may_end_anywhere_in_the_order_of_arrival() {
    let vectors = Vectors::clustered(900, 8, 54);
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    let built = Built::new(&vectors.slice(0..300), DistanceType::L2, params.clone());
    built.append(&vectors.slice(300..700));
    built.append(&vectors.slice(700..900));
    for limit in (1..900).step_by(37).chain([299, 300, 301, 699, 700, 701]) {
        let batch = built.graph.to_lance_hnsw_batch(Some(limit)).unwrap();
        assert_lawful(&batch, &vectors.slice(0..limit), DistanceType::L2, &params);
    }
}
