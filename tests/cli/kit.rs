//! Files to give to the `pennon` binary, and runs of it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use tempfile::TempDir;

pub const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet");
pub const DIM: usize = 8;
pub const ROWS: usize = 500;

pub type Row = Option<Vec<Option<f32>>>;

/// A directory that is empty at first.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0.path().display())
    }

    /// A file in the format that its name ends with; without an end it is an Arrow stream.
    pub fn file(&self, name: &str, batch: &RecordBatch) -> String {
        let (file, schema) = (File::create(self.path(name)).unwrap(), batch.schema());
        match name.rsplit_once('.').map(|(_, end)| end) {
            Some("parquet") => {
                let mut writer = ArrowWriter::try_new(file, schema, None).unwrap();
                writer.write(batch).unwrap();
                writer.close().map(drop).unwrap();
            }
            Some(_) => {
                let mut writer = FileWriter::try_new(file, &schema).unwrap();
                let half = batch.num_rows() / 2;
                writer.write(&batch.slice(0, half)).unwrap();
                writer.write(&batch.slice(half, batch.num_rows() - half)).unwrap();
                writer.finish().unwrap();
            }
            None => {
                let mut writer = StreamWriter::try_new(file, &schema).unwrap();
                writer.write(batch).unwrap();
                writer.finish().unwrap();
            }
        }
        self.path(name)
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A saved index of [`rows`] with the column `name` kept.
    pub fn index(&self) -> String {
        let file = self.file("rows.parquet", &batch(fixed(rows()), 0));
        let index = self.path("index");
        succeed(&["build", &file, "--keep", "name", "--output", &index]);
        index
    }
}

pub fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, more].concat()
}

pub fn pennon(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pennon")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Standard output of a run that succeeds and complains of nothing.
#[track_caller]
pub fn succeed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    stdout
}

/// The one JSON object that a run prints.
#[track_caller]
pub fn json(arguments: &[&str]) -> Value {
    let value: Value = serde_json::from_str(&succeed(&with(arguments, &["--json"]))).unwrap();
    assert!(value.is_object(), "{arguments:?}: {value}");
    value
}

/// Asserts exit code 1 and one line on standard error that says `what`.
#[track_caller]
pub fn fails(arguments: &[&str], what: &str) {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("pennon: ") && stderr.ends_with('\n'), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(what), "{arguments:?}: {stderr}");
}

/// Distinct vectors.
pub fn rows() -> Vec<Row> {
    let value = |at: usize| Some((at as f32 * 0.7).sin());
    (0..ROWS).map(|row| Some((row * DIM..(row + 1) * DIM).map(value).collect())).collect()
}

pub fn fixed(rows: Vec<Row>) -> ArrayRef {
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, DIM as i32))
}

pub fn list(rows: Vec<Row>) -> ArrayRef {
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows))
}

/// Rows with ids `10 * row` and names from `name {first}` on.
pub fn batch(vectors: ArrayRef, first: i64) -> RecordBatch {
    let rows = 0..vectors.len() as i64;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row * 10)));
    let holes = rows.clone().map(|row| (row != 250).then_some(row));
    let holes: ArrayRef = Arc::new(Int64Array::from_iter(holes));
    let names = rows.map(|row| format!("name {}", first + row));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    let columns = [("id", ids), ("holes", holes), ("name", names), ("vector", vectors)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub fn row_ids(answer: &Value) -> Vec<u64> {
    answer["neighbors"].as_array().unwrap().iter().map(|row| row["_rowid"].as_u64().unwrap()).collect()
}

/// Starts the command over and over, and kills it later each time, until it comes to its end.
pub fn killed(arguments: &[&str], mut look: impl FnMut()) -> usize {
    for kills in 0.. {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pennon"));
        let mut child = command.args(arguments).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(8 * kills as u64));
        let is_done = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!is_done || status.success(), "{arguments:?} ended by itself: {status}");
        look();
        if is_done {
            return kills;
        }
    }
    0
}
