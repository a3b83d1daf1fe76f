//! A process that is killed while it saves: the index that was there before loads, or the one that was being saved.
//!
//! The process is this test, run again with a directory in its environment. It saves one index after the other and
//! says so after each save; it is killed at a random moment, and what loads then has to be the index of the last save
//! that was reported, or of the one after it. `tests/it/persist/steps.rs` tries the steps of a save one by one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, HnswIndex, SearchParams, SearchResult};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The directory to save into: only the process that is killed has it.
const DIRECTORY: &str = "PENNON_TEST_DIRECTORY";
/// The number of the first save.
const FIRST: &str = "PENNON_TEST_FIRST_SAVE";
const KILLS: usize = 60;
const DIM: usize = 8;
/// Indexes that are saved in turn.
const INDEXES: usize = 6;

/// The index of a save, and labels of every other one.
fn index_of(save: usize) -> (HnswIndex, Option<RecordBatch>) {
    let which = save % INDEXES;
    let rows = 150 + 60 * which;
    let mut rng = StdRng::seed_from_u64(which as u64);
    let values: Vec<f32> = (0..rows * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(values));
    let vectors = FixedSizeListArray::try_new(item, DIM as i32, values, None).unwrap();
    let params = BuildParams::default().num_edges(6).ef_construction(30);
    let index = HnswIndex::try_new(DIM, DistanceType::L2, params).unwrap();
    index.append(&vectors, 0u64).unwrap();
    (0..which as u64 * 5).for_each(|row_id| index.delete(row_id * 3).unwrap());
    let labels = (which % 2 == 1).then(|| {
        let labels: ArrayRef = Arc::new(UInt64Array::from_iter_values((0..rows as u64).map(|row| row * 7)));
        RecordBatch::try_from_iter([("label", labels)]).unwrap()
    });
    (index, labels)
}

fn save(dir: &Path, (index, labels): &(HnswIndex, Option<RecordBatch>)) {
    match labels {
        Some(labels) => index.save_with_labels(dir, labels).unwrap(),
        None => index.save(dir).unwrap(),
    }
}

/// All that tells one index from another.
#[derive(PartialEq)]
struct Content {
    graph: RecordBatch,
    vectors: RecordBatch,
    live: Vec<SearchResult>,
    labels: Option<RecordBatch>,
}

impl Content {
    fn of(index: &HnswIndex, labels: Option<RecordBatch>) -> Self {
        Self {
            graph: index.graph().to_lance_hnsw_batch(None).unwrap(),
            vectors: index.snapshot().to_record_batch().unwrap(),
            live: index.search_exact(&[0.1; DIM], SearchParams::top(usize::MAX)).unwrap(),
            labels,
        }
    }
}

/// Not a test: what the process does that is killed. It stops by itself if nobody reads what it says.
#[test]
fn saves_until_it_is_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else { return };
    let first: usize = env::var(FIRST).unwrap().parse().unwrap();
    let indexes: Vec<_> = (0..INDEXES).map(index_of).collect();
    // One call each, so that a line is there or it is not.
    io::stderr().write_all(b"ready\n").unwrap();
    for number in first.. {
        save(Path::new(&dir), &indexes[number % INDEXES]);
        io::stderr().write_all(format!("saved {number}\n").as_bytes()).unwrap();
    }
}

/// Starts the process, kills it after a while, and returns the number of the last save that it reported.
fn run_and_kill(dir: &Path, first: usize, after: Duration) -> Option<usize> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["saves_until_it_is_killed", "--exact", "--test-threads=1"]);
    command.env(DIRECTORY, dir).env(FIRST, first.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert_eq!(status.signal(), Some(9), "it ended by itself: {status}, {rest:?}");
    rest.last().map(|line| line.strip_prefix("saved ").unwrap().parse().unwrap())
}

#[test]
fn a_kill_leaves_the_index_before_or_the_one_after() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("index");
    let indexes: Vec<_> = (0..INDEXES).map(index_of).collect();
    let contents: Vec<Content> =
        indexes.iter().map(|(index, labels)| Content::of(index, labels.clone())).collect();
    save(&dir, &indexes[0]);
    let started = Instant::now();
    save(&dir, &indexes[0]);
    // Kills are spread over a few saves, however fast the disk is.
    let spread = (started.elapsed() * 3).max(Duration::from_millis(2));

    let mut rng = StdRng::seed_from_u64(1);
    let (mut present, mut before, mut after) = (0, 0, 0);
    for kill in 0..KILLS {
        let last = run_and_kill(&dir, present + 1, rng.random_range(Duration::ZERO..spread));
        let last = last.unwrap_or(present);
        let labels = HnswIndex::load_labels(&dir).unwrap();
        for index in [HnswIndex::load(&dir).unwrap(), HnswIndex::load_mmap(&dir).unwrap()] {
            let found = Content::of(&index, labels.clone());
            let which = [last, last + 1].into_iter().find(|save| contents[save % INDEXES] == found);
            present = which.unwrap_or_else(|| {
                let elsewhere = contents.iter().position(|content| *content == found);
                panic!("kill {kill} after save {last}: index {elsewhere:?} of {INDEXES}")
            });
        }
        if present == last {
            before += 1;
        } else {
            after += 1;
        }
    }
    println!("{KILLS} kills within {spread:?}: the save before {before} times, the one after {after} times");
    println!("{present} saves in all");

    // What was left behind goes with the next save.
    save(&dir, &indexes[0]);
    let entries = fs::read_dir(&dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 5, "{names:?}");
    names.retain(|name| !name.ends_with(".arrow"));
    assert_eq!(names, ["pennon.json", "pennon.lock"]);
}
