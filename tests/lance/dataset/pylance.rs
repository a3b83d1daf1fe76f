//! Read by others: pylance of the current version and of an old one search our indexes, with `tests/pylance/check.py`.
//!
//! Each version is installed once, into a virtual environment under `target/`. Where that cannot be done, for want
//! of Python or of a network, the test says so and passes; with `PENNON_REQUIRE_PYLANCE=1` it fails.

use std::env;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lance::Dataset;
use lance::dataset::WriteParams;
use pennon::DistanceType;
use pennon::lance::{Quantizer, attach_index};

use crate::dataset::data::{Home, params, reader, rows, run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pylance/check.py");
/// Set to 1 where a test that cannot run has failed.
const REQUIRED: &str = "PENNON_REQUIRE_PYLANCE";
/// Left in an environment that is complete.
const COMPLETE: &str = "complete";

#[test]
fn current_pylance_finds_what_is_near() {
    check_with("14.0.2");
}

#[test]
fn old_pylance_finds_what_is_near() {
    check_with("7.0.0");
}

fn check_with(version: &str) {
    let python = match environment(version) {
        Ok(python) => python,
        Err(why) => return skip(version, &why),
    };
    let home = Home::new();
    for (metric, quantizer, partitions, least) in [
        (DistanceType::L2, Quantizer::Flat, 1, 0.97),
        (DistanceType::Dot, Quantizer::Flat, 4, 0.97),
        (DistanceType::Cosine, Quantizer::Sq, 4, 0.93),
    ] {
        let uri = home.uri(&format!("{metric}_{partitions}"));
        run(async {
            // Fragments, nulls and deleted rows, so that row ids are not row numbers.
            let write = WriteParams { max_rows_per_file: 1_200, ..Default::default() };
            let batches = reader(vec![rows(0..3_000, |id| id % 50 == 1)]);
            let mut dataset = Dataset::write(batches, &uri, Some(write)).await.unwrap();
            dataset.delete("id % 9 = 4").await.unwrap();
            let params = params(metric).quantizer(quantizer).partitions(partitions);
            attach_index(&mut dataset, "vector", params).await.unwrap();
        });
        let mut command = Command::new(&python);
        let output = command.args([SCRIPT, &uri, &metric.to_string(), &least.to_string()]).output().unwrap();
        let (stdout, stderr) = texts(&output);
        print!("{stdout}");
        assert!(output.status.success(), "pylance {version}, {metric}:\n{stdout}{stderr}");
    }
}

/// Says that nothing was tested, in a way that is seen: what `println!` and `eprintln!` write, a test that passes keeps
/// to itself.
fn skip(version: &str, why: &str) {
    assert!(env::var_os(REQUIRED).is_none_or(|value| value != "1"), "pylance {version}: {why}");
    let line = format!("\npylance {version} was NOT tested ({REQUIRED}=1 makes this a failure): {why}\n");
    let _ = stderr().write_all(line.as_bytes());
}

/// The interpreter of an environment with pylance, or why there is none.
fn environment(version: &str) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
    let directory = target.join(format!("pylance-{version}"));
    let python = directory.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if directory.join(COMPLETE).exists() {
        return Ok(python);
    }
    // What an earlier run did not finish is of no use.
    let _ = std::fs::remove_dir_all(&directory);
    let mut create = Command::new("python3");
    succeed(create.args(["-m", "venv"]).arg(&directory), "python3 -m venv")?;
    let requirement = format!("pylance=={version}");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    succeed(install.args(["--retries", "1", "--timeout", "20", &requirement]), "pip install")?;
    // An installation whose libraries cannot be loaded here.
    succeed(Command::new(&python).args(["-c", "import lance, numpy"]), "import lance")?;
    std::fs::write(directory.join(COMPLETE), "").map_err(|error| error.to_string())?;
    Ok(python)
}

fn succeed(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let (stdout, stderr) = texts(&output);
    let mut lines = stdout.lines().chain(stderr.lines()).filter(|line| !line.trim().is_empty());
    Err(format!("{what}: {}", lines.next_back().unwrap_or("failed without a word")))
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
