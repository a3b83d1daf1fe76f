//! What the index says of its memory: Lance budgets its flushes by it.

use lance::dataset::mem_wal::index::{HnswMemIndex, MemIndex};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;

use crate::data::{index, rows, vectors};

const ROWS: usize = 4_000;

#[test]
fn memory_is_charged_up_front_and_then_by_the_row() {
    let all = vectors(ROWS, 1);
    let filled = |rows_in: usize| {
        let index = index(DistanceType::L2);
        index.insert(&rows(&all[..rows_in]), 0).unwrap();
        index.resident_bytes()
    };
    let untouched = index(DistanceType::L2).resident_bytes();
    let (one, half, full) = (filled(1), filled(ROWS / 2), filled(ROWS));
    println!("bytes before the first row {untouched}, with it {one}, half full {half}, full {full}");

    // What the first row allocates is charged before it is there.
    assert!(untouched.abs_diff(one) * 4 < one, "{untouched} bytes before the first row, {one} after it");
    assert!(one < half && half < full, "{one}, {half}, {full}");
    assert!(full > one * 3, "{full} bytes for {ROWS} rows, {one} for the first");
    // 32 neighbors with their distances are 256 bytes; the rest of a row are its share of everything else.
    let per_row = (full - half) / (ROWS / 2);
    assert!((256..1_024).contains(&per_row), "{per_row} bytes a row");
}

#[test]
fn the_capacity_of_the_memtable_costs_nothing() {
    let params = HnswBuildParams::default().num_edges(16).ef_construction(100);
    let theirs = HnswMemIndex::with_capacity(1, "vec".into(), LanceMetric::L2, params, 100_000, 8_000);
    let (ours, theirs) = (index(DistanceType::L2).resident_bytes(), MemIndex::resident_bytes(&theirs));
    println!("before the first row: {ours} bytes, Lance's own reserves {theirs} for 100,000 rows");
    assert!(ours < 256 << 10, "{ours}");
    assert!(ours < theirs);
}

#[test]
fn the_charge_follows_every_put_and_never_falls() {
    let all = vectors(1_000, 2);
    let index = index(DistanceType::Cosine);
    let mut before = 0;
    for (put, part) in all.chunks(50).enumerate() {
        index.insert(&rows(part), put as u64 * 50).unwrap();
        let after = index.resident_bytes();
        assert!(after >= before, "{after} after {before}");
        assert_eq!(after, index.resident_bytes());
        before = after;
    }
    // The vectors are the MemTable's: 64 bytes a row of them are not here.
    let links = 1_000 * (32 + 32) * size_of::<f32>();
    assert!(before > links, "{before} bytes do not hold the links of 1,000 rows, {links}");
}
