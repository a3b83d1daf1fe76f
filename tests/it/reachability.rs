//! Every inserted row can be reached from the entry point, whatever the data, the batches and the threads.

use std::time::Instant;

use arrow_array::Array;
use pennon::{BuildParams, DistanceType, Index, SearchParams};

use crate::data::{METRICS, Shape, build, clustered, graph_of, ids, in_pool};
use crate::export::Exported;

/// (threads, seed)
const RUNS: [(usize, u64); 3] = [(1, 7), (2, 8), (2, 9)];

fn params(m: usize, seed: u64) -> BuildParams {
    BuildParams::default().num_edges(m).ef_construction(if m == 4 { 40 } else { 100 }).seed(seed)
}

fn assert_healthy(index: &Index, nodes: usize, m: usize, case: &str) {
    let health = index.health().unwrap();
    let counts = (health.nodes, health.reachable, health.unreachable(), health.components);
    assert_eq!(counts, (nodes, nodes, 0, 1), "{case}, {nodes} rows: {health}");
    assert!(health.is_healthy(), "{case}, {nodes} rows: {health}");
    assert_eq!(health.level_nodes[0], nodes, "{case}: {health}");
    assert!(health.level_nodes.is_sorted_by(|below, above| below >= above), "{case}: {health}");
    assert!(health.level_nodes.iter().all(|&nodes| nodes > 0), "{case}: {health}");
    assert!(health.max_degree[0] <= 2 * m, "{case}: {health}");
    assert!(health.max_degree[1..].iter().all(|&degree| degree <= m), "{case}: {health}");
    assert_eq!(health.degree_histogram.iter().sum::<usize>(), nodes, "{case}: {health}");
    let edges: usize = health.degree_histogram.iter().enumerate().map(|(degree, nodes)| degree * nodes).sum();
    assert_eq!(health.edges, edges as u64, "{case}: {health}");
    assert!(health.entry_point.is_some_and(|entry| (entry as usize) < nodes), "{case}: {health}");
}

/// The export, read without the crate's help, obeys every law and says what the crate's own report says.
fn audit(index: &Index, case: &str) {
    let exported = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    exported.check(&index.reader().snapshot(), case);
    exported.assert_reported(&index.health().unwrap(), case);
}

fn matrix(n: usize, batch: usize, after_every_append: bool) {
    let started = Instant::now();
    let mut graphs = 0;
    for shape in Shape::ALL {
        for m in [4, 16] {
            for (threads, seed) in RUNS {
                let rows = shape.rows(n, 8, seed);
                let case = format!("{shape:?}, batches of {batch}, m = {m}, {threads} threads, seed {seed}");
                in_pool(threads, || {
                    let index = Index::hnsw(8, DistanceType::L2, params(m, seed)).unwrap();
                    let mut nodes = 0;
                    for (start, array) in rows.batches(batch) {
                        index.append(&array, start).unwrap();
                        nodes += array.len();
                        if after_every_append {
                            assert_healthy(&index, nodes, m, &case);
                        }
                    }
                    assert_healthy(&index, n, m, &case);
                    audit(&index, &case);
                });
                graphs += 1;
            }
        }
    }
    println!(
        "{graphs} graphs of {n} rows in batches of {batch}: all rows reachable, {:.1?}",
        started.elapsed()
    );
}

#[test]
fn every_row_of_one_batch() {
    matrix(3_000, 3_000, false);
}

#[test]
fn every_row_of_single_rows() {
    matrix(1_500, 1, false);
}

#[test]
fn every_row_after_every_batch_of_100() {
    matrix(3_000, 100, true);
}

/// The sizes at which a parallel build changes its ways: none, one, a few, and around 512.
#[test]
fn every_row_after_batches_of_odd_sizes() {
    let sizes = [1usize, 0, 1, 2, 3, 5, 8, 13, 50, 1, 255, 256, 257, 511, 512, 513, 1, 600];
    for shape in Shape::ALL {
        for m in [4, 16] {
            let rows = shape.rows(sizes.iter().sum(), 8, 10);
            let case = format!("{shape:?}, m = {m}, odd batches");
            let index = Index::hnsw(8, DistanceType::L2, params(m, 11)).unwrap();
            let mut nodes = 0;
            for (start, array) in rows.batches_of(&sizes) {
                index.append(&array, start).unwrap();
                nodes += array.len();
                assert_healthy(&index, nodes, m, &case);
            }
            audit(&index, &case);
        }
    }
}

#[test]
fn every_row_under_cosine_and_dot() {
    for distance_type in METRICS {
        for (m, batch) in [(4, 1), (4, 3_000), (16, 100), (16, 3_000)] {
            let rows = clustered(3_000, 8, 64, 12).0;
            let case = format!("{distance_type}, m = {m}, batches of {batch}");
            let index = build(&rows, distance_type, &params(m, 13), batch);
            assert_healthy(&index, 3_000, m, &case);
            audit(&index, &case);
        }
    }
}

/// One level, two levels, far more levels than rows, and dimensions down to 1.
#[test]
fn every_row_with_few_levels_and_few_dimensions() {
    for max_level in [1, 2, 40] {
        for (shape, dim) in
            [(Shape::Random, 1), (Shape::Random, 2), (Shape::Grid, 2), (Shape::Sorted, 1), (Shape::Copies, 1)]
        {
            let rows = shape.rows(2_000, dim, 14);
            let case = format!("{shape:?}, dim {dim}, max_level {max_level}");
            let index = build(&rows, DistanceType::L2, &params(4, 15).max_level(max_level), 500);
            assert_healthy(&index, 2_000, 4, &case);
            assert!(
                index.health().unwrap().level_nodes.len() <= usize::from(max_level),
                "{case}: {}",
                index.health().unwrap()
            );
            audit(&index, &case);
        }
    }
}

/// An export of a prefix loses the edges to later rows. What remains must still be one graph.
#[test]
fn every_row_of_an_exported_prefix() {
    for shape in Shape::ALL {
        for (m, batch) in [(4, 100), (4, 2_000), (16, 1), (16, 2_000)] {
            let rows = shape.rows(2_000, 8, 16);
            let index = build(&rows, DistanceType::L2, &params(m, 17), batch);
            let graph = graph_of(&index);
            for prefix in [1, 2, 3, 10, 99, 333, 1_000, 1_999, 2_000, 2_005, usize::MAX] {
                let case = format!("{shape:?}, m = {m}, batches of {batch}, the first {prefix}");
                let exported =
                    graph.to_lance_hnsw_batch(Some(prefix)).unwrap_or_else(|error| panic!("{case}: {error}"));
                let exported = Exported::read(&exported);
                assert_eq!(exported.nodes(), prefix.min(2_000), "{case}");
                exported.check_prefix(&index.reader().snapshot(), &case);
            }
        }
    }
}

#[test]
fn an_export_without_rows_is_a_batch_without_rows() {
    let empty = Index::hnsw(8, DistanceType::L2, params(4, 1)).unwrap();
    let some = build(&Shape::Random.rows(100, 8, 1), DistanceType::L2, &params(4, 1), 100);
    for batch in [
        empty.reader().graph().unwrap().to_lance_hnsw_batch().unwrap(),
        graph_of(&empty).to_lance_hnsw_batch(Some(5)).unwrap(),
        graph_of(&some).to_lance_hnsw_batch(Some(0)).unwrap(),
    ] {
        assert_eq!(batch.num_rows(), 0);
    }
}

/// Distinct rows find themselves: reachable is not enough if the beam never gets there.
#[test]
fn distinct_rows_find_themselves() {
    for shape in Shape::ALL.into_iter().filter(|shape| shape.distinct()) {
        for batch in [100, 3_000] {
            let rows = shape.rows(3_000, 16, 18);
            let index = build(&rows, DistanceType::L2, &params(16, 19), batch);
            let lost: Vec<u32> = (0..3_000u32)
                .filter(|&id| {
                    let results =
                        index.search(rows.row(id as usize), &SearchParams::new(1).ef(64)).unwrap().into_vec();
                    ids(&results) != [id] || results[0].distance != 0.0
                })
                .collect();
            println!(
                "{shape:?}, batches of {batch}: {} of 3000 rows do not find themselves at ef = 64",
                lost.len()
            );
            assert!(lost.is_empty(), "{shape:?}, batches of {batch}: lost {lost:?}");
        }
    }
}
