//! A graph taken apart and put together again: what export and import work with.
//!
//! The form is that of Lance's batch, without Arrow: one row per (level, node), level 0 first.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::graph::BuildParams;
use crate::graph::health::reach;
use crate::graph::memory::borrowed::{Frozen, Lists, clean};
use crate::graph::memory::slots::{NONE, SlotArena};
use crate::graph::memory::watermarks::Entry;
use crate::graph::{HnswGraph, Writer};
use crate::search::scored::key;
use crate::vectors::VectorSource;

/// All lists of a graph, concatenated.
#[derive(Default)]
pub(crate) struct GraphParts {
    pub entry_point: u32,
    /// Rows of level `l`: `level_offsets[l]..level_offsets[l + 1]`.
    pub level_offsets: Vec<usize>,
    /// The node of each row.
    pub ids: Vec<u32>,
    /// Edges of row `r`: `offsets[r]..offsets[r + 1]`.
    pub offsets: Vec<usize>,
    pub neighbors: Vec<u32>,
    pub distances: Vec<f32>,
}

/// One list of an upper level to import.
pub(crate) struct UpperRow {
    /// Below the number of nodes.
    pub id: u32,
    /// Any neighbors, in the order given; NaN where the distance is not known.
    pub edges: Vec<(u32, f32)>,
}

impl HnswGraph {
    /// The nodes below `end` that are on an upper level: id, first row in the upper arena, levels.
    pub(crate) fn upper_nodes(&self, end: u32, upper_rows: u32) -> Vec<(u32, u32, u32)> {
        let ready = self.watermarks.load().ready;
        let mut nodes: Vec<(u32, u32, u32)> = match self.frozen() {
            Some(frozen) => frozen.upper.iter().map(|(&id, &row)| (id, row, 0)).collect(),
            None => {
                (0..ready).map(|id| (id, self.nodes.upper(id), 0)).filter(|node| node.1 != NONE).collect()
            }
        };
        // Rows are given out in the order of ids.
        nodes.sort_unstable();
        let mut after = upper_rows;
        for node in nodes.iter_mut().rev() {
            node.2 = after - node.1;
            after = node.1;
        }
        nodes.retain(|node| node.0 < end);
        nodes
    }

    /// The first `max_nodes` nodes and the edges among them, every node reachable from the entry
    /// point. Inserts wait meanwhile.
    pub(crate) fn to_parts(&self, max_nodes: usize) -> GraphParts {
        let writer = self.lock_writer();
        let end = self.watermarks.visible().min(u32::try_from(max_nodes).unwrap_or(u32::MAX));
        let mut parts = GraphParts { level_offsets: vec![0], offsets: vec![0], ..Default::default() };
        if end == 0 {
            return parts;
        }
        let rows = end as usize + writer.upper_rows as usize;
        parts.ids.reserve_exact(rows);
        parts.offsets.reserve_exact(rows);
        // Most graphs need no more; `m` may be an importer's word.
        parts.neighbors.reserve(rows * self.params.m.min(32));
        parts.distances.reserve(rows * self.params.m.min(32));
        let upper = self.upper_nodes(end, writer.upper_rows);
        let height = upper.iter().map(|node| node.2 as usize).max().unwrap_or(0) + 1;
        let mut entry = self.entry_below(end);
        if entry.level + 1 < height {
            // Only in the prefix of an imported graph.
            let top = upper.iter().find(|node| node.2 as usize + 1 == height);
            entry = top.map_or(entry, |node| Entry { level: height - 1, id: node.0 });
        }
        parts.entry_point = entry.id;

        if end == self.watermarks.load().ready {
            let mut list = Vec::with_capacity(self.params.cap(0));
            for id in 0..end {
                self.sorted_edges(0, id, end, &mut list);
                parts.push(id, &list);
            }
        } else {
            let list = |id| {
                let mut list = Vec::new();
                self.sorted_edges(0, id, end, &mut list);
                list
            };
            let mut lists: Vec<Vec<(u32, f32)>> = (0..end).map(list).collect();
            reconnect(&mut lists, entry.id, self.params.cap(0));
            for (id, list) in (0..end).zip(&lists) {
                parts.push(id, list);
            }
        }
        parts.level_offsets.push(parts.ids.len());
        let mut list = Vec::with_capacity(self.params.cap(1));
        for level in 1..height {
            for &(id, _, _) in upper.iter().filter(|node| node.2 as usize >= level) {
                self.sorted_edges(level, id, end, &mut list);
                parts.push(id, &list);
            }
            parts.level_offsets.push(parts.ids.len());
        }
        parts
    }

    /// A node's edges to nodes below `end`, nearest first; in the order they came in if the graph was
    /// imported without distances.
    pub(crate) fn sorted_edges(&self, level: usize, id: u32, end: u32, edges: &mut Vec<(u32, f32)>) {
        edges.clear();
        if let Some(frozen) = self.frozen().filter(|_| level == 0) {
            edges.append(&mut frozen.edges(id));
        } else if let Some((arena, row)) = self.arena_row(level, id) {
            edges.extend(arena.edges(row));
        }
        edges.retain(|edge| edge.0 < end);
        if edges.iter().all(|edge| !edge.1.is_nan()) {
            edges.sort_unstable_by_key(|&(id, distance)| key(distance, id));
        } else {
            // Readers use these as ranks at most; a number is better than none.
            edges.iter_mut().for_each(|edge| edge.1 = if edge.1.is_nan() { 0.0 } else { edge.1 });
        }
    }

    /// A graph of lists of a foreign origin: `upper[l]` are the rows of level `l + 1`.
    ///
    /// Where level 0 can be walked as it is, and all of it be reached, it is searched where it lies until
    /// the first insert. Else, and then, it is copied and mended: edges that cannot be are dropped, lists
    /// are cut to their caps, and nodes that no edge leads to are connected.
    pub(crate) fn from_lists(
        params: BuildParams,
        entry_point: u32,
        lists: Box<dyn Lists>,
        upper: Vec<Vec<UpperRow>>,
    ) -> Result<Self> {
        let mut graph = Self::try_new(params)?;
        let len = lists.len();
        if len == 0 {
            return Ok(graph);
        }
        let mut level_of: BTreeMap<u32, usize> = BTreeMap::new();
        for (level, row) in
            upper.iter().enumerate().flat_map(|(l, rows)| rows.iter().map(move |r| (l + 1, r)))
        {
            level_of.insert(row.id, level);
        }
        let top = level_of.values().copied().max().unwrap_or(0);
        let level = |id: u32| level_of.get(&id).copied().unwrap_or(0);
        // A search starts on the top level, wherever the batch said.
        let highest = (0..len as u32).find(|&id| level(id) == top).unwrap_or(0);
        let entry = Entry { level: top, id: if level(entry_point) == top { entry_point } else { highest } };

        let mut rows = HashMap::with_capacity(level_of.len());
        let mut upper_rows = 0;
        for (&id, &levels) in &level_of {
            rows.insert(id, upper_rows);
            for _ in 0..levels {
                graph.upper.grow(upper_rows);
                upper_rows += 1;
            }
        }
        for (level, row) in
            upper.into_iter().enumerate().flat_map(|(l, rows)| rows.into_iter().map(move |r| (l, r)))
        {
            let mut edges = row.edges;
            clean(row.id, len, &mut edges);
            // A node that is not on this level has no list here to lead on.
            edges.retain(|edge| level_of.get(&edge.0).is_some_and(|&highest| highest > level));
            cut(&mut edges, graph.params.cap(level + 1), |_| false);
            if let Some(first) = rows.get(&row.id) {
                graph.upper.write(first + level as u32, &edges);
            }
        }
        let walkable = lists.is_walkable(graph.params.cap(0)) && {
            let reached =
                reach(len, entry.id, |id, visit| lists.neighbors(id).iter().copied().for_each(visit));
            reached.into_iter().all(|reached| reached)
        };
        graph.frozen = Some(Frozen { lists, upper: rows });
        let mut writer = graph.lock_writer();
        writer.root = entry.id;
        writer.upper_rows = upper_rows;
        if !walkable {
            graph.thaw(&mut writer);
        }
        drop(writer);
        for cell in &graph.entries[..=top] {
            cell.store(entry.id, Ordering::Relaxed);
        }
        graph.watermarks.publish_ready(len as u32);
        graph.watermarks.publish_entry(entry);
        graph.watermarks.publish_visible(len as u32);
        Ok(graph)
    }

    /// Copies level 0 of an imported graph, so that it can be changed. Readers go on with either form.
    pub(crate) fn thaw(&self, writer: &mut Writer) {
        let Some(frozen) = self.frozen() else { return };
        let end = frozen.lists.len() as u32;
        for id in 0..end {
            self.nodes.grow(id);
            self.nodes.set_upper(id, frozen.upper.get(&id).copied().unwrap_or(NONE));
        }
        self.plant((0..end).map(|id| frozen.edges(id)).collect(), writer.root);
        let known = |(arena, row): (&SlotArena, u32)| arena.edges(row).all(|edge| !edge.1.is_nan());
        writer.distances_known = (0..end).all(|id| known((&self.nodes, id)))
            && (0..writer.upper_rows).all(|row| known((&self.upper, row)));
        // Pairs with the Acquire load in `frozen()`.
        self.thawed.store(true, Ordering::Release);
    }

    /// Writes level 0 with an anchor for every node: a tree over the given edges, breadth first, with no more
    /// children each than an insertion allows where that will do, and edges of our own to what no edge leads to.
    fn plant(&self, mut lists: Vec<Vec<(u32, f32)>>, root: u32) {
        let (most, cap) = (self.params.max_children(), self.params.cap(0));
        let mut placed = vec![false; lists.len()];
        let mut children = vec![0_usize; lists.len()];
        let mut place = |placed: &mut Vec<bool>, parent: u32, id: u32, limit: usize| {
            let free = children[parent as usize] < limit && !placed[id as usize];
            if free {
                placed[id as usize] = true;
                children[parent as usize] += 1;
                self.nodes.set_anchor(id, parent);
            }
            free
        };
        placed[root as usize] = true;
        let mut order = vec![root];
        let (mut next, mut limit, mut stranded) = (0, most, 0);
        loop {
            while let Some(&id) = order.get(next) {
                for &(neighbor, _) in &lists[id as usize] {
                    if place(&mut placed, id, neighbor, limit) {
                        order.push(neighbor);
                    }
                }
                next += 1;
            }
            if limit == most {
                // Once more, for what only nodes with so many children lead to.
                (next, limit) = (0, cap);
                continue;
            }
            // No edge leads to the rest: hang each below a placed neighbor of its own that has room, or
            // below any placed node that has.
            while stranded < lists.len() && placed[stranded] {
                stranded += 1;
            }
            if stranded == lists.len() {
                break;
            }
            let id = stranded as u32;
            let own = lists[stranded].clone();
            let mut adopts = |n: u32| placed[n as usize] && place(&mut placed, n, id, most);
            let near = own.iter().copied().find(|edge| adopts(edge.0));
            let (parent, distance) = near.unwrap_or_else(|| {
                let any = order.iter().rev().copied().find(|&n| adopts(n));
                (any.unwrap_or(root), f32::NAN)
            });
            if lists[parent as usize].iter().all(|edge| edge.0 != id) {
                lists[parent as usize].push((id, distance));
            }
            order.push(id);
        }
        for (id, edges) in (0_u32..).zip(&mut lists) {
            cut(edges, cap, |neighbor| self.nodes.anchor(neighbor) == id);
            self.nodes.write(id, edges);
        }
    }

    /// Computes the edge distances that an imported graph came without.
    pub(crate) fn measure_edges<S: VectorSource + ?Sized>(&self, upper_rows: u32, source: &S) {
        let ready = self.watermarks.load().ready;
        let mut levels = vec![0; ready as usize];
        for (id, _, upper) in self.upper_nodes(ready, upper_rows) {
            levels[id as usize] = upper as usize;
        }
        for (id, levels) in (0..ready).zip(levels) {
            for level in 0..=levels {
                let mut edges = self.edges(level, id);
                if edges.iter().any(|edge| edge.1.is_nan()) {
                    for edge in edges.iter_mut().filter(|edge| edge.1.is_nan()) {
                        let distance = source.distance_between(id, edge.0);
                        edge.1 = if distance.is_nan() { f32::INFINITY } else { distance };
                    }
                    if let Some((arena, row)) = self.arena_row(level, id) {
                        arena.replace(row, &edges);
                    }
                }
            }
        }
    }
}

impl GraphParts {
    fn push(&mut self, id: u32, edges: &[(u32, f32)]) {
        self.ids.push(id);
        self.neighbors.extend(edges.iter().map(|edge| edge.0));
        self.distances.extend(edges.iter().map(|edge| edge.1));
        self.offsets.push(self.neighbors.len());
    }
}

/// Cuts a list to `cap` edges: the protected ones and the nearest others.
fn cut(edges: &mut Vec<(u32, f32)>, cap: usize, protected: impl Fn(u32) -> bool) {
    if edges.len() <= cap {
        return;
    }
    // Stable, and NaN as infinity: without distances the order given decides.
    edges.sort_by_key(|&(id, distance)| (!protected(id), key(distance, 0)));
    edges.truncate(cap);
}

/// Makes every node of a prefix reachable: an edge that led through a node past the prefix is
/// replaced by one from a neighbor of the node it led to, one whose list has room if there is one.
fn reconnect(lists: &mut [Vec<(u32, f32)>], entry: u32, cap: usize) {
    loop {
        let reached = reach(lists.len(), entry, |id, visit| {
            lists[id as usize].iter().for_each(|edge| visit(edge.0));
        });
        let Some(first) = reached.iter().position(|&r| !r) else { return };
        let stranded = || (first..reached.len()).filter(|&id| !reached[id]);
        let mut connected = false;
        for id in stranded() {
            let near = || lists[id].iter().copied().filter(|edge| reached[edge.0 as usize]);
            let with_room = near().find(|edge| lists[edge.0 as usize].len() < cap);
            if let Some((neighbor, distance)) = with_room.or_else(|| near().next()) {
                let list = &mut lists[neighbor as usize];
                let at = list.partition_point(|edge| edge.1 <= distance);
                list.insert(at, (id as u32, distance));
                connected = true;
            }
        }
        if !connected {
            // Nodes that know only each other become the last choice of nodes whose lists have room.
            let mut hosts: Vec<usize> = (0..lists.len()).filter(|&id| reached[id]).collect();
            for id in stranded() {
                while hosts.len() > 1 && hosts.last().is_some_and(|&host| lists[host].len() >= cap) {
                    hosts.pop();
                }
                let host = hosts.last().copied().unwrap_or(entry as usize);
                lists[host].push((id as u32, f32::INFINITY));
            }
        }
    }
}
