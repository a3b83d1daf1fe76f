//! What goes out: reports as text or JSON, tables, whole files, and panics as one line.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::panic;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::pretty::pretty_format_batches;
use arrow_ipc::writer::FileWriter;
use arrow_json::WriterBuilder;
use arrow_json::writer::JsonArray;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use parquet::arrow::ArrowWriter;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

/// What the last panic said, on whatever thread, and the way to it if `RUST_BACKTRACE` asks for that.
static LAST_PANIC: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

/// Keeps what panics say, for [`last_panic`]; prints nothing.
pub fn remember_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("panic without a message");
        let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
        let last = Some((format!("{message}{place}"), Backtrace::capture()));
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }));
}

/// Message and place of the last panic, and the way to it.
pub fn last_panic() -> (String, Option<Backtrace>) {
    let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (message, trace) = last.unwrap_or_else(|| ("unknown panic".to_owned(), Backtrace::disabled()));
    (message, Some(trace).filter(|trace| trace.status() == BacktraceStatus::Captured))
}

/// A message of any number of lines as one line.
pub fn one_line(message: &str) -> String {
    let parts = message.split(char::is_control).map(str::trim);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Writes one JSON object to standard output.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Named values, printed as aligned lines or as a JSON object.
#[derive(Default)]
pub struct Report(Vec<(&'static str, Value)>);

impl Report {
    pub fn add(&mut self, name: &'static str, value: impl Serialize) {
        self.0.push((name, serde_json::to_value(value).unwrap_or_default()));
    }

    pub fn print(self, json: bool) -> Result<()> {
        if json {
            let object: Map<_, _> =
                self.0.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            return print_json(&object);
        }
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line =
            |(name, value): &(&str, Value)| format!("{:<width$}  {}\n", name.replace('_', " "), text(value));
        print(&self.0.iter().map(line).collect::<String>())
    }
}

/// A value as people read it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(count) => HumanCount(count).to_string(),
            None => number.as_f64().map_or(String::new(), |number| format!("{number:.4}")),
        },
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Object(counts) => {
            let counts = counts.iter().filter(|(_, count)| **count != 0);
            let counts = counts.map(|(name, count)| format!("{} {}", text(count), name.replace('_', " ")));
            Some(counts.collect::<Vec<_>>().join(", "))
                .filter(|text| !text.is_empty())
                .unwrap_or("0".to_owned())
        }
        other => other.to_string(),
    }
}

/// A table of text; every row has a cell for each heading.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<String> {
    let column = |at: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.get(at).map_or("", String::as_str))))
    };
    let columns = headings.iter().enumerate().map(|(at, heading)| (*heading, column(at)));
    let batch = RecordBatch::try_from_iter(columns)?;
    Ok(format!("{}\n", pretty_format_batches(&[batch])?))
}

/// An object for each row.
pub fn json_rows(rows: &RecordBatch) -> Result<Value> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
    writer.write(rows)?;
    writer.finish()?;
    let text = writer.into_inner();
    // Nothing at all is written where there are no rows.
    if text.is_empty() { Ok(json!([])) } else { Ok(serde_json::from_slice(&text)?) }
}

/// What rows are written as.
pub enum Format {
    Parquet,
    Arrow,
    Csv,
}

impl Format {
    /// The format that the name of a file ends with. Fails for a file that could not take the place of what is there.
    pub fn of(path: &Path) -> Result<Self> {
        check_file(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("arrow" | "ipc") => Ok(Self::Arrow),
            Some("csv") => Ok(Self::Csv),
            _ => bail!("{}: its name must end with .parquet, .arrow or .csv", path.display()),
        }
    }

    /// A file of these rows, which appears as a whole or not at all.
    pub fn write(&self, path: &Path, rows: &RecordBatch) -> Result<()> {
        write_file(path, |file| {
            match self {
                Self::Parquet => {
                    let mut writer = ArrowWriter::try_new(file, rows.schema(), None)?;
                    writer.write(rows)?;
                    writer.close()?;
                }
                Self::Arrow => {
                    let mut writer = FileWriter::try_new(BufWriter::new(file), rows.schema_ref())?;
                    writer.write(rows)?;
                    writer.finish()?;
                }
                Self::Csv => arrow_csv::Writer::new(BufWriter::new(file)).write(rows)?,
            }
            Ok(())
        })
    }
}

/// Fails for an output file that could not take the place of what is at `path`.
fn check_file(path: &Path) -> Result<()> {
    if path.exists() && !path.is_file() {
        bail!("{} is not a regular file", path.display());
    }
    Ok(())
}

/// A file that appears as a whole or not at all, in a directory that is made if it is missing.
fn write_file(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let write = || -> Result<()> {
        check_file(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mut file = temporary(parent)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A temporary file with the rights of ordinary files.
fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".pennon-").tempfile_in(directory)
}

/// Fails unless a directory can be made at `path`, or files in the one that is there. Leaves nothing behind.
pub fn check_directory(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|ancestor| ancestor.exists() || ancestor.as_os_str().is_empty());
    let there = there.filter(|there| !there.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        bail!("cannot write {}: {} is not a directory", path.display(), there.display());
    }
    tempfile::tempfile_in(there).with_context(|| format!("cannot write {}", path.display())).map(drop)
}

/// A bar of rows on standard error, if that is a terminal; without a total it counts. It clears itself.
pub fn progress(total: Option<u64>, what: &'static str) -> ProgressBar {
    let template = match total {
        Some(_) => "{msg} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left",
        None => "{msg} {human_pos} rows, {per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_remembered_with_its_place() {
        let hook = panic::take_hook();
        remember_panics();
        let outcome = panic::catch_unwind(|| panic!("number {}", 7));
        panic::set_hook(hook);
        let (message, _) = last_panic();
        assert!(outcome.is_err() && message.starts_with("number 7 at ") && message.contains("output.rs:"));
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line("first\n  second\r\n\n\tthird  \n"), "first second third");
    }

    #[test]
    fn values_are_printed_for_people() {
        let value = serde_json::json!({ "null": 1_234, "non_finite": 5, "zero_norm": 0 });
        assert_eq!(text(&value), "5 non finite, 1,234 null");
        assert_eq!(text(&serde_json::json!({ "null": 0 })), "0");
        assert_eq!(text(&serde_json::json!([1, "a", null])), "1 a none");
    }
}
