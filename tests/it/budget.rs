//! A deadline or a limit of distances ends a search early, with the best so far, and the search says so.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pennon::{BuildParams, DistanceType, Hit, Index, RowMask, SearchParams, SearchStats};

use crate::data::{Rows, assert_sorted, build, clustered, exact_distance, in_pool, with_stats};

const ROWS: usize = 20_000;
/// What a search may compute past its limit: the block that it is at.
const BLOCK: u64 = 512;
/// What a search may compute past its deadline, which is not looked at before every block.
const BLOCKS: u64 = 2_048;

struct Shared {
    rows: Rows,
    queries: Rows,
    index: Index,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let all = clustered(ROWS + 20, 16, 64, 61).0;
        let (rows, queries) = (all.part(0..ROWS), all.part(ROWS..ROWS + 20));
        let params = BuildParams::default().num_edges(8).ef_construction(40);
        let index = build(&rows, DistanceType::L2, &params, ROWS);
        Shared { rows, queries, index }
    })
}

/// Searches, and checks what holds of any answer, early or not: at most `k` rows that qualify, each once,
/// nearest first, at their true distances.
fn search(query: &[f32], params: SearchParams, admits: impl Fn(u64) -> bool) -> (Vec<Hit>, SearchStats) {
    let k = params.k;
    let (found, stats) = with_stats(shared().index.search(query, &params).unwrap());
    assert_real(query, &found, k, admits);
    (found, stats)
}

fn assert_real(query: &[f32], found: &[Hit], k: usize, admits: impl Fn(u64) -> bool) {
    assert!(found.len() <= k, "{} rows of {k}", found.len());
    assert_sorted(found, "within a budget");
    for result in found {
        let exact = exact_distance(DistanceType::L2, query, shared().rows.row(result.id as usize));
        let off = (f64::from(result.distance) - exact).abs();
        assert!(off <= 1e-5 * (1.0 + exact), "{result:?}, not {exact}");
        assert!(result.row_id == u64::from(result.id) && admits(result.row_id), "{result:?}");
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(24 * 3_600)
}

#[test]
fn a_limit_of_distances_ends_a_search() {
    for (k, ef) in [(10, 400), (10, 2_000), (300, 600)] {
        let params = SearchParams::new(k).ef(ef);
        for query in shared().queries.iter() {
            let (whole, unlimited) = search(query, params.clone(), |_| true);
            assert!(unlimited.complete && whole.len() == k);
            for limit in [0, 1, 10, 100, 1_000, 10_000] {
                let (found, stats) = search(query, params.clone().max_distances(limit), |_| true);
                let case = format!("k {k}, ef {ef}, limit {limit}: {stats:?}");
                assert!(stats.compared() <= limit + BLOCK, "{case}");
                if stats.complete {
                    assert_eq!(found, whole, "{case}");
                }
                if limit + BLOCK < unlimited.compared() {
                    assert!(!stats.complete, "{case}, {} without a limit", unlimited.compared());
                }
                if limit >= 1_000 {
                    assert!(!found.is_empty(), "{case}");
                }
            }
            assert!(unlimited.compared() > 10 + BLOCK, "{unlimited:?}: nothing is ended early here");
        }
    }
}

#[test]
fn a_generous_budget_changes_nothing() {
    for params in
        [SearchParams::new(10).ef(100), SearchParams::new(10).ef(1_000), SearchParams::new(700).ef(100)]
    {
        for query in shared().queries.iter() {
            let (whole, unlimited) = search(query, params.clone(), |_| true);
            for params in [
                params.clone().max_distances(2 * unlimited.compared() + 1_000),
                params.clone().max_distances(u64::MAX),
                params.clone().deadline(far_away()),
                params.clone().deadline(far_away()).max_distances(1_000_000),
            ] {
                let (found, stats) = search(query, params.clone(), |_| true);
                assert_eq!((&found, stats.complete), (&whole, true), "{params:?}: {stats:?}");
                assert_eq!(stats.compared(), unlimited.compared(), "{params:?}");
            }
        }
    }
}

/// The walk goes to the nearest rows first, so that most of its work is to make sure.
/// A search that expanded every node that it would have expanded without a limit came to its end.
#[test]
fn a_budget_that_the_last_node_uses_up_cuts_nothing_short() {
    let mut to_the_end = 0;
    for query in shared().queries.iter() {
        let params = SearchParams::new(10).ef(64);
        let (whole, unlimited) = search(query, params.clone(), |_| true);
        let (found, stats) = search(query, params.max_distances(unlimited.compared()), |_| true);
        let is_to_the_end = stats.nodes == unlimited.nodes;
        assert_eq!(stats.complete, is_to_the_end, "{stats:?}, {unlimited:?}");
        assert!(!is_to_the_end || found == whole);
        to_the_end += usize::from(is_to_the_end);
    }
    assert!(to_the_end > 0, "no search ended with the last node");
}

#[test]
fn what_is_found_early_is_near() {
    let (mut hits, mut ended) = (0, 0);
    for query in shared().queries.iter() {
        let params = SearchParams::new(10).ef(400);
        let (whole, unlimited) = search(query, params.clone(), |_| true);
        let (found, stats) = search(query, params.max_distances(unlimited.compared() * 7 / 10), |_| true);
        assert_eq!(found.len(), 10, "{stats:?}");
        hits += found.iter().filter(|result| result.distance <= whole[9].distance).count();
        ended += usize::from(!stats.complete);
    }
    println!("with 70 % of the distances: {hits} of 200 rows, {ended} of 20 searches ended early");
    assert!(hits >= 160, "{hits} of 200 rows");
    assert!(ended >= 15, "only {ended} of 20 searches ended early");
}

#[test]
fn a_deadline_in_the_past_ends_every_search() {
    let past = Instant::now();
    for query in shared().queries.iter() {
        for (k, ef) in [(10, 100), (10, 5_000), (usize::MAX, 10)] {
            let (found, stats) = search(query, SearchParams::new(k).ef(ef).deadline(past), |_| true);
            assert!(!stats.complete, "k {k}, ef {ef}: {stats:?}");
            assert!(stats.compared() <= BLOCKS, "k {k}, ef {ef}: {stats:?}");
            assert!(found.len() as u64 <= stats.compared(), "{} rows of {stats:?}", found.len());
        }
    }
    let queries = shared().queries.array();
    let batch = shared().index.search_batch(&queries, &SearchParams::new(10).deadline(past)).unwrap();
    let found: usize = batch.iter().map(|hits| hits.len()).sum();
    assert!(!batch.complete() && found <= 200, "{found} rows");
}

#[test]
fn budgets_hold_where_rows_are_filtered() {
    let past = Instant::now();
    for every in [2_u64, 50, 2_000] {
        let admits = move |row_id: u64| row_id % every == 1;
        let matches = ROWS / every as usize;
        for (at, query) in shared().queries.iter().enumerate() {
            let params = SearchParams::new(30).ef(300).mask(RowMask::predicate(admits));
            let (whole, unlimited) = search(query, params.clone(), admits);
            assert_eq!((whole.len(), unlimited.complete), (matches.min(30), true));
            if at == 0 {
                println!("one row in {every}: {unlimited:?}");
            }
            for limit in [0, 50, 500, 5_000, 1_000_000] {
                let (found, stats) = search(query, params.clone().max_distances(limit), admits);
                let case = format!("one row in {every}, limit {limit}: {stats:?}");
                assert!(stats.compared() <= limit + BLOCK, "{case}");
                if stats.complete {
                    assert_eq!(found, whole, "{case}");
                }
                match limit {
                    0 => assert!(!stats.complete, "{case}"),
                    1_000_000 => assert!(stats.complete, "{case}"),
                    _ => assert!(!stats.complete || limit + BLOCK >= unlimited.compared(), "{case}"),
                }
            }
            let (_, stats) = search(query, params.clone().deadline(past), admits);
            assert!(!stats.complete && stats.compared() <= BLOCKS, "one row in {every}, past: {stats:?}");
            let (found, stats) = search(query, params.deadline(far_away()), admits);
            assert!(found == whole && stats.complete, "one row in {every}: {stats:?}");
        }
    }
}

#[test]
fn an_exact_search_has_a_budget_too() {
    let Shared { index, queries, .. } = shared();
    let past = Instant::now();
    let everything = SearchParams::new(usize::MAX);
    for query in queries.part(0..4).iter() {
        let whole = index.search_exact(query, &everything).unwrap().into_vec();
        assert_eq!(whole.len(), ROWS);
        for threads in [1, 4] {
            let exact = |params: SearchParams| {
                let found = in_pool(threads, || index.search_exact(query, &params).unwrap().into_vec());
                assert_real(query, &found, ROWS, |_| true);
                found
            };
            for limit in [0, 1_000, 5_000] {
                let found = exact(everything.clone().max_distances(limit));
                let most = limit + threads as u64 * BLOCK;
                assert!(found.len() as u64 <= most, "{} rows with {limit} distances", found.len());
                assert!(limit == 0 || !found.is_empty(), "no row with {limit} distances");
            }
            let early = exact(everything.clone().deadline(past));
            assert!(early.len() as u64 <= threads as u64 * BLOCKS, "{} rows after the end", early.len());
            assert!(exact(everything.clone().max_distances(2 * ROWS as u64)) == whole);
            assert!(exact(everything.clone().deadline(far_away())) == whole);
            let third = RowMask::predicate(|row_id| row_id % 3 == 0);
            let masked = exact(everything.clone().mask(third).max_distances(2_000));
            assert!(masked.iter().all(|result| result.row_id % 3 == 0));
            assert!(
                (1..=2_000 + threads as u64 * BLOCK).contains(&(masked.len() as u64)),
                "{}",
                masked.len()
            );
        }
    }
}
