//! Rows that go: deletes, updates, and the check for duplicates.

use std::collections::BTreeMap;
use std::thread;

use arrow_array::{FixedSizeListArray, Float32Array, UInt64Array};
use arrow_buffer::NullBuffer;
use pennon::{BuildParams, DistanceType, Error, Hit, Index, SearchParams, VectorSource};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::data::{Rows, Tally, assert_sorted, build, clustered, exact_distances, list, normal, uniform};
use crate::export::bytes;

pub const L2: DistanceType = DistanceType::L2;

pub fn params() -> BuildParams {
    BuildParams::default().ef_construction(60)
}

pub fn array_of(row_ids: impl IntoIterator<Item = usize>) -> UInt64Array {
    UInt64Array::from_iter_values(row_ids.into_iter().map(|row_id| row_id as u64))
}

/// Rows of which some are null.
fn with_nulls(rows: &Rows, valid: &[bool]) -> FixedSizeListArray {
    let values = Float32Array::from(rows.values.clone());
    list(values, rows.dim, "item", true, Some(NullBuffer::from(valid)))
}

fn row_ids(results: &[Hit]) -> Vec<u64> {
    results.iter().map(|r| r.row_id).collect()
}

pub fn everything(index: &Index) -> Vec<Hit> {
    index.search(&vec![0.5; index.dim()], &SearchParams::new(usize::MAX).ef(64)).unwrap().into_vec()
}

/// The vector of every row that a search finds.
pub fn contents(index: &Index) -> BTreeMap<u64, Vec<f32>> {
    let (all, snapshot) = (everything(index), index.reader().snapshot());
    let map: BTreeMap<_, _> = all.iter().map(|r| (r.row_id, snapshot.vector(r.id).to_vec())).collect();
    assert_eq!((map.len(), index.len()), (all.len(), all.len()), "a row id twice, or a wrong length");
    map
}

/// Everything of an index that a failed call must leave alone, the dead rows as well.
fn state(index: &Index) -> (Vec<u8>, Vec<u8>, [usize; 4], Vec<Hit>) {
    let graph = bytes(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    let vectors = bytes(&index.reader().snapshot().to_record_batch().unwrap());
    let skipped = index.skipped().total() as usize;
    let counts = [index.len(), index.tombstones(), index.version().vectors(), skipped];
    (graph, vectors, counts, everything(index))
}

pub fn assert_unknown(index: &Index, row_id: u64) {
    let before = state(index);
    assert!(!index.contains(row_id));
    let error = index.delete(row_id).unwrap_err();
    assert!(matches!(error, Error::UnknownRowId { row_id: named } if named == row_id), "{error:?}");
    assert!(error.to_string().contains(&row_id.to_string()), "{error}");
    assert!(state(index) == before, "{error}: the index changed");
}

#[test]
fn a_deleted_row_is_gone_and_its_row_id_is_free() {
    let rows = uniform(302, 8, 1);
    let index = build(&rows.part(0..300), L2, &params(), 100);
    assert_unknown(&index, 300);
    assert_unknown(&index, u64::MAX);
    let mut order: Vec<usize> = (0..300).collect();
    order.shuffle(&mut StdRng::seed_from_u64(2));
    for (gone, &row) in order.iter().enumerate() {
        let (row_id, live) = (row as u64, 299 - gone);
        assert!(index.contains(row_id));
        index.delete(row_id).unwrap();
        assert_eq!((index.len(), index.tombstones(), index.is_empty()), (live, gone + 1, live == 0));
        for k in [1, 10, 300] {
            let walked = index.search(rows.row(row), &SearchParams::new(k).ef(64)).unwrap().into_vec();
            let scanned = index.search_exact(rows.row(row), &SearchParams::new(k)).unwrap().into_vec();
            for results in [walked, scanned] {
                assert_eq!(results.len(), k.min(live), "{gone} rows deleted before row {row}, k = {k}");
                assert!(!row_ids(&results).contains(&row_id), "row {row} is deleted: {results:?}");
            }
        }
        if gone % 50 == 0 {
            assert_unknown(&index, row_id);
        }
    }
    assert_eq!(index.append(&rows.part(300..302).array(), 17u64).unwrap(), 300..302);
    assert_eq!((index.len(), index.contains(17), index.contains(19)), (2, true, false));
    let found = index.search(rows.row(300), &SearchParams::new(5).ef(64)).unwrap().into_vec();
    assert_eq!((row_ids(&found), found[0].id, found[0].distance), (vec![17, 18], 300, 0.0));
    index.delete(17).unwrap();
    assert_unknown(&index, 17);
}

#[test]
fn a_duplicate_is_refused_and_changes_nothing() {
    let rows = uniform(304, 8, 3);
    let index = build(&rows.part(0..300), L2, &params(), 100);
    index.delete(5).unwrap();
    index.delete(250).unwrap();
    let three = rows.part(300..303).array();
    let middle_is_null = with_nulls(&rows.part(300..303), &[true, false, true]);
    let before = state(&index);
    let refused = |outcome: Result<_, Error>, row_id: u64, row: usize| {
        let error = outcome.err().unwrap_or_else(|| panic!("row id {row_id} is accepted"));
        let named = matches!(error, Error::DuplicateRowId { row_id: r, row: at } if (r, at) == (row_id, row));
        assert!(named, "{error:?}, not row id {row_id} in row {row}");
        let message = error.to_string();
        assert!(message.contains(&row_id.to_string()) && message.contains(&row.to_string()), "{message}");
        assert!(state(&index) == before, "{error}: the index changed");
    };
    for (given, row_id, row) in [
        ([1_000, 1_001, 17], 17, 2),
        ([299, 1_000, 1_001], 299, 0),
        ([5, 6, 1_000], 6, 1),
        ([1_000, 1_001, 1_000], 1_000, 2),
        ([1_000, 5, 5], 5, 2),
        ([u64::MAX, 7, 1_000], 7, 1),
    ] {
        refused(index.append(&three, UInt64Array::from(given.to_vec())), row_id, row);
    }
    refused(index.append(&three, 298u64), 298, 0);
    refused(index.append(&three, 250u64), 251, 1);
    // A row that would be skipped counts too.
    refused(index.append(&middle_is_null, 249u64), 249, 0);
    refused(index.append(&middle_is_null, array_of([1_000, 17, 1_001])), 17, 1);
    refused(index.append(&middle_is_null, array_of([1_000, 1_000, 1_001])), 1_000, 1);

    assert_eq!(index.append(&three, array_of([5, 250, 1_000])).unwrap(), 300..303);
    assert_eq!(index.append_unique(&rows.part(303..304).array(), 5_000u64).unwrap(), 303..304);
    assert_eq!(contents(&index).len(), 302);

    // Who says that row ids are unique is believed.
    assert_eq!(index.append_unique(&rows.part(303..304).array(), 17u64).unwrap(), 304..305);
    assert_eq!(row_ids(&everything(&index)).iter().filter(|&&row_id| row_id == 17).count(), 2);
}

#[test]
fn an_upsert_hides_what_was_there() {
    for nulls in [true, false] {
        let rows = uniform(100, 4, 4);
        let index = build(&rows, L2, &params(), 100);
        let mut model: BTreeMap<u64, Vec<f32>> = (0u64..).zip(rows.iter().map(<[f32]>::to_vec)).collect();
        let cases: [(&[u64], &[bool]); 10] = [
            (&[3, 200, 50], &[true; 3]),
            // The later one wins.
            (&[7, 8, 7, 300, 300], &[true; 5]),
            // A row without a usable vector hides the old one,
            (&[9, 10], &[false, true]),
            // if it is the last of its row id,
            (&[11, 11, 12, 12], &[true, false, false, true]),
            // and may well be the first.
            (&[400], &[false]),
            (&[200, 9, 400], &[true; 3]),
            (&[0, 1, 2, 3, 4, 5], &[false; 6]),
            (&[3], &[true]),
            (&[3], &[true]),
            (&[99, 100, 101], &[true, true, false]),
        ];
        for (step, (given, usable)) in cases.into_iter().enumerate() {
            let mut new = uniform(given.len(), 4, 5 + step as u64);
            for (&row_id, (row, &usable)) in given.iter().zip(new.iter().zip(usable)) {
                if usable {
                    model.insert(row_id, row.to_vec());
                } else {
                    model.remove(&row_id);
                }
            }
            let array = if nulls {
                with_nulls(&new, usable)
            } else {
                for row in (0..given.len()).filter(|&row| !usable[row]) {
                    new.values[row * 4 + 2] = f32::NAN;
                }
                new.array()
            };
            index.upsert(&array, UInt64Array::from(given.to_vec())).unwrap();
            assert!(contents(&index) == model, "step {step}, nulls: {nulls}");
            for row_id in given {
                assert_eq!(index.contains(*row_id), model.contains_key(row_id), "step {step}, row {row_id}");
            }
            assert_eq!(index.tombstones(), index.version().vectors() - model.len(), "step {step}");
        }
        assert_unknown(&index, 9_999);
        assert_unknown(&index, 0);

        let two = uniform(2, 4, 50);
        let ids = index.upsert(&two.array(), 98u64).unwrap();
        model.extend((98u64..).zip(two.iter().map(<[f32]>::to_vec)));
        assert!(ids.len() == 2 && contents(&index) == model);

        let before = state(&index);
        let error = index.upsert(&uniform(2, 5, 51).array(), 20u64).unwrap_err();
        assert!(matches!(error, Error::DimensionMismatch { expected: 4, actual: 5 }), "{error:?}");
        let error = index.upsert(&two.array(), array_of([20])).unwrap_err();
        assert!(matches!(error, Error::RowIdCount { rows: 2, row_ids: 1 }), "{error:?}");
        assert!(state(&index) == before, "an upsert that failed changed the index");
    }
}

/// In which order rows go: by chance, and all the nearest to the first row before any other.
pub fn orders(rows: &Rows) -> [(&'static str, Vec<usize>); 2] {
    let mut random: Vec<usize> = (0..rows.len()).collect();
    random.shuffle(&mut StdRng::seed_from_u64(6));
    let distances = exact_distances(rows, L2, rows.row(0));
    let mut nearest: Vec<usize> = (0..rows.len()).collect();
    nearest.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
    [("random", random), ("nearest", nearest)]
}

/// Half of the queries are held out, half are close to the first row; with their distances to all rows.
pub fn data(n: usize, queries: usize, seed: u64) -> (Rows, Rows, Vec<Vec<f64>>) {
    let all = clustered(n + queries / 2, 16, 64, seed).0;
    let (rows, mut held_out) = (all.part(0..n), all.part(n..n + queries / 2));
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..queries / 2 {
        held_out.values.extend(rows.row(0).iter().map(|v| v + 0.1 * normal(&mut rng)));
    }
    let distances = held_out.iter().map(|query| exact_distances(&rows, L2, query)).collect();
    (rows, held_out, distances)
}

#[test]
fn few_rows_left_are_all_found() {
    const N: usize = 10_000;
    let (rows, queries, distances) = data(N, 40, 7);
    for (kind, order) in orders(&rows) {
        let index = build(&rows, L2, &params(), 5_000);
        let (mut live, mut deleted) = (vec![true; N], 0);
        for per_mille in [0, 100, 500, 900, 999] {
            for &row in &order[deleted..N * per_mille / 1_000] {
                index.delete(row as u64).unwrap();
                live[row] = false;
            }
            deleted = N * per_mille / 1_000;
            assert_eq!((index.len(), index.tombstones()), (N - deleted, deleted));
            for k in [1, 10, 100, N] {
                let case = format!("{kind}, {per_mille} of 1,000 rows deleted, k = {k}");
                let mut tally = Tally::default();
                for (query, distances) in queries.iter().zip(&distances).step_by(if k == N { 8 } else { 1 }) {
                    let results = index.search(query, &SearchParams::new(k).ef(100)).unwrap().into_vec();
                    assert_sorted(&results, &case);
                    let answer = results.iter().map(|r| r.row_id as u32);
                    tally.count(distances, k, |row| live[row], answer, &case);
                }
                println!("{case}: recall {:.4}", tally.recall());
                assert!(k == 100 || tally.recall() >= 0.95, "{case}: {}", tally.recall());
            }
        }
    }
}

#[test]
fn deletes_do_not_wait_for_an_append() {
    let rows = uniform(22_000, 16, 8);
    let index = build(&rows.part(0..2_000), L2, &params(), 2_000);
    let mut valid = [true; 20_000];
    valid[0] = false;
    let batch = with_nulls(&rows.part(2_000..22_000), &valid);
    thread::scope(|scope| {
        let writer = scope.spawn(|| index.append(&batch, 2_000u64).unwrap());
        // The null row is counted before the others are linked.
        while index.skipped().total() == 0 && !writer.is_finished() {
            thread::yield_now();
        }
        let mut during = 0;
        for row in 0..1_000 {
            index.delete(row as u64).unwrap();
            // The batch shows all at once, at its end.
            during += usize::from(index.len() < 2_000);
            let results = index.search(rows.row(row), &SearchParams::new(10).ef(64)).unwrap().into_vec();
            assert_eq!(results.len(), 10);
            assert!(results.iter().all(|r| r.row_id > row as u64), "row {row} is deleted: {results:?}");
        }
        println!("{during} of 1,000 deletes returned while 20,000 rows were linked");
        assert!(during > 0, "no delete returned before the append");
        assert_eq!(writer.join().unwrap(), 2_000..21_999);
    });
    assert_eq!((index.len(), index.tombstones()), (20_999, 1_000));
    let health = index.health().unwrap();
    assert!(health.is_healthy(), "{health}");
    let expected: Vec<u64> = (1_000..2_000).chain(2_001..22_000).collect();
    let mut found = row_ids(&everything(&index));
    found.sort_unstable();
    assert!(found == expected, "{} rows found", found.len());
}
