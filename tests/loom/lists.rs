//! A neighbor list that changes while it is read: an edge that stays is met, whatever moves.

use std::collections::BTreeSet;

use crate::slots::{NONE, Row, SlotArena};
use crate::{Run, edges, outcomes, role, words};

type Reader = fn(Row<'_>) -> Vec<u32>;

/// The last edge closes a gap.
const GAP: &[&[u32]] = &[&[0, 1, 2, 3], &[0, 2, 3]];

const CHANGES: [&[&[u32]]; 6] = [
    GAP,
    // In place.
    &[&[0, 1, 2], &[0, 3, 2]],
    &[&[0], &[0, 1, 2]],
    // Down to the last edge, past others that go.
    &[&[0, 1, 2, 3], &[3]],
    // One edge in place, then a gap.
    &[&[0, 1, 2, 3], &[4, 3]],
    // The slot that an edge has left is taken by another one.
    &[&[0, 1, 2, 3], &[0, 2, 3], &[0, 3, 4, 5]],
];

/// All sets of ids that a reader can get of a row that becomes one list after the other.
fn readings(run: Run, lists: &'static [&'static [u32]], read: Reader) -> BTreeSet<BTreeSet<u32>> {
    let setup = move || {
        let arena = SlotArena::new(4, false);
        arena.grow(0);
        arena.write(0, &edges(lists[0]));
        arena
    };
    let writer = role(move |arena: &SlotArena| {
        for list in &lists[1..] {
            arena.replace(0, &edges(list));
        }
    });
    outcomes(run, setup, vec![writer], move |arena: &SlotArena| {
        read(arena.neighbors(0)).into_iter().filter(|&word| word != NONE).collect()
    })
}

#[test]
fn edges_that_stay_are_met() {
    for lists in CHANGES {
        let readings = readings(Run::AS_WRITTEN, lists, words);
        let known: BTreeSet<u32> = lists.concat().into_iter().collect();
        let stay: BTreeSet<u32> =
            known.iter().copied().filter(|id| lists.iter().all(|list| list.contains(id))).collect();
        for reading in &readings {
            assert!(reading.is_superset(&stay) && reading.is_subset(&known), "{reading:?} of {lists:?}");
        }
        for list in [lists[0], lists[lists.len() - 1]] {
            assert!(readings.contains(&BTreeSet::from_iter(list.iter().copied())), "{lists:?}: {readings:?}");
        }
    }
}

#[test]
fn relaxed_readers_miss_an_edge() {
    let readings = readings(Run::RELAXED, GAP, words);
    assert!(readings.iter().any(|ids| !ids.contains(&3)), "{readings:?}");
}

/// The slots from the front: of each pass over the row one word is taken.
fn front_to_back(row: Row<'_>) -> Vec<u32> {
    (0..row.slots()).map(|at| words(row)[row.slots() - 1 - at]).collect()
}

#[test]
fn readers_from_the_front_miss_an_edge() {
    let readings = readings(Run::FAULTY, GAP, front_to_back);
    assert!(readings.iter().any(|ids| !ids.contains(&3)), "{readings:?}");
}
