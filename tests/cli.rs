//! The `pennon` binary as people run it: what it prints, how it fails, what it leaves behind.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float64Array, Int64Array, LargeListArray, ListArray, RecordBatch,
    StringArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tempfile::TempDir;

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet");

type Row = Option<Vec<Option<f32>>>;

/// A directory that is empty at first.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path().display())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn parquet(&self, name: &str, batch: &RecordBatch) -> String {
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        self.path(name)
    }

    fn ipc(&self, name: &str, batches: &[RecordBatch]) -> String {
        let file = File::create(self.path(name)).unwrap();
        let mut writer = FileWriter::try_new(file, &batches[0].schema()).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        self.path(name)
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

fn pennon(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pennon"));
    let output = command.args(arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stdout, stderr)
}

/// Standard output of a run that succeeds.
#[track_caller]
fn succeed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    stdout
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeed(arguments)).unwrap()
}

/// Asserts one line on standard error that says `what`.
#[track_caller]
fn fails(arguments: &[&str], what: &str) {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("pennon: "), "{arguments:?}: {stderr}");
    assert!(stderr.ends_with('\n'), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(what), "{arguments:?}: {stderr}");
}

/// 500 distinct vectors of 8 dimensions.
fn rows() -> Vec<Row> {
    let value = |row: usize, column: usize| Some(((row * 8 + column) as f32 * 0.7).sin());
    (0..500).map(|row| Some((0..8).map(|column| value(row, column)).collect())).collect()
}

fn fixed(rows: Vec<Row>) -> ArrayRef {
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 8))
}

fn list(rows: Vec<Row>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

fn batch(vectors: ArrayRef) -> RecordBatch {
    let count = vectors.len() as i64;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).map(|id| id * 10)));
    let halves: ArrayRef =
        Arc::new(Int64Array::from_iter((0..count).map(|id| (id != count / 2).then_some(id))));
    let negative: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).map(|id| -id)));
    RecordBatch::try_from_iter_with_nullable([
        ("id", ids, false),
        ("holes", halves, true),
        ("negative", negative, false),
        ("vector", vectors, true),
    ])
    .unwrap()
}

#[test]
fn words_have_their_relatives_as_neighbors() {
    let home = Home::new();
    let index = home.path("new/parents/index");
    let built = succeed(&["build", WORDS, "--metric", "cosine", "--output", &index]);
    assert!(built.contains("5,000"), "{built}");
    let recall = built.lines().find(|line| line.starts_with("recall@10"));
    let recall = recall.unwrap().split_whitespace().nth(1).unwrap();
    assert!(recall.parse::<f64>().unwrap() >= 0.98, "{built}");
    assert_eq!(home.names(), ["new"]);

    let search = ["search", &index, "-k", "8"];
    let like = ["--like", "word=guitar", "--show", "word", "--from", WORDS];
    let like = with(&search, &like);
    let table = succeed(&like);
    let relatives = ["bass", "piano", "drums", "guitarist", "acoustic", "vocals"];
    assert!(relatives.iter().any(|word| table.contains(word)), "{table}");
    let answer = json(&with(&like, &["--json"]));
    let neighbors = answer["neighbors"].as_array().unwrap();
    assert_eq!(neighbors.len(), 8);
    assert_eq!(neighbors[0]["columns"]["word"], "guitar");
    assert!(neighbors[0]["distance"].as_f64().unwrap().abs() < 1e-5);
    let row_id = neighbors[0]["row_id"].to_string();
    let by_row = json(&with(&search, &["--row", &row_id, "--json"]));
    let by_row = by_row["neighbors"].as_array().unwrap().iter();
    let row_ids: Vec<&Value> = neighbors.iter().map(|row| &row["row_id"]).collect();
    assert_eq!(by_row.map(|row| &row["row_id"]).collect::<Vec<_>>(), row_ids);

    let text = succeed(&["inspect", &index]);
    for part in ["ef_construction", "5,000 of 5,000", "##", "vectors.arrow"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let inspected = json(&["inspect", &index, "--json"]);
    assert_eq!(inspected["metric"], "cosine");
    assert_eq!(inspected["unreachable"], 0);
    let degrees = inspected["degree_histogram"].as_array().unwrap();
    assert_eq!(degrees.iter().filter_map(Value::as_u64).sum::<u64>(), 5_000);
    let alone = json(&["inspect", &format!("{index}/graph.arrow"), "--json"]);
    assert_eq!(alone["level_nodes"], inspected["level_nodes"]);

    let zeros = ["0"; 100].join(",");
    let wrong: [(&[&str], &str); 10] = [
        (&["--like", "word=guitarr", "--from", WORDS], "has word=guitarr"),
        (&["--like", "wort=x", "--from", WORDS], "columns are: rank, word"),
        (&["--like", "word=guitar"], "--like needs --from"),
        (&["--row", "1", "--show", "word"], "--show needs --from"),
        (&["--row", "5000"], "row id 5000 is not in the index"),
        (&["--vector", "-1,2"], "has 2 numbers"),
        (&["--vector", "[1,x]"], "element 1 is 'x'"),
        // A zero vector has no direction.
        (&["--vector", &zeros], ""),
        (&["--row", "1", "--ef", "0"], "--ef must be at least 1"),
        (&["--row", "1", "--from", "absent"], "no such file"),
    ];
    for (options, what) in wrong {
        fails(&with(&search, options), what);
    }
    let none = ["search", &index, "--row", "1", "-k", "0"];
    fails(&none, "--k must be at least 1");
}

#[test]
fn evaluations_measure_recall_and_draw_it() {
    let home = Home::new();
    let plot = home.path("plots/words.svg");
    let eval = ["eval", WORDS, "--metric", "cosine", "--ef", "10,64"];
    let eval = with(&eval, &["--threads", "2"]);
    let result = json(&with(&eval, &["--plot", &plot, "--json"]));
    assert_eq!(result["queries"], 1_000);
    let results = result["results"].as_array().unwrap();
    let recall = |row: usize| results[row]["recall"].as_f64().unwrap();
    let (low, high) = (recall(0), recall(1));
    assert!(0.7 < low && low <= high && 0.95 < high, "{result}");
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("ef 64"));
    let text = succeed(&eval);
    let says = "1,000 from rows of the file itself";
    assert!(text.contains(says) && text.contains("recall@10"), "{text}");
}

#[test]
fn every_format_and_list_type_gives_the_same_index() {
    let home = Home::new();
    let mut some_null = rows();
    some_null[3] = None;
    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>(some_null.clone());
    let lists = batch(list(some_null.clone()));
    let stream = home.path("stream");
    let mut writer = StreamWriter::try_new(File::create(&stream).unwrap(), &lists.schema()).unwrap();
    writer.write(&lists).unwrap();
    writer.finish().unwrap();
    let files = [
        home.parquet("fixed.parquet", &batch(fixed(some_null.clone()))),
        home.parquet("list.parquet", &lists),
        home.ipc("large.arrow", &[batch(Arc::new(large))]),
        home.ipc("slices.arrow", &[lists.slice(0, 7), lists.slice(7, 493)]),
        stream,
    ];
    let query: Vec<String> = rows()[123].iter().flatten().map(|x| x.unwrap().to_string()).collect();
    let query = query.join(",");
    for (number, file) in files.iter().enumerate() {
        let index = home.path(&format!("index{number}"));
        let built = succeed(&["build", file, "--output", &index, "--row-id", "id"]);
        assert!(built.contains("1 null"), "{built}");
        let search = ["search", &index, "--vector", &query, "--json", "-k", "1"];
        let show = ["--show", "holes", "--from", file, "--row-id", "id"];
        let found = json(&with(&search, &show));
        let nearest = &found["neighbors"][0];
        assert_eq!(nearest["row_id"], 1230, "{file}");
        assert_eq!(nearest["columns"]["holes"], 123, "{file}");
        fails(&["search", &index, "--row", "30"], "row id 30 is not in");
    }
}

#[test]
fn benchmark_files_with_ground_truth_are_read() {
    let home = Home::new();
    let vectors = |range: std::ops::Range<usize>| -> Vec<u8> {
        let header = [range.len() as u32, 8].map(u32::to_le_bytes).concat();
        let rows = &rows()[range];
        let values = rows.iter().flatten().flatten().map(|value| value.unwrap());
        header.into_iter().chain(values.flat_map(f32::to_le_bytes)).collect()
    };
    let base = home.bytes("base.fbin", &vectors(0..500));
    let queries = home.bytes("queries.fbin", &vectors(100..120));
    // The nearest row of each query is the row it was taken from.
    let truth = [20, 1].into_iter().chain(100..120_u32).flat_map(u32::to_le_bytes);
    let truth = home.bytes("truth.ibin", &truth.collect::<Vec<u8>>());
    let eval = ["eval", "--base", &base, "--queries", &queries];
    let given = ["--k", "1", "--ground-truth", &truth];
    for more in [given.to_vec(), Vec::new()] {
        let result = json(&with(&with(&eval, &more), &["--json", "--ef", "64"]));
        assert_eq!(result["queries"], 20);
        let recall = result["results"][0]["recall"].as_f64().unwrap();
        assert!(recall >= 0.99, "{result}");
    }
    fails(&with(&eval, &["--ground-truth", &truth]), "--k is 10");
    let short = home.bytes("short.fbin", &vectors(0..500)[..1000]);
    fails(&["eval", "--base", &short], "it has 1000 bytes");
}

#[test]
fn failed_builds_say_why_and_leave_nothing() {
    let home = Home::new();
    let words = fs::read(WORDS).unwrap();
    let good = home.parquet("good.parquet", &batch(fixed(rows())));
    let ipc = fs::read(home.ipc("good.arrow", &[batch(fixed(rows()))])).unwrap();
    let mut ragged = rows();
    ragged[2] = None;
    ragged[4] = Some(vec![Some(1.0); 9]);
    let nan: Vec<Row> = vec![Some(vec![Some(f32::NAN); 8]); 3];
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let inputs = [
        (home.path("absent"), "no such file"),
        (home.path(""), "is a directory"),
        (home.bytes("empty", b""), "bad magic"),
        (home.bytes("text", b"hello, world"), "bad magic"),
        (home.bytes("half.parquet", &words[..words.len() / 2]), "cannot read"),
        (home.bytes("half.arrow", &ipc[..ipc.len() / 2]), "truncated"),
        (home.bytes("other.fbin", b"12345678"), "bytes"),
        (home.parquet("ragged", &batch(list(ragged))), "row 0 has 8 values, row 4 has 9"),
        (home.parquet("no-rows", &batch(fixed(rows())).slice(0, 0)), "no rows"),
        (home.parquet("dim-0", &batch(list(vec![Some(vec![]); 3]))), "dimension 0"),
        (home.parquet("nulls", &batch(fixed(vec![None; 3]))), "3 null"),
        (home.ipc("null-lists", &[batch(list(vec![None; 3]))]), "all 3 rows are null"),
        (home.parquet("nan", &batch(fixed(nan))), "3 not finite"),
        (home.parquet("double", &batch(doubles)), "Float64"),
        (home.parquet("string", &batch(text)), "Utf8"),
    ];
    let out = home.path("out");
    let before = home.names();
    for (input, what) in &inputs {
        fails(&["build", input, "--output", &out], what);
        assert_eq!(home.names(), before, "{input}");
    }
    let options: [(&[&str], &str); 9] = [
        (&["--column", "vektor"], "columns are: id, holes, negative, vector"),
        (&["--column", "id"], "Int64"),
        (&["--row-id", "ids"], "no column 'ids'"),
        (&["--row-id", "vector"], "not an integer type"),
        (&["--row-id", "holes"], "is null at row 250"),
        (&["--row-id", "negative"], "is negative at row 1"),
        (&["--m", "1"], "m must be at least"),
        (&["--ef-construction", "0"], "ef_construction"),
        (&["--threads", "0"], "--threads must be at least 1"),
    ];
    for (options, what) in options {
        fails(&with(&["build", &good, "--output", &out], options), what);
        assert_eq!(home.names(), before, "{options:?}");
    }
    fails(&["build", &good, "--output", &good], "not a directory");
    fails(&["build", &good, "--output", &format!("{good}/x")], "not a directory");
    fails(&["build", &good, "--output", &home.path("")], "it holds");
    if cfg!(target_os = "linux") {
        fails(&["build", &good, "--output", "/proc/pennon"], "cannot write /proc/pennon");
    }
    fails(&["eval", &good, "--k", "0"], "--k must be at least 1");
    fails(&["eval", &good, "--ef", "10,0"], "--ef must be at least 1");
    fails(&["eval", &good, "--plot", &home.path("")], "not a regular file");
    fails(&["eval", &good, "--queries", WORDS], "dimension 100");
    assert_eq!(home.names(), before);
    assert_eq!(pennon(&["build"]).0, Some(2));
    assert_eq!(pennon(&["search", &out]).0, Some(2));
}

#[test]
fn a_failed_rebuild_leaves_the_index_and_damage_is_reported() {
    let home = Home::new();
    let good = home.parquet("good.parquet", &batch(fixed(rows())));
    let index = home.path("index");
    let (graph, vectors) = (format!("{index}/graph.arrow"), format!("{index}/vectors.arrow"));
    succeed(&["build", &good, "--output", &index]);
    let built = [fs::read(&graph).unwrap(), fs::read(&vectors).unwrap()];
    fails(&["build", &good, "--output", &index, "--row-id", "holes"], "is null at row 250");
    assert_eq!([fs::read(&graph).unwrap(), fs::read(&vectors).unwrap()], built);
    succeed(&["build", &good, "--output", &index, "--seed", "7"]);
    assert_ne!(fs::read(&graph).unwrap(), built[0]);
    assert_eq!(home.names(), ["good.parquet", "index"]);

    for (file, content) in [&graph, &vectors].into_iter().zip(&built) {
        for eighth in 0..8 {
            fs::write(file, &content[..content.len() * eighth / 8]).unwrap();
            fails(&["search", &index, "--row", "0"], ".arrow");
        }
        for flipped in (0..content.len()).step_by(content.len() / 40) {
            let mut damaged = content.clone();
            damaged[flipped] ^= 0x55;
            fs::write(file, damaged).unwrap();
            let (code, _, stderr) = pennon(&["search", &index, "--row", "0"]);
            let clean = code == Some(0) && stderr.is_empty();
            let refused = code == Some(1) && stderr.lines().count() == 1;
            assert!(clean || refused, "byte {flipped} of {file}: {code:?} {stderr}");
        }
        fs::remove_file(file).unwrap();
        fails(&["search", &index, "--row", "0"], "is not a pennon index");
        fs::write(file, content).unwrap();
    }
    fails(&["inspect", &vectors], "vectors.arrow");
    fails(&["search", &home.path("absent"), "--row", "0"], "no such directory");
}

#[test]
fn neighbors_are_chosen_as_asked_for_and_drawn() {
    let home = Home::new();
    let good = home.parquet("good.parquet", &batch(fixed(rows())));
    let index = home.path("index");
    let build = ["build", &good, "--output", &index, "--m", "4"];
    let nearest = ["--m0", "10", "--selection", "nearest", "--prune", "nearest"];
    for options in [&nearest[..], &["--keep-pruned", "--extend-candidates"]] {
        succeed(&with(&build, options));
        let inspected = json(&["inspect", &index, "--json"]);
        let m0 = if options.contains(&"--m0") { 10 } else { 8 };
        assert_eq!((inspected["m"].as_u64(), inspected["m0"].as_u64()), (Some(4), Some(m0)));
        assert_eq!(inspected["unreachable"], 0);
        assert_eq!(inspected["healthy"], true);
        assert_eq!(inspected["unreachable_nodes"], Value::Array(Vec::new()));
        let levels = inspected["level_histogram"].as_array().unwrap();
        assert!(levels.len() > 1);
        assert_eq!(levels.iter().filter_map(Value::as_u64).sum::<u64>(), 500);
        let text = succeed(&["inspect", &index]);
        for title in ["\nedges per node on level 0\n", "\nhighest level of a node\n0  "] {
            assert!(text.contains(title), "{title} in {text}");
        }
    }
    fails(&with(&build, &["--m0", "3"]), "m0 must be at least m = 4, got 3");
    assert_eq!(pennon(&with(&build, &["--selection", "best"])).0, Some(2));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pennon"));
    let home = Home::new();
    let good = home.parquet("good.parquet", &batch(fixed(rows())));
    command.args(["eval", &good, "--ef", "10"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}
