//! Edges back to new nodes: planned for all targets at once, before anything is published.

use std::collections::HashMap;

use crate::graph::HnswGraph;
use crate::graph::build::select::{Vectors, prune};
use crate::graph::build::team::map;
use crate::search::scored::{id, key};
use crate::vectors::VectorSource;

/// A new node asks another for an edge back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    pub level: usize,
    pub target: u32,
    /// Distance and id of the new node.
    pub source: u64,
    /// Whether this edge is to be the new node's anchor.
    pub anchor: bool,
}

/// A list that changes.
pub(crate) struct Update {
    pub level: usize,
    pub target: u32,
    pub edges: Vec<(u32, f32)>,
    /// New nodes whose anchor this target had no room for.
    pub(crate) turned_away: Vec<u64>,
}

impl HnswGraph {
    /// The lists that change when the requests are granted. Writes only anchors of new nodes.
    pub(crate) fn plan_reverse<S>(&self, mut requests: Vec<Request>, vectors: Vectors<'_, S>) -> Vec<Update>
    where
        S: VectorSource + ?Sized,
    {
        requests.sort_unstable();
        let groups: Vec<&[Request]> =
            requests.chunk_by(|a, b| (a.level, a.target) == (b.level, b.target)).collect();
        let mut updates = map(&groups, |group| self.plan_target(group, vectors));
        self.hand_on_all(&mut updates, vectors.source);
        updates
    }

    /// One target's new list.
    fn plan_target<S: VectorSource + ?Sized>(&self, group: &[Request], vectors: Vectors<'_, S>) -> Update {
        let Request { level, target, .. } = group[0];
        let mut edges = self.edges(level, target);
        let is_child = |id: u32| level == 0 && self.nodes.anchor(id) == target;
        let mut free_anchors = if level == 0 && group.iter().any(|request| request.anchor) {
            let children = edges.iter().filter(|edge| is_child(edge.0)).count();
            self.params.max_children().saturating_sub(children)
        } else {
            0
        };
        let mut newcomers: Vec<(u32, f32)> = Vec::with_capacity(group.len());
        let mut turned_away = Vec::new();
        for request in group {
            let (newcomer, distance) = (id(request.source), crate::search::scored::distance(request.source));
            if request.anchor && free_anchors == 0 {
                turned_away.push(request.source);
                continue;
            }
            if request.anchor {
                free_anchors -= 1;
                self.nodes.set_anchor(newcomer, target);
            }
            // A neighbor and its anchor ask twice; siblings may have selected each other.
            let known = newcomers.iter().chain(&edges).any(|edge| edge.0 == newcomer);
            if !known {
                newcomers.push((newcomer, distance));
            }
        }
        edges.extend(newcomers);
        let cap = self.params.cap(level);
        if edges.len() > cap {
            let mut candidates: Vec<u64> = edges.iter().map(|&(id, distance)| key(distance, id)).collect();
            candidates.sort_unstable();
            // A little headroom, so that the next edge does not prune again.
            edges = prune(&candidates, cap - cap / 4, &self.params, vectors, is_child);
        }
        Update { level, target, edges, turned_away }
    }

    /// Finds an anchor for the new nodes that were turned away: among the children of the node that
    /// had no room. One after the other, so that the result does not depend on threads.
    fn hand_on_all<S: VectorSource + ?Sized>(&self, updates: &mut Vec<Update>, source: &S) {
        let turned_away: Vec<(u32, u32)> = updates
            .iter()
            .flat_map(|update| update.turned_away.iter().map(|&key| (id(key), update.target)))
            .collect();
        if turned_away.is_empty() {
            return;
        }
        let on_level_0 = updates.iter().enumerate().filter(|(_, update)| update.level == 0);
        let mut planned: HashMap<u32, usize> = on_level_0.map(|(at, update)| (update.target, at)).collect();
        for (newcomer, from) in turned_away {
            let parent = self.find_parent(newcomer, from, |id| match planned.get(&id) {
                Some(&at) => updates[at].edges.clone(),
                None => self.edges(0, id),
            });
            let at = *planned.entry(parent).or_insert_with(|| {
                updates.push(Update {
                    level: 0,
                    target: parent,
                    edges: self.edges(0, parent),
                    turned_away: Vec::new(),
                });
                updates.len() - 1
            });
            self.adopt(parent, newcomer, &mut updates[at].edges, source);
        }
    }
}
