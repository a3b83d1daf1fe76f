//! The same batches give the same bytes: at any number of threads, and every time.

use std::time::Instant;

use pennon::{BuildParams, DistanceType, Index};

use crate::data::{METRICS, Rows, Shape, clustered, in_pool, pair};
use crate::export::bytes;

/// The exported graph and vectors after appending `rows` in batches of `sizes`.
fn built(
    rows: &Rows,
    distance_type: DistanceType,
    params: &BuildParams,
    sizes: &[usize],
    threads: usize,
) -> Vec<u8> {
    in_pool(threads, || {
        let index = Index::hnsw(rows.dim, distance_type, params.clone()).unwrap();
        for (start, array) in rows.batches_of(sizes) {
            index.append(&array, start).unwrap();
        }
        assert_eq!(index.len(), rows.len());
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let mut all = bytes(&graph);
        all.extend(bytes(&vectors));
        all
    })
}

/// Not `assert_eq!`, which would print megabytes.
fn assert_same(left: &[u8], right: &[u8], case: &str) {
    let differs = left.iter().zip(right).position(|(a, b)| a != b);
    assert!(
        left == right,
        "{case}: {} and {} bytes, the first difference at {differs:?}",
        left.len(),
        right.len()
    );
}

#[test]
fn one_two_and_eight_threads_give_the_same_bytes() {
    let (rows, _) = clustered(5_000, 32, 64, 1);
    let params = BuildParams::default().seed(3);
    for distance_type in METRICS {
        let started = Instant::now();
        let one = built(&rows, distance_type, &params, &[5_000], 1);
        for threads in [2, 8] {
            let more = built(&rows, distance_type, &params, &[5_000], threads);
            assert_same(&one, &more, &format!("{distance_type}, 1 and {threads} threads"));
        }
        println!("{distance_type}: {} bytes, three builds in {:.1?}", one.len(), started.elapsed());
    }
}

#[test]
fn ties_copies_and_odd_batches_do_not_depend_on_threads() {
    let sizes = [1, 700, 3, 1, 0, 513, 512, 270];
    for shape in Shape::ALL {
        for m in [4, 16] {
            let rows = shape.rows(2_000, 8, 5);
            let params = BuildParams::default().num_edges(m).ef_construction(60);
            let one = built(&rows, DistanceType::L2, &params, &sizes, 1);
            for threads in [2, 8] {
                let more = built(&rows, DistanceType::L2, &params, &sizes, threads);
                assert_same(&one, &more, &format!("{shape:?}, m = {m}, 1 and {threads} threads"));
            }
        }
    }
}

#[test]
fn the_same_build_twice_gives_the_same_bytes() {
    let rows = Shape::Random.rows(3_000, 16, 2);
    let sizes = [100; 30];
    let params = BuildParams::default();
    let first = built(&rows, DistanceType::L2, &params, &sizes, 2);
    let second = built(&rows, DistanceType::L2, &params, &sizes, 2);
    assert_same(&first, &second, "built twice");
}

#[test]
fn another_seed_gives_another_graph() {
    let rows = Shape::Random.rows(2_000, 16, 2);
    let build = |seed| built(&rows, DistanceType::L2, &BuildParams::default().seed(seed), &[2_000], 2);
    let graphs = [build(0), build(1), build(42), build(u64::MAX)];
    for left in 0..graphs.len() {
        for right in 0..left {
            assert!(graphs[left] != graphs[right], "seeds number {left} and {right} give the same graph");
        }
    }
}

/// Where the caller's buffers lie must not matter: the same rows from slices and from arrays of their own.
#[test]
fn slices_and_copies_give_the_same_bytes() {
    let rows = Shape::Clustered.rows(2_000, 7, 6);
    for distance_type in METRICS {
        let params = BuildParams::default();
        let sliced = built(&rows, distance_type, &params, &[333; 7], 2);
        let index = Index::hnsw(7, distance_type, params).unwrap();
        let mut start = 0;
        while start < rows.len() {
            let end = (start + 333).min(rows.len());
            index.append(&rows.part(start..end).array(), start as u64).unwrap();
            start = end;
        }
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let mut copied = bytes(&graph);
        copied.extend(bytes(&vectors));
        assert_same(&sliced, &copied, &format!("{distance_type}, slices and copies"));
    }
}
