//! An imported graph as it came: searched in the buffers of its batch, copied at the first insert.

use std::collections::{HashMap, HashSet};

use crate::graph::memory::slots::Row;
use crate::util::prefetch::prefetch;

/// Level-0 lists in a foreign form.
pub(crate) trait Lists: Send + Sync {
    /// Number of nodes.
    fn len(&self) -> usize;

    /// Whether every list names nodes only, and no more than `cap`, so that it can be walked as it is.
    fn is_walkable(&self, cap: usize) -> bool;

    /// The neighbor ids of a node; of interest only if the lists are walkable.
    fn neighbors(&self, id: u32) -> &[u32];

    /// The edges of a node; NaN where there is no distance.
    fn edges(&self, id: u32) -> Vec<(u32, f32)>;
}

/// What stands in for the arena of nodes until the first insert.
pub(crate) struct Frozen {
    pub lists: Box<dyn Lists>,
    /// Row in the upper arena of each node that is on an upper level.
    pub upper: HashMap<u32, u32>,
}

impl Frozen {
    /// The edges of a node that can be: not to itself, none twice, to nodes only.
    pub fn edges(&self, id: u32) -> Vec<(u32, f32)> {
        let mut edges = self.lists.edges(id);
        clean(id, self.lists.len(), &mut edges);
        edges
    }
}

/// Drops the edges that cannot be.
pub(crate) fn clean(id: u32, len: usize, edges: &mut Vec<(u32, f32)>) {
    let mut seen = HashSet::with_capacity(edges.len());
    edges.retain(|&(neighbor, _)| neighbor != id && (neighbor as usize) < len && seen.insert(neighbor));
}

/// A list to walk: slots of the arena, or ids as they came.
#[derive(Clone, Copy)]
pub(crate) enum List<'a> {
    Slots(Row<'a>),
    Ids(&'a [u32]),
}

impl List<'_> {
    pub const EMPTY: Self = Self::Ids(&[]);

    /// The ids, and whatever stands in unused slots.
    #[inline(always)]
    pub fn for_each(self, visit: impl FnMut(u32)) {
        match self {
            Self::Slots(row) => row.for_each(visit),
            Self::Ids(ids) => ids.iter().copied().for_each(visit),
        }
    }

    /// Starts fetching the list.
    #[inline(always)]
    pub fn prefetch(self) {
        match self {
            Self::Slots(row) => row.prefetch(),
            Self::Ids(ids) => prefetch(ids, 2),
        }
    }
}
