//! Recall under masks that leave much or next to nothing, near the query or far from it; and the plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_buffer::BooleanBuffer;
use pennon::{BuildParams, DistanceType, RowMask, SearchParams, SearchPlan};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::{Rows, Tally, assert_sorted, build, clustered, exact_distances, ids, uniform};
use crate::deletes::L2;
use crate::filters::masks;

/// Masks by chance, of the rows nearest to the query and of the farthest, from 90 % down to 0.01 %.
fn recall_at_every_selectivity(name: &str, all: &Rows, distance_type: DistanceType) {
    const N: usize = 20_000;
    let started = Instant::now();
    let (rows, queries) = (all.part(0..N), all.part(N..all.len()));
    let index = build(&rows, distance_type, &BuildParams::default(), 5_000);
    let mut rng = StdRng::seed_from_u64(4);
    let mut tallies: BTreeMap<(&str, &str, usize), Tally> = BTreeMap::new();
    for query in queries.iter() {
        let distances = exact_distances(&rows, distance_type, query);
        let mut nearest: Vec<usize> = (0..N).collect();
        nearest.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
        let farthest: Vec<usize> = nearest.iter().rev().copied().collect();
        let mut random = nearest.clone();
        random.shuffle(&mut rng);
        for (order, chosen) in [("random", random), ("nearest", nearest), ("farthest", farthest)] {
            for matches in [18_000, 10_000, 2_000, 200, 20, 2] {
                let mut allowed = vec![false; N];
                chosen[..matches].iter().for_each(|&row| allowed[row] = true);
                let allowed = Arc::new(allowed);
                let asked = Arc::clone(&allowed);
                for (kind, mask) in [
                    ("bits", RowMask::from(BooleanBuffer::from(&allowed[..]))),
                    ("predicate", RowMask::predicate(move |row_id| asked[row_id as usize])),
                ] {
                    let case = format!("{name}, {distance_type}, {kind}, {order} {matches} of {N}");
                    let results = index.search(query, SearchParams::new(10, 100).mask(mask)).unwrap();
                    assert_sorted(&results, &case);
                    let tally = tallies.entry((kind, order, matches)).or_default();
                    tally.count(&distances, 10, |row| allowed[row], ids(&results), &case);
                }
            }
        }
    }
    println!("{name}, {distance_type}, in {:.1?}: recall@10", started.elapsed());
    for ((kind, order, matches), tally) in &tallies {
        println!("  {kind}, {order} {matches} of {N}: {:.4}", tally.recall());
    }
    for (case, tally) in tallies {
        assert!(tally.recall() >= 0.95, "{name}, {distance_type}, {case:?}: recall {}", tally.recall());
    }
}

#[test]
fn recall_at_every_selectivity_of_clustered_rows() {
    for distance_type in [L2, DistanceType::Cosine] {
        recall_at_every_selectivity("clustered", &clustered(20_024, 24, 64, 5).0, distance_type);
    }
}

#[test]
fn recall_at_every_selectivity_of_uniform_rows() {
    for distance_type in [L2, DistanceType::Cosine] {
        recall_at_every_selectivity("uniform", &uniform(20_024, 16, 6), distance_type);
    }
}

#[test]
fn the_plan_can_be_asked() {
    const N: usize = 10_000;
    let all = clustered(N + 10, 16, 64, 9).0;
    let (rows, queries) = (all.part(0..N), all.part(N..N + 10));
    let index = build(&rows, L2, &BuildParams::default(), N);
    let row_ids: Vec<u64> = (0..N as u64).collect();
    let mut order: Vec<usize> = (0..N).collect();
    let mut rng = StdRng::seed_from_u64(10);
    for query in queries.iter() {
        let plain = SearchParams::new(10, 100);
        let (results, stats) = index.search_with_stats(query, plain.clone()).unwrap();
        assert!(matches!(stats.plan, SearchPlan::Graph) && stats.complete, "{stats:?}");
        assert!((100..N as u64).contains(&stats.distances), "{stats:?}");
        assert!((1..=stats.distances).contains(&stats.nodes), "{stats:?}");
        assert_eq!(results, index.search(query, plain.clone()).unwrap());
        order.shuffle(&mut rng);
        for matches in [1, 5, 20, 1_000, 5_000] {
            let mut allowed = vec![false; N];
            order[..matches].iter().for_each(|&row| allowed[row] = true);
            for (kind, mask) in masks(&allowed, &row_ids) {
                let params = plain.clone().mask(mask);
                let (results, stats) = index.search_with_stats(query, params.clone()).unwrap();
                let case = format!("{kind} of {matches} rows: {stats:?}");
                assert_eq!((results.len(), stats.complete), (matches.min(10), true), "{case}");
                assert_eq!(results, index.search(query, params).unwrap(), "{case}");
                let scans = matches!(stats.plan, SearchPlan::Scan);
                assert!(scans || matches!(stats.plan, SearchPlan::FilteredGraph), "{case}");
                // A handful is scanned; what strangers hide is not known before.
                assert!(scans || matches > 20 || kind.contains("strangers"), "{case}");
                if matches <= 20 && !kind.contains("strangers") {
                    assert!(stats.distances <= matches as u64 + 32, "{case}");
                }
            }
        }
    }
}
