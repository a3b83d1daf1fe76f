//! Recall under masks that leave much or next to nothing, near the query or far from it; and the plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow_buffer::BooleanBuffer;
use pennon::{BuildParams, DistanceType, RowMask, SearchParams, SearchPlan};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::{Rows, Tally, assert_sorted, build, clustered, exact_distances, ids, uniform, with_stats};
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
                    ("bits", index.reader().mask(BooleanBuffer::from(&allowed[..])).unwrap()),
                    ("predicate", RowMask::predicate(move |row_id| asked[row_id as usize])),
                ] {
                    let case = format!("{name}, {distance_type}, {kind}, {order} {matches} of {N}");
                    let results =
                        index.search(query, &SearchParams::new(10).ef(100).mask(mask)).unwrap().into_vec();
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
        let plain = SearchParams::new(10).ef(100);
        let (results, stats) = with_stats(index.search(query, &plain).unwrap());
        assert!(matches!(stats.plan, SearchPlan::Graph) && stats.complete, "{stats:?}");
        assert!((100..N as u64).contains(&stats.compared()), "{stats:?}");
        assert!((1..=stats.compared()).contains(&stats.nodes), "{stats:?}");
        assert_eq!(results, index.search(query, &plain).unwrap().into_vec());
        order.shuffle(&mut rng);
        for matches in [1, 5, 20, 1_000, 5_000] {
            let mut allowed = vec![false; N];
            order[..matches].iter().for_each(|&row| allowed[row] = true);
            for (kind, mask) in masks(&index.reader(), &allowed, &row_ids) {
                let params = plain.clone().mask(mask);
                let (results, stats) = with_stats(index.search(query, &params).unwrap());
                let case = format!("{kind} of {matches} rows: {stats:?}");
                assert_eq!((results.len(), stats.complete), (matches.min(10), true), "{case}");
                assert_eq!(results, index.search(query, &params).unwrap().into_vec(), "{case}");
                let scans = matches!(stats.plan, SearchPlan::Scan);
                assert!(scans || matches!(stats.plan, SearchPlan::FilteredGraph), "{case}");
                // A handful is scanned; what strangers hide is not known before.
                assert!(scans || matches > 20 || kind.contains("strangers"), "{case}");
                if matches <= 20 && !kind.contains("strangers") {
                    assert!(stats.compared() <= matches as u64 + 32, "{case}");
                }
            }
        }
    }
}

/// Large enough that a fifth of the rows is not scanned, also where there is a hole in the mask around the query.
#[test]
fn recall_where_a_walk_passes_through_most_rows() {
    const N: usize = 60_000;
    const EF: usize = 40;
    let all = clustered(N + 40, 16, 64, 11).0;
    let (rows, queries) = (all.part(0..N), all.part(N..all.len()));
    let index = build(&rows, L2, &BuildParams::default(), 10_000);
    let mut rng = StdRng::seed_from_u64(12);
    let mut tallies: BTreeMap<(&str, usize), (Tally, usize)> = BTreeMap::new();
    for query in queries.iter() {
        let distances = exact_distances(&rows, L2, query);
        let mut nearest: Vec<usize> = (0..N).collect();
        nearest.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
        let farthest: Vec<usize> = nearest.iter().rev().copied().collect();
        // All but the hundred nearest: there is a hole around the query.
        let mut around = nearest[100..].to_vec();
        let mut random = nearest.clone();
        around.shuffle(&mut rng);
        random.shuffle(&mut rng);
        for (order, chosen) in
            [("random", random), ("nearest", nearest), ("farthest", farthest), ("around", around)]
        {
            for matches in [12_000, 6_000, 3_000] {
                let mut allowed = vec![false; N];
                chosen[..matches].iter().for_each(|&row| allowed[row] = true);
                let case = format!("{order} {matches} of {N}");
                let mask = index.reader().mask(BooleanBuffer::from(&allowed[..])).unwrap();
                let params = SearchParams::new(10).ef(EF).mask(mask);
                let (results, stats) = with_stats(index.search(query, &params).unwrap());
                assert_sorted(&results, &case);
                let (tally, walks) = tallies.entry((order, matches)).or_default();
                tally.count(&distances, 10, |row| allowed[row], ids(&results), &case);
                *walks += usize::from(matches!(stats.plan, SearchPlan::FilteredGraph));
                // Little is lost before a walk gives up.
                assert!(stats.compared() as f64 <= matches as f64 * 1.5 + 2_000.0, "{case}: {stats:?}");
            }
        }
    }
    for ((order, matches), (tally, walks)) in tallies {
        let recall = tally.recall();
        println!("{order} {matches} of {N}: recall@10 {recall:.4}, {walks} of {} walks", queries.len());
        assert!(recall >= 0.95, "{order} {matches} of {N}: recall {recall}");
        // A scan of fewer rows costs less than a walk.
        let has_walks = matches == 12_000 && ["random", "nearest"].contains(&order);
        assert!(!has_walks || walks * 10 >= queries.len() * 9, "{order} {matches} of {N}: {walks} walks");
    }
}

/// Deleted rows are passed through as well.
#[test]
fn recall_where_most_rows_are_dead() {
    const N: usize = 60_000;
    let all = clustered(N + 30, 16, 64, 13).0;
    let (rows, queries) = (all.part(0..N), all.part(N..all.len()));
    let index = build(&rows, L2, &BuildParams::default(), 10_000);
    let before = index.version();
    let is_live = |row: usize| row % 7 == 3;
    (0..N).filter(|&row| !is_live(row)).for_each(|row| index.delete(row as u64).unwrap());
    let (mut tally, mut tally_before) = (Tally::default(), Tally::default());
    for query in queries.iter() {
        let distances = exact_distances(&rows, L2, query);
        let (results, stats) = with_stats(index.search(query, &SearchParams::new(10).ef(40)).unwrap());
        assert!(matches!(stats.plan, SearchPlan::FilteredGraph), "{stats:?}");
        tally.count(&distances, 10, is_live, ids(&results), "most are dead");
        let results =
            index.reader_at(before).unwrap().search(query, &SearchParams::new(10).ef(40)).unwrap().into_vec();
        tally_before.count(&distances, 10, |_| true, ids(&results), "before the deletes");
    }
    let (recall, before) = (tally.recall(), tally_before.recall());
    println!("of 1 in 7: recall@10 {recall:.4}, of all: {before:.4}");
    assert!(recall >= 0.95 && before >= 0.95, "{recall}, {before}");
}
