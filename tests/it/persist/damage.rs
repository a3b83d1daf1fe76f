//! Files that are not what was saved: cut off, with a bit flipped, exchanged, gone. No such index loads.

use std::fs;
use std::path::Path;

use pennon::{DistanceType, Error, Index, SaveOptions};
use tempfile::TempDir;

use super::{View, assert_same, both_of, file_name, files_of, lively, replace};
use crate::data::{build, load, open_mapped, uniform};
use crate::deletes::params;

/// A small index with dead rows and labels.
fn saved() -> (TempDir, Index) {
    let home = tempfile::tempdir().unwrap();
    let (index, labels) = lively(24, 1);
    index.save_with(home.path(), &SaveOptions::new().labels(labels.clone())).unwrap();
    (home, index)
}

/// Panics unless whatever needs the file is refused, and says which file is to blame.
fn assert_refused(dir: &Path, name: &str, case: &str) {
    let errors = [load(dir).err(), open_mapped(dir).err()];
    for error in errors {
        let error = error.unwrap_or_else(|| panic!("{name}, {case}: was accepted"));
        assert!(matches!(&error, Error::CorruptIndex { file, .. } if file.ends_with(name)), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_bit_flipped_at_any_byte_is_found() {
    let (home, index) = saved();
    let view = View::of(&index);
    let mut flips = 0;
    for (name, content) in files_of(home.path()) {
        let path = home.path().join(&name);
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1 << (at % 8);
            replace(&path, damaged);
            assert_refused(home.path(), &name, &format!("bit {} of byte {at}", at % 8));
            flips += 1;
        }
        replace(&path, content);
    }
    println!("{flips} bits flipped");
    both_of(home.path()).iter().for_each(|index| assert_same(index, &view, "mended"));
}

#[test]
fn a_file_of_any_other_length_is_found() {
    let (home, index) = saved();
    let view = View::of(&index);
    for (name, content) in files_of(home.path()) {
        let path = home.path().join(&name);
        for length in 0..content.len() {
            replace(&path, &content[..length]);
            assert_refused(home.path(), &name, &format!("{length} bytes"));
        }
        for more in ["\0".as_bytes(), "}".as_bytes(), "ARROW1".as_bytes(), content.as_slice()] {
            replace(&path, [content.as_slice(), more].concat());
            assert_refused(home.path(), &name, &format!("{} bytes more", more.len()));
        }
        replace(&path, content);
    }
    both_of(home.path()).iter().for_each(|index| assert_same(index, &view, "mended"));
}

#[test]
fn a_file_of_another_index_is_found() {
    let (home, index) = saved();
    let view = View::of(&index);
    let twin = tempfile::tempdir().unwrap();
    let (other, labels) = lively(24, 2);
    other.save_with(twin.path(), &SaveOptions::new().labels(labels.clone())).unwrap();
    let (files, others) = (files_of(home.path()), files_of(twin.path()));
    let vectors = file_name("vectors", 1);
    assert_eq!(files[&vectors].len(), others[&vectors].len());
    let names: Vec<&str> = files.keys().map(String::as_str).filter(|&name| name != "pennon.json").collect();
    let text = b"not an Arrow file".to_vec();
    for (at, &name) in names.iter().enumerate() {
        let path = home.path().join(name);
        let neighbor = names[(at + 1) % names.len()];
        for (content, case) in [
            (&others[name], "that of another index"),
            (&files[neighbor], "another of the same index"),
            (&text, "text"),
        ] {
            // The labels of both are the same, and the dead rows.
            if *content != files[name] {
                replace(&path, content);
                assert_refused(home.path(), name, case);
            }
        }
        fs::remove_file(&path).unwrap();
        assert_refused(home.path(), name, "gone");
        fs::create_dir(&path).unwrap();
        assert!(load(home.path()).is_err() && open_mapped(home.path()).is_err(), "{name} is a directory");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &files[name]).unwrap();
    }
    fs::write(home.path().join("pennon.json"), &others["pennon.json"]).unwrap();
    assert!(load(home.path()).is_err() && open_mapped(home.path()).is_err());
    for text in ["", "{}", "null", "{\"format\": 1}", "[1, 2"] {
        fs::write(home.path().join("pennon.json"), text).unwrap();
        assert_refused(home.path(), "pennon.json", text);
    }
    fs::write(home.path().join("pennon.json"), &files["pennon.json"]).unwrap();
    both_of(home.path()).iter().for_each(|index| assert_same(index, &view, "mended"));
}

/// A save over damage of any kind is a save.
#[test]
fn a_save_needs_nothing_of_what_was_there() {
    let index = build(&uniform(60, 3, 3), DistanceType::L2, &params(), 60);
    let view = View::of(&index);
    let (home, _) = saved();
    for (name, content) in files_of(home.path()) {
        for damage in [Some(&content[..content.len() / 2]), None] {
            for (name, content) in files_of(home.path()) {
                if name.ends_with(".arrow") || name == "pennon.json.new" {
                    replace(&home.path().join(name), &content[..content.len() / 3]);
                }
            }
            match damage {
                Some(damage) => replace(&home.path().join(&name), damage),
                None => fs::remove_file(home.path().join(&name)).unwrap_or(()),
            }
            fs::write(home.path().join("pennon.json.new"), "half a mani").unwrap();
            index.save(home.path()).unwrap();
            both_of(home.path()).iter().for_each(|index| assert_same(index, &view, &name));
            assert_eq!(files_of(home.path()).len(), 5, "{name}: {:?}", files_of(home.path()).keys());
        }
    }
}
