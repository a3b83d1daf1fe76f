//! Updates and deletes: a search sees a row or the one that took its place, never both or neither.

use std::collections::BTreeSet;

use loom::sync::Mutex;

use crate::util::atomics::{AtomicU32, Ordering};
use crate::version::{IndexVersion, Versions};
use crate::watermarks::Watermarks;
use crate::{Run, outcomes, role};

struct Index {
    /// What each row is about.
    keys: [AtomicU32; 3],
    graph: Watermarks,
    versions: Versions,
    rows: Mutex<()>,
}

/// Rows 0 and 1 are alive, with keys 0 and 1. Row 2 is not written.
fn two_rows() -> Index {
    let index = Index {
        keys: std::array::from_fn(|row| AtomicU32::new(row as u32)),
        graph: Watermarks::new(),
        versions: Versions::starting_with(1, 0, &[]),
        rows: Mutex::new(()),
    };
    index.graph.publish_visible(2);
    // Makes the cells: 0 is not the number of a delete.
    index.versions.bury(0, 0);
    index.versions.publish(IndexVersion::new(1, 2, 0));
    index
}

/// How a row dies between two versions.
type Change = fn(&Versions, u32, IndexVersion, IndexVersion);

fn in_one_word(versions: &Versions, row: u32, _: IndexVersion, after: IndexVersion) {
    versions.bury(row, after.deletes());
    versions.publish(after);
}

fn in_two_stores(versions: &Versions, row: u32, before: IndexVersion, after: IndexVersion) {
    versions.bury(row, after.deletes());
    versions.publish(IndexVersion::new(1, after.vectors() as u32, before.deletes()));
    versions.publish(after);
}

fn cell_after_word(versions: &Versions, row: u32, _: IndexVersion, after: IndexVersion) {
    versions.publish(after);
    versions.bury(row, after.deletes());
}

/// The row dies, and so many rows of the graph come to light.
fn publish(index: &Index, row: u32, added: u32, change: Change) {
    let _one_at_a_time = index.rows.lock().unwrap();
    let before = index.versions.current();
    let after = IndexVersion::new(1, before.vectors() as u32 + added, before.deletes() + 1);
    change(&index.versions, row, before, after);
}

/// Row 2 takes the place of row 0. Linking it in the graph does not wait for deletes.
fn update(index: &Index, change: Change) {
    index.keys[2].store(0, Ordering::Relaxed);
    index.graph.publish_visible(3);
    publish(index, 0, 1, change);
}

fn delete(index: &Index, change: Change) {
    publish(index, 1, 0, change);
}

/// A version, and the keys of the rows that are alive in it and visible in the graph.
type Seen = (IndexVersion, Vec<u32>);
type Reader = fn(&Index) -> Seen;

fn search(index: &Index) -> Seen {
    let version = index.versions.current();
    let visible = index.graph.load().visible;
    (version, live_keys(index, version, visible))
}

fn search_graph_first(index: &Index) -> Seen {
    let visible = index.graph.load().visible;
    let version = index.versions.current();
    (version, live_keys(index, version, visible))
}

fn live_keys(index: &Index, version: IndexVersion, visible: u32) -> Vec<u32> {
    let rows = 0..visible.min(version.vectors() as u32);
    let live = rows.filter(|&row| !index.versions.is_dead(row, version));
    let mut keys: Vec<u32> = live.map(|row| index.keys[row as usize].load(Ordering::Relaxed)).collect();
    keys.sort_unstable();
    keys
}

fn explore(run: Run, change: Change, read: Reader) -> BTreeSet<Seen> {
    let writers = vec![
        role(move |index: &Index| update(index, change)),
        role(move |index: &Index| delete(index, change)),
    ];
    outcomes(run, two_rows, writers, read)
}

#[test]
fn an_update_shows_at_one_instant() {
    let seen = explore(Run::AS_WRITTEN, in_one_word, search);
    let expected = [
        (IndexVersion::new(1, 2, 0), vec![0, 1]),
        (IndexVersion::new(1, 2, 1), vec![0]),
        (IndexVersion::new(1, 3, 1), vec![0, 1]),
        (IndexVersion::new(1, 3, 2), vec![0]),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn anything_less_shows_both_rows_or_neither() {
    let cases: [(Run, Change, Reader, &[u32]); 4] = [
        (Run::FAULTY, in_two_stores, search, &[0, 0, 1]),
        (Run::FAULTY, cell_after_word, search, &[0, 0, 1]),
        (Run::FAULTY, in_one_word, search_graph_first, &[1]),
        (Run::RELAXED, in_one_word, search, &[0, 0, 1]),
    ];
    for (run, change, read, wrong) in cases {
        let seen = explore(run, change, read);
        assert!(seen.iter().any(|(_, keys)| keys == wrong), "not {wrong:?} in {seen:?}");
    }
}
