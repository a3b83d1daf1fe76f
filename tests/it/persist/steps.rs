//! A save that ends between any two of its steps, or within one, step by step: the old index loads, or the new one.
//!
//! `tests/persist_kill.rs` kills a process that saves; here no moment is left to chance.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::{load, load_labels, open_mapped};
use pennon::{Index, SaveOptions};

use super::{View, assert_same, both_of, files_of, lively, names_of};

type Files = BTreeMap<String, Vec<u8>>;

/// Makes a directory of exactly these files.
fn lay_out(dir: &Path, files: &Files) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir(dir).unwrap();
    files.iter().for_each(|(name, content)| fs::write(dir.join(name), content).unwrap());
}

/// Lengths of a file that is being written.
fn lengths(content: &[u8]) -> Vec<usize> {
    let mut lengths: Vec<usize> = (0..content.len()).step_by(content.len() / 7 + 1).collect();
    lengths.extend([1, content.len() - 1, content.len()]);
    lengths
}

struct Between {
    old: View,
    new: View,
    third: Index,
    dir: PathBuf,
    states: usize,
}

impl Between {
    /// Both ways of loading give the index; a save from here on is one like any other.
    fn check(&mut self, files: &Files, is_new: bool, case: &str) {
        self.states += 1;
        lay_out(&self.dir, files);
        let (expected, which) = if is_new { (&self.new, "new") } else { (&self.old, "old") };
        for index in both_of(&self.dir) {
            assert_same(&index, expected, &format!("{case}: the {which} index"));
        }
        let labels = load_labels(&self.dir).unwrap();
        assert_eq!(labels.is_some(), is_new, "{case}: the new index has labels, the old one has none");
        self.third.save(&self.dir).unwrap();
        let expected = View::of(&self.third);
        both_of(&self.dir).iter().for_each(|index| assert_same(index, &expected, case));
        let names: Vec<String> = files_of(&self.dir).into_keys().collect();
        let generation = if files.keys().any(|name| name.contains("-2.")) { 3 } else { 2 };
        assert_eq!(names, names_of(generation, &["codes", "graph", "vectors", "tombstones"]), "{case}");
    }
}

#[test]
fn a_save_that_ends_at_any_step_leaves_one_index_that_loads() {
    let home = tempfile::tempdir().unwrap();
    let saved = home.path().join("saved");
    let (old, _) = lively(40, 1);
    let (new, labels) = lively(48, 2);
    old.save(&saved).unwrap();
    let before = files_of(&saved);
    new.save_with(&saved, &SaveOptions::new().labels(labels.clone())).unwrap();
    let after = files_of(&saved);

    let mut between = Between {
        old: View::of(&old),
        new: View::of(&new),
        third: lively(12, 3).0,
        dir: home.path().join("between"),
        states: 0,
    };
    let fresh: Vec<&String> = after.keys().filter(|name| name.ends_with("-2.arrow")).collect();
    assert_eq!(fresh.len(), 5);
    // Files may reach the disk in any order: each is the one that is being written, beside all others or none.
    for &name in &fresh {
        for others in [false, true] {
            for length in lengths(&after[name]) {
                let mut files = before.clone();
                let complete = fresh.iter().filter(|&&other| others && other != name);
                files.extend(complete.map(|&other| (other.clone(), after[other].clone())));
                files.insert(name.clone(), after[name][..length].to_vec());
                between.check(&files, false, &format!("{length} bytes of {name}, others: {others}"));
            }
        }
    }
    let mut files = before.clone();
    files.extend(fresh.iter().map(|&name| (name.clone(), after[name].clone())));
    for length in lengths(&after["pennon.json"]) {
        files.insert("pennon.json.new".to_owned(), after["pennon.json"][..length].to_vec());
        between.check(&files, false, &format!("{length} bytes of the manifest"));
    }
    files.remove("pennon.json.new");
    files.insert("pennon.json".to_owned(), after["pennon.json"].clone());
    between.check(&files, true, "the manifest is replaced");
    let stale: Vec<&String> = before.keys().filter(|name| name.ends_with("-1.arrow")).collect();
    for removed in 1..1 << stale.len() {
        let mut files = files.clone();
        let gone = stale.iter().enumerate().filter(|(at, _)| removed >> at & 1 == 1);
        gone.for_each(|(_, &name)| assert!(files.remove(name).is_some()));
        between.check(&files, true, &format!("old files removed: {removed:b}"));
    }
    println!("{} states between two saves", between.states);
}

/// A first save has no old index to fall back on: until it is done there is none.
#[test]
fn a_first_save_is_all_or_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (index, _) = lively(20, 4);
    let saved = home.path().join("saved");
    index.save(&saved).unwrap();
    let after = files_of(&saved);
    let dir = home.path().join("between");
    let mut files = Files::new();
    for (name, content) in after.iter().filter(|(name, _)| *name != "pennon.json") {
        files.insert(name.clone(), content[..content.len() / 2].to_vec());
        lay_out(&dir, &files);
        assert!(load(&dir).is_err() && open_mapped(&dir).is_err(), "half of {name}");
        files.insert(name.clone(), content.clone());
        lay_out(&dir, &files);
        assert!(load(&dir).is_err() && open_mapped(&dir).is_err(), "{name} is complete");
    }
    lay_out(&dir, &after);
    both_of(&dir).iter().for_each(|loaded| assert_same(loaded, &View::of(&index), "complete"));
}
