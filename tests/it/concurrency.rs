//! Searches, exports and appends at the same time. Threads start at a barrier, and nobody sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use arrow_array::{Array, FixedSizeListArray};
use pennon::{ArrowFixedSizeListVectorStore, BuildParams, DistanceType, Index, SearchParams, VectorSource};

use crate::data::{Rows, Shape, assert_sorted, build, in_pool, pair, uniform};
use crate::export::{Exported, bytes};

/// Raises the flag when it goes, also in a panic: or the readers would never end.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Searches for rows that were there before, until the writer is done. Returns the number of searches.
fn read(index: &Index, rows: &Rows, done: &AtomicBool, mut dice: usize) -> usize {
    let mut searches = 0;
    loop {
        let last = done.load(Ordering::Acquire);
        let before = index.len();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Every other search is for the newest row.
        let target = if searches % 2 == 0 { before.saturating_sub(1) } else { (dice >> 33) % before.max(1) };
        let k = [1, 10, 100][searches % 3];
        let results = index.search(rows.row(target), &SearchParams::new(k).ef(128)).unwrap().into_vec();
        let after = index.len();
        assert!(before <= after, "{before} rows became {after}");
        assert_sorted(&results, "while rows arrive");
        assert!(
            results.len() >= k.min(before) && results.len() <= k,
            "{} results of {k} among {before} to {after}",
            results.len()
        );
        for result in &results {
            assert!((result.id as usize) < after, "{result:?} among {after}");
            assert_eq!(result.row_id, u64::from(result.id) + 1_000);
        }
        if before > 0 {
            assert_eq!(
                (results[0].id as usize, results[0].distance),
                (target, 0.0),
                "row {target} of {before} to {after}"
            );
        }
        searches += 1;
        if last {
            return searches;
        }
    }
}

#[test]
fn readers_see_every_row_that_was_there_before() {
    for (shape, sizes, rows) in [
        (Shape::Random, [1, 7, 100, 600], 6_000),
        (Shape::Sorted, [1, 1, 2, 30], 3_000),
        (Shape::Clustered, [250, 1, 511, 3], 6_000),
    ] {
        let rows = shape.rows(rows, 16, 1);
        let sizes: Vec<usize> = sizes.into_iter().cycle().take(rows.len()).collect();
        let index = Index::hnsw(16, DistanceType::L2, BuildParams::default()).unwrap();
        let (done, start) = (AtomicBool::new(false), Barrier::new(3));
        let searches: usize = thread::scope(|scope| {
            let readers: Vec<_> = (1..3)
                .map(|dice| {
                    let (index, rows, done, start) = (&index, &rows, &done, &start);
                    scope.spawn(move || {
                        start.wait();
                        read(index, rows, done, dice)
                    })
                })
                .collect();
            scope.spawn(|| {
                let _raise = Raise(&done);
                start.wait();
                in_pool(2, || {
                    for (first, array) in rows.batches_of(&sizes) {
                        index.append(&array, 1_000 + first).unwrap();
                    }
                });
            });
            readers.into_iter().map(|reader| reader.join().unwrap()).sum()
        });
        assert_eq!(index.len(), rows.len());
        println!("{shape:?}: {searches} searches while {} rows arrived", rows.len());
        let case = format!("{shape:?}, after the readers");
        let exported = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
        exported.check(&index.reader().snapshot(), &case);
        exported.assert_reported(&index.health().unwrap(), &case);
    }
}

/// Searches must not leave a trace: a graph that was read while it grew is the graph that was not.
#[test]
fn readers_do_not_change_the_graph() {
    let rows = uniform(3_000, 8, 2);
    let alone = build(&rows, DistanceType::L2, &BuildParams::default(), 150);
    let watched = Index::hnsw(8, DistanceType::L2, BuildParams::default()).unwrap();
    let (done, start) = (AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            read(&watched, &rows, &done, 3)
        });
        let _raise = Raise(&done);
        start.wait();
        for (first, array) in rows.batches(150) {
            watched.append(&array, 1_000 + first).unwrap();
        }
    });
    let export = |index: &Index| bytes(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    assert!(export(&alone) == export(&watched), "a reader changed the graph");
}

/// An export in the middle of a write is one prefix of both batches, and a graph like any other.
#[test]
fn exports_and_reports_in_the_middle_of_writes() {
    let rows = uniform(4_000, 8, 4);
    let index =
        Index::hnsw(8, DistanceType::L2, BuildParams::default().num_edges(6).ef_construction(60)).unwrap();
    let (done, start) = (AtomicBool::new(false), Barrier::new(2));
    let exports = thread::scope(|scope| {
        let observer = scope.spawn(|| {
            start.wait();
            let (mut exports, mut previous) = (0, 0);
            loop {
                let last = done.load(Ordering::Acquire);
                let before = index.len();
                let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
                let exported = Exported::read(&graph);
                if graph.num_rows() > 0 {
                    assert_eq!(exported.nodes(), vectors.num_rows(), "two prefixes");
                    assert!((before..=index.len()).contains(&exported.nodes()));
                    exported.check_prefix(&index.reader().snapshot(), "in the middle of a write");
                }
                let health = index.health().unwrap();
                assert!(health.nodes >= previous && health.nodes <= index.len(), "{health}");
                assert!(index.resident_bytes() > 0);
                previous = health.nodes;
                exports += 1;
                if last {
                    return exports;
                }
            }
        });
        let _raise = Raise(&done);
        start.wait();
        for (first, array) in
            rows.batches_of(&[100; 5].into_iter().chain([1; 500]).chain([1_000; 3]).collect::<Vec<_>>())
        {
            index.append(&array, first).unwrap();
        }
        drop(_raise);
        observer.join().unwrap()
    });
    println!("{exports} exports while 4,000 rows arrived");
    assert!(index.health().unwrap().is_healthy());
}

#[test]
fn two_writers_of_one_index() {
    let rows = uniform(4_000, 12, 5);
    let index = Index::hnsw(12, DistanceType::L2, BuildParams::default()).unwrap();
    let start = Barrier::new(2);
    let mut taken: Vec<(u32, u32, u64)> = thread::scope(|scope| {
        let writers: Vec<_> = [(0, 37), (2_000, 200)]
            .into_iter()
            .map(|(first, batch)| {
                let (index, start, part) = (&index, &start, rows.part(first..first + 2_000));
                scope.spawn(move || {
                    start.wait();
                    let append = |(at, array): (u64, FixedSizeListArray)| {
                        let row_id = first as u64 + at;
                        let ids = index.append(&array, row_id).unwrap();
                        assert_eq!(ids.len(), array.len());
                        (ids.start, ids.end, row_id)
                    };
                    part.batches(batch).into_iter().map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    taken.sort_unstable();
    let mut next = 0;
    for (start, end, _) in &taken {
        assert_eq!(*start, next, "ids are disjoint and leave no gap");
        next = *end;
    }
    assert_eq!((next, index.len()), (4_000, 4_000));
    let snapshot = index.reader().snapshot();
    for (start, end, row_id) in taken {
        for id in start..end {
            let row = row_id + u64::from(id - start);
            assert_eq!((snapshot.row_id(id), snapshot.vector(id)), (row, rows.row(row as usize)));
            let found =
                index.search(rows.row(row as usize), &SearchParams::new(1).ef(64)).unwrap().into_vec();
            assert_eq!((found[0].id, found[0].row_id, found[0].distance), (id, row, 0.0));
        }
    }
    let exported = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    exported.check(&snapshot, "two writers");
    exported.assert_reported(&index.health().unwrap(), "two writers");
}

/// The store alone: a snapshot is a prefix, with every row of it in its place.
#[test]
fn snapshots_while_a_store_grows() {
    let rows = uniform(60_000, 3, 6);
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(3, DistanceType::Cosine).unwrap());
    let (done, start) = (AtomicBool::new(false), Barrier::new(2));
    let snapshots = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            start.wait();
            let (mut snapshots, mut previous) = (0, 0);
            loop {
                let last = done.load(Ordering::Acquire);
                let before = store.committed_len();
                let snapshot = store.snapshot();
                assert!(snapshot.len() >= before && before >= previous);
                let ids = (0..snapshot.len()).rev().take(300).chain((0..snapshot.len()).step_by(997));
                for id in ids {
                    assert_eq!(snapshot.vector(id as u32), rows.row(id), "id {id} of {}", snapshot.len());
                    assert_eq!(snapshot.row_id(id as u32), id as u64 + 5);
                    assert!(
                        snapshot.distance_to(rows.row(id), id as u32).abs() < 1e-5,
                        "id {id} of {}",
                        snapshot.len()
                    );
                }
                previous = before;
                snapshots += 1;
                if last {
                    return snapshots;
                }
            }
        });
        let _raise = Raise(&done);
        start.wait();
        for (first, array) in rows.batches(60) {
            store.append_batch(Arc::new(array), first + 5).unwrap();
        }
        drop(_raise);
        reader.join().unwrap()
    });
    println!("{snapshots} snapshots while 60,000 rows arrived");
    assert_eq!(store.committed_len(), 60_000);
}

/// Jobs of one pool that append to one index: a build must not run such a job while it waits.
#[test]
fn appends_from_the_jobs_of_a_pool() {
    use rayon::prelude::*;
    let rows = Shape::Random.rows(4_000, 8, 9);
    let batches = rows.batches(100);
    for threads in [2, 3] {
        let index = Index::hnsw(8, DistanceType::L2, BuildParams::default()).unwrap();
        in_pool(threads, || {
            batches.par_iter().for_each(|(first, array)| {
                index.append(array, *first).unwrap();
                assert!(index.health().unwrap().is_healthy());
            });
        });
        assert_eq!((index.len(), index.health().unwrap().unreachable()), (4_000, 0));
    }
}
