//! Saves beside writers, beside other saves, and beside those who load.

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arrow_array::FixedSizeListArray;
use pennon::{DistanceType, Index, SaveOptions, SearchParams, VectorSource, WriterLock};

use super::{View, assert_same, both_of, files_of, lively, names_of};
use crate::data::{build, load, load_labels, open_mapped, uniform};
use crate::deletes::{L2, contents, params};

const ROWS: usize = 60;

/// All rows of one round: no other round has such vectors.
fn round_of(round: u64) -> FixedSizeListArray {
    let mut rows = uniform(ROWS, 5, round);
    rows.values.chunks_exact_mut(5).for_each(|row| row[0] = round as f32);
    rows.array()
}

/// Raises the flag when it goes, also in a panic: or the others would never end.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The round of an index, all of whose rows have to be of the same.
fn assert_one_round(index: &Index, case: &str) -> u64 {
    let rows = contents(index);
    let round = rows[&0][0] as u64;
    for row_id in 0..ROWS as u64 {
        assert_eq!(rows[&row_id][0] as u64, round, "{case}: row {row_id} is of another round");
    }
    // Each round also appends a row and deletes one, at moments of their own.
    let extra = rows.len() - ROWS;
    assert!(extra <= 1, "{case}: {extra} extra rows in round {round}");
    let health = index.health().unwrap();
    assert!(health.is_healthy(), "{case}: {health}");
    assert_eq!(index.version().vectors(), index.len() + index.tombstones(), "{case}");
    assert_eq!(index.reader().snapshot().len(), health.nodes, "{case}");
    round
}

#[test]
fn a_save_beside_a_writer_is_of_one_version() {
    let home = tempfile::tempdir().unwrap();
    let index = Index::hnsw(5, L2, params().num_edges(4)).unwrap();
    index.append(&round_of(0), 0u64).unwrap();
    let (start, done, published) = (Barrier::new(2), AtomicBool::new(false), AtomicU64::new(0));
    let saves = thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for round in 1.. {
                index.upsert(&round_of(round), 0u64).unwrap();
                published.store(round, Ordering::Release);
                let extra = 1_000 + round;
                index.append(&uniform(1, 5, round).array(), extra).unwrap();
                index.delete(extra).unwrap();
                if done.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        let _raise = Raise(&done);
        start.wait();
        let mut saves = 0;
        let mut last = 0;
        // At least so many, and until the writer was seen to write in between.
        while saves < 20 || last < 3 {
            let before = published.load(Ordering::Acquire);
            index.save(home.path()).unwrap();
            let after = published.load(Ordering::Acquire);
            for loaded in both_of(home.path()) {
                let round = assert_one_round(&loaded, &format!("save {saves}"));
                assert!((before..=after + 1).contains(&round), "round {round}, not {before} to {after}");
                last = round;
            }
            saves += 1;
        }
        saves
    });
    println!("{saves} saves beside {} updates", published.load(Ordering::Acquire));
    let view = View::of(&index);
    index.save(home.path()).unwrap();
    both_of(home.path()).iter().for_each(|loaded| assert_same(loaded, &view, "at the end"));
}

/// Two indexes are saved into one directory over and over, while others load: each load is one of the two, whole.
#[test]
fn saves_and_loads_in_one_directory_at_the_same_time() {
    let home = tempfile::tempdir().unwrap();
    let indexes = [lively(60, 1), lively(90, 2)];
    let views = [View::of(&indexes[0].0), View::of(&indexes[1].0)];
    indexes[0].0.save(home.path()).unwrap();
    let (start, done) = (Barrier::new(4), AtomicBool::new(false));
    let load_in_turn = |which: usize| {
        start.wait();
        let mut loads = 0;
        loop {
            let last = done.load(Ordering::Acquire);
            let dir = home.path();
            let index = if which == 0 { load(dir) } else { open_mapped(dir) }.unwrap();
            let view = if index.version().vectors() == 75 { &views[0] } else { &views[1] };
            assert_same(&index, view, "loaded beside saves");
            loads += 1;
            if last {
                return loads;
            }
        }
    };
    thread::scope(|scope| {
        let savers = indexes.each_ref().map(|(index, labels)| {
            let (start, dir) = (&start, home.path());
            scope.spawn(move || {
                start.wait();
                for save in 0..30 {
                    let outcome = if save % 2 == 0 {
                        index.save(dir)
                    } else {
                        index.save_with(dir, &SaveOptions::new().labels(labels.clone()))
                    };
                    outcome.unwrap();
                }
            })
        });
        let loaders = [0, 1].map(|which| {
            let load_in_turn = &load_in_turn;
            scope.spawn(move || load_in_turn(which))
        });
        let raise = Raise(&done);
        savers.into_iter().for_each(|saver| saver.join().unwrap());
        drop(raise);
        let loads = loaders.map(|loader| loader.join().unwrap());
        println!("60 saves beside {loads:?} loads");
    });
    let parts = ["codes", "graph", "labels", "tombstones", "vectors"];
    assert!(files_of(home.path()).into_keys().eq(names_of(61, &parts)));
    let labels = load_labels(home.path()).unwrap().unwrap();
    assert_eq!(labels.num_rows(), load(home.path()).unwrap().version().vectors());
}

fn searched(index: &Index) -> Vec<u64> {
    let hits = index.search(&vec![0.25; index.dim()], &SearchParams::new(20).ef(100)).unwrap().into_vec();
    hits.iter().map(|hit| hit.row_id).collect()
}

/// Whoever has an index mapped keeps it, whatever is saved over it, and if the directory goes.
#[test]
fn a_mapped_index_outlives_its_files() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("index");
    let (index, _) = lively(500, 3);
    let view = View::of(&index);
    index.save(&dir).unwrap();
    let mapped = open_mapped(&dir).unwrap();
    let before = searched(&mapped);
    let save_other = |dir: &Path, seed| build(&uniform(40, 3, seed), L2, &params(), 40).save(dir).unwrap();
    for seed in 0..3 {
        save_other(&dir, seed);
        assert_eq!(searched(&mapped), before);
        assert_eq!(load(&dir).unwrap().dim(), 3);
    }
    fs::remove_dir_all(&dir).unwrap();
    assert_same(&mapped, &view, "without its directory");
    // It can be saved into the place where it came from.
    mapped.save(&dir).unwrap();
    drop(mapped);
    both_of(&dir).iter().for_each(|index| assert_same(index, &view, "saved again"));
}

/// Whoever loads, changes and saves under the lock loses nothing of the others.
#[test]
fn writers_with_the_lock_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // The directory is made for the first who asks.
    let dir = dir.path().join("new");
    let lock = WriterLock::try_acquire(&dir).unwrap().unwrap();
    assert!(WriterLock::try_acquire(&dir).unwrap().is_none(), "another has it");
    Index::flat(5, DistanceType::L2).unwrap().save(&dir).unwrap();
    let (writers, each) = (4_u64, 5_u64);
    let barrier = Barrier::new(writers as usize + 1);
    thread::scope(|scope| {
        for writer in 0..writers {
            let (dir, barrier) = (&dir, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..each {
                    let _lock = WriterLock::acquire(dir).unwrap();
                    let index = Index::load(dir).unwrap().index;
                    index.append(&uniform(1, 5, round).array(), writer * each + round).unwrap();
                    index.save(dir).unwrap();
                }
            });
        }
        barrier.wait();
        assert!(Index::load(&dir).unwrap().index.is_empty(), "they wait");
        drop(lock);
    });
    let row_ids = Index::load(&dir).unwrap().index.reader().live_row_ids();
    let mut row_ids: Vec<u64> = row_ids.values().to_vec();
    row_ids.sort_unstable();
    assert!(row_ids.into_iter().eq(0..writers * each));
    assert!(WriterLock::try_acquire(&dir).unwrap().is_some());
}
