//! What shape a graph is in: levels, degrees, and whether every node can be reached.

use std::fmt;

use super::HnswGraph;
use super::stats::LevelStats;

/// Nodes and lists that are named where something is wrong, at most.
const NAMED: usize = 10;

/// The result of [`HnswGraph::health`].
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// `level_histogram()[l]` nodes have `l` as their highest level.
    pub fn level_histogram(&self) -> Vec<usize> {
        let above = self.level_nodes.iter().skip(1).chain([&0]);
        self.level_nodes.iter().zip(above).map(|(nodes, above)| nodes.saturating_sub(*above)).collect()
    }

    /// Whether every node can be found, and no list is too long.
    pub fn is_healthy(&self) -> bool {
        self.unreachable() == 0 && self.components <= 1 && self.lists_over_cap == 0
    }
}

/// What is wrong is said last: a graph with five lines is healthy.
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

    /// The same for the nodes below `end`.
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
pub(super) fn reach(len: usize, start: u32, edges: impl Fn(u32, &mut dyn FnMut(u32))) -> Vec<bool> {
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
    use crate::params::BuildParams;

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

    #[test]
    fn nodes_are_counted_at_their_highest_level() -> crate::Result<()> {
        let mut health = HnswGraph::try_new(BuildParams::default())?.health();
        assert!(health.level_histogram().is_empty());
        health.level_nodes = vec![100, 30, 4];
        assert_eq!(health.level_histogram(), [70, 26, 4]);
        Ok(())
    }
}
