//! What do a save and the two ways to load cost, in time and in memory, and is a mapped index slower to search?
//!
//! `cargo bench --bench persist [-- DATA [ROWS]]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends in
//! `-l2` or `-cosine`; without it the rows are clustered ones, 100 MB of them. m = 16, ef_construction = 200.
//!
//! Times are medians; a save waits for the disk, loads find the files in the page cache. Searches are single ones on
//! one thread, k = 10, ef = 64, of both indexes in turn, and have to find the same. Memory is what Linux counts as
//! resident: of this process, with the index and its rows in memory, around the first save, and of a process of its own
//! for each way to load. Without `--bench` among the arguments the sizes are those of a test.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use pennon::{BuildParams, Hit, Index, SearchParams};
use support::measured::{Data, Result, median};

/// The directory of the saved index: only the processes whose memory is measured have it, and whether they map.
const DIRECTORY: &str = "PENNON_BENCH_DIRECTORY";
const MAPPED: &str = "PENNON_BENCH_MAPPED";
const INDEX: &str = "index";
const QUERIES: &str = "query.fbin";

/// How much is measured: with `cargo test` next to nothing.
struct Sizes {
    rows: usize,
    searches: usize,
    rounds: usize,
}

const FULL: Sizes = Sizes { rows: 200_000, searches: 1_000, rounds: 5 };
const TEST: Sizes = Sizes { rows: 500, searches: 10, rounds: 1 };

fn main() -> Result<()> {
    if let Some(home) = env::var_os(DIRECTORY) {
        return memory_of_a_load(Path::new(&home), env::var_os(MAPPED).is_some());
    }
    let sizes = if env::args().any(|argument| argument == "--bench") { FULL } else { TEST };
    let data = Data::load(sizes.rows, 128, sizes.searches)?;
    let queries: Vec<&[f32]> = data.queries.chunks_exact(data.dim).cycle().take(sizes.searches).collect();
    println!("{}: {} rows x {}", data.name, data.rows(), data.dim);
    let params = BuildParams::default().num_edges(16).ef_construction(200);
    let index = Index::hnsw(data.dim, data.distance_type, params)?;
    index.append(&data.array(0)?, 0u64)?;

    // Not in the system's own place for such, which may be memory.
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let dir = home.path().join(INDEX);
    println!("\n| resident MB | all | anonymous | of files |\n|---|---|---|---|");
    resident("before the first save");
    let mut saves = vec![timed(|| index.save(&dir))?.1];
    resident("after it");
    for _ in 1..sizes.rounds {
        saves.push(timed(|| index.save(&dir))?.1);
    }
    write_queries(&home.path().join(QUERIES), &queries)?;
    for mapped in [false, true] {
        let mut command = Command::new(env::current_exe()?);
        command.env(DIRECTORY, home.path());
        if mapped {
            command.env(MAPPED, "1");
        }
        let status = command.status()?;
        assert!(status.success(), "mapped: {mapped}: {status}");
    }

    let (mut loads, mut maps) = (Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        loads.push(timed(|| load(&dir, false))?.1);
        maps.push(timed(|| load(&dir, true))?.1);
    }
    let megabytes = megabytes_in(&dir)?;
    println!("\n| {megabytes:.1} MB of files | seconds | MB/s |\n|---|---|---|");
    for (name, seconds) in [("save", saves), ("load", loads), ("load_mmap", maps)] {
        let seconds = median(seconds);
        println!("| {name} | {seconds:.4} | {:.0} |", megabytes / seconds);
    }
    let answers: Vec<_> = queries.iter().map(|query| search(&index, query)).collect::<Result<_>>()?;
    drop(index);
    searches(&dir, &queries, &answers, sizes.rounds)
}

/// The index of a directory, in memory or mapped.
fn load(dir: &Path, mapped: bool) -> pennon::Result<Index> {
    // SAFETY: nobody writes to the files of this benchmark.
    #[allow(unsafe_code, reason = "the files are those of the benchmark")]
    let loaded = if mapped { unsafe { Index::load_mmap(dir) } } else { Index::load(dir) };
    loaded.map(|loaded| loaded.index)
}

/// The result of a call, and the seconds that it took.
fn timed<T>(call: impl FnOnce() -> pennon::Result<T>) -> Result<(T, f64)> {
    let start = Instant::now();
    let outcome = call()?;
    Ok((outcome, start.elapsed().as_secs_f64()))
}

fn search(index: &Index, query: &[f32]) -> Result<Vec<Hit>> {
    Ok(index.search(query, &SearchParams::new(10).ef(64))?.into_vec())
}

/// Single searches of the loaded and of the mapped index, each first in every other round.
fn searches(dir: &Path, queries: &[&[f32]], answers: &[Vec<Hit>], rounds: usize) -> Result<()> {
    let mut variants = [("loaded", load(dir, false)?, Vec::new()), ("mapped", load(dir, true)?, Vec::new())];
    // The first round brings the pages of the mapping into the process, and is not measured.
    for round in 0..=rounds {
        for (_, index, micros) in &mut variants {
            for (query, expected) in queries.iter().zip(answers) {
                let start = Instant::now();
                let found = search(index, query)?;
                let taken = start.elapsed().as_secs_f64() * 1e6;
                assert_eq!(&found, expected, "other answers than before the save");
                if round > 0 {
                    micros.push(taken);
                }
            }
        }
        variants.reverse();
    }
    variants.sort_by_key(|variant| variant.0);
    println!("\n| index | us per search | against the first |\n|---|---|---|");
    let mut first = None;
    for (name, _, micros) in variants {
        let micros = median(micros);
        let first = *first.get_or_insert(micros);
        println!("| {name} | {micros:.1} | {:.3} |", micros / first);
    }
    Ok(())
}

/// What the processes do whose memory is measured.
fn memory_of_a_load(home: &Path, mapped: bool) -> Result<()> {
    let (dim, queries) = support::fbin::read(&home.join(QUERIES))?;
    let dir = home.join(INDEX);
    let way = if mapped { "load_mmap" } else { "load" };
    resident(&format!("before {way}"));
    let index = load(&dir, mapped)?;
    resident("after it");
    for query in queries.chunks_exact(dim) {
        assert_eq!(search(&index, query)?.len(), 10);
    }
    resident(&format!("after {} searches", queries.len() / dim));
    Ok(())
}

/// Prints the memory of this process, if this is Linux.
fn resident(when: &str) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(format!("{:.1}", kibibytes * 1_024.0 / 1e6))
    };
    let [all, anonymous, of_files] =
        ["VmRSS:", "RssAnon:", "RssFile:"].map(|name| megabytes(name).unwrap_or_else(|| "-".to_owned()));
    println!("| {when} | {all} | {anonymous} | {of_files} |");
}

/// As [`support::fbin::read`] reads it.
fn write_queries(path: &Path, queries: &[&[f32]]) -> Result<()> {
    let (rows, dim) = (queries.len() as u32, queries.first().map_or(0, |query| query.len()) as u32);
    let mut bytes = [rows.to_le_bytes(), dim.to_le_bytes()].concat();
    bytes.extend(queries.iter().flat_map(|query| query.iter()).flat_map(|value| value.to_le_bytes()));
    Ok(fs::write(path, bytes)?)
}

fn megabytes_in(dir: &Path) -> Result<f64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes as f64 / 1e6)
}
