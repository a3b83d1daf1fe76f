//! Neighbors and distances that no writer writes.

use super::{Case, Fixture, N, either, either_at, works};
use crate::sub_index::data::distance;
use crate::sub_index::draft::Draft;

/// Adds 199 edges with their true distances to every row of level 0, none twice and none to itself.
fn with_long_lists(draft: &mut Draft, fixture: &Fixture) {
    for row in 0..N {
        for step in 1..200 {
            let neighbor = (row * 31 + step * 97) % N;
            if neighbor != row && !draft.neighbors_of(row).contains(&Some(neighbor as u32)) {
                let (from, to) = (fixture.vectors.row(row), fixture.vectors.row(neighbor));
                draft.push_edge(row, neighbor as u32, distance(pennon::DistanceType::L2, from, to));
            }
        }
    }
}

pub fn neighbors(fixture: &Fixture) -> Vec<Case> {
    let good = &fixture.good;
    let rows = good.ids.len();
    let bottom = good.bottom_node();
    let with_first = |id: Option<u32>| good.edit(|draft| draft.neighbors_of(7)[0] = id);
    // An edge to `id` before all others of every row of level 0.
    let with_all = |id: u32| {
        good.edit(|draft| {
            for row in 0..N {
                draft.neighbors_of(row).insert(0, Some(id));
                draft.distances_of(row).insert(0, Some(0.0));
            }
        })
    };
    vec![
        // Lance wrote such ids once, so they are on disks; its reader drops the edges.
        works("a neighbor past the end", with_first(Some(1_000_000))),
        works("a neighbor the number of nodes", with_first(Some(N as u32))),
        works("a neighbor u32::MAX", with_first(Some(u32::MAX))),
        works("a neighbor u32::MAX first in every list", with_all(u32::MAX)),
        works("a neighbor past the end first in every list", with_all(N as u32)),
        works(
            "an upper neighbor past the end",
            good.edit(|draft| {
                draft.push_edge(N, N as u32, 0.5);
            }),
        ),
        // Lance reads it and finds an empty list at the end of the edge.
        either(
            "a neighbor on level 1 that level 1 has not",
            good.edit(|draft| {
                draft.push_edge(N, bottom, 0.5);
            }),
        ),
        works(
            "self loops",
            good.edit(|draft| {
                (0..rows).for_each(|row| draft.push_edge(row, draft.ids[row].unwrap(), 0.0));
            }),
        ),
        works(
            "self loops first",
            good.edit(|draft| {
                for row in 0..rows {
                    let id = draft.ids[row];
                    draft.neighbors_of(row).insert(0, id);
                    draft.distances_of(row).insert(0, Some(0.0));
                }
            }),
        ),
        works(
            "every neighbor twice",
            good.edit(|draft| {
                for row in 0..rows {
                    let (ids, distances) = (draft.neighbors_of(row).clone(), draft.distances_of(row).clone());
                    draft.neighbors_of(row).extend(ids);
                    draft.distances_of(row).extend(distances);
                }
            }),
        ),
        works(
            "node 0 a neighbor of every node",
            good.edit(|draft| {
                (0..N).for_each(|row| draft.push_edge(row, 0, 1.0));
            }),
        ),
        either(
            "a null list",
            good.edit(|draft| {
                (draft.neighbors[7], draft.distances[7]) = (None, None);
            }),
        ),
        either("a null list with distances", good.edit(|draft| draft.neighbors[7] = None)),
        either("a null neighbor", with_first(None)),
        either(
            "a null neighbor in every list",
            good.edit(|draft| {
                (0..N).for_each(|row| draft.neighbors_of(row)[0] = None);
            }),
        ),
        works("an empty list", good.edit(|draft| draft.clear_edges(7..8))),
        works("a list of an upper level empty", good.edit(|draft| draft.clear_edges(N..N + 1))),
        works("no edges above level 0", good.edit(|draft| draft.clear_edges(N..rows))),
        // These three: Lance searches what little there is.
        either_at(0.0, "no edges on level 0", good.edit(|draft| draft.clear_edges(0..N))),
        either_at(0.0, "no edges at all", good.edit(|draft| draft.clear_edges(0..rows))),
        either_at(
            0.0,
            "one edge per list",
            good.edit(|draft| {
                (0..rows).for_each(|row| {
                    draft.neighbors_of(row).truncate(1);
                    draft.distances_of(row).truncate(1);
                });
            }),
        ),
        // The entry point alone, so that no node is reachable at level 0.
        either_at(
            0.0,
            "no edges of the entry point",
            good.edit(|draft| {
                let entry = draft.metadata["entry_point"].as_u64().map(|id| id as u32);
                let of_entry = (0..rows).filter(|row| draft.ids[*row] == entry).collect::<Vec<_>>();
                of_entry.iter().for_each(|row| draft.clear_edges(*row..row + 1));
            }),
        ),
        works("lists of 200 edges", good.edit(|draft| with_long_lists(draft, fixture))),
        works(
            "lists farthest first",
            good.edit(|draft| {
                for row in 0..rows {
                    draft.neighbors_of(row).reverse();
                    draft.distances_of(row).reverse();
                }
            }),
        ),
    ]
}

pub fn distances(fixture: &Fixture) -> Vec<Case> {
    let good = &fixture.good;
    let rows = good.ids.len();
    let each = |change: &dyn Fn(&mut Vec<Option<f32>>)| {
        good.edit(|draft| (0..rows).for_each(|row| change(draft.distances_of(row))))
    };
    let all = |distance: Option<f32>| each(&|list| list.fill(distance));
    vec![
        // Lance loads these as they are and uses the values as ranks only.
        works("all distances 0", all(Some(0.0))),
        // Lists that are not nearest first by what they state.
        either("distances reversed, neighbors not", each(&|list| list.reverse())),
        either(
            "all distances negative",
            each(&|list| {
                list.iter_mut().for_each(|distance| *distance = distance.map(|x| -x - 1.0));
            }),
        ),
        // All below: Lance does not look at the column when it loads, and its compaction
        // rebuilds the graph instead of repairing it.
        either("all distances NaN", all(Some(f32::NAN))),
        either("one distance NaN", good.edit(|draft| draft.distances_of(7)[0] = Some(f32::NAN))),
        either("all distances infinite", all(Some(f32::INFINITY))),
        either("all distances -infinite", all(Some(f32::NEG_INFINITY))),
        either("all distances null", all(None)),
        either("one distance null", good.edit(|draft| draft.distances_of(7)[0] = None)),
        either("all lists of distances empty", each(&|list| list.clear())),
        either("all lists of distances null", good.edit(|draft| draft.distances.fill(None))),
        either("one list of distances null", good.edit(|draft| draft.distances[7] = None)),
        either(
            "one distance too few",
            good.edit(|draft| {
                draft.distances_of(7).pop();
            }),
        ),
        either("one distance too many", good.edit(|draft| draft.distances_of(7).push(Some(1.0)))),
        either(
            "a distance moved to the next row",
            good.edit(|draft| {
                let moved = draft.distances_of(7).pop().unwrap();
                draft.distances_of(8).insert(0, moved);
            }),
        ),
    ]
}
