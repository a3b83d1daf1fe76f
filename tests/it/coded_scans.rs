//! A scan that leaves rows out by their codes answers as one that compares every row: the same rows, distances to the
//! bit, ties in the same order.

use std::thread;

use arrow_array::UInt64Array;
use arrow_buffer::BooleanBuffer;
use pennon::{BuildParams, Coding, DistanceType, Index, PreparedQuery, Reader, RowMask, SearchParams};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use roaring::RoaringTreemap;

use crate::data::{METRICS, Rows, Shape, assert_sorted, clustered, in_pool, uniform, with_stats};

fn flat(rows: &Rows, distance_type: DistanceType, codes: Coding) -> Index {
    let index = Index::builder(rows.dim, distance_type).flat().codes(codes).build().unwrap();
    index.append_unique(&rows.array(), 0).unwrap();
    index
}

/// One index twice, without codes and with, of at least `least` rows.
fn pair(rows: &Rows, distance_type: DistanceType, least: usize) -> (Index, Index) {
    let indexes = [Coding::Off, Coding::Bytes].map(|codes| flat(rows, distance_type, codes));
    let vectors = indexes[0].version().vectors();
    assert!(vectors >= least, "{vectors} rows");
    let bytes = indexes.each_ref().map(|index| index.stats().bytes.codes);
    assert!(bytes[0] == 0 && (bytes[1] > 0) == (distance_type != DistanceType::L1), "{bytes:?}");
    indexes.into()
}

fn assert_same(plain: &Index, coded: &Index, query: &[f32], params: &SearchParams, case: &str) {
    let readers = [plain.reader(), coded.reader()];
    assert_same_read([&readers[0], &readers[1]], query, &[params.clone(), params.clone()], case);
}

fn assert_same_read([plain, coded]: [&Reader; 2], query: &[f32], params: &[SearchParams; 2], case: &str) {
    let (expected, of_plain) = with_stats(plain.search(query, &params[0]).unwrap());
    let (found, of_coded) = with_stats(coded.search(query, &params[1]).unwrap());
    assert_sorted(&found, case);
    assert!(found == expected, "{case}, {params:?}: {found:?}, not {expected:?}");
    assert_eq!((of_plain.estimates, of_plain.complete, of_coded.complete), (0, true, true), "{case}");
    assert_eq!(of_coded.compared(), of_plain.compared(), "{case}");
    assert!(of_coded.distances <= of_plain.distances, "{case}");
}

#[test]
fn every_dimension_and_odd_sizes() {
    let sizes = [1, 63, 64, 333, 1_023, 1_024, 1_025, 1_088, 1_151];
    for dim in 1..=130 {
        let n = sizes[dim % sizes.len()].max(if dim % 4 == 0 { 1_100 } else { 1 });
        for (number, distance_type) in METRICS.into_iter().enumerate() {
            let shape = Shape::ALL[(dim + number) % Shape::ALL.len()];
            let mut rows = shape.rows(n, dim, dim as u64);
            // A few rows twice: ties between blocks.
            let twice = rows.part(0..n.min(9)).values;
            rows.values.extend(twice);
            let (plain, coded) = pair(&rows, distance_type, n / 2);
            let elsewhere = uniform(2, dim, 1_000 + dim as u64);
            let last = rows.part(n - 1..n);
            for (at, query) in elsewhere.iter().chain(last.iter()).enumerate() {
                if query.iter().all(|&x| x == 0.0) {
                    continue;
                }
                for k in [1, 10, 64, n + 20] {
                    let case = format!("{n} x {dim}, {shape:?}, {distance_type}, query {at}, k = {k}");
                    assert_same(&plain, &coded, query, &SearchParams::new(k), &case);
                }
            }
        }
    }
}

/// The exact search of the graph's index is the same scan.
#[test]
fn as_search_exact_says() {
    for (distance_type, dim) in METRICS.into_iter().zip([16, 100, 33]) {
        for shape in [Shape::Grid, Shape::Clustered, Shape::Copies] {
            let mut rows = shape.rows(1_500, dim, 5);
            rows.values.iter_mut().for_each(|x| *x += 0.5);
            let graph = Index::hnsw(dim, distance_type, BuildParams::default().ef_construction(20));
            let graph = graph.unwrap();
            graph.append_unique(&rows.array(), 0).unwrap();
            let (_, coded) = pair(&rows, distance_type, 1_500);
            for query in uniform(10, dim, 6).iter().chain([rows.row(0), rows.row(1_499)]) {
                for k in [1, 10, 300] {
                    let expected = graph.search_exact(query, &SearchParams::new(k)).unwrap().into_vec();
                    let found = coded.search(query, &SearchParams::new(k)).unwrap().into_vec();
                    assert_eq!(found, expected, "{shape:?}, {distance_type}, k = {k}");
                }
            }
        }
    }
}

/// Magnitudes at which squares underflow or overflow, alone and mixed.
#[test]
fn extreme_magnitudes() {
    for distance_type in METRICS {
        for dim in [3, 8, 40] {
            for (low, high) in
                [(-45, -40), (-24, -20), (-20, -18), (17, 18), (18, 19), (30, 38), (-30, 30), (-3, 3)]
            {
                let mut rng = StdRng::seed_from_u64(7);
                let mut value = || {
                    let exponent = rng.random_range(low as f32..high as f32);
                    let sign = if rng.random_range(0..2) == 0 { 1.0 } else { -1.0 };
                    sign * 10.0_f32.powf(exponent)
                };
                let rows = Rows { dim, values: (0..1_100 * dim).map(|_| value()).collect() };
                let queries = Rows { dim, values: (0..6 * dim).map(|_| value()).collect() };
                let (plain, coded) = pair(&rows, distance_type, 0);
                for query in queries.iter().chain([rows.row(17)]) {
                    if query.iter().all(|&x| x == 0.0) {
                        continue;
                    }
                    for k in [1, 10, 299] {
                        let case = format!("{distance_type}, dim {dim}, 1e{low}..1e{high}, k = {k}");
                        assert_same(&plain, &coded, query, &SearchParams::new(k), &case);
                    }
                }
            }
        }
    }
}

#[test]
fn filters_deletes_versions_and_ranges() {
    const N: usize = 3_000;
    for distance_type in METRICS {
        let all = clustered(N + 500, 24, 64, 8).0;
        let queries = clustered(4, 24, 64, 9).0;
        let mut rng = StdRng::seed_from_u64(10);
        let mut row_ids: Vec<u64> = (0..N as u64).collect();
        row_ids.shuffle(&mut rng);
        let (plain, coded) = pair(&all.part(0..0), distance_type, 0);
        let indexes = [&plain, &coded];
        for index in indexes {
            index.append(&all.part(0..N).array(), UInt64Array::from(row_ids.clone())).unwrap();
            (0..N as u64).step_by(5).for_each(|row_id| index.delete(row_id).unwrap());
        }
        let readers = indexes.map(Index::reader);
        for index in indexes {
            index.upsert(&all.part(N..N + 500).array(), 0).unwrap();
            (0..N as u64).step_by(7).for_each(|row_id| drop(index.delete(row_id)));
        }
        for percent in [100, 60, 20, 3, 0] {
            let chosen: Vec<bool> = (0..N).map(|_| rng.random_range(0..100) < percent).collect();
            let members: RoaringTreemap = (0..N as u64).filter(|&row_id| chosen[row_id as usize]).collect();
            for [plain, coded] in [readers.clone(), indexes.map(Index::reader)] {
                let vectors = coded.version().vectors();
                let bits: BooleanBuffer = (0..vectors).map(|id| chosen[id % N]).collect();
                let asked = members.clone();
                let by_ids = |reader: &Reader| reader.mask(bits.clone()).unwrap();
                let both = |mask: RowMask| [mask.clone(), mask];
                for masks in [
                    [by_ids(&plain), by_ids(&coded)],
                    both(RowMask::from(members.clone())),
                    both(RowMask::predicate(move |row_id| asked.contains(row_id))),
                ] {
                    for (query, highest) in queries.iter().zip([u64::MAX, 2_500, 100, N as u64]) {
                        for k in [1, 10, usize::MAX] {
                            let params =
                                masks.clone().map(|mask| SearchParams::new(k).mask(mask).max_row_id(highest));
                            let case = format!("{distance_type}, {percent} %");
                            assert_same_read([&plain, &coded], query, &params, &case);
                            let near = plain.search(query, &params[0]).unwrap().into_vec();
                            let Some(hit) = near.get(near.len() / 2) else { continue };
                            for (lower, upper) in [
                                (f32::NEG_INFINITY, hit.distance),
                                (hit.distance, f32::INFINITY),
                                (0.0, 0.0),
                                (-5.0, -1.0),
                            ] {
                                let params = params.clone().map(|params| params.distance_range(lower..upper));
                                assert_same_read([&plain, &coded], query, &params, &case);
                            }
                        }
                    }
                }
            }
        }
        assert_eq!((coded.len(), coded.tombstones()), (plain.len(), plain.tombstones()));
        let (plain, coded) = (plain.reader().compacted().unwrap(), coded.reader().compacted().unwrap());
        for query in queries.iter() {
            assert_same(&plain, &coded, query, &SearchParams::new(100), "compacted");
        }
    }
}

/// More rows than one job has.
#[test]
fn many_rows_on_many_threads() {
    for distance_type in METRICS {
        let rows = clustered(50_003, 10, 64, 11).0;
        let queries = clustered(40, 10, 64, 12).0;
        let (plain, coded) = pair(&rows, distance_type, 50_003);
        for threads in [1, 3] {
            in_pool(threads, || {
                for query in queries.iter() {
                    for k in [1, 10, 1_000] {
                        let case = format!("{distance_type}, k = {k}, {threads} threads");
                        assert_same(&plain, &coded, query, &SearchParams::new(k), &case);
                    }
                }
                let params = SearchParams::new(10);
                let batches = [&plain, &coded].map(|i| i.search_batch(&queries.array(), &params).unwrap());
                let batches = batches.map(|batch| batch.to_record_batch().unwrap());
                assert!(batches[0] == batches[1], "{distance_type}, {threads} threads: batches differ");
            });
        }
    }
}

/// A scan by codes has to be worth it: most rows are left out without a look at them.
#[test]
fn most_rows_are_left_out() {
    for distance_type in [DistanceType::L2, DistanceType::Cosine] {
        let rows = clustered(5_000, 96, 64, 13).0;
        let (_, coded) = pair(&rows, distance_type, 5_000);
        let queries = clustered(20, 96, 64, 14).0;
        let mut distances = 0;
        for query in queries.iter() {
            distances += coded.search(query, &SearchParams::new(10)).unwrap().stats().distances;
        }
        println!("{distance_type}: {distances} distances for 20 queries of 5,000 rows");
        assert!(distances < 20 * 5_000 / 10, "{distance_type}: {distances} distances");
    }
}

/// Rows arrive while others search: an answer is that of its version.
#[test]
fn beside_a_writer() {
    const N: usize = 6_000;
    let rows = uniform(N, 8, 14);
    let index = Index::flat(8, DistanceType::L2).unwrap();
    let searches = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for (start, array) in rows.batches(37) {
                index.append(&array, start).unwrap();
            }
        });
        let mut searches = 0;
        loop {
            let last = writer.is_finished();
            let version = index.version();
            let query = rows.row(searches * 31 % N);
            let prepared = PreparedQuery::new(query, DistanceType::L2);
            let mut expected: Vec<(f32, u32)> = (0..version.vectors() as u32)
                .map(|id| (prepared.distance(rows.row(id as usize)), id))
                .collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            expected.truncate(10);
            let found =
                index.reader_at(version).unwrap().search(query, &SearchParams::new(10)).unwrap().into_vec();
            let found: Vec<(f32, u32)> = found.iter().map(|hit| (hit.distance, hit.id)).collect();
            assert_eq!(found, expected, "{version:?}");
            searches += 1;
            if last {
                break;
            }
        }
        writer.join().unwrap();
        searches
    });
    println!("{searches} searches while {N} rows arrived");
    assert_eq!(index.len(), N);
}
