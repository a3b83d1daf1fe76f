//! The addresses of vectors: what a committed id resolves to, beside the writer, never changes.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::{Array, Float32Array};

use crate::util::atomics::{SITES, Site, WEAKENED};
use crate::vectors::blocks::{Batch, Directory};
use crate::vectors::row_ids::RowIds;
use crate::{Run, outcomes, role};

const DIM: usize = 2;
/// First ids of the batches, and the end of the last one. A block has four ids: the first three batches are its runs,
/// of which the third makes a table; the last batch lies in two blocks.
const BATCHES: [u32; 5] = [0, 1, 2, 3, 6];
/// Row ids by id: those of a batch count up, and here and there go on in the next one.
const ROW_IDS: [u64; 6] = [10, 11, 20, 21, 22, 23];

type Vectors = Directory<f32>;

fn vector(id: u32) -> [f32; DIM] {
    [id as f32, 100.0]
}

/// The vectors of `ids`, and in the same buffer what a wrong address would lead to.
fn batch(ids: std::ops::Range<u32>) -> Batch {
    let mut values: Vec<f32> = ids.clone().flat_map(vector).collect();
    let len = values.len();
    values.resize(len + 16 * DIM, -1.0);
    let row_ids = RowIds::StartingAt(ROW_IDS[ids.start as usize]);
    Batch { values: Arc::new(Float32Array::from(values).slice(0, len)), row_ids, own_bytes: 0 }
}

fn append(vectors: &Vectors, number: usize) {
    let ids = BATCHES[number]..BATCHES[number + 1];
    vectors.append(batch(ids.clone()), &[(0, ids.len() as u32)]);
}

/// Whether an id was committed, and what it was taken for.
type Seen = Result<bool, String>;
type Reader = fn(&Vectors, u32) -> Seen;
type Writer = fn(&Vectors);

fn check<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Seen {
    if found == expected { Ok(true) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// Without having looked whether it is there.
fn read_vector(vectors: &Vectors, id: u32) -> Seen {
    let found = vectors.vector(id);
    if found.is_empty() && id > 0 { Ok(false) } else { check(found, &vector(id)) }
}

fn read_committed_vector(vectors: &Vectors, id: u32) -> Seen {
    if id < vectors.committed() { check(vectors.vector(id), &vector(id)) } else { Ok(false) }
}

fn read_row_id(vectors: &Vectors, id: u32) -> Seen {
    if id < vectors.committed() { check(vectors.row_id(id), Some(ROW_IDS[id as usize])) } else { Ok(false) }
}

/// As many row ids as it says count up, and none past what is committed.
fn read_run(vectors: &Vectors, id: u32) -> Seen {
    if id >= vectors.committed() {
        return Ok(false);
    }
    let Some((row_id, rows)) = vectors.row_id_run(id) else { return Err("no run".to_string()) };
    let rest = &ROW_IDS[id as usize..];
    let counting = rest.iter().zip(row_id..).take_while(|(row_id, count)| **row_id == *count).count();
    check((row_id, (1..=counting).contains(&(rows as usize))), (rest[0], true))
}

fn read_ascends(vectors: &Vectors, id: u32) -> Seen {
    let is_committed = id < vectors.committed();
    check(vectors.ascends(), true).map(|_| is_committed)
}

const READERS: [(&str, Reader); 5] = [
    ("vector", read_vector),
    ("committed vector", read_committed_vector),
    ("row id", read_row_id),
    ("run", read_run),
    ("ascends", read_ascends),
];

/// The first batch is there, a writer goes on, and a reader looks for one id.
fn explore(run: Run, write: Writer, id: u32, read: Reader) -> BTreeSet<Seen> {
    let setup = || {
        let vectors = Vectors::new(DIM);
        append(&vectors, 0);
        vectors
    };
    outcomes(run, setup, vec![role(write)], move |vectors: &Vectors| read(vectors, id))
}

/// Appends the other batches.
fn append_all(vectors: &Vectors) {
    (1..BATCHES.len() - 1).for_each(|number| append(vectors, number));
}

/// Appends two batches and takes the second back.
fn take_one_of_two_back(vectors: &Vectors) {
    append(vectors, 1);
    append(vectors, 2);
    take_back(vectors, BATCHES[2]);
}

/// Takes a batch back and appends it again.
fn take_back_and_append_again(vectors: &Vectors) {
    append(vectors, 1);
    take_back(vectors, BATCHES[1]);
    append(vectors, 1);
}

#[allow(unsafe_code)]
fn take_back(vectors: &Vectors, end: u32) {
    // SAFETY: readers beside this writer look up ids below `end` alone: see `WRITERS`.
    unsafe { vectors.truncate(end) }
}

/// What writers do, and the end of the ids that readers look for meanwhile.
const WRITERS: [(Writer, u32); 3] = [
    (append_all, ROW_IDS.len() as u32),
    (take_one_of_two_back, BATCHES[2]),
    (take_back_and_append_again, BATCHES[1]),
];

/// What every reader sees of every id beside each of the writers.
fn explore_all() -> impl Iterator<Item = (&'static str, u32, BTreeSet<Seen>)> {
    let readers = READERS.into_iter();
    readers.flat_map(|(name, read)| {
        WRITERS.into_iter().flat_map(move |(write, end)| {
            (0..end).map(move |id| (name, id, explore(Run::FAULTY, write, id, read)))
        })
    })
}

#[test]
fn a_committed_id_resolves_to_its_row_beside_appends() {
    for (name, id, seen) in explore_all() {
        let expected: BTreeSet<Seen> = [Ok(true)].into_iter().chain((id > 0).then_some(Ok(false))).collect();
        assert_eq!(seen, expected, "{name} of id {id}");
    }
}

/// The places in the library's file that ask for more than Relaxed.
fn sites() -> BTreeSet<Site> {
    SITES.set(Some(BTreeSet::new()));
    explore_all().for_each(drop);
    SITES.take().into_iter().flatten().filter(|(file, ..)| file.ends_with("vectors/blocks.rs")).collect()
}

#[test]
fn every_ordering_is_needed() {
    let sites = sites();
    let source = include_str!("../../src/vectors/blocks.rs");
    let lines: Vec<&str> = source.lines().collect();
    let asked =
        lines.iter().filter(|line| line.contains("Ordering::Acquire") || line.contains("Ordering::Release"));
    assert_eq!(asked.count(), sites.len(), "the model comes by all of them: {sites:?}");
    for site in sites {
        WEAKENED.set(Some(site));
        let wrong = explore_all().find_map(|(name, _, seen)| {
            let wrong = seen.into_iter().find_map(Result::err);
            wrong.map(|wrong| format!("{name}: {wrong}"))
        });
        WEAKENED.set(None);
        let line = lines[site.1 as usize - 1].trim();
        println!("without {line:?}: {wrong:?}");
        assert!(wrong.is_some(), "nothing shows that {line:?} is Relaxed");
    }
}

/// An append that panics half way: the next one takes its ids, and the memory of addresses that were stored stays.
#[test]
fn an_append_that_ends_early_leaves_nothing_behind() {
    // Each has a last run of rows that its batch does not have.
    let ends_early: [&[(u32, u32)]; 4] =
        [&[(0, 1), (90, 1)], &[(0, 1), (1, 1), (90, 1)], &[(0, 3), (90, 1)], &[(0, 1), (1, 4), (90, 1)]];
    for (runs, first) in ends_early.into_iter().flat_map(|runs| (0..3).map(move |first| (runs, first))) {
        loom::model(move || {
            let vectors = Vectors::new(DIM);
            (0..first).for_each(|number| append(&vectors, number));
            let values: Arc<dyn Array> = Arc::new(Float32Array::from(vec![-1.0; 5 * DIM]));
            let torn = Batch { values: Arc::clone(&values), row_ids: RowIds::StartingAt(70), own_bytes: 0 };
            assert!(catch_unwind(AssertUnwindSafe(|| vectors.append(torn, runs))).is_err());
            assert_eq!((vectors.committed(), Arc::strong_count(&values)), (BATCHES[first], 2));
            (first..3).for_each(|number| append(&vectors, number));
            for id in 0..BATCHES[3] {
                assert_eq!(vectors.vector(id), vector(id), "{runs:?} after {first}");
                assert_eq!(vectors.row_id(id), Some(ROW_IDS[id as usize]), "{runs:?} after {first}");
            }
        });
    }
}
