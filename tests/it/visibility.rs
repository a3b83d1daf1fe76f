//! What a search may see: the rows up to a watermark, or the index as it was at a version.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use arrow_array::{Array, UInt64Array};
use pennon::{BuildParams, DistanceType, Hit, Index, IndexVersion, Reader, SearchParams};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::data::{
    Rows, Tally, assert_sorted, build, clustered, exact_distance, exact_distances, ids, limit, uniform,
};

fn params() -> BuildParams {
    BuildParams::default().ef_construction(60)
}

fn row_id_array(row_ids: &[u64]) -> UInt64Array {
    UInt64Array::from(row_ids.to_vec())
}

#[test]
fn a_watermark_leaves_exactly_the_rows_up_to_it() {
    const N: usize = 2_000;
    let all = clustered(N + 8, 8, 64, 1).0;
    let (rows, queries) = (all.part(0..N), all.part(N..N + 8));
    let mut rng = StdRng::seed_from_u64(2);
    let ascending: Vec<u64> = (0..N as u64).collect();
    let mut shuffled = ascending.clone();
    shuffled.shuffle(&mut rng);
    let mut random: Vec<u64> = (0..N).map(|_| rng.random()).collect();
    (random[0], random[1]) = (u64::MAX, 0);

    for (kind, row_ids) in [("ascending", ascending), ("shuffled", shuffled), ("random", random)] {
        for batch in [1, 300] {
            let index = Index::hnsw(8, DistanceType::L2, params()).unwrap();
            for (start, array) in rows.batches(batch) {
                let part = &row_ids[start as usize..start as usize + array.len()];
                index.append(&array, row_id_array(part)).unwrap();
            }
            let case = format!("{kind} row ids in batches of {batch}");
            let worst = watermarks(&index, &rows, &queries, &row_ids, &case);
            println!("{case}: recall {worst:.4} or more at any watermark");
        }
    }
}

/// Watermarks by number, and by the row id of that rank and one less. The worst recall for k up to 10.
fn watermarks(index: &Index, rows: &Rows, queries: &Rows, row_ids: &[u64], case: &str) -> f64 {
    let n = row_ids.len();
    let mut sorted = row_ids.to_vec();
    sorted.sort_unstable();
    let distances: Vec<Vec<f64>> =
        queries.iter().map(|query| exact_distances(rows, DistanceType::L2, query)).collect();
    let mut worst = 1.0f64;
    for k in [1, 10, 100] {
        let ranks = [0, 1, k - 1, n / 100, n / 10, n - 1];
        let numbers = ranks.map(|rank| [rank as u64, sorted[rank], sorted[rank].saturating_sub(1)]);
        for watermark in numbers.into_iter().flatten().chain([u64::MAX]) {
            let case = format!("{case}, k = {k}, up to {watermark}");
            let visible = |id: usize| row_ids[id] <= watermark;
            let (mut walked, mut scanned) = (Tally::default(), Tally::default());
            for (query, distances) in queries.iter().zip(&distances) {
                let params = SearchParams::new(k).ef(100).max_row_id(watermark);
                let results = index.search(query, &params).unwrap().into_vec();
                assert_sorted(&results, &case);
                assert!(results.iter().all(|r| r.row_id == row_ids[r.id as usize]), "{case}: {results:?}");
                walked.count(distances, k, visible, ids(&results), &case);
                let exact = index.search_exact(query, &params).unwrap().into_vec();
                scanned.count(distances, k, visible, ids(&exact), &case);
            }
            assert_eq!(scanned.recall(), 1.0, "{case}: the exact scan");
            if k <= 10 {
                assert!(walked.recall() >= 0.95, "{case}: recall {}", walked.recall());
                worst = worst.min(walked.recall());
            }
        }
    }
    worst
}

/// `times` as many rows, in the same places.
fn around(rows: &Rows, times: usize, seed: u64) -> Rows {
    let mut rng = StdRng::seed_from_u64(seed);
    let values = rows.values.repeat(times).into_iter().map(|v| v + rng.random_range(-0.4f32..0.4)).collect();
    Rows { dim: rows.dim, values }
}

/// What arrives takes part in the walk, and must not take from its recall.
#[test]
fn a_pinned_reader_keeps_its_recall_while_220_000_rows_arrive() {
    const N: usize = 20_000;
    let all = clustered(N + 1_000, 16, 64, 3).0;
    let (rows, queries) = (all.part(0..N), all.part(N..N + 1_000));
    let params = BuildParams::default().num_edges(12).ef_construction(40);
    let index = build(&rows, DistanceType::L2, &params, 4_000);
    let version = index.version();
    assert_eq!(version.vectors(), N);

    let distances = |query: &[f32]| exact_distances(&rows, DistanceType::L2, query);
    let limits: Vec<f64> = queries.iter().map(|query| limit(&mut distances(query), 10)).collect();
    let measure = |reader: Reader| -> f64 {
        let params = SearchParams::new(10).ef(100);
        let mut hits = 0;
        for (query, limit) in queries.iter().zip(&limits) {
            let results = reader.search(query, &params).unwrap().into_vec();
            assert_sorted(&results, "pinned");
            assert_eq!(results.len(), 10);
            assert!(results.iter().all(|r| (r.id as usize) < N), "past the version: {results:?}");
            let distance = |r: &Hit| exact_distance(DistanceType::L2, query, rows.row(r.id as usize));
            hits += results.iter().filter(|r| distance(r) <= *limit).count();
        }
        hits as f64 / (10 * queries.len()) as f64
    };
    let alone = measure(index.reader());
    let pinned = || measure(index.reader_at(version).unwrap());
    let before = pinned();
    println!("20,000 rows alone: recall@10 {alone:.4}, pinned {before:.4}");
    assert!(alone >= 0.95 && before >= alone - 0.005, "{alone} alone, {before} pinned");

    let mut from = N;
    for times in [1, 10] {
        let later = around(&rows, times, 4 + times as u64);
        let batches = later.batches(4_000);
        let rounds_every = batches.len() / 5;
        let started = Instant::now();
        // A rendezvous: each round of the reader begins together with an append.
        let (begin, begun) = sync_channel(0);
        let index = &index;
        let during: Vec<f64> = thread::scope(|scope| {
            scope.spawn(move || {
                for (number, (start, array)) in batches.into_iter().enumerate() {
                    if number % rounds_every == 0 {
                        begin.send(()).unwrap();
                    }
                    index.append(&array, from as u64 + start).unwrap();
                }
            });
            begun.into_iter().map(|()| pinned()).collect()
        });
        from += later.len();
        assert_eq!((index.len(), during.len()), (from, 5));
        let after = pinned();
        println!(
            "pinned while {} more arrive in {:.1?}: {during:.4?}, then {after:.4}; {alone:.4} alone",
            later.len(),
            started.elapsed()
        );
        for recall in during.into_iter().chain([after]) {
            assert!(recall >= alone - 0.005, "{recall} with {} more rows, {alone} alone", later.len());
        }
    }
}

/// The vector id of every live row id.
type Live = BTreeMap<u64, u32>;

/// A version pinned before deletes has the deleted rows; before updates, the old rows and not the new.
#[test]
fn a_version_does_not_move() {
    let all = clustered(4_008, 8, 32, 7).0;
    let queries = all.part(4_000..4_008);
    let index = Index::hnsw(8, DistanceType::L2, params()).unwrap();
    let mut rng = StdRng::seed_from_u64(8);
    let mut live = Live::new();
    let mut versions = vec![(index.version(), live.clone())];
    for (start, array) in all.part(0..4_000).batches(200) {
        let mut known: Vec<u64> = live.keys().copied().collect();
        known.shuffle(&mut rng);
        let round = start / 200;
        if round % 3 == 1 {
            let row_ids = &known[..200];
            let given = index.upsert(&array, row_id_array(row_ids)).unwrap().ids();
            live.extend(row_ids.iter().copied().zip(given));
        } else {
            let given = index.append(&array, 10_000 + start).unwrap().ids();
            live.extend((10_000 + start..).zip(given));
        }
        versions.push((index.version(), live.clone()));
        if round % 3 == 2 {
            for row_id in &known[..150] {
                index.delete(*row_id).unwrap();
                live.remove(row_id);
            }
            versions.push((index.version(), live.clone()));
        }
        let dead = index.version().vectors() - live.len();
        assert_eq!((index.len(), index.tombstones()), (live.len(), dead), "round {round}");
    }

    let mut tally = Tally::default();
    for (version, live) in &versions {
        assert_as_of(&index, *version, live, &all, &queries, &mut tally);
    }
    println!("{} versions: recall@10 {:.4}", versions.len(), tally.recall());
    assert!(tally.recall() >= 0.95, "{}", tally.recall());
    let now = index.search(queries.row(0), &SearchParams::new(usize::MAX).ef(64)).unwrap().into_vec();
    assert!(now.iter().map(|r| (r.row_id, r.id)).collect::<Live>() == live, "the rows without a version");
}

fn assert_as_of(
    index: &Index,
    version: IndexVersion,
    live: &Live,
    rows: &Rows,
    queries: &Rows,
    tally: &mut Tally,
) {
    let case = format!("{version:?} with {} live rows", live.len());
    let mut alive = vec![false; rows.len()];
    live.values().for_each(|&id| alive[id as usize] = true);
    for query in queries.iter() {
        let everything = SearchParams::new(usize::MAX).ef(64);
        let index = index.reader_at(version).unwrap();
        let all = index.search(query, &everything).unwrap().into_vec();
        assert_sorted(&all, &case);
        assert_eq!(all.len(), live.len(), "{case}");
        assert!(all.iter().map(|r| (r.row_id, r.id)).collect::<Live>() == *live, "{case}: other rows");
        assert!(
            index.search_exact(query, &everything).unwrap().into_vec() == all,
            "{case}: the exact scan differs"
        );
        let ten = index.search(query, &SearchParams::new(10).ef(100)).unwrap().into_vec();
        let distances = exact_distances(rows, DistanceType::L2, query);
        tally.count(&distances, 10, |id| alive[id], ids(&ten), &case);
    }
}

/// Updates come round and round, so that at any instant the live rows are the newest `ROWS` vectors.
#[test]
fn an_upsert_is_one_instant() {
    const ROWS: usize = 48;
    for (batch, upserts) in [(ROWS, 300), (1, 2_000)] {
        let rows = uniform(ROWS + batch * upserts, 8, 9);
        let index = build(&rows.part(0..ROWS), DistanceType::L2, &params(), ROWS);
        let query = uniform(1, 8, 10).values;
        let window = |results: &[Hit]| -> usize {
            let mut all = ids(results);
            all.sort_unstable();
            let first = all[0];
            let last = first + ROWS as u32;
            assert!((first..last).eq(all.iter().copied()), "not one instant, in batches of {batch}: {all:?}");
            assert_eq!(first as usize % batch, 0, "half a batch of {batch}");
            assert!(results.iter().all(|r| r.row_id == u64::from(r.id) % ROWS as u64), "{results:?}");
            first as usize
        };
        let searches = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for (start, array) in rows.part(ROWS..rows.len()).batches(batch) {
                    index.upsert(&array, start % ROWS as u64).unwrap();
                }
            });
            let (mut searches, mut previous) = (0, 0);
            loop {
                let last = writer.is_finished();
                let all = SearchParams::new(ROWS + 10).ef(64);
                let now = window(&index.search(&query, &all).unwrap().into_vec());
                let scanned = window(&index.search_exact(&query, &all).unwrap().into_vec());
                let version = index.version();
                let pinned =
                    index.reader_at(version).unwrap().search(&query, &all.clone()).unwrap().into_vec();
                let ends = [previous, now, scanned, window(&pinned)];
                assert!(ends.is_sorted(), "an older row came back: {ends:?}");
                assert_eq!(ends[3], version.vectors() - ROWS, "{version:?}");
                previous = ends[3];
                let few = index.search(&query, &SearchParams::new(10).ef(10)).unwrap().into_vec();
                let mut row_ids: Vec<u64> = few.iter().map(|r| r.row_id).collect();
                row_ids.sort_unstable();
                row_ids.dedup();
                assert_eq!((few.len(), row_ids.len()), (10, 10), "{few:?}");
                assert!(
                    index.reader_at(version).unwrap().search(&query, &all).unwrap().into_vec() == pinned,
                    "{version:?} moved"
                );
                searches += 5;
                if last {
                    break searches;
                }
            }
        });
        println!("{upserts} upserts of {batch} rows beside {searches} searches");
        assert_eq!((index.len(), index.tombstones()), (ROWS, batch * upserts));
        assert_eq!(
            window(&index.search(&query, &SearchParams::new(ROWS).ef(64)).unwrap().into_vec()),
            batch * upserts
        );
    }
}
