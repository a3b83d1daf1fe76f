//! Compaction beside everybody: every acknowledged change is in the generation that takes the place of the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use pennon::{BuildParams, CompactionStep, DistanceType, Index, Reader, RowMask, SearchParams, VectorSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{Rows, build, uniform};
use crate::deletes::{L2, array_of, contents, params};

const DIM: usize = 6;

/// With a graph and without.
fn kinds() -> [(&'static str, Index); 2] {
    [("graph", Index::hnsw(DIM, L2, params()).unwrap()), ("flat", Index::flat(DIM, L2).unwrap())]
}

/// The rows that a reader finds, by row id, in every way there is.
fn rows_of(reader: &Reader) -> BTreeMap<u64, Vec<f32>> {
    let all = SearchParams::new(usize::MAX).ef(64);
    let (walked, scanned) =
        (reader.search(&[0.5; DIM], &all).unwrap(), reader.search_exact(&[0.5; DIM], &all).unwrap());
    assert_eq!(*walked, *scanned);
    let rows: BTreeMap<u64, Vec<f32>> =
        walked.iter().map(|hit| (hit.row_id, reader.get(hit.row_id).unwrap().unwrap().vector)).collect();
    assert_eq!((rows.len(), reader.len()), (walked.len(), walked.len()), "a row id twice, or a wrong length");
    rows
}

/// What happens at each step of a compaction is in the new generation: rows that come, go, and are replaced.
#[test]
fn changes_at_every_step_are_followed() {
    let rows = uniform(2_000, DIM, 1);
    for (kind, index) in kinds() {
        for round in 0..3_u64 {
            let start = round as usize * 600;
            let first = 10_000 * round;
            index.append(&rows.part(start..start + 400).array(), first).unwrap();
            (first..first + 400).step_by(3).for_each(|row_id| index.delete(row_id).unwrap());
            let mut steps = Vec::new();
            let before = index.reader();
            let change = |step: usize| {
                // New rows, a delete of an old and of a new row, an update of an old and of a new row.
                let at = start + 400 + step * 20;
                let new = first + 1_000 + step as u64 * 100;
                index.append(&rows.part(at..at + 10).array(), new).unwrap();
                index.delete_batch(&[first + 1 + 30 * step as u64, new + 3]).unwrap();
                let updated = [first + 2 + 30 * step as u64, new + 5];
                index
                    .upsert(&rows.part(at + 10..at + 12).array(), array_of(updated.map(|id| id as usize)))
                    .unwrap();
            };
            let compaction = index
                .compact_watched(&mut |step| {
                    steps.push(step);
                    if step == CompactionStep::Begun {
                        change(0);
                    }
                    true
                })
                .unwrap();
            let all = [CompactionStep::Begun, CompactionStep::LastRows, CompactionStep::LastDeletes];
            assert_eq!(steps, all);
            let case = format!("{kind}, round {round}: {:?}", (compaction.kept, compaction.followed));
            assert_eq!(compaction.from.generation(), before.version().generation(), "{case}");
            assert_eq!(compaction.to, index.version(), "{case}");
            assert_eq!(
                (compaction.kept, compaction.followed, compaction.buried),
                (before.len(), 10, 2),
                "{case}"
            );
            // What replaced a row came after it, so that the old one was left behind or is dead.
            assert_eq!(compaction.old_ids().len(), index.version().vectors(), "{case}");
            assert_eq!(compaction.old_ids().len() + compaction.removed, compaction.from.vectors(), "{case}");
            assert!(compaction.old_ids().is_sorted_by(|a, b| a < b), "{case}");

            let found = rows_of(&index.reader());
            assert_eq!(found.len(), before.len() + 10 - 2, "{case}");
            for gone in [first + 1, first + 1_003] {
                assert!(!found.contains_key(&gone) && !index.contains(gone), "{case}: {gone}");
                let error = index.delete(gone).unwrap_err();
                assert!(
                    matches!(error, pennon::Error::UnknownRowId { row_id } if row_id == gone),
                    "{case}: {error}"
                );
            }
            for (row_id, row) in
                [(first + 2, start + 410), (first + 1_005, start + 411), (first + 1_004, start + 404)]
            {
                assert_eq!(found.get(&row_id).map(Vec::as_slice), Some(rows.row(row)), "{case}: {row_id}");
            }
            // The reader of before is where it was, and the vectors are the same buffers.
            assert!(before.contains(first + 1) && !before.contains(first + 1_000), "{case}");
            assert_eq!(rows_of(&before).len(), before.len(), "{case}");
            // Each row of the new generation is the one that its older id says.
            let (old, new) = (before.snapshot(), index.reader().snapshot());
            for (id, &old_id) in (0..).zip(compaction.old_ids()).take(compaction.kept) {
                assert_eq!(old.row_id(old_id), new.row_id(id), "{case}");
                assert_eq!(old.vector(old_id).as_ptr(), new.vector(id).as_ptr(), "{case}");
            }
            index.compact().unwrap();
            assert_eq!((index.tombstones(), rows_of(&index.reader())), (0, found), "{case}");
        }
        if let Some(health) = index.health() {
            assert!(health.is_healthy(), "{health}");
        }
    }
}

/// A compaction that leaves out a step loses what the step is for: so the tests here can see a loss.
#[test]
fn a_step_that_is_left_out_shows() {
    let rows = uniform(900, DIM, 2);
    for (kind, index) in kinds() {
        index.append(&rows.part(0..300).array(), 0).unwrap();
        index.delete(1).unwrap();
        let losing = |lost: CompactionStep, change: &dyn Fn()| {
            index
                .compact_watched(&mut |step| {
                    if step == CompactionStep::Begun {
                        change();
                    }
                    step != lost
                })
                .unwrap()
        };
        losing(CompactionStep::LastDeletes, &|| index.delete(7).unwrap());
        assert!(index.contains(7), "{kind}: the delete was not lost");
        // The rows of the first round are followed by it, and those after it are the last.
        let compaction = losing(CompactionStep::LastRows, &|| {
            drop(index.append(&rows.part(300..310).array(), 300).unwrap())
        });
        assert_eq!(compaction.followed, 10, "{kind}: the first round follows them");
    }
}

/// Threads append, update, delete and search while the index is compacted over and over. `lose` is for compactions that
/// leave out a step. Returns what is wrong, if something is.
fn churn(index: &Index, rows: &Rows, lose: Option<CompactionStep>, seconds: f64) -> Vec<String> {
    const OWN: u64 = 1_000_000;
    let (done, start) = (AtomicBool::new(false), Barrier::new(5));
    let wrong = Mutex::new(Vec::new());
    let complain = |problem: String| wrong.lock().unwrap().push(problem);
    // The rows of each writer, which no other touches: a row id, and the row of its vector.
    let models: Vec<Mutex<BTreeMap<u64, usize>>> = (0..2).map(|_| Mutex::default()).collect();
    let compactions = AtomicU64::new(0);
    thread::scope(|scope| {
        for (writer, model) in models.iter().enumerate() {
            let (start, done, complain, base) = (&start, &done, &complain, writer as u64 * OWN);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(writer as u64);
                let mut next = 0;
                start.wait();
                while !done.load(Ordering::Relaxed) {
                    let mut model = model.lock().unwrap();
                    let known: Vec<u64> = model.keys().copied().collect();
                    let pick = |rng: &mut StdRng| known[rng.random_range(0..known.len())];
                    match rng.random_range(0..4) {
                        0 if known.len() > 40 => {
                            let row_id = pick(&mut rng);
                            index.delete(row_id).unwrap();
                            model.remove(&row_id);
                            if index.contains(row_id) {
                                complain(format!("{row_id} is there after its delete"));
                            }
                        }
                        1 if known.len() > 40 => {
                            let (row_id, row) = (pick(&mut rng), rng.random_range(0..rows.len()));
                            index.upsert(&rows.part(row..row + 1).array(), row_id).unwrap();
                            model.insert(row_id, row);
                        }
                        2 if known.len() > 400 => {
                            let row_ids: Vec<u64> = known.iter().copied().step_by(3).collect();
                            index.delete_batch(&row_ids).unwrap();
                            row_ids.iter().for_each(|row_id| {
                                let _ = model.remove(row_id);
                            });
                        }
                        _ => {
                            let (at, len) = (rng.random_range(0..rows.len() - 20), rng.random_range(1..20));
                            index.append(&rows.part(at..at + len).array(), base + next).unwrap();
                            model.extend((0..len).map(|row| (base + next + row as u64, at + row)));
                            next += len as u64;
                        }
                    }
                    // Every acknowledged row is found, and every acknowledged delete stays dead.
                    let reader = index.reader();
                    for _ in 0..3 {
                        let Some((&row_id, &row)) = model.iter().nth(rng.random_range(0..model.len().max(1)))
                        else {
                            continue;
                        };
                        let own = SearchParams::new(1).ef(60).mask(RowMask::row_id_range(row_id..=row_id));
                        let hits = reader.search(rows.row(row), &own).unwrap();
                        let is_right =
                            hits.first().is_some_and(|hit| (hit.row_id, hit.distance) == (row_id, 0.0));
                        if !is_right {
                            complain(format!("{row_id} is not found: {hits:?}"));
                        }
                    }
                    let gone = base + rng.random_range(0..next.max(1));
                    if reader.contains(gone) != model.contains_key(&gone) {
                        complain(format!(
                            "{gone} is {}",
                            if reader.contains(gone) { "back" } else { "lost" }
                        ));
                    }
                }
            });
        }
        scope.spawn(|| {
            start.wait();
            while !done.load(Ordering::Relaxed) {
                index.compact_watched(&mut |step| Some(step) != lose).unwrap();
                compactions.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            let mut rng = StdRng::seed_from_u64(9);
            start.wait();
            while !done.load(Ordering::Relaxed) {
                let reader = index.reader();
                let query = rows.row(rng.random_range(0..rows.len()));
                let hits = reader.search(query, &SearchParams::new(20).ef(40)).unwrap();
                if hits.len() != 20.min(reader.len()) {
                    complain(format!("{} rows of {}", hits.len(), reader.len()));
                }
                let all: usize = reader.cursor(query, &SearchParams::new(50)).unwrap().count();
                if all != reader.len() {
                    complain(format!("{all} rows in pages of {}", reader.len()));
                }
            }
        });
        start.wait();
        let begun = std::time::Instant::now();
        while begun.elapsed().as_secs_f64() < seconds && wrong.lock().unwrap().len() < 5 {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{} compactions, {} rows at the end", compactions.load(Ordering::Relaxed), index.len());
    assert!(compactions.load(Ordering::Relaxed) > 2);
    let expected: BTreeMap<u64, Vec<f32>> = models
        .iter()
        .flat_map(|model| {
            model.lock().unwrap().iter().map(|(&id, &row)| (id, rows.row(row).to_vec())).collect::<Vec<_>>()
        })
        .collect();
    let found = rows_of(&index.reader());
    for (row_id, vector) in &expected {
        if found.get(row_id) != Some(vector) {
            wrong.lock().unwrap().push(format!("{row_id} is lost or old at the end"));
        }
    }
    for row_id in found.keys().filter(|row_id| !expected.contains_key(row_id)) {
        wrong.lock().unwrap().push(format!("{row_id} is back at the end"));
    }
    wrong.into_inner().unwrap()
}

#[test]
fn nothing_is_lost_beside_compactions() {
    let rows = uniform(3_000, DIM, 3);
    for (kind, index) in kinds() {
        let wrong = churn(&index, &rows, None, 3.0);
        assert!(wrong.is_empty(), "{kind}: {:?}", &wrong[..wrong.len().min(5)]);
        if let Some(health) = index.health() {
            assert!(health.is_healthy(), "{kind}: {health}");
        }
    }
}

/// The same threads see what a compaction loses.
#[test]
fn a_fault_in_the_compaction_is_seen() {
    let rows = uniform(3_000, DIM, 4);
    let index = Index::flat(DIM, DistanceType::L2).unwrap();
    for lost in [CompactionStep::LastRows, CompactionStep::LastDeletes] {
        let wrong = churn_until_wrong(&index, &rows, lost);
        println!("{lost:?} left out: {:?}", &wrong[..wrong.len().min(3)]);
        assert!(!wrong.is_empty(), "{lost:?}: nobody saw it");
    }
}

/// A writer may refuse a change that a lost one contradicts; then the test has seen it, too.
fn churn_until_wrong(index: &Index, rows: &Rows, lost: CompactionStep) -> Vec<String> {
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| churn(index, rows, Some(lost), 5.0)));
    outcome.unwrap_or_else(|_| {
        vec!["a thread found a row that should not be, or none where one should".to_owned()]
    })
}

/// Generations are freed with the last of their readers.
#[test]
fn an_old_generation_goes_with_its_readers() {
    let index = build(&uniform(500, DIM, 5), L2, &BuildParams::default(), 500);
    (0..100).for_each(|row_id| index.delete(row_id).unwrap());
    let array = uniform(10, DIM, 6).array();
    let buffer = array.values().to_data().buffers()[0].clone();
    let shares = || buffer.strong_count();
    index.append(&array, 1_000).unwrap();
    drop(array);
    (1_000..1_010).for_each(|row_id| index.delete(row_id).unwrap());
    let before = shares();
    let (reader, mut cursor) = (index.reader(), index.cursor(&[0.0; DIM], &SearchParams::new(5)).unwrap());
    index.compact().unwrap();
    assert_eq!(shares(), before, "a reader keeps the vectors of its generation");
    assert_eq!((cursor.next_k(1_000).len(), reader.len(), index.len()), (400, 400, 400));
    drop(reader);
    assert_eq!(shares(), before, "and so does a cursor");
    drop(cursor);
    assert!(shares() < before, "nobody needs them any more");
    assert_eq!(contents(&index).len(), 400);
}
