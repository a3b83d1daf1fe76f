//! The order of a graph: nodes that a search visits together get ids that lie together.
//!
//! A search goes from neighbor to neighbor. Where ids are given out in the order of arrival, the vectors and lists that
//! it reads are strewn over all memory; numbered along the edges, many of them share pages and lines (Coleman,
//! Segarra, Smola and Shrivastava, arXiv 2104.03221).

use crate::graph::HnswGraph;

impl HnswGraph {
    /// The nodes below `end`, breadth first over level 0 from the entry point, near neighbors first. Inserts wait
    /// meanwhile.
    pub(crate) fn breadth_first(&self, end: usize) -> Vec<u32> {
        let _writer = self.lock_writer();
        let end = self.watermarks.visible().min(u32::try_from(end).unwrap_or(u32::MAX));
        let mut list = Vec::new();
        let neighbors = |id: u32| -> Vec<u32> {
            self.sorted_edges(0, id, end, &mut list);
            list.iter().map(|edge| edge.0).collect()
        };
        let lists: Vec<Vec<u32>> = (0..end).map(neighbors).collect();
        // All nodes can be reached from the entry point; what could not would come at the end.
        breadth_first(&lists, [self.entry_below(end).id].into_iter().chain(0..end))
    }
}

/// The nodes in the order in which they are met from the first start, then from the next one that was not met.
fn breadth_first(lists: &[Vec<u32>], starts: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut met = vec![false; lists.len()];
    let mut order = Vec::with_capacity(lists.len());
    let mut meet = |order: &mut Vec<u32>, id: u32| {
        if let Some(met) = met.get_mut(id as usize).filter(|met| !**met) {
            *met = true;
            order.push(id);
        }
    };
    let mut next = 0;
    for start in starts {
        meet(&mut order, start);
        while let Some(&id) = order.get(next) {
            lists[id as usize].iter().for_each(|&neighbor| meet(&mut order, neighbor));
            next += 1;
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_comes_once_and_those_that_are_met_first_come_first() {
        let lists = [vec![3], vec![4], vec![2, 1], vec![2, 0], vec![], vec![4]];
        assert_eq!(breadth_first(&lists, [3].into_iter().chain(0..6)), [3, 2, 0, 1, 4, 5]);
        assert!(breadth_first(&[], [0].into_iter()).is_empty());
    }

    #[test]
    fn every_node_is_met_once_and_near_ones_first() {
        // A path from 7 over every 37th of 100 nodes, and one node that nothing leads to.
        let mut lists = vec![Vec::new(); 101];
        let path: Vec<u32> = (0..100).map(|step| (7 + step * 37) % 100).collect();
        for pair in path.windows(2) {
            lists[pair[0] as usize].push(pair[1]);
        }
        let order = breadth_first(&lists, [7].into_iter().chain(0..101));
        assert_eq!(order, [&path[..], &[100]].concat());
    }
}
