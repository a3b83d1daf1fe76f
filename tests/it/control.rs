//! Calls that are watched and cancelled: what was cancelled is as it was, and can be done again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use arrow_array::{FixedSizeListArray, UInt64Array};
use pennon::{
    Coding, CompactionStep, Control, DistanceType, Error, Index, Progress, RowIds, SaveOptions, SearchParams,
    Stage,
};

use crate::data::{Rows, build, load, uniform};
use crate::deletes::{L2, array_of, contents, params};
use crate::export::bytes;

/// Sets a flag at the report of a number, the first being 0, and keeps all reports.
struct Watch {
    at: usize,
    stop: AtomicBool,
    seen: Mutex<Vec<Progress>>,
}

impl Watch {
    fn stop_at(at: usize) -> Self {
        Self { at, stop: AtomicBool::new(false), seen: Mutex::default() }
    }

    fn see(&self, progress: Progress) {
        let mut seen = self.seen.lock().unwrap();
        if seen.len() == self.at {
            self.stop.store(true, Ordering::Relaxed);
        }
        seen.push(progress);
    }

    /// Does something under control. The error of a call that was cancelled is checked.
    fn run<T>(&self, operation: &str, call: impl FnOnce(&Control<'_>) -> pennon::Result<T>) -> Option<T> {
        let see = |progress| self.see(progress);
        let outcome = call(&Control::new().on_progress(&see).cancelled_by(&self.stop));
        let seen = self.seen.lock().unwrap();
        match outcome {
            Ok(done) => {
                assert!(seen.len() <= self.at, "{operation} went on after report {}", self.at);
                Some(done)
            }
            Err(error) => {
                let last = seen[self.at];
                assert_eq!(seen.len(), self.at + 1, "{operation} went on after it was cancelled");
                let text =
                    format!("the {operation} was cancelled after {} of {} rows", last.done, last.total);
                assert_eq!(error.to_string(), text);
                assert!(
                    matches!(error, Error::Cancelled { done, total, .. } if (done, total) == (last.done, last.total))
                );
                None
            }
        }
    }
}

/// Reports go from nothing to everything.
fn assert_reports(seen: &[Progress], stage: Stage, total: usize) {
    assert!(seen.len() > 2, "{seen:?}");
    assert!(
        seen.iter().all(|progress| progress.stage == stage && progress.total == total as u64),
        "{seen:?}"
    );
    assert!(seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert_eq!((seen[0].done, seen.last().unwrap().done), (0, total as u64));
}

/// With a graph, coded or not, and without one; with so many rows for a batch that takes some steps.
fn kinds() -> [(&'static str, Index, usize); 4] {
    let graph = |codes| Index::builder(4, L2).params(params()).codes(codes).build().unwrap();
    let flat = |codes| Index::builder(4, L2).flat().codes(codes).build().unwrap();
    [
        ("graph", graph(Coding::Auto), 1_500),
        ("graph without codes", graph(Coding::Off), 1_500),
        ("flat", flat(Coding::Auto), 40_000),
        ("flat without codes", flat(Coding::Off), 3_000),
    ]
}

fn vectors_of(rows: &Rows, row_ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, Vec<f32>> {
    row_ids.into_iter().zip(rows.iter().map(<[f32]>::to_vec)).collect()
}

/// Row `i` of the map under row id `i`, by walk, by scan and one by one.
fn assert_holds(index: &Index, model: &BTreeMap<u64, Vec<f32>>, case: &str) {
    assert!(contents(index) == *model, "{case}");
    let exact = index.search_exact(&[0.1; 4], &SearchParams::new(usize::MAX)).unwrap();
    assert_eq!(exact.len(), model.len(), "{case}");
    for (row_id, vector) in model.iter().step_by(model.len() / 50 + 1) {
        let row = index.get(*row_id).unwrap().unwrap_or_else(|| panic!("{case}: {row_id} is gone"));
        assert_eq!(&row.vector, vector, "{case}: {row_id}");
    }
    if let Some(health) = index.health() {
        assert!(health.is_healthy(), "{case}: {health}");
    }
}

#[test]
fn an_append_that_is_cancelled_has_appended_nothing() {
    for stop_at in [0, 1, 2, 3, 5, 8, 40] {
        for (kind, index, size) in kinds() {
            let case = format!("{kind}, stopped at report {stop_at}");
            // Blocks of one run, of two, and of many.
            let rows = uniform(600 + size, 4, 1);
            let mut model = vectors_of(&rows.part(0..600), 0..600);
            index.append(&rows.part(0..300).array(), 0u64).unwrap();
            for row in 300..310 {
                index.append(&rows.part(row..row + 1).array(), row as u64).unwrap();
            }
            index.append(&rows.part(310..600).array(), 310u64).unwrap();
            index.delete_batch(&[5, 305, 500]).unwrap();
            [5, 305, 500].iter().for_each(|row_id| _ = model.remove(row_id));
            let (before, skipped) = (index.version(), index.skipped());
            let reader = index.reader();

            let batch = rows.part(600..600 + size).array();
            let watch = Watch::stop_at(stop_at);
            let done = watch.run("append", |control| index.append_controlled(&batch, 600u64, control));
            if done.is_none() {
                let version = index.version();
                let linked = watch.seen.lock().unwrap().last().unwrap().done as usize;
                assert_eq!(version.vectors() - before.vectors(), linked, "{case}");
                assert_eq!((version.deletes() - before.deletes()) as usize, linked, "{case}");
                if stop_at == 0 {
                    assert_eq!(version, before, "{case}");
                }
                assert_eq!((index.skipped(), index.counters().failed_appends), (skipped, 1), "{case}");
                assert_holds(&index, &model, &case);
                assert!(!index.contains(600) && !index.contains(700), "{case}");
                assert!(matches!(index.delete(600), Err(Error::UnknownRowId { .. })), "{case}");
                // Once more, and then for good.
                let again = Watch::stop_at(stop_at.min(2));
                assert!(
                    again.run("append", |control| index.append_controlled(&batch, 600u64, control)).is_none()
                );
                assert_holds(&index, &model, &case);
                index.append(&batch, 600u64).unwrap();
            } else {
                assert!(stop_at >= if kind == "flat without codes" { 1 } else { 3 }, "{case}");
            }
            model.extend(vectors_of(&rows.part(600..600 + size), 600..));
            assert_holds(&index, &model, &case);
            assert_eq!(reader.len(), 597, "{case}");
            let duplicate = index.append(&rows.part(0..1).array(), 601u64).unwrap_err();
            assert!(matches!(duplicate, Error::DuplicateRowId { row_id: 601, .. }), "{case}: {duplicate}");
            index.delete_batch(&[0, 600, 601]).unwrap();
            [0, 600, 601].iter().for_each(|row_id| _ = model.remove(row_id));
            assert_holds(&index, &model, &case);
            index.compact().unwrap();
            assert_eq!(index.tombstones(), 0, "{case}");
            assert_holds(&index, &model, &case);
        }
    }
}

/// The rows that an upsert would have replaced stay, in memory and on disk, with row ids of any order.
#[test]
fn an_upsert_that_is_cancelled_has_replaced_nothing() {
    let rows = uniform(4_000, 4, 2);
    for stop_at in 0..5 {
        for compacted in [false, true] {
            let case = format!("stopped at report {stop_at}, compacted: {compacted}");
            let index = Index::hnsw(4, L2, params()).unwrap();
            // Row ids that ascend, and others that do not.
            let old: Vec<u64> = (0..500).chain((0..500).map(|row| 2_000 - 3 * row)).collect();
            let model = vectors_of(&rows, old.iter().copied());
            index.append(&rows.part(0..1_000).array(), UInt64Array::from(old.clone())).unwrap();
            let new: Vec<u64> = (0..1_500).map(|row| (7 * row + 100) % 2_500).collect();
            let batch = rows.part(1_000..2_500);
            let given = || RowIds::from(UInt64Array::from(new.clone()));
            let watch = Watch::stop_at(stop_at);
            assert!(
                watch
                    .run("append", |control| index.upsert_controlled(&batch.array(), given(), control))
                    .is_none()
            );
            assert_holds(&index, &model, &case);
            if compacted {
                index.compact().unwrap();
            }
            let home = tempfile::tempdir().unwrap();
            index.save(home.path()).unwrap();
            for (index, place) in [(load(home.path()).unwrap(), "loaded"), (index, "here")] {
                let case = format!("{case}, {place}");
                let mut model = model.clone();
                assert_holds(&index, &model, &case);
                let gone: Vec<u64> = old.iter().copied().step_by(5).collect();
                index.delete_batch(&gone).unwrap();
                model.retain(|row_id, _| !gone.contains(row_id));
                assert_holds(&index, &model, &case);
                index.upsert(&batch.array(), given()).unwrap();
                model.extend(vectors_of(&batch, new.iter().copied()));
                assert_holds(&index, &model, &case);
            }
        }
    }
}

#[test]
fn what_is_watched_is_built_as_ever() {
    let rows = uniform(3_000, 4, 3);
    let plain = build(&rows, L2, &params(), 1_500);
    let index = Index::hnsw(4, L2, params()).unwrap();
    for (start, batch) in rows.batches(1_500) {
        let watch = Watch::stop_at(usize::MAX);
        watch.run("append", |control| index.append_unique_controlled(&batch, start, control)).unwrap();
        assert_reports(&watch.seen.lock().unwrap(), Stage::Append, 1_500);
    }
    let graph = |index: &Index| bytes(&index.to_lance_batches().unwrap().graph.unwrap());
    assert!(graph(&index) == graph(&plain));
    let watch = Watch::stop_at(usize::MAX);
    (0..40).for_each(|row_id| index.delete(row_id).unwrap());
    watch.run("compaction", |control| index.compact_controlled(control)).unwrap();
    assert_reports(&watch.seen.lock().unwrap(), Stage::Compact, 2_960);
    let home = tempfile::tempdir().unwrap();
    let watch = Watch::stop_at(usize::MAX);
    let options = SaveOptions::new();
    watch.run("save", |control| index.save_controlled(home.path(), &options, control)).unwrap();
    assert_reports(&watch.seen.lock().unwrap(), Stage::Save, 2 * 2_960);
}

/// Readers of any version see what they saw, whatever is cancelled beside them.
#[test]
fn searches_go_on_beside_appends_that_are_cancelled() {
    let rows = uniform(1_600, 4, 4);
    for index in [Index::hnsw(4, L2, params()).unwrap(), Index::flat(4, L2).unwrap()] {
        index.append(&rows.part(0..400).array(), 0u64).unwrap();
        let (ended, searches) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for searcher in 0..2 {
                let (index, rows, ended, searches) = (&index, &rows, &ended, &searches);
                scope.spawn(move || {
                    let held = index.reader();
                    while !ended.load(Ordering::Relaxed) {
                        let row = searches.fetch_add(1, Ordering::Relaxed) % 400;
                        let query = rows.row(row);
                        let walked = index.search(query, &SearchParams::new(8).ef(40)).unwrap();
                        let scanned = index.search_exact(query, &SearchParams::new(8)).unwrap();
                        let old = held.search_exact(query, &SearchParams::new(8)).unwrap();
                        assert_eq!((scanned[0].row_id, old[0].row_id), (row as u64, row as u64));
                        for hits in [walked, scanned, old] {
                            assert_eq!(hits.len(), 8, "searcher {searcher}");
                            assert!(hits.iter().all(|hit| hit.row_id < 400 || hit.row_id >= 10_000));
                        }
                    }
                });
            }
            for round in 0..30 {
                let batch = rows.part(400..1_500).array();
                let watch = Watch::stop_at(round % 3);
                let appended =
                    watch.run("append", |control| index.append_controlled(&batch, 400u64, control));
                assert!(appended.is_none(), "round {round}");
                let row = 1_500 + round;
                index.append(&rows.part(row..row + 1).array(), 10_000 + round as u64).unwrap();
                if round % 10 == 9 {
                    index.compact().unwrap();
                }
            }
            while searches.load(Ordering::Relaxed) < 100 {
                thread::yield_now();
            }
            ended.store(true, Ordering::Relaxed);
        });
        assert_eq!(index.len(), 430);
    }
}

#[test]
fn a_compaction_that_is_cancelled_leaves_the_index() {
    // Most rows stay, and lists are repaired; or few do, and are linked anew.
    for (rows, dead) in [(9_000, 300), (6_000, 5_000)] {
        for stop_at in [0, 1, 2, 3] {
            let case = format!("{dead} of {rows} dead, stopped at report {stop_at}");
            let vectors = uniform(rows, 4, 5);
            let index = build(&vectors, L2, &params().num_edges(4).ef_construction(20), 3_000);
            let gone: Vec<u64> = (0..dead).collect();
            index.delete_batch(&gone).unwrap();
            let version = index.version();
            let watch = Watch::stop_at(stop_at);
            let compaction = watch.run("compaction", |control| index.compact_controlled(control));
            assert!(compaction.is_none(), "{case}");
            assert_eq!((index.version(), index.counters().compactions), (version, 0), "{case}");
            index.append(&uniform(1, 4, 6).array(), 50_000u64).unwrap();
            let compaction = index.compact().unwrap();
            assert_eq!((compaction.removed, index.tombstones()), (dead as usize, 0), "{case}");
            let mut model = vectors_of(&vectors, 0..);
            model.retain(|row_id, _| *row_id >= dead);
            model.insert(50_000, uniform(1, 4, 6).values);
            assert_holds(&index, &model, &case);
        }
    }
}

/// Rows that come while a compaction is under way are followed, until it is cancelled.
#[test]
fn a_compaction_is_cancelled_while_rows_follow() {
    let rows = uniform(2_000, 4, 7);
    let index = build(&rows.part(0..1_000), L2, &params(), 500);
    index.delete(3).unwrap();
    let (stop, appended) = (AtomicBool::new(false), AtomicBool::new(false));
    let observe = |progress: Progress| {
        if progress.done == progress.total && !appended.swap(true, Ordering::Relaxed) {
            // Not what an observer should do; here no lock of appends is held.
            index.append(&rows.part(1_000..2_000).array(), 1_000u64).unwrap();
        } else if appended.load(Ordering::Relaxed) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let error =
        index.compact_controlled(&Control::new().on_progress(&observe).cancelled_by(&stop)).unwrap_err();
    assert!(
        matches!(error, Error::Cancelled { operation: "compaction", done: 999, total: 999 }),
        "{error:?}"
    );
    assert_eq!((index.len(), index.tombstones()), (1_999, 1));
    assert_eq!(index.compact().unwrap().removed, 1);
}

#[test]
fn a_save_that_is_cancelled_leaves_the_older_one() {
    let index = build(&uniform(500, 4, 8), L2, &params(), 500);
    let home = tempfile::tempdir().unwrap();
    index.save(home.path()).unwrap();
    let names = || {
        let mut names: Vec<_> =
            home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    let before = names();
    index.append(&uniform(100, 4, 9).array(), 500u64).unwrap();
    let mut stopped = 0;
    for stop_at in 0.. {
        let watch = Watch::stop_at(stop_at);
        let options = SaveOptions::new().property("position", "7");
        let done = match stop_at % 2 {
            0 => watch.run("save", |control| index.save_controlled(home.path(), &options, control)),
            _ => watch.run("save", |control| index.reader().save_controlled(home.path(), &options, control)),
        };
        if done.is_some() {
            break;
        }
        stopped += 1;
        assert_eq!(names(), before, "stopped at report {stop_at}");
        assert_eq!(load(home.path()).unwrap().len(), 500);
    }
    assert!(stopped >= 4, "{stopped}");
    assert_ne!(names(), before);
    assert_eq!(load(home.path()).unwrap().len(), 600);
}

#[test]
fn nobody_has_to_wait() {
    let rows = uniform(400, 4, 10);
    let index = Index::hnsw(4, L2, params()).unwrap();
    index.try_append(&rows.part(0..100).array(), 0u64).unwrap();
    let is_busy =
        |error: Error| matches!(error, Error::Busy) && error.to_string() == "another writer is at work";
    let refused = AtomicUsize::new(0);
    let more = rows.part(200..201).array();
    let try_all = || {
        assert!(is_busy(index.try_append(&more, 300u64).unwrap_err()));
        let no_wait = Control::new().no_wait();
        assert!(is_busy(index.upsert_controlled(&more, 0u64, &no_wait).unwrap_err()));
        assert!(is_busy(index.append_unique_controlled(&more, 300u64, &no_wait).unwrap_err()));
        refused.fetch_add(3, Ordering::Relaxed);
    };
    let observe = |progress: Progress| {
        if progress.done == 0 {
            try_all();
        }
    };
    index
        .append_controlled(&rows.part(100..200).array(), 100u64, &Control::new().on_progress(&observe))
        .unwrap();
    index
        .compact_watched(&mut |step| {
            let no_wait = Control::new().no_wait();
            match step {
                CompactionStep::Begun => assert!(is_busy(index.compact_controlled(&no_wait).unwrap_err())),
                CompactionStep::LastRows => try_all(),
                CompactionStep::LastDeletes => {}
            }
            true
        })
        .unwrap();
    assert!(refused.load(Ordering::Relaxed) >= 6);
    assert_eq!((index.len(), index.counters().writer_waits), (200, 0));
    index.try_append(&more, 300u64).unwrap();
    index.compact_controlled(&Control::new().no_wait()).unwrap();
}

#[test]
fn rows_without_a_vector_are_skipped_once() {
    let rows = uniform(2_000, 4, 11);
    let valid: Vec<bool> = (0..2_000).map(|row| row % 7 != 3).collect();
    let values = arrow_array::Float32Array::from(rows.values.clone());
    let batch: FixedSizeListArray = crate::data::list(values, 4, "item", true, Some(valid.into()));
    let index = Index::builder(4, DistanceType::Cosine).params(params()).build().unwrap();
    for stop_at in [1, 4] {
        let watch = Watch::stop_at(stop_at);
        let row_ids = array_of((0..2_000).rev());
        assert!(watch.run("append", |control| index.append_controlled(&batch, &row_ids, control)).is_none());
        assert_eq!((index.len(), index.skipped().total()), (0, 0));
    }
    let appended = index.append(&batch, array_of((0..2_000).rev())).unwrap();
    assert_eq!((index.len(), index.skipped().null as usize), (appended.len(), 2_000 - appended.len()));
    for row in (0..2_000).step_by(97) {
        let found = index.get(1_999 - row as u64).unwrap().map(|found| found.vector);
        assert_eq!(found, (row % 7 != 3).then(|| rows.row(row).to_vec()), "{row}");
    }
}
