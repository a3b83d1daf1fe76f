//! What a mapped index takes of memory, as Linux counts it: next to nothing.
//!
//! Measured in processes of their own: this test, run again with a directory in its environment.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs, io};

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, Index, SearchParams};

/// Only the processes that measure have these.
const DIRECTORY: &str = "PENNON_TEST_DIRECTORY";
const MAPPED: &str = "PENNON_TEST_MAPPED";

const ROWS: usize = 20_000;
const DIM: usize = 512;
const VECTORS: usize = ROWS * DIM * size_of::<f32>();

fn saved(dir: &Path, rows: usize) {
    let mut state = 7_u64;
    let values: Vec<f32> = (0..rows * DIM)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        })
        .collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(values));
    let vectors = FixedSizeListArray::try_new(item, DIM as i32, values, None).unwrap();
    let params = BuildParams::default().ef_construction(30);
    let index = Index::hnsw(DIM, DistanceType::L2, params).unwrap();
    index.append(&vectors, 0u64).unwrap();
    index.delete(3).unwrap();
    index.save(dir).unwrap();
}

/// Anonymous memory of this process that is resident: heap and stacks, and no pages of files.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

fn load_and_search(dir: &Path) -> Index {
    let is_mapped = env::var_os(MAPPED).is_some();
    // SAFETY: nobody writes to the files of this test.
    #[allow(unsafe_code, reason = "the files are those of the test")]
    let loaded = if is_mapped { unsafe { Index::load_mmap(dir) } } else { Index::load(dir) };
    let index = loaded.unwrap().index;
    for query in 0..200 {
        let query: Vec<f32> = (0..DIM).map(|at| ((query * DIM + at) as f32).sin().abs()).collect();
        assert_eq!(index.search(&query, &SearchParams::new(10).ef(100)).unwrap().into_vec().len(), 10);
    }
    index
}

/// Not a test: what the processes do.
#[test]
fn loads_and_says_what_it_took() {
    let Some(home) = env::var_os(DIRECTORY) else { return };
    let home = Path::new(&home);
    // What is made once is made before anything is measured.
    drop(load_and_search(&home.join("small")));
    let before = resident();
    let index = load_and_search(&home.join("large"));
    let grown = resident().saturating_sub(before);
    assert_eq!((index.len(), index.tombstones()), (ROWS - 1, 1));
    io::stderr().write_all(format!("grown {grown}\n").as_bytes()).unwrap();
}

fn growth(home: &Path, is_mapped: bool) -> usize {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["loads_and_says_what_it_took", "--exact", "--test-threads=1"]).env(DIRECTORY, home);
    if is_mapped {
        command.env(MAPPED, "1");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    said.lines().find_map(|line| line.strip_prefix("grown ")).unwrap().parse().unwrap()
}

#[test]
fn a_mapped_index_has_next_to_nothing_on_the_heap() {
    let home = tempfile::tempdir().unwrap();
    saved(&home.path().join("small"), 600);
    saved(&home.path().join("large"), ROWS);
    let graph = fs::metadata(home.path().join("large/pennon-graph-1.arrow")).unwrap().len() as usize;
    let (loaded, mapped) = (growth(home.path(), false), growth(home.path(), true));
    println!("{VECTORS} bytes of vectors and {graph} of graph: {loaded} loaded, {mapped} mapped");
    assert!(loaded > VECTORS, "{loaded} bytes cannot be all: the measurement is wrong");
    assert!(mapped < VECTORS / 16, "{mapped} bytes of {VECTORS}");
    assert!(mapped < graph, "{mapped} bytes: as if the graph of {graph} were copied");
}
