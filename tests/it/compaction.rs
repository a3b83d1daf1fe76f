//! An index without its dead rows, after `compact` and in an export, and one that keeps them.

use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use pennon::{Error, Index, SearchParams, VectorSource};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::{Rows, Tally, assert_sorted, build, clustered, exact_distances, import, pair, uniform};
use crate::deletes::{L2, array_of, assert_unknown, contents, data, everything, orders, params};
use crate::export::Exported;

/// Recall@10 among the rows that are left, by row id.
fn recall(
    index: &Index,
    queries: &Rows,
    distances: &[Vec<f64>],
    live: impl Fn(usize) -> bool,
    case: &str,
) -> f64 {
    let mut tally = Tally::default();
    for (query, distances) in queries.iter().zip(distances) {
        let results = index.search(query, &SearchParams::new(10).ef(64)).unwrap().into_vec();
        assert_sorted(&results, case);
        tally.count(distances, 10, &live, results.iter().map(|r| r.row_id as u32), case);
    }
    tally.recall()
}

fn fresh(rows: &Rows, live: &[usize]) -> Index {
    let index = Index::hnsw(rows.dim, L2, params()).unwrap();
    index.append(&rows.reordered(live).array(), array_of(live.iter().copied())).unwrap();
    index
}

#[test]
fn a_compacted_index_is_as_good_as_a_fresh_one() {
    const N: usize = 8_000;
    let (rows, queries, distances) = data(N, 500, 9);
    let array = rows.array();
    let values = array.values().as_primitive::<Float32Type>().values();
    for (kind, order) in orders(&rows) {
        let index = Index::hnsw(16, L2, params()).unwrap();
        for start in (0..N).step_by(2_000) {
            index.append(&array.slice(start, 2_000), start as u64).unwrap();
        }
        let (mut alive, mut deleted) = (vec![true; N], 0);
        for percent in [10, 50, 90] {
            let case = format!("{kind}, {percent} % deleted");
            let until = N * percent / 100;
            for &row in &order[deleted..until] {
                index.delete(row as u64).unwrap();
                alive[row] = false;
            }
            deleted = until;
            let live: Vec<usize> = (0..N).filter(|&row| alive[row]).collect();

            let started = Instant::now();
            let compacted = index.reader().compacted().unwrap();
            let took = started.elapsed();
            assert_eq!((index.len(), index.tombstones()), (live.len(), deleted), "{case}: the old index");
            assert_eq!((compacted.len(), compacted.tombstones()), (live.len(), 0), "{case}");
            let (health, snapshot) = (compacted.health().unwrap(), compacted.reader().snapshot());
            assert_eq!((health.nodes, health.unreachable()), (live.len(), 0), "{case}: {health}");
            Exported::read(&compacted.reader().graph().unwrap().to_lance_hnsw_batch().unwrap())
                .check(&snapshot, &case);
            let mut kept = Vec::new();
            for id in 0..snapshot.len() as u32 {
                let row = snapshot.row_id(id) as usize;
                assert_eq!(snapshot.vector(id).as_ptr(), values[row * 16..].as_ptr(), "{case}: row {row}");
                kept.push(row);
            }
            kept.sort_unstable();
            assert!(kept == live, "{case}: other rows");

            let started = Instant::now();
            let fresh = fresh(&rows, &live);
            let anew = started.elapsed();
            let ours = recall(&compacted, &queries, &distances, |row| alive[row], &case);
            let theirs = recall(&fresh, &queries, &distances, |row| alive[row], &case);
            println!("{case}: recall@10 {ours:.4} in {took:.1?}, built anew {theirs:.4} in {anew:.1?}");
            assert!(ours >= theirs - 0.01, "{case}: {ours}, fresh {theirs}");
            goes_on(&compacted, &queries, live[0] as u64, order[0] as u64, &case);
        }
    }
}

/// A compacted index takes rows, knows its own, and loses them, as any other.
fn goes_on(index: &Index, rows: &Rows, live: u64, dead: u64, case: &str) {
    let len = index.len();
    let one = rows.part(0..1).array();
    let error = index.append(&one, live).unwrap_err();
    assert!(matches!(error, Error::DuplicateRowId { row_id, row: 0 } if row_id == live), "{case}: {error}");
    assert_unknown(index, dead);
    index.append(&one, dead).unwrap();
    index.append(&rows.part(1..rows.len()).array(), 1_000_000u64).unwrap();
    index.delete(live).unwrap();
    assert_eq!((index.len(), index.tombstones()), (len + rows.len() - 1, 1), "{case}");
    let health = index.health().unwrap();
    assert!(health.is_healthy(), "{case}: {health}");
    let is_found = |(row, query): &(usize, &[f32])| {
        let found = index.search(query, &SearchParams::new(1).ef(100)).unwrap().into_vec();
        let row_id = if *row == 0 { dead } else { 999_999 + *row as u64 };
        (found[0].row_id, found[0].distance) == (row_id, 0.0)
    };
    let found = rows.iter().enumerate().filter(is_found).count();
    assert!(found >= rows.len() * 99 / 100, "{case}: {found} of {} new rows find themselves", rows.len());
}

#[test]
fn none_or_all_of_the_rows_compacted() {
    let rows = uniform(500, 8, 10);
    let index = build(&rows, L2, &params(), 250);
    assert!(contents(&index.reader().compacted().unwrap()) == contents(&index));
    (0..500).for_each(|row_id| index.delete(row_id).unwrap());
    let empty = index.reader().compacted().unwrap();
    assert_eq!((empty.len(), empty.tombstones(), empty.version().vectors()), (0, 0, 0));
    assert!(everything(&empty).is_empty() && empty.health().unwrap().is_healthy());
    empty.append(&rows.array(), 7u64).unwrap();
    assert_eq!(contents(&empty).len(), 500);
}

#[test]
fn an_export_leaves_dead_rows_out() {
    let rows = clustered(2_000, 12, 64, 11).0;
    for (kind, order) in orders(&rows) {
        let index = build(&rows, L2, &params(), 500);
        order[..1_000].iter().for_each(|&row| index.delete(row as u64).unwrap());
        index.upsert(&rows.part(0..100).array(), array_of(order[1_000..1_100].iter().copied())).unwrap();
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        assert_eq!((Exported::read(&graph).nodes(), vectors.num_rows()), (1_000, 1_000), "{kind}");
        let back = import(&graph, &vectors).unwrap();
        Exported::read(&graph).check(&back.reader().snapshot(), kind);
        assert_eq!((back.len(), back.tombstones()), (1_000, 0), "{kind}");
        assert!(contents(&back) == contents(&index), "{kind}: other rows");
        assert_eq!((index.len(), index.tombstones()), (1_000, 1_100), "{kind}: the index itself");
        assert_unknown(&back, order[0] as u64);
        back.delete(order[1_050] as u64).unwrap();
        assert_eq!(contents(&back).len(), 999, "{kind}");
    }
}

#[test]
fn ten_rounds_of_replacing_a_tenth() {
    const N: usize = 5_000;
    let all = clustered(2 * N + 400, 16, 64, 12).0;
    let (mut rows, queries) = (all.part(0..N), all.part(2 * N..2 * N + 400));
    let index = build(&rows, L2, &params(), 1_000);
    let mut order: Vec<usize> = (0..N).collect();
    let mut rng = StdRng::seed_from_u64(13);
    for (start, array) in all.part(N..2 * N).batches(N / 10) {
        order.shuffle(&mut rng);
        let replaced = &order[..N / 10];
        index.upsert(&array, array_of(replaced.iter().copied())).unwrap();
        for (offset, &row) in replaced.iter().enumerate() {
            let new = all.row(N + start as usize + offset);
            rows.values[row * 16..(row + 1) * 16].copy_from_slice(new);
        }
    }
    assert_eq!((index.len(), index.tombstones()), (N, N));
    order.sort_unstable();
    let distances: Vec<Vec<f64>> = queries.iter().map(|query| exact_distances(&rows, L2, query)).collect();
    let of = |index: &Index, case| recall(index, &queries, &distances, |_| true, case);
    let fresh = of(&fresh(&rows, &order), "fresh");
    let churned = of(&index, "churned");
    let compacted = of(&index.reader().compacted().unwrap(), "compacted");
    println!("recall@10 {churned:.4} after ten rounds, compacted {compacted:.4}, fresh {fresh:.4}");
    assert!(churned >= fresh - 0.01, "{churned} after ten rounds, fresh {fresh}");
    assert!(compacted >= fresh - 0.01, "{compacted} compacted, fresh {fresh}");
}
