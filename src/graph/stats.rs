//! Counting what a graph has: nodes, edges and degrees of each level.

use serde::{Deserialize, Serialize};

use crate::graph::{HnswGraph, Writer};

/// One level of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LevelStats {
    /// Nodes on the level.
    pub nodes: usize,
    /// Edges between them, each counted at the node that has it in its list.
    pub edges: u64,
    /// `degree_histogram[d]` nodes have `d` neighbors; it ends with the longest list.
    pub degree_histogram: Vec<usize>,
}

impl LevelStats {
    /// Neighbors per node.
    pub fn mean_degree(&self) -> f64 {
        if self.nodes == 0 { 0.0 } else { self.edges as f64 / self.nodes as f64 }
    }

    /// The shortest list.
    pub fn min_degree(&self) -> usize {
        self.degree_histogram.iter().position(|&nodes| nodes > 0).unwrap_or(0)
    }

    /// The longest list.
    pub fn max_degree(&self) -> usize {
        self.degree_histogram.len().saturating_sub(1)
    }

    fn count(&mut self, degree: usize) {
        if self.degree_histogram.len() <= degree {
            self.degree_histogram.resize(degree + 1, 0);
        }
        self.degree_histogram[degree] += 1;
        self.nodes += 1;
        self.edges += degree as u64;
    }
}

impl HnswGraph {
    /// Each level of the nodes below `end`, level 0 first. Inserts wait meanwhile.
    pub(crate) fn level_stats(&self, end: usize) -> Vec<LevelStats> {
        let writer = self.lock_writer();
        let end = self.watermarks.visible().min(u32::try_from(end).unwrap_or(u32::MAX));
        self.count_levels(end, &writer, |_, _, _| ())
    }

    /// Counts the levels while the caller holds the lock of inserts. `visit` is called with the level, the id and the degree of each list.
    pub(crate) fn count_levels(
        &self,
        end: u32,
        writer: &Writer,
        mut visit: impl FnMut(usize, u32, usize),
    ) -> Vec<LevelStats> {
        let mut levels: Vec<LevelStats> = Vec::new();
        let mut count = |level: usize, id: u32| {
            if levels.len() <= level {
                levels.resize_with(level + 1, LevelStats::default);
            }
            let degree = self.edges(level, id).len();
            levels[level].count(degree);
            visit(level, id, degree);
        };
        (0..end).for_each(|id| count(0, id));
        for (id, _, highest) in self.upper_nodes(end, writer.upper_rows) {
            (1..=highest as usize).for_each(|level| count(level, id));
        }
        levels
    }

    /// The number of nodes below `end` by the highest level they are on. Inserts wait meanwhile.
    pub(crate) fn level_histogram(&self, end: usize) -> Vec<usize> {
        let writer = self.lock_writer();
        let end = self.watermarks.visible().min(u32::try_from(end).unwrap_or(u32::MAX));
        if end == 0 {
            return Vec::new();
        }
        let mut nodes = vec![end as usize];
        for (_, _, highest) in self.upper_nodes(end, writer.upper_rows) {
            let highest = highest as usize;
            if nodes.len() <= highest {
                nodes.resize(highest + 1, 0);
            }
            nodes[highest] += 1;
            nodes[0] -= 1;
        }
        nodes
    }
}
