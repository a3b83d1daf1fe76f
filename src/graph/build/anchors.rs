//! Reachability: a tree of edges that are never pruned.
//!
//! Every node but the root has an *anchor*: an older neighbor whose edge to it is protected. Anchor
//! edges form a tree over all nodes, on level 0, with the entry point as its root:
//! - a new node is a leaf: its anchor is linked already, and nobody can be anchored to it before;
//! - a node holds at most `m` children, and never more than half of its list
//!   ([`max_children`](crate::BuildParams)): pruning keeps three quarters of a list, so all of them stay and there is
//!   room for others; who comes later is handed on to one of the children, who is a leaf of its own in the end;
//! - a new entry point becomes the root: it links to the old root and becomes that one's anchor.
//!
//! So every node is reachable from the entry point, whatever is selected and pruned and by which strategy. An imported
//! graph may bring nodes with more children than that: all of them stay, and no more are added.

use crate::graph::HnswGraph;
use crate::util::hash::mix;
use crate::vectors::VectorSource;

impl HnswGraph {
    /// A node below `from` in the tree with room for one more child. `edges` gives a node's list.
    pub(crate) fn find_parent(
        &self,
        newcomer: u32,
        from: u32,
        edges: impl Fn(u32) -> Vec<(u32, f32)>,
    ) -> u32 {
        let mut parent = from;
        let mut hash = mix(u64::from(newcomer));
        loop {
            let children: Vec<u32> = edges(parent)
                .iter()
                .map(|edge| edge.0)
                .filter(|&id| self.nodes.anchor(id) == parent)
                .collect();
            if children.len() < self.params.max_children() {
                return parent;
            }
            parent = children[(hash % children.len() as u64) as usize];
            hash = mix(hash);
        }
    }

    /// Makes `parent`, whose list is `edges`, the anchor of `newcomer`. A full list gives up its
    /// farthest edge that is not an anchor.
    pub(crate) fn adopt<S: VectorSource + ?Sized>(
        &self,
        parent: u32,
        newcomer: u32,
        edges: &mut Vec<(u32, f32)>,
        source: &S,
    ) {
        if edges.iter().all(|edge| edge.0 != newcomer) {
            let distance = source.distance_between(parent, newcomer);
            if edges.len() >= self.params.cap(0) {
                let free = edges.iter().enumerate().filter(|(_, edge)| self.nodes.anchor(edge.0) != parent);
                if let Some((at, _)) = free.max_by(|a, b| a.1.1.total_cmp(&b.1.1)) {
                    edges.swap_remove(at);
                }
            }
            edges.push((newcomer, distance));
        }
        self.nodes.set_anchor(newcomer, parent);
    }
}
