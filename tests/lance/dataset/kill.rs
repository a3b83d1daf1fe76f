//! `pennon build` killed: what is there then is what was there before, or what the build leads to, and the next build
//! clears up what was left.
//!
//! Each build is killed at moments all over the time that it takes, and at others that can be seen from outside. It
//! handles no signals: Ctrl-C ends it as this does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use lance::Dataset;
use pennon::DistanceType;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::dataset::cli::succeed;
use crate::dataset::data::{
    DIM, Home, assert_recall, assert_used, dataset, index_dirs, nearest, reader, recall, rows, run, segments,
    vectors,
};

const L2: DistanceType = DistanceType::L2;
/// A graph that is good enough for recall and quick to build.
const QUICK: [&str; 4] = ["--column", "vector", "--ef-construction", "80"];

/// All rows of a dataset, what its index covers, and answers.
#[derive(PartialEq)]
struct Content {
    ids: Vec<i64>,
    segments: Vec<Vec<u32>>,
    answers: Vec<Vec<i64>>,
}

impl Content {
    fn of(uri: &str) -> Self {
        run(async {
            let dataset = Dataset::open(uri).await.unwrap();
            let mut scan = dataset.scan();
            let found = scan.project(&["id"]).unwrap().try_into_batch().await.unwrap();
            let mut ids = found["id"].as_primitive::<Int64Type>().values().to_vec();
            ids.sort_unstable();
            let mut answers = Vec::new();
            for query in vectors(4, 99).chunks(DIM) {
                answers.push(nearest(&dataset, query, L2, true).await);
            }
            Self { ids, segments: segments(&dataset).await, answers }
        })
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Entries of a directory; none if it is not there.
fn entries(directory: impl AsRef<Path>) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Files of all segments of an index, complete or not.
fn index_files(uri: &str) -> usize {
    let segments = fs::read_dir(format!("{uri}/_indices")).into_iter().flatten().flatten();
    segments.map(|segment| entries(segment.path())).sum()
}

/// A build that is killed over and over.
struct Case<'a> {
    arguments: &'a [&'a str],
    /// Where the dataset is, alone.
    home: &'a Home,
    uri: &'a str,
    /// What it is before the build: a dataset to copy.
    before: &'a str,
    /// Kills at moments within the time of the build.
    timed: usize,
    /// Other moments to kill it.
    events: &'a [&'a dyn Fn() -> bool],
    seed: u64,
}

impl Case<'_> {
    fn prepare(&self) {
        let _ = fs::remove_dir_all(self.uri);
        copy(Path::new(self.before), Path::new(self.uri));
    }

    /// Lets the build come to its end; returns how long it took.
    fn complete(&self) -> Duration {
        let started = Instant::now();
        succeed(self.arguments);
        started.elapsed()
    }

    /// Starts the build, and kills it as soon as it is time; false if it was done before.
    fn kill(&self, is_time: impl Fn(Duration) -> bool) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pennon"));
        command.args(self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        while !is_time(started.elapsed()) {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{:?} ended by itself: {status}", self.arguments);
                return false;
            }
            thread::yield_now();
        }
        child.kill().unwrap();
        !child.wait().unwrap().success()
    }

    fn run(&self) {
        let old = Content::of(self.before);
        self.prepare();
        self.complete();
        let new = Content::of(self.uri);
        assert!(old != new, "the build changes nothing that could be seen");
        run(async {
            let dataset = Dataset::open(self.uri).await.unwrap();
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, L2).await, 0.95, "never killed");
        });
        // Not the first one, which reads the program from the disk.
        self.prepare();
        let length = self.complete();
        assert!(Content::of(self.uri) == new, "the same build leads to something else");

        let mut trial = Trial { case: self, old, new, length, kills: 0, kept: 0 };
        let mut rng = SmallRng::seed_from_u64(self.seed);
        for number in 0..self.timed {
            let within: f64 = rng.random_range(0.0..1.0);
            let moment = trial.length.mul_f64((number as f64 + within) / self.timed as f64);
            trial.kill(&format!("killed after {moment:?}"), |elapsed| elapsed >= moment);
        }
        for (number, event) in self.events.iter().enumerate() {
            trial.kill(&format!("killed at event {number}"), |_| event());
        }
        println!("{} kills, {} before the commit; a build takes {:?}", trial.kills, trial.kept, trial.length);
        assert!(trial.kept > 0, "every build was done before it was killed");
    }
}

/// A case, and what it leads to.
struct Trial<'a> {
    case: &'a Case<'a>,
    old: Content,
    new: Content,
    /// The time of the last build that did everything.
    length: Duration,
    /// Builds that were killed before they were done.
    kills: usize,
    /// Of these, those that had not changed the dataset yet.
    kept: usize,
}

impl Trial<'_> {
    fn kill(&mut self, what: &str, is_time: impl Fn(Duration) -> bool) {
        let case = self.case;
        case.prepare();
        let is_killed = case.kill(is_time);

        let found = Content::of(case.uri);
        let is_new = found == self.new;
        assert!(is_new || found == self.old, "{what}: neither what was there nor what was to come");
        println!("{what}: {}", if is_new { "done" } else { "as before" });
        self.kills += usize::from(is_killed);
        self.kept += usize::from(is_killed && !is_new);

        let took = case.complete();
        // With the index in place there may be nothing to do.
        self.length = if is_new { self.length } else { took };
        assert!(Content::of(case.uri) == self.new, "{what}: built again, it is something else");
        let root = case.home.uri("");
        assert_eq!(entries(&root), 1, "{what}: something is left beside the dataset");
    }
}

#[test]
fn a_killed_index_build_leaves_the_dataset_with_its_index_or_with_more_of_it() {
    let (home, store) = (Home::new(), Home::new());
    let (uri, before) = (home.uri("data"), store.uri("before"));
    run(dataset(&before, 3_000, 3_000));
    succeed(&[["build", before.as_str()].as_slice(), &QUICK].concat());
    run(async {
        let mut dataset = Dataset::open(&before).await.unwrap();
        dataset.append(reader(vec![rows(3_000..5_000, |_| false)]), None).await.unwrap();
    });
    let arguments = [["build", uri.as_str()].as_slice(), &QUICK].concat();
    let (files, versions) = (index_files(&before), entries(format!("{before}/_versions")));
    let is_committed = || entries(format!("{uri}/_versions")) > versions;
    let events: [&dyn Fn() -> bool; 4] = [
        &|| index_dirs(&uri) > 1,
        &|| index_files(&uri) > files,
        &|| index_files(&uri) > files + 1,
        &is_committed,
    ];
    let case = Case {
        arguments: &arguments,
        home: &home,
        uri: &uri,
        before: &before,
        timed: 6,
        events: &events,
        seed: 3,
    };
    case.run();
}

#[test]
fn a_killed_first_index_build_leaves_the_dataset_with_an_index_or_without() {
    let (home, store) = (Home::new(), Home::new());
    let (uri, before) = (home.uri("data"), store.uri("before"));
    run(dataset(&before, 2_000, 1_000));
    let arguments = [["build", uri.as_str()].as_slice(), &QUICK].concat();
    let events: [&dyn Fn() -> bool; 4] =
        [&|| true, &|| index_dirs(&uri) > 0, &|| index_files(&uri) > 0, &|| index_files(&uri) > 1];
    let case = Case {
        arguments: &arguments,
        home: &home,
        uri: &uri,
        before: &before,
        timed: 0,
        events: &events,
        seed: 4,
    };
    case.run();
}
