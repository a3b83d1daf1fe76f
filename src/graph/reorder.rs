//! Orders of nodes in which those lie together that a search meets together.
//!
//! A search goes from neighbor to neighbor. Where ids are given out in the order of arrival, the vectors and lists that
//! it reads are strewn over all memory; numbered along the edges, many of them share pages and lines (Coleman,
//! Segarra, Smola and Shrivastava, arXiv 2104.03221).

use super::HnswGraph;

/// An order in which [`HnswIndex::freeze`](crate::HnswIndex::freeze) numbers rows.
///
/// After Coleman, Segarra, Smola and Shrivastava, *Graph Reordering for Cache-Efficient Near Neighbor Search*,
/// [arXiv 2104.03221](https://arxiv.org/abs/2104.03221).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reorder {
    /// Breadth first over level 0 from the entry point, near neighbors first.
    Bfs,
    /// Reverse Cuthill-McKee: breadth first from a node with the fewest neighbors, neighbors with few neighbors first,
    /// and all of it reversed. Neighbors then have ids that differ little.
    ReverseCuthillMckee,
}

impl HnswGraph {
    /// The nodes below `end`, in an order. Inserts wait meanwhile.
    pub(crate) fn order(&self, order: Reorder, end: usize) -> Vec<u32> {
        let _writer = self.lock_writer();
        let end = self.watermarks.visible().min(u32::try_from(end).unwrap_or(u32::MAX));
        let mut list = Vec::new();
        let neighbors = |id: u32| -> Vec<u32> {
            self.sorted_edges(0, id, end, &mut list);
            list.iter().map(|edge| edge.0).collect()
        };
        let lists: Vec<Vec<u32>> = (0..end).map(neighbors).collect();
        match order {
            // All nodes can be reached from the entry point; what could not would come at the end.
            Reorder::Bfs => breadth_first(&lists, [self.entry_below(end).id].into_iter().chain(0..end)),
            Reorder::ReverseCuthillMckee => reverse_cuthill_mckee(&lists),
        }
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

fn reverse_cuthill_mckee(lists: &[Vec<u32>]) -> Vec<u32> {
    // Edges count both ways.
    let mut both = lists.to_vec();
    for (id, list) in (0_u32..).zip(lists) {
        list.iter().for_each(|&neighbor| both[neighbor as usize].push(id));
    }
    for list in &mut both {
        list.sort_unstable();
        list.dedup();
    }
    let degrees: Vec<usize> = both.iter().map(Vec::len).collect();
    let degree = |id: &u32| degrees[*id as usize];
    both.iter_mut().for_each(|list| list.sort_by_key(degree));
    let mut starts: Vec<u32> = (0..lists.len() as u32).collect();
    starts.sort_by_key(degree);
    let mut order = breadth_first(&both, starts.into_iter());
    order.reverse();
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
        assert!(reverse_cuthill_mckee(&[]).is_empty());
    }

    #[test]
    fn neighbors_have_ids_that_differ_little() {
        // A path through 100 nodes, every 37th the next one.
        let next = |id: u32| (id + 37) % 100;
        let mut lists = vec![Vec::new(); 100];
        for step in 0..99_u32 {
            let id = step * 37 % 100;
            lists[id as usize].push(next(id));
        }
        let order = reverse_cuthill_mckee(&lists);
        let mut position = [0_usize; 100];
        for (at, &id) in order.iter().enumerate() {
            position[id as usize] = at;
        }
        assert_eq!(order.len(), 100);
        for (id, list) in lists.iter().enumerate() {
            assert!(list.iter().all(|&to| position[id].abs_diff(position[to as usize]) == 1), "{id}");
        }
    }
}
