//! The graph's watermarks: what is below `ready` is whole, an id past it can be followed, and what is visible is
//! reached.

use std::collections::BTreeSet;

use crate::slots::{NONE, SlotArena};
use crate::watermarks::{Entry, View, Watermarks};
use crate::{Run, edges, outcomes, role, words};

use Broken::{EntryPastReady, Lost, NotCovered, NotWhole, VisiblePastReady};
use Step::{EntryPoint, Forward, Ready, Reverse, Visible};

struct Graph {
    lists: SlotArena,
    watermarks: Watermarks,
}

/// Nodes 0 and 1, which name each other, are published.
fn two_nodes() -> Graph {
    let graph = Graph { lists: SlotArena::new(4, false), watermarks: Watermarks::new() };
    graph.lists.grow(0);
    graph.lists.write(0, &edges(&[1]));
    graph.lists.write(1, &edges(&[0]));
    graph.watermarks.publish_ready(2);
    graph.watermarks.publish_entry(Entry { level: 0, id: 0 });
    graph.watermarks.publish_visible(2);
    graph
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Forward(u32),
    Ready(u32),
    /// The edges back to a node.
    Reverse(u32),
    EntryPoint(u32),
    Visible(u32),
}

/// A batch of nodes 2 and 3, in two sub-batches.
const PROTOCOL: [Step; 8] =
    [Forward(2), Ready(3), Reverse(2), EntryPoint(2), Forward(3), Ready(4), Reverse(3), Visible(4)];

/// A batch of node 2 alone.
const ONE_NODE: [Step; 5] = [Forward(2), Ready(3), Reverse(2), EntryPoint(2), Visible(3)];

/// The edges that a node is published with and keeps.
fn forward(id: u32) -> &'static [u32] {
    match id {
        2 => &[0, 1],
        3 => &[2],
        _ => &[],
    }
}

fn take(step: Step, Graph { lists, watermarks }: &Graph) {
    match step {
        Forward(id) => lists.write(id, &edges(forward(id))),
        Ready(end) => watermarks.publish_ready(end),
        // Node 0 gives up its only edge each time, as the new node leads to the same place.
        Reverse(2) => {
            lists.replace(0, &edges(&[2]));
            lists.replace(1, &edges(&[0, 2]));
        }
        Reverse(_) => {
            lists.replace(0, &edges(&[3]));
            lists.replace(2, &edges(&[0, 1, 3]));
        }
        EntryPoint(id) => watermarks.publish_entry(Entry { level: 1, id }),
        Visible(end) => watermarks.publish_visible(end),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Broken {
    VisiblePastReady,
    EntryPastReady,
    /// A node below `ready` lacks a forward edge.
    NotWhole,
    /// A list names an id past a `ready` that was loaded later.
    NotCovered,
    /// A visible node is not reached.
    Lost,
}

/// `visible` and `ready` of a reader's view, and the `ready` it had in the end.
type Seen = Result<(u32, u32, u32), Broken>;
type Reader = fn(&Graph) -> Seen;

fn view(graph: &Graph) -> Result<View, Broken> {
    let view = graph.watermarks.load();
    if view.visible > view.ready {
        return Err(VisiblePastReady);
    }
    if view.entry.is_none_or(|entry| entry.id >= view.ready) {
        return Err(EntryPastReady);
    }
    Ok(view)
}

fn check_whole(id: u32, list: &BTreeSet<u32>) -> Result<(), Broken> {
    if forward(id).iter().all(|edge| list.contains(edge)) { Ok(()) } else { Err(NotWhole) }
}

/// Reads every list below `ready`, whether or not something leads there.
fn dereference(graph: &Graph) -> Seen {
    let view = view(graph)?;
    for id in 0..view.ready {
        let list: BTreeSet<u32> = words(graph.lists.neighbors(id)).into_iter().collect();
        check_whole(id, &list)?;
    }
    Ok((view.visible, view.ready, view.ready))
}

/// Goes from the entry point wherever lists lead.
fn walk(graph: &Graph) -> Seen {
    walk_rereading(graph, usize::MAX)
}

fn walk_rereading(graph: &Graph, rereads: usize) -> Seen {
    let view = view(graph)?;
    let mut ready = view.ready;
    let mut met: Vec<u32> = view.entry.iter().map(|entry| entry.id).collect();
    let mut next = 0;
    while let Some(&id) = met.get(next) {
        let list = follow(graph, id, &mut ready, rereads)?;
        check_whole(id, &list)?;
        let new: Vec<u32> = list.into_iter().filter(|id| !met.contains(id)).collect();
        met.extend(new);
        next += 1;
    }
    let reached = (0..view.visible).all(|id| met.contains(&id));
    if reached { Ok((view.visible, view.ready, ready)) } else { Err(Lost) }
}

/// The ids of a list. As long as one is past `ready`, that is loaded again, and then the list is read again.
fn follow(graph: &Graph, id: u32, ready: &mut u32, mut rereads: usize) -> Result<BTreeSet<u32>, Broken> {
    let mut list = BTreeSet::new();
    loop {
        let mut past: Option<u32> = None;
        for word in words(graph.lists.neighbors(id)) {
            if word < *ready {
                list.insert(word);
            } else if word != NONE {
                past = past.max(Some(word));
            }
        }
        let Some(past) = past.filter(|_| rereads > 0) else { return Ok(list) };
        rereads -= 1;
        *ready = graph.watermarks.load().ready;
        if past >= *ready {
            return Err(NotCovered);
        }
    }
}

fn explore(run: Run, steps: &[Step], read: Reader) -> BTreeSet<Seen> {
    let steps = steps.to_vec();
    let writer = role(move |graph: &Graph| steps.iter().for_each(|&step| take(step, graph)));
    outcomes(run, two_nodes, vec![writer], read)
}

#[test]
fn nodes_below_ready_are_whole() {
    let seen = explore(Run::AS_WRITTEN, &PROTOCOL, dereference);
    assert_eq!(seen, BTreeSet::from([(2, 2, 2), (2, 3, 3), (2, 4, 4), (4, 4, 4)].map(Ok)));
}

#[test]
fn visible_nodes_are_reached_by_following() {
    let seen = explore(Run::AS_WRITTEN, &PROTOCOL, walk);
    let followed = [(2, 2, 3), (2, 2, 4), (2, 3, 4)];
    let at_rest = [(2, 2, 2), (2, 3, 3), (2, 4, 4), (4, 4, 4)];
    let expected: BTreeSet<Seen> = followed.into_iter().chain(at_rest).map(Ok).collect();
    assert_eq!(seen, expected);
}

#[test]
fn relaxed_orderings_break_every_promise() {
    let seen = explore(Run::RELAXED, &ONE_NODE, walk);
    let broken: BTreeSet<Broken> = seen.into_iter().filter_map(Result::err).collect();
    assert_eq!(broken, BTreeSet::from([VisiblePastReady, EntryPastReady, NotWhole, NotCovered, Lost]));
}

#[test]
fn every_step_has_its_place() {
    // Two steps change places.
    let cases: [(usize, usize, Reader, Broken); 5] = [
        (0, 1, dereference, NotWhole),
        (1, 2, walk, NotCovered),
        (1, 3, walk, EntryPastReady),
        (5, 7, walk, VisiblePastReady),
        (6, 7, walk, Lost),
    ];
    for (one, other, read, broken) in cases {
        let mut steps = PROTOCOL;
        steps.swap(one, other);
        let seen = explore(Run::FAULTY, &steps, read);
        assert!(seen.contains(&Err(broken)), "not {broken:?} but {seen:?} after {steps:?}");
    }
}

/// The list may have come to name a still newer node while `ready` was loaded.
#[test]
fn reading_a_list_again_once_is_not_enough() {
    let seen = explore(Run::FAULTY, &PROTOCOL, |graph| walk_rereading(graph, 1));
    assert!(seen.contains(&Err(Lost)), "{seen:?}");
}
