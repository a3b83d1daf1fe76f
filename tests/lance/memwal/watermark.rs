//! What a reader sees of rows past its position: nothing, and its answers are as complete as without them.

use lance::dataset::mem_wal::index::{HnswMemIndex, MemIndex};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;

use crate::memwal::data::{METRICS, close, distance, hits, index, nearest, rows, search, vectors};

const ROWS: usize = 2_000;

fn fill(index: &dyn MemIndex, all: &[Vec<f32>]) {
    for (put, part) in all.chunks(100).enumerate() {
        index.insert(&rows(part), put as u64 * 100).unwrap();
    }
}

fn positions(all: &[Vec<f32>]) -> impl Iterator<Item = (u64, &[f32])> {
    (0..).zip(all).map(|(position, vector)| (position, vector.as_slice()))
}

#[test]
fn a_reader_gets_no_row_past_its_position() {
    let all = vectors(50, 1);
    for metric in METRICS {
        let index = index(metric);
        index.insert(&rows(&all), 0).unwrap();
        let found = search(&index, &all[40], 5, 10);
        let exact = nearest(metric, positions(&all[..=10]), &all[40], 5);
        assert_eq!(found.len(), 5);
        for (found, exact) in found.iter().zip(&exact) {
            assert_eq!(found.0, exact.0, "{metric}");
            assert!(close(found.1, exact.1), "{metric}: {} for {}", found.1, exact.1);
        }
    }
}

#[test]
fn a_reader_gets_all_the_rows_it_asks_for_wherever_its_position_is() {
    let (all, queries) = (vectors(ROWS, 2), vectors(20, 3));
    for metric in METRICS {
        let index = index(metric);
        fill(&index, &all);
        for visible in [0, 1, 8, 99, 100, 499, 1_999, 5_000, u64::MAX] {
            let rows = usize::try_from(visible).map_or(ROWS, |last| last.saturating_add(1).min(ROWS));
            for k in [1, 10, 100] {
                let (mut right, mut wanted) = (0, 0);
                for query in &queries {
                    let found = search(&index, query, k, visible);
                    assert_eq!(found.len(), k.min(rows), "{metric}, k {k}, up to {visible}");
                    for (at, &(position, score)) in found.iter().enumerate() {
                        assert!(position <= visible);
                        assert!(found[..at].iter().all(|other| other.0 != position), "{position} twice");
                        assert!(close(score, distance(metric, query, &all[position as usize])));
                    }
                    let exact = nearest(metric, positions(&all[..rows]), query, k);
                    right += hits(&found, &exact);
                    wanted += exact.len();
                }
                let recall = right as f64 / wanted as f64;
                assert!(recall >= 0.95, "{metric}, k {k}, up to {visible}: recall {recall}");
            }
        }
    }
}

#[test]
fn lance_s_own_index_finds_no_more_under_any_position() {
    let (all, queries) = (vectors(ROWS, 4), vectors(50, 5));
    let ours = index(DistanceType::L2);
    let params = HnswBuildParams::default().num_edges(16).ef_construction(100);
    let theirs = HnswMemIndex::with_capacity(1, "vec".into(), LanceMetric::L2, params, ROWS, 100);
    fill(&ours, &all);
    fill(&theirs, &all);
    for visible in [19, 199, 999, 1_999] {
        let (mut right, mut returned) = ([0; 2], [0; 2]);
        for query in &queries {
            let exact = nearest(DistanceType::L2, positions(&all[..=visible]), query, 10);
            for (which, index) in [&ours as &dyn MemIndex, &theirs].into_iter().enumerate() {
                let found = search(index, query, 10, visible as u64);
                right[which] += hits(&found, &exact);
                returned[which] += found.len();
            }
        }
        println!("up to {visible}: {right:?} of 500 found, {returned:?} returned (ours, Lance's own)");
        assert_eq!(returned[0], 500);
        assert!(right[0] >= right[1], "up to {visible}: {right:?}");
    }
}
