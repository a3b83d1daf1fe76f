//! Indexes in directories: what is not there, what is not what was saved, and what else is there.

use std::fs;
use std::path::Path;

use crate::data::{load, load_labels, open_mapped};
use pennon::{Error, Index, Result, SaveOptions};
use serde_json::json;
use tempfile::TempDir;

use super::{rows, ten};
use crate::persist::forged::{manifest_of, seal};
use crate::persist::{files_of, labels, names_of, replace};

const PARTS: [&str; 4] = ["codes", "graph", "tombstones", "vectors"];
const ARROW_FILES: [&str; 3] =
    ["pennon-graph-1.arrow", "pennon-tombstones-1.arrow", "pennon-vectors-1.arrow"];

/// Nine live rows and a dead one in a directory.
fn saved() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let index = ten();
    index.delete(3).unwrap();
    index.save(home.path()).unwrap();
    home
}

/// Both ways to load an index.
fn loads(dir: &Path) -> [Result<Index>; 2] {
    [load(dir), open_mapped(dir)]
}

#[test]
fn a_directory_without_an_index() {
    let home = tempfile::tempdir().unwrap();
    for dir in [home.path().to_path_buf(), home.path().join("nothing")] {
        let manifest = dir.join("pennon.json");
        let error = format!("{} cannot be read or written", manifest.display());
        for outcome in loads(&dir) {
            refused!(outcome, Error::Io { .. }, error);
        }
        refused!(load_labels(&dir), Error::Io { .. }, error);
    }
}

#[test]
fn a_save_where_no_directory_can_be() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("notes");
    fs::write(&file, "mine").unwrap();
    let error = format!("{} cannot be read or written", file.display());
    refused!(ten().save(&file), Error::Io { .. }, error);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_save_beside_files_of_others() {
    let home = tempfile::tempdir().unwrap();
    let foreign = ["notes", "graph.arrow", "vectors-1.arrow"].map(|name| home.path().join(name));
    foreign.iter().for_each(|file| fs::write(file, "mine").unwrap());
    ten().save(home.path()).unwrap();
    ten().save(home.path()).unwrap();
    assert!(foreign.iter().all(|file| fs::read_to_string(file).unwrap() == "mine"));
    assert_eq!(files_of(home.path()).len(), foreign.len() + names_of(2, &PARTS).len());
    assert_eq!(load(home.path()).unwrap().len(), 10);
}

#[test]
fn a_save_with_too_few_labels() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("index");
    let error = "10 vector ids need as many labels, got 9";
    let outcome = ten().save_with(&dir, &SaveOptions::new().labels(labels(9).clone()));
    refused!(outcome, Error::LabelCount { vectors: 10, labels: 9 }, error);
    assert!(!dir.exists());
}

#[test]
fn a_save_that_was_killed() {
    let home = saved();
    fs::write(home.path().join("pennon-graph-2.arrow"), "half a gra").unwrap();
    fs::write(home.path().join("pennon.json.new"), "half a mani").unwrap();
    for outcome in loads(home.path()) {
        assert_eq!(outcome.unwrap().len(), 9);
    }
    ten().save(home.path()).unwrap();
    let names: Vec<String> = files_of(home.path()).into_keys().collect();
    assert_eq!(names, names_of(3, &PARTS));
}

#[test]
fn a_file_that_is_missing() {
    for name in ARROW_FILES {
        let home = saved();
        let file = home.path().join(name);
        fs::remove_file(&file).unwrap();
        let error = format!("{} is not what was saved: it is missing", file.display());
        for outcome in loads(home.path()) {
            refused!(outcome, Error::CorruptIndex { .. }, error);
        }
    }
}

#[test]
fn a_file_of_another_length() {
    let home = saved();
    for name in ARROW_FILES {
        let file = home.path().join(name);
        let content = fs::read(&file).unwrap();
        let longer = [content.as_slice(), &[0]].concat();
        let half = content.len() / 2;
        let cases: [&[u8]; 4] = [&[], &content[..half], &content[..content.len() - 1], &longer];
        for damaged in cases {
            replace(&file, damaged);
            let (is, was) = (damaged.len(), content.len());
            let error = format!("{} is not what was saved: {is} bytes, {was} were saved", file.display());
            for outcome in loads(home.path()) {
                refused!(outcome, Error::CorruptIndex { .. }, error);
            }
        }
        replace(&file, &content);
    }
}

#[test]
fn a_file_with_a_bit_flipped() {
    let home = saved();
    for name in ARROW_FILES {
        let file = home.path().join(name);
        let content = fs::read(&file).unwrap();
        let problem = "its checksum is not that of its content";
        let error = format!("{} is not what was saved: {problem}", file.display());
        for at in [0, content.len() / 2, content.len() - 1] {
            let mut damaged = content.clone();
            damaged[at] ^= 4;
            replace(&file, &damaged);
            for outcome in loads(home.path()) {
                refused!(outcome, Error::CorruptIndex { .. }, error);
            }
        }
        replace(&file, &content);
    }
}

#[test]
fn a_damaged_manifest() {
    let home = saved();
    let file = home.path().join("pennon.json");
    let content = fs::read(&file).unwrap();
    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 4;
    let problem = "its checksum is not that of its content";
    let error = format!("{} is not what was saved: {problem}", file.display());
    let cases: [&[u8]; 4] = [&[], &content[..content.len() - 1], &flipped, b"{}"];
    for damaged in cases {
        fs::write(&file, damaged).unwrap();
        for outcome in loads(home.path()) {
            refused!(outcome, Error::CorruptIndex { .. }, error);
        }
    }
}

#[test]
fn a_manifest_of_another_format() {
    let home = saved();
    let mut manifest = manifest_of(home.path());
    manifest["format"] = json!(3);
    seal(home.path(), manifest);
    let file = home.path().join("pennon.json");
    let problem = "its format is 3, this version of pennon reads 1 to 2";
    let error = format!("{} is not what was saved: {problem}", file.display());
    for outcome in loads(home.path()) {
        refused!(outcome, Error::CorruptIndex { .. }, error);
    }
}

#[test]
fn a_change_of_a_mapped_index() {
    let home = saved();
    let mapped = open_mapped(home.path()).unwrap();
    let one = rows(1).array();
    let error = "the index is mapped from its files and read-only: load it, or compact it, to change it";
    refused!(mapped.append(&one, 100), Error::ReadOnly, error);
    refused!(mapped.append_unique(&one, 100), Error::ReadOnly, error);
    refused!(mapped.upsert(&one, 5), Error::ReadOnly, error);
    refused!(mapped.delete(5), Error::ReadOnly, error);
    assert_eq!((mapped.len(), mapped.tombstones(), mapped.contains(5)), (9, 1, true));
    mapped.compact().unwrap();
    assert_eq!(mapped.append(&one, 100).unwrap(), 9..10);
}
