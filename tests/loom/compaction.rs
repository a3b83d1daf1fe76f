//! A compaction beside an append, a delete and a reader: no change that was acknowledged is lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::Mutex as StdMutex;

use loom::model::Builder;

use crate::Run;
use crate::handover::{CompactionStep, Generation, Handover, Successor};
use crate::util::atomics::{AtomicU32, Mutex, MutexGuard, Ordering, RELAXED, lock};
use crate::util::chunked::LEN;
use crate::version::{IndexVersion, Versions};

/// Rows that are known by a key each.
struct Rows {
    keys: [AtomicU32; LEN],
    versions: Versions,
    rows: Mutex<()>,
}

/// A row that was never written.
const NONE: u32 = 9;

impl Rows {
    fn of(generation: u64, keys: &[u32], dead: &[u32]) -> Self {
        let key = |at: usize| AtomicU32::new(keys.get(at).copied().unwrap_or(NONE));
        let versions = Versions::starting_with(generation, keys.len() as u32, dead);
        // Makes the cells: 0 is not the number of a delete.
        if dead.is_empty() {
            versions.bury(0, 0);
        }
        Self { keys: std::array::from_fn(key), versions, rows: Mutex::new(()) }
    }

    /// The ids and keys of the rows that are alive in a version.
    fn live(&self, version: IndexVersion) -> Vec<(u32, u32)> {
        let ids = (0..version.vectors() as u32).filter(|&id| !self.versions.is_dead(id, version));
        ids.map(|id| (id, self.keys[id as usize].load(Ordering::Relaxed))).collect()
    }

    fn append(&self, key: u32) {
        let id = self.version().vectors();
        self.keys[id].store(key, Ordering::Relaxed);
        let _publishing = self.lock_rows();
        let version = self.version();
        self.versions.publish(version.then(id as u32 + 1, version.deletes()));
    }

    fn delete(&self, key: u32) {
        let version = self.version();
        let (id, _) = self.live(version).into_iter().find(|row| row.1 == key).unwrap();
        self.versions.bury(id, version.deletes() + 1);
        self.versions.publish(version.then(version.vectors() as u32, version.deletes() + 1));
    }
}

impl Generation for Rows {
    type Rows = ();

    fn version(&self) -> IndexVersion {
        self.versions.current()
    }

    fn lock_rows(&self) -> MutexGuard<'_, ()> {
        lock(&self.rows)
    }
}

/// The next generation, until it is one.
struct Next {
    followed: u32,
    /// Older id and key of each row.
    rows: Vec<(u32, u32)>,
    dead: Vec<u32>,
}

impl Next {
    fn begin(old: &Arc<Rows>) -> Result<Self, Infallible> {
        let version = old.version();
        Ok(Self { followed: version.vectors() as u32, rows: old.live(version), dead: Vec::new() })
    }
}

impl Successor for Next {
    type Generation = Rows;
    type Error = Infallible;
    type Report = ();

    fn follow(&mut self, old: &Rows, version: IndexVersion) -> Result<usize, Infallible> {
        let before = self.followed;
        self.rows.extend(old.live(version).into_iter().filter(|row| row.0 >= before));
        self.followed = version.vectors() as u32;
        Ok((self.followed - before) as usize)
    }

    fn bury(&mut self, old: &Rows, version: IndexVersion) {
        let rows = (0..).zip(&self.rows);
        self.dead = rows.filter(|(_, row)| old.versions.is_dead(row.0, version)).map(|(id, _)| id).collect();
    }

    fn finish(self, _: &Rows) -> (Rows, ()) {
        let keys: Vec<u32> = self.rows.iter().map(|row| row.1).collect();
        (Rows::of(2, &keys, &self.dead), ())
    }
}

type Index = Handover<Rows>;

fn append(index: &Index) {
    index.append(|rows| rows.append(2));
}

fn append_without_the_lock(index: &Index) {
    index.current().append(2);
}

fn delete(index: &Index) {
    index.change(|rows, ()| rows.delete(0));
}

fn delete_without_a_second_look(index: &Index) {
    let rows = index.current();
    let _locked = rows.lock_rows();
    rows.delete(0);
}

/// What takes part beside the compaction.
#[derive(Clone, Copy)]
struct Roles {
    append: fn(&Index),
    delete: fn(&Index),
    watch: fn(CompactionStep) -> bool,
}

const AS_WRITTEN: Roles = Roles { append, delete, watch: |_| true };

/// The keys that two looks, one after the other, show beside the writers, and a third one after them.
type Seen = [Vec<u32>; 3];

fn look(index: &Index) -> Vec<u32> {
    let rows = index.current();
    let mut keys: Vec<u32> = rows.live(rows.version()).into_iter().map(|row| row.1).collect();
    keys.sort_unstable();
    keys
}

/// Keys 0 and 1 are there. Key 2 is appended, key 0 deleted, and all of it compacted.
fn explore(run: Run, roles: Roles) -> BTreeSet<Seen> {
    let found = Arc::new(StdMutex::new(BTreeSet::new()));
    let seen = Arc::clone(&found);
    let mut builder = Builder::new();
    builder.preemption_bound = Some(run.preemptions);
    RELAXED.set(run.relaxed);
    builder.check(move || {
        let index = Arc::new(Index::new(Rows::of(1, &[0, 1], &[])));
        let shared = || Arc::clone(&index);
        let (at, append) = (shared(), roles.append);
        let appender = loom::thread::spawn(move || append(&at));
        let (at, delete) = (shared(), roles.delete);
        let deleter = loom::thread::spawn(move || delete(&at));
        let (at, watch) = (shared(), roles.watch);
        let compactor = loom::thread::spawn(move || {
            let Ok(()) = at.replace(Next::begin, &mut |step| watch(step));
        });
        // Last: what it can see, it can see after the writers are done, and it delays none of them.
        let at = shared();
        let reader = loom::thread::spawn(move || (look(&at), look(&at)));
        [appender, deleter, compactor].into_iter().for_each(|writer| writer.join().unwrap());
        let (first, second) = reader.join().unwrap();
        seen.lock().unwrap().insert([first, second, look(&index)]);
    });
    std::mem::take(&mut *found.lock().unwrap())
}

/// Nothing that was there goes but key 0, for good; nothing comes but key 2, for good; and both are done at the end.
fn is_right([first, second, last]: &Seen) -> bool {
    let is_state = |keys: &Vec<u32>| [vec![1], vec![0, 1], vec![1, 2], vec![0, 1, 2]].contains(keys);
    let goes_on = |before: &Vec<u32>, after: &Vec<u32>| {
        (before.contains(&0) || !after.contains(&0)) && (after.contains(&2) || !before.contains(&2))
    };
    [first, second].into_iter().all(is_state)
        && goes_on(first, second)
        && goes_on(second, last)
        && *last == [1, 2]
}

#[test]
fn no_acknowledged_change_is_lost() {
    let seen = explore(Run::AS_WRITTEN, AS_WRITTEN);
    println!("{} outcomes", seen.len());
    assert!(seen.len() > 4, "{seen:?}");
    assert!(seen.iter().all(is_right), "{:?}", seen.iter().find(|seen| !is_right(seen)));
}

/// Its name, how the model is run with it, and what shows it.
type Fault = (&'static str, Run, Roles, fn(&Seen) -> bool);

#[test]
fn anything_less_loses_a_change() {
    let faults: [Fault; 5] = [
        (
            "the last rows are left out",
            Run::AS_WRITTEN,
            Roles { watch: |step| step != CompactionStep::LastRows, ..AS_WRITTEN },
            |seen| seen[2] == [1],
        ),
        (
            "the last deletes are left out",
            Run::AS_WRITTEN,
            Roles { watch: |step| step != CompactionStep::LastDeletes, ..AS_WRITTEN },
            |seen| seen[2] == [0, 1, 2],
        ),
        (
            "an append without its lock",
            Run::AS_WRITTEN,
            Roles { append: append_without_the_lock, ..AS_WRITTEN },
            |seen| seen[2] == [1],
        ),
        (
            "a delete in the generation of before",
            Run::AS_WRITTEN,
            Roles { delete: delete_without_a_second_look, ..AS_WRITTEN },
            |seen| seen[2] == [0, 1, 2],
        ),
        ("all orderings relaxed", Run::RELAXED, AS_WRITTEN, |seen| !is_right(seen)),
    ];
    for (case, run, roles, shows) in faults {
        match catch_unwind(AssertUnwindSafe(|| explore(run, roles))) {
            Ok(seen) => assert!(seen.iter().any(shows), "{case}: not in {seen:?}"),
            // Without the orderings a generation is freed while it is read, and loom itself ends the model.
            Err(panic) => {
                assert!(run.relaxed, "{case}");
                let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(message.contains("Causality violation"), "{case}: {message}");
            }
        }
    }
}
