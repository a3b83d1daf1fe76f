//! What shape a graph is in: levels, degrees, and whether every node can be reached.

use std::fmt;

use super::HnswGraph;

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

    /// Whether every node can be found.
    pub fn is_healthy(&self) -> bool {
        self.unreachable() == 0 && self.components <= 1
    }
}

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
        )
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
        };
        let Some(entry) = health.entry_point else { return health };

        // Nodes in `[visible, ready)` are there after an insert that a panic cut short: they lead on.
        let linked = view.ready as usize;
        let mut components = Components::new(linked);
        health.level_nodes.push(nodes);
        health.max_degree.push(0);
        for id in 0..view.ready {
            let neighbors: Vec<u32> = self.edges(0, id).into_iter().map(|edge| edge.0).collect();
            for &neighbor in &neighbors {
                components.join(id, neighbor);
            }
            if id >= view.visible {
                continue;
            }
            let degree = neighbors.len();
            if health.degree_histogram.len() <= degree {
                health.degree_histogram.resize(degree + 1, 0);
            }
            health.degree_histogram[degree] += 1;
            health.max_degree[0] = health.max_degree[0].max(degree);
            health.edges += degree as u64;
        }
        health.components = components.count();
        for (id, _, levels) in self.upper_nodes(view.visible, writer.upper_rows) {
            for level in 1..=levels as usize {
                if health.level_nodes.len() <= level {
                    health.level_nodes.push(0);
                    health.max_degree.push(0);
                }
                health.level_nodes[level] += 1;
                let degree = self.edges(level, id).len();
                health.max_degree[level] = health.max_degree[level].max(degree);
            }
        }
        let reached = reach(linked, entry, |id, visit| self.neighbors(0, id).for_each(visit));
        health.reachable = reached[..nodes].iter().filter(|&&r| r).count();
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
