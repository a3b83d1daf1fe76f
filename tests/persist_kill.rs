//! A process that is killed while it saves: the index that was there before loads, or the one that was being saved.
//!
//! The process is this test, run again with a directory in its environment. It saves one index after the other and
//! says so before and after each save; it is killed after a random number of lines and a random part of a save. What
//! loads then has to be the index of the last save that it reported as done, or of the one that it had begun.
//! `tests/it/persist/steps.rs` tries the steps of a save one by one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, Hit, Index, Loaded, SaveOptions, SearchParams};
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
fn index_of(save: usize) -> (Index, Option<RecordBatch>) {
    let which = save % INDEXES;
    let rows = 150 + 60 * which;
    let mut rng = StdRng::seed_from_u64(which as u64);
    let values: Vec<f32> = (0..rows * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(values));
    let vectors = FixedSizeListArray::try_new(item, DIM as i32, values, None).unwrap();
    let params = BuildParams::default().num_edges(6).ef_construction(30);
    let index = Index::hnsw(DIM, DistanceType::L2, params).unwrap();
    index.append(&vectors, 0u64).unwrap();
    (0..which as u64 * 5).for_each(|row_id| index.delete(row_id * 3).unwrap());
    let labels = (which % 2 == 1).then(|| {
        let labels: ArrayRef = Arc::new(UInt64Array::from_iter_values((0..rows as u64).map(|row| row * 7)));
        RecordBatch::try_from_iter([("label", labels)]).unwrap()
    });
    (index, labels)
}

fn save(dir: &Path, (index, labels): &(Index, Option<RecordBatch>)) {
    match labels {
        Some(labels) => index.save_with(dir, &SaveOptions::new().labels(labels.clone())).unwrap(),
        None => index.save(dir).unwrap(),
    }
}

/// All that tells one index from another.
#[derive(PartialEq)]
struct Content {
    graph: RecordBatch,
    vectors: RecordBatch,
    live: Vec<Hit>,
    labels: Option<RecordBatch>,
}

impl Content {
    fn of(index: &Index, labels: Option<RecordBatch>) -> Self {
        Self {
            graph: index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap(),
            vectors: index.reader().snapshot().to_record_batch().unwrap(),
            live: index.search_exact(&[0.1; DIM], &SearchParams::new(usize::MAX)).unwrap().into_vec(),
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
    let say = |line: String| io::stderr().write_all(line.as_bytes()).unwrap();
    say("ready\n".to_owned());
    for number in first.. {
        say(format!("saving {number}\n"));
        save(Path::new(&dir), &indexes[number % INDEXES]);
        say(format!("saved {number}\n"));
    }
}

/// What a process had reported when it was killed.
struct Killed {
    /// The last save that was done.
    last: usize,
    /// Whether the next one had begun.
    is_saving: bool,
}

/// Starts the process, reads so many lines of it, waits a moment more, and kills it.
fn run_and_kill(dir: &Path, first: usize, lines: usize, moment: Duration) -> Killed {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["saves_until_it_is_killed", "--exact", "--test-threads=1"]);
    command.env(DIRECTORY, dir).env(FIRST, first.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    assert_eq!(said.next().as_deref(), Some("ready"));
    let seen: Vec<String> = said.by_ref().take(lines).collect();
    // A sleep takes longer than a save.
    let start = Instant::now();
    while start.elapsed() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    let all: Vec<String> = seen.into_iter().chain(said).collect();
    assert_eq!(status.signal(), Some(9), "it ended by itself: {status}, {all:?}");
    match all.last().and_then(|line| line.split_once(' ')) {
        Some(("saving", number)) => Killed { last: number.parse::<usize>().unwrap() - 1, is_saving: true },
        Some(("saved", number)) => Killed { last: number.parse().unwrap(), is_saving: false },
        _ => Killed { last: first - 1, is_saving: false },
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
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
    // However fast the disk is, kills are spread over a save.
    let a_save = started.elapsed().max(Duration::from_micros(100));

    let mut rng = StdRng::seed_from_u64(1);
    let (mut present, mut before, mut after, mut during, mut unfinished) = (0, 0, 0, 0, 0);
    for kill in 0..KILLS {
        // A save is two lines: the kill comes in the one that has begun, or in the next.
        let (lines, moment) = (rng.random_range(1..7), rng.random_range(Duration::ZERO..a_save));
        let Killed { last, is_saving } = run_and_kill(&dir, present + 1, lines, moment);
        let files = names(&dir);
        // SAFETY: the process that wrote to the files is dead.
        #[allow(unsafe_code, reason = "the files are those of the test")]
        let mapped = unsafe { Index::load_mmap(&dir) };
        let mut has_labels = false;
        for loaded in [Index::load(&dir), mapped] {
            let Loaded { index, labels, .. } = loaded.unwrap();
            has_labels = labels.is_some();
            let found = Content::of(&index, labels);
            let mut possible = last..=last + usize::from(is_saving);
            present = possible.find(|save| contents[save % INDEXES] == found).unwrap_or_else(|| {
                let elsewhere = contents.iter().position(|content| *content == found);
                panic!("kill {kill} after save {last}: index {elsewhere:?} of {INDEXES}")
            });
        }
        if present == last {
            before += 1;
        } else {
            after += 1;
        }
        during += usize::from(is_saving);
        // Files of two saves, or a manifest that is not in place.
        let arrow_files = files.iter().filter(|name| name.ends_with(".arrow")).count();
        let is_whole = arrow_files == 3 + usize::from(has_labels);
        unfinished += usize::from(!is_whole || files.iter().any(|name| name == "pennon.json.new"));
    }
    println!("{KILLS} kills, {during} between the start and the end of a save of {a_save:?}");
    println!("{unfinished} left files of a save that was not done");
    println!("the save before loads {before} times, the one after {after} times; {present} saves in all");
    // Nearly all of them, and most of them: the process does nothing else. But another process may have had its time.
    assert!(during > 0, "no kill was in a save");
    assert!(unfinished > 0, "no kill left anything behind");

    // What was left behind goes with the next save.
    save(&dir, &indexes[0]);
    let mut names = names(&dir);
    assert_eq!(names.len(), 6, "{names:?}");
    names.retain(|name| !name.ends_with(".arrow"));
    assert_eq!(names, ["pennon.json", "pennon.lock"]);
}
