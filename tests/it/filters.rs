//! Searches of a part of the rows: masks of every kind, alone and with what else hides rows.

use std::collections::BTreeMap;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;

use arrow_array::{BooleanArray, UInt64Array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use pennon::{BuildParams, Error, Index, Reader, RowMask, SearchParams, VectorSource};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::data::{Tally, assert_sorted, build, clustered, exact_distances, ids, uniform};
use crate::deletes::L2;

/// The same set in every form: `allowed` and `row_ids` are by vector id.
pub fn masks(reader: &Reader, allowed: &[bool], row_ids: &[u64]) -> Vec<(&'static str, RowMask)> {
    let members = || row_ids.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(&row_id, _)| row_id);
    let treemap: RoaringTreemap = members().collect();
    let mut with_strangers = treemap.clone();
    with_strangers.insert_range(1u64 << 40..(1u64 << 40) + 5_000);
    let bitmap: RoaringBitmap = members().map(|row_id| row_id as u32).collect();
    let padded = BooleanBuffer::from([&[true; 3][..], allowed].concat());
    let nulls = BooleanArray::new(BooleanBuffer::new_set(allowed.len()), Some(NullBuffer::from(allowed)));
    let asked = treemap.clone();
    let none = || RowMask::from(RoaringTreemap::new());
    let not_asked: RoaringTreemap =
        row_ids.iter().filter(|&&row_id| !treemap.contains(row_id)).copied().collect();
    let last = members().max().unwrap_or(0);
    vec![
        ("bits", reader.mask(BooleanBuffer::from(allowed)).unwrap()),
        ("a slice of bits", reader.mask(padded.slice(3, allowed.len())).unwrap()),
        ("an array", reader.mask(BooleanArray::from(allowed.to_vec())).unwrap()),
        ("an array with nulls", reader.mask(&nulls).unwrap()),
        ("what is not in a treemap", !RowMask::from(not_asked)),
        ("nothing or bits", none() | reader.mask(BooleanBuffer::from(allowed)).unwrap()),
        (
            "bits below the last, and a predicate",
            reader.mask(BooleanBuffer::from(allowed)).unwrap()
                & RowMask::row_id_range(..=last)
                & RowMask::predicate(|_| true),
        ),
        ("a treemap with strangers", with_strangers.into()),
        ("a shared treemap", Arc::new(treemap).into()),
        ("a bitmap", bitmap.into()),
        ("a predicate", RowMask::predicate(move |row_id| asked.contains(row_id))),
    ]
}

#[test]
fn every_kind_of_mask_gives_the_same_rows() {
    const N: usize = 2_000;
    let all = clustered(N + 6, 12, 64, 1).0;
    let (rows, queries) = (all.part(0..N), all.part(N..N + 6));
    let mut rng = StdRng::seed_from_u64(2);
    let mut row_ids: Vec<u64> = (0..N as u64).map(|row| 3 * row + 7).collect();
    row_ids.shuffle(&mut rng);
    let index = Index::hnsw(12, L2, BuildParams::default()).unwrap();
    index.append(&rows.array(), UInt64Array::from(row_ids.clone())).unwrap();
    for query in queries.iter() {
        let distances = exact_distances(&rows, L2, query);
        for per_mille in [900, 500, 100, 10, 1, 0] {
            let allowed: Vec<bool> = (0..N).map(|_| rng.random_range(0..1_000) < per_mille).collect();
            let masks = masks(&index.reader(), &allowed, &row_ids);
            for k in [1, 10, 100, N] {
                let mut first = None;
                for (kind, mask) in &masks {
                    let case = format!("{kind} with {per_mille} of 1,000 rows, k = {k}");
                    let params = SearchParams::new(k).ef(400).mask(mask.clone());
                    let results = index.search(query, &params).unwrap().into_vec();
                    assert_sorted(&results, &case);
                    Tally::default().count(&distances, k, |row| allowed[row], ids(&results), &case);
                    let mut exact = Tally::default();
                    let scanned = ids(&index.search_exact(query, &params).unwrap().into_vec());
                    exact.count(&distances, k, |row| allowed[row], scanned, &case);
                    assert_eq!(exact.recall(), 1.0, "{case}: the exact scan");
                    let named = results.iter().all(|r| r.row_id == row_ids[r.id as usize]);
                    assert!(named, "{case}: {results:?}");
                    let first = first.get_or_insert_with(|| results.clone());
                    assert_eq!(results, *first, "{case}: not the answer of {}", masks[0].0);
                }
            }
        }
    }
}

/// A row id that was used again is one row to every mask.
#[test]
fn masks_know_the_live_row_of_a_row_id() {
    let rows = uniform(28, 4, 3);
    let index = build(&rows.part(0..20), L2, &BuildParams::default(), 20);
    for (from, to, row_id) in [(20, 21, 19u64), (21, 22, 19), (22, 25, 3), (25, 26, 4), (26, 27, 0)] {
        index.upsert(&rows.part(from..to).array(), row_id).unwrap();
    }
    index.delete(10).unwrap();
    index.append(&rows.part(27..28).array(), 10u64).unwrap();
    let snapshot = index.reader().snapshot();
    let row_ids: Vec<u64> = (0..snapshot.len() as u32).map(|id| snapshot.row_id(id)).collect();
    let newest: BTreeMap<u64, u32> = row_ids.iter().copied().zip(0..).collect();
    assert_eq!((row_ids.len(), newest.len(), index.len()), (28, 20, 20));
    for row_id in 0..20 {
        let allowed: Vec<bool> = row_ids.iter().map(|&other| other == row_id).collect();
        for (kind, mask) in masks(&index.reader(), &allowed, &row_ids) {
            let params = SearchParams::new(usize::MAX).ef(64).mask(mask);
            let walked = index.search(rows.row(0), &params).unwrap().into_vec();
            let scanned = index.search_exact(rows.row(0), &params).unwrap().into_vec();
            for results in [walked, scanned] {
                let found: Vec<_> = results.iter().map(|r| (r.row_id, r.id)).collect();
                assert_eq!(found, [(row_id, newest[&row_id])], "{kind} of row id {row_id}");
            }
        }
    }
}

#[test]
fn mask_watermark_deletes_and_version_together() {
    const HALF: usize = 2_000;
    let all = clustered(2 * HALF + 8, 12, 64, 7).0;
    let queries = all.part(2 * HALF..2 * HALF + 8);
    let mut rng = StdRng::seed_from_u64(8);
    // By vector id.
    let mut row_ids: Vec<u64> = (0..HALF as u64).collect();
    row_ids.shuffle(&mut rng);
    let mut alive = vec![true; HALF];
    let index = Index::hnsw(12, L2, BuildParams::default()).unwrap();
    index.append(&all.part(0..HALF).array(), UInt64Array::from(row_ids.clone())).unwrap();
    for (alive, &row_id) in alive.iter_mut().zip(&row_ids).take(300) {
        index.delete(row_id).unwrap();
        *alive = false;
    }
    let (version, alive_then) = (index.version(), alive.clone());
    // Every other row that follows is a newer one of an old row id.
    let later = (0..HALF as u64).map(|row| if row % 2 == 0 { row } else { HALF as u64 + row });
    let mut later: Vec<u64> = later.collect();
    later.shuffle(&mut rng);
    index.upsert(&all.part(HALF..2 * HALF).array(), UInt64Array::from(later.clone())).unwrap();
    alive.iter_mut().zip(&row_ids).for_each(|(alive, row_id)| *alive &= row_id % 2 == 1);
    row_ids.extend(later);
    alive.resize(2 * HALF, true);
    for (alive, &row_id) in alive.iter_mut().zip(&row_ids).step_by(7) {
        if take(alive) {
            index.delete(row_id).unwrap();
        }
    }
    assert_eq!(index.len(), alive.iter().filter(|alive| **alive).count());

    let distances: Vec<Vec<f64>> = queries.iter().map(|query| exact_distances(&all, L2, query)).collect();
    let mut tally = Tally::default();
    let then = index.reader_at(version).unwrap();
    for (when, alive, index) in [("then", alive_then, then), ("now", alive, index.reader())] {
        let (len, row_ids) = (alive.len(), &row_ids[..alive.len()]);
        for percent in [90, 30, 2] {
            let chosen: Vec<bool> = (0..2 * HALF).map(|_| rng.random_range(0..100) < percent).collect();
            let allowed: Vec<bool> = row_ids.iter().map(|&row_id| chosen[row_id as usize]).collect();
            for ((kind, mask), highest) in masks(&index, &allowed, row_ids)
                .into_iter()
                .flat_map(|mask| [100, HALF as u64, 3_000, u64::MAX].map(|highest| (mask.clone(), highest)))
            {
                let qualifies = |id: usize| alive[id] && allowed[id] && row_ids[id] <= highest;
                for (query, distances) in queries.iter().zip(&distances) {
                    for k in [1, 10, 100, usize::MAX] {
                        let case = format!("{when}, {kind} of {percent} %, up to {highest}, k = {k}");
                        let params = SearchParams::new(k).ef(100).max_row_id(highest).mask(mask.clone());
                        let results = index.search(query, &params).unwrap().into_vec();
                        assert_sorted(&results, &case);
                        let mut exact = Tally::default();
                        let scanned = ids(&index.search_exact(query, &params).unwrap().into_vec());
                        exact.count(&distances[..len], k, qualifies, scanned, &case);
                        assert_eq!(exact.recall(), 1.0, "{case}: the exact scan");
                        let mut any = Tally::default();
                        let counted = if k <= 10 { &mut tally } else { &mut any };
                        counted.count(&distances[..len], k, qualifies, ids(&results), &case);
                    }
                }
            }
        }
    }
    println!("mask, watermark, deletes and version: recall {:.4}", tally.recall());
    assert!(tally.recall() >= 0.95, "{}", tally.recall());
}

#[test]
fn a_mask_of_another_length_is_refused() {
    const N: usize = 300;
    let rows = uniform(N + 1, 6, 11);
    let index = build(&rows.part(0..N), L2, &BuildParams::default(), 100);
    let query = rows.row(0);
    for bits in [0, 1, N - 1, N + 1, 2 * N] {
        let error = index.reader().mask(BooleanBuffer::new_set(bits)).unwrap_err();
        let Error::MaskLength { expected, actual } = error else { panic!("{error:?}") };
        assert_eq!((expected, actual), (N, bits));
        let message = error.to_string();
        assert!(message.contains(&N.to_string()) && message.contains(&bits.to_string()), "{message}");
    }
    let older = index.reader();
    let of_older = older.mask(BooleanBuffer::new_set(N)).unwrap();
    index.append(&rows.part(N..N + 1).array(), N as u64).unwrap();
    index.delete(7).unwrap();
    let newer = index.reader();
    let of_newer = newer.mask(BooleanBuffer::new_set(N + 1)).unwrap();
    // Also as a part of another mask.
    let parts = |mask: &RowMask| {
        let all = RowMask::row_id_range(..);
        [
            mask.clone(),
            mask.clone() & all.clone(),
            !(RowMask::predicate(|_| true) | mask.clone()),
            all & mask.clone(),
        ]
    };
    let refused = |reader: &Reader, mask: &RowMask| {
        for mask in parts(mask) {
            let params = SearchParams::new(5).ef(50).mask(mask);
            let errors = [
                reader.search(query, &params).err(),
                reader.search_exact(query, &params).err(),
                reader.cursor(query, &params).err(),
                reader.search_batch(&rows.part(0..1).array(), &params).err(),
            ];
            for error in errors {
                let error = error.unwrap_or_else(|| panic!("{:?} is accepted", params.mask));
                assert!(matches!(error, Error::MaskLength { .. }), "{error:?}");
            }
        }
    };
    assert_eq!(newer.search(query, &SearchParams::new(5).ef(50).mask(&of_newer)).unwrap().len(), 5);
    assert_eq!(older.search(query, &SearchParams::new(5).ef(50).mask(&of_older)).unwrap().len(), 5);
    refused(&newer, &of_older);
    refused(&older, &of_newer);

    let empty = Index::hnsw(6, L2, BuildParams::default()).unwrap();
    for (kind, mask) in masks(&empty.reader(), &[], &[]) {
        let results = empty.search(query, &SearchParams::new(5).ef(50).mask(mask)).unwrap().into_vec();
        assert!(results.is_empty(), "{kind}: {results:?}");
    }
}

#[test]
fn a_predicate_that_panics_spoils_nothing() {
    let rows = clustered(1_100, 8, 64, 12).0;
    let index = build(&rows.part(0..1_000), L2, &BuildParams::default(), 1_000);
    let (query, many) = (rows.row(3), rows.part(0..50).array());
    let plain = SearchParams::new(10).ef(100);
    let before = index.search(query, &plain).unwrap().into_vec();
    for tests in [0, 1, 10, 90] {
        let panicking = || {
            let left = AtomicI64::new(tests);
            plain.clone().mask(RowMask::predicate(move |_| {
                assert!(
                    left.fetch_sub(1, Ordering::Relaxed) > 0,
                    "the predicate gives up, as this test wants"
                );
                true
            }))
        };
        let calls: [(&str, &dyn Fn()); 3] = [
            ("search", &|| drop(index.search(query, &panicking()))),
            ("search_exact", &|| drop(index.search_exact(query, &panicking()))),
            ("search_batch", &|| drop(index.search_batch(&many, &panicking()))),
        ];
        for (name, call) in calls {
            let outcome = catch_unwind(AssertUnwindSafe(call));
            assert!(outcome.is_err(), "{name}: a panic after {tests} tests was not noticed");
            for _ in 0..100 {
                assert_eq!(index.search(query, &plain).unwrap().into_vec(), before, "{name}, {tests} tests");
            }
        }
    }
    assert_eq!(index.append(&rows.part(1_000..1_100).array(), 1_000u64).unwrap(), 1_000..1_100);
    index.delete(3).unwrap();
    for (row_id, row) in rows.iter().enumerate().skip(1_000) {
        let params = plain.clone().mask(RowMask::predicate(|row_id| row_id >= 1_000));
        let found = index.search(row, &params).unwrap().into_vec();
        assert_eq!((found.len(), found[0].row_id), (10, row_id as u64), "row {row_id}");
    }
    assert!(index.search(query, &plain).unwrap().into_vec().iter().all(|r| r.row_id != 3));
    assert!(index.health().unwrap().is_healthy());
}

/// While rows arrive and the oldest go: only rows that pass and are not gone, and no fewer than there are.
#[test]
fn filters_beside_a_writer() {
    const N: usize = 10_000;
    let rows = uniform(N, 8, 13);
    let index = build(&rows.part(0..1_000), L2, &BuildParams::default(), 1_000);
    let deleted = AtomicU64::new(0);
    let searches = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (number, (start, array)) in rows.part(1_000..N).batches(50).into_iter().enumerate() {
                index.append(&array, 1_000 + start).unwrap();
                for row_id in 5 * number as u64..5 * (number as u64 + 1) {
                    index.delete(row_id).unwrap();
                    deleted.store(row_id + 1, Ordering::Release);
                }
            }
        });
        let mut searches = 0;
        loop {
            let last = writer.is_finished();
            let every = [2, 10, 300][searches % 3];
            let passes = move |row_id: u64| row_id % every == 1;
            let query = rows.row(searches * 37 % N);
            let gone = deleted.load(Ordering::Acquire);
            let reader = index.reader();
            let version = reader.version();
            let bits: BooleanBuffer = (0..version.vectors() as u64).map(passes).collect();
            let pinned = SearchParams::new(10).ef(64).mask(reader.mask(bits).unwrap());
            let now = SearchParams::new(10).ef(64).mask(RowMask::predicate(passes));
            let (now, pinned) = (
                index.search(query, &now).unwrap().into_vec(),
                reader.search(query, &pinned).unwrap().into_vec(),
            );
            // One delete may show that is not counted yet.
            let surely_there = deleted.load(Ordering::Acquire) + 1..version.vectors() as u64;
            let at_least = surely_there.filter(|&row_id| passes(row_id)).count().min(10);
            for results in [&now, &pinned] {
                assert_sorted(results, "beside a writer");
                assert!((at_least..=10).contains(&results.len()), "{} of {at_least}", results.len());
                let right = results.iter().all(|r| r.row_id == u64::from(r.id) && r.row_id >= gone);
                assert!(right && results.iter().all(|r| passes(r.row_id)), "one in {every}: {results:?}");
            }
            assert!(pinned.iter().all(|r| (r.id as usize) < version.vectors()), "{version:?}: {pinned:?}");
            searches += 1;
            if last {
                break searches;
            }
        }
    });
    println!("{searches} times two searches while 9,000 rows arrived and 900 went");
    assert_eq!((index.len(), index.tombstones()), (N - 900, 900));
}
