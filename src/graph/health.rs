//! What shape a graph is in: levels, degrees, and whether every node can be reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::graph::HnswGraph;
use crate::graph::stats::LevelStats;

/// Nodes and lists that are named where something is wrong, at most.
const NAMED: usize = 10;

/// The result of [`HnswGraph::health`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GraphHealth {
    /// Nodes in the graph.
    pub nodes: usize,
    /// Nodes that level-0 edges lead to from the entry point.
    pub reachable: usize,
    /// Weakly connected components of level 0.
    pub components: usize,
    /// Edges on level 0.
    pub edges: u64,
    /// Where a search starts.
    pub entry_point: Option<u32>,
    /// Nodes on each level, level 0 first.
    pub level_nodes: Vec<usize>,
    /// `degree_histogram[d]` nodes have `d` neighbors on level 0.
    pub degree_histogram: Vec<usize>,
    /// The longest list of each level.
    pub max_degree: Vec<usize>,
    /// Nodes that no walk can find: the first ten.
    pub unreachable_nodes: Vec<u32>,
    /// Lists with more neighbors than their level allows.
    pub lists_over_cap: usize,
    /// The first ten of them.
    pub long_lists: Vec<LongList>,
}

/// A list with more neighbors than its level allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LongList {
    /// Whose list it is.
    pub id: u32,
    /// On which level.
    pub level: usize,
    /// Neighbors in the list.
    pub degree: usize,
    /// Neighbors that there may be.
    pub cap: usize,
}

impl GraphHealth {
    /// Nodes that no walk can find.
    pub fn unreachable(&self) -> usize {
        self.nodes - self.reachable
    }

    /// Level-0 neighbors per node.
    pub fn mean_degree(&self) -> f64 {
        if self.nodes == 0 { 0.0 } else { self.edges as f64 / self.nodes as f64 }
    }

    /// Whether every node can be found, and no list is too long.
    pub fn is_healthy(&self) -> bool {
        self.unreachable() == 0 && self.components <= 1 && self.lists_over_cap == 0
    }
}

/// Five lines; what is wrong with the graph, if anything, follows.
impl fmt::Display for GraphHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "nodes         {} ({} unreachable)", self.nodes, self.unreachable())?;
        writeln!(f, "components    {}", self.components)?;
        match self.entry_point {
            Some(id) => writeln!(f, "entry point   {id}")?,
            None => writeln!(f, "entry point   none")?,
        }
        let levels: Vec<String> = self.level_nodes.iter().map(usize::to_string).collect();
        writeln!(f, "levels        {} ({})", levels.len(), levels.join(", "))?;
        write!(
            f,
            "degree        {:.1} on average, at most {}",
            self.mean_degree(),
            self.max_degree.first().copied().unwrap_or(0)
        )?;
        if self.unreachable() > 0 {
            let nodes = self.unreachable_nodes.iter().map(u32::to_string).collect();
            write!(f, "\nunreachable   {}", Named { names: nodes, of: self.unreachable() })?;
        }
        if self.lists_over_cap > 0 {
            let lists = self.long_lists.iter().map(LongList::to_string).collect();
            write!(f, "\nover the cap  {}", Named { names: lists, of: self.lists_over_cap })?;
        }
        Ok(())
    }
}

impl fmt::Display for LongList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, level, degree, cap } = self;
        write!(f, "{id} on level {level} ({degree} of {cap})")
    }
}

/// Some of many.
struct Named {
    names: Vec<String>,
    of: usize,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))?;
        match self.of.saturating_sub(self.names.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl HnswGraph {
    /// Walks the whole graph. Inserts wait meanwhile, searches do not.
    pub fn health(&self) -> GraphHealth {
        self.health_below(usize::MAX)
    }

    /// Measures the health of the nodes below `end`.
    pub(crate) fn health_below(&self, end: usize) -> GraphHealth {
        let writer = self.lock_writer();
        let mut view = self.watermarks.load();
        view.visible = view.visible.min(u32::try_from(end).unwrap_or(u32::MAX));
        let nodes = view.visible as usize;
        let mut health = GraphHealth {
            nodes,
            reachable: 0,
            components: 0,
            edges: 0,
            entry_point: view.entry.map(|entry| entry.id).filter(|_| nodes > 0),
            level_nodes: Vec::new(),
            degree_histogram: Vec::new(),
            max_degree: Vec::new(),
            unreachable_nodes: Vec::new(),
            lists_over_cap: 0,
            long_lists: Vec::new(),
        };
        let Some(entry) = health.entry_point else { return health };

        // Nodes in `[visible, ready)` are there after an insert that a panic cut short: they lead on.
        let linked = view.ready as usize;
        let mut components = Components::new(linked);
        for id in 0..view.ready {
            self.edges(0, id).iter().for_each(|edge| components.join(id, edge.0));
        }
        health.components = components.count();
        let levels = self.count_levels(view.visible, &writer, |level, id, degree| {
            let cap = self.params.cap(level);
            if degree > cap {
                health.lists_over_cap += 1;
                if health.long_lists.len() < NAMED {
                    health.long_lists.push(LongList { id, level, degree, cap });
                }
            }
        });
        health.level_nodes = levels.iter().map(|level| level.nodes).collect();
        health.max_degree = levels.iter().map(LevelStats::max_degree).collect();
        if let Some(level_0) = levels.into_iter().next() {
            health.edges = level_0.edges;
            health.degree_histogram = level_0.degree_histogram;
        }
        let reached = reach(linked, entry, |id, visit| self.neighbors(0, id).for_each(visit));
        let unreached = || (0..view.visible).filter(|&id| !reached[id as usize]);
        health.reachable = nodes - unreached().count();
        health.unreachable_nodes = unreached().take(NAMED).collect();
        health
    }
}

/// Which of the nodes `0..len` edges lead to from `start`.
pub(crate) fn reach(len: usize, start: u32, edges: impl Fn(u32, &mut dyn FnMut(u32))) -> Vec<bool> {
    let mut reached = vec![false; len];
    let mut pending = Vec::new();
    if let Some(first) = reached.get_mut(start as usize) {
        *first = true;
        pending.push(start);
    }
    while let Some(id) = pending.pop() {
        edges(id, &mut |neighbor| {
            if let Some(seen) = reached.get_mut(neighbor as usize).filter(|seen| !**seen) {
                *seen = true;
                pending.push(neighbor);
            }
        });
    }
    reached
}

/// Union-find over node ids.
struct Components(Vec<u32>);

impl Components {
    fn new(len: usize) -> Self {
        Self((0..len as u32).collect())
    }

    fn root(&mut self, mut id: u32) -> u32 {
        while self.0[id as usize] != id {
            let parent = self.0[id as usize];
            self.0[id as usize] = self.0[parent as usize];
            id = parent;
        }
        id
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a as usize] = b;
    }

    fn count(&self) -> usize {
        self.0.iter().enumerate().filter(|&(id, &parent)| id as u32 == parent).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::BuildParams;
    use crate::graph::memory::slots::SlotArena;
    use crate::vectors::test_line::Line;

    const NODES: u32 = 300;

    /// A graph with lists of up to 10 neighbors, 5 on the upper levels, which lie in rows of 16 slots: there is room
    /// for too many.
    fn built() -> crate::Result<HnswGraph> {
        let graph = HnswGraph::try_new(BuildParams::default().num_edges(5))?;
        let points = (0..NODES).map(|id| (id * 97 % 307) as f32);
        graph.insert_batch(0..NODES, &Line(points.collect()))?;
        let health = graph.health();
        assert!(health.is_healthy() && health.nodes == NODES as usize, "{health}");
        Ok(graph)
    }

    #[test]
    fn nodes_that_nothing_leads_to_are_found() -> crate::Result<()> {
        let graph = built()?;
        let entry = graph.health().entry_point;
        // No other node depends on one of these.
        let is_leaf = |id: &u32| (0..NODES).all(|other| graph.nodes.anchor(other) != *id);
        let leaves = (0..NODES).filter(|id| is_leaf(id) && Some(*id) != entry);
        let lost: Vec<u32> = leaves.step_by(3).take(12).collect();
        assert_eq!(lost.len(), 12);
        for id in 0..NODES {
            let mut edges = graph.edges(0, id);
            edges.retain(|edge| !lost.contains(&edge.0));
            graph.nodes.replace(id, &edges);
        }
        let health = graph.health();
        assert!(!health.is_healthy());
        assert_eq!((health.nodes, health.reachable, health.unreachable()), (300, 288, 12), "{health}");
        assert_eq!(health.unreachable_nodes, lost[..10]);
        assert_eq!((health.lists_over_cap, health.long_lists.len()), (0, 0));
        let names: Vec<String> = lost[..10].iter().map(u32::to_string).collect();
        let report = health.to_string();
        assert!(report.starts_with("nodes         300 (12 unreachable)\n"), "{report}");
        assert!(report.ends_with(&format!("\nunreachable   {} and 2 more", names.join(", "))), "{report}");

        // Those that lead nowhere either are components of their own.
        graph.nodes.replace(lost[0], &[]);
        let alone = lost.iter().filter(|&&id| graph.edges(0, id).is_empty()).count();
        assert_eq!(graph.health().components, 1 + alone);
        Ok(())
    }

    #[test]
    fn lists_beyond_their_cap_are_found() -> crate::Result<()> {
        let graph = built()?;
        let overfill = |arena: &SlotArena, row: u32, id: u32, degree: usize| {
            let mut edges: Vec<(u32, f32)> = arena.edges(row).collect();
            let is_new = |other: &u32| *other != id && edges.iter().all(|edge| edge.0 != *other);
            let more: Vec<u32> = (0..NODES).filter(is_new).take(degree - edges.len()).collect();
            edges.extend(more.into_iter().map(|other| (other, 1.0)));
            arena.replace(row, &edges);
        };
        let upper_rows = graph.lock_writer().upper_rows;
        let (upper, row, _) = graph.upper_nodes(NODES, upper_rows)[0];
        overfill(&graph.nodes, 70, 70, 12);
        overfill(&graph.upper, row, upper, 7);
        let health = graph.health();
        assert!(!health.is_healthy());
        assert_eq!((health.lists_over_cap, health.unreachable(), health.components), (2, 0, 1), "{health}");
        let long = |id, level, degree, cap| LongList { id, level, degree, cap };
        assert_eq!(health.long_lists, [long(70, 0, 12, 10), long(upper, 1, 7, 5)]);
        assert_eq!((health.max_degree[0], health.max_degree[1], health.degree_histogram[12]), (12, 7, 1));
        let told = format!("\nover the cap  70 on level 0 (12 of 10), {upper} on level 1 (7 of 5)");
        assert!(health.to_string().ends_with(&told), "{health}");

        // The first ten of twelve.
        (100..110).for_each(|id| overfill(&graph.nodes, id, id, 11));
        let health = graph.health();
        assert_eq!((health.lists_over_cap, health.long_lists.len()), (12, 10));
        assert_eq!(health.long_lists[9], long(108, 0, 11, 10));
        assert!(health.to_string().ends_with("108 on level 0 (11 of 10) and 2 more"), "{health}");
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_named() -> crate::Result<()> {
        let empty = HnswGraph::try_new(BuildParams::default())?.health();
        assert!(empty.is_healthy() && empty.to_string().lines().count() == 5, "{empty}");
        let mut health = GraphHealth { nodes: 20, reachable: 18, components: 2, ..empty };
        health.unreachable_nodes = vec![3, 17];
        assert!(!health.is_healthy());
        assert!(health.to_string().ends_with("\nunreachable   3, 17"), "{health}");
        health.reachable = 5;
        assert!(health.to_string().ends_with("\nunreachable   3, 17 and 13 more"), "{health}");

        (health.reachable, health.components, health.lists_over_cap) = (20, 1, 2);
        assert!(!health.is_healthy());
        health.long_lists = vec![LongList { id: 7, level: 0, degree: 40, cap: 32 }];
        let told = "\nover the cap  7 on level 0 (40 of 32) and 1 more";
        assert!(health.to_string().ends_with(told), "{health}");
        Ok(())
    }
}
