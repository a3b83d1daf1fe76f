//! An index without its dead rows.

use crate::error::Result;
use crate::graph::HnswGraph;
use crate::index::HnswIndex;

/// With fewer than one of so many rows alive, a build of the rest is cheap, and better than what repair can do.
const REBUILD: usize = 4;

impl HnswIndex {
    /// A new index of the live rows alone, over the same buffers: ids are given out anew, in the old order, row ids
    /// stay. Links that led through dead rows are repaired, which is several times faster than a build; if less than
    /// a quarter of the rows is left, they are linked from scratch. Appends wait meanwhile; rows that are deleted
    /// meanwhile are still in the new index, whose versions are its own and whose count of skipped rows is zero.
    ///
    /// A buffer of the caller stays alive as long as one row of its batch does.
    ///
    /// # Errors
    /// None that are known: as [`try_new`](Self::try_new).
    pub fn compact(&self) -> Result<Self> {
        let _one_at_a_time = self.table.appending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let version = self.version();
        let is_live = |id: u32| !self.table.versions.is_dead(id, version);
        let live: Vec<u32> = (0..version.vectors() as u32).filter(|&id| is_live(id)).collect();
        let store = self.table.store.retain(&live);
        let graph = if live.len() < version.vectors() / REBUILD {
            let graph = HnswGraph::try_new(self.params().clone())?;
            graph.insert_batch(0..live.len() as u32, &store.view())?;
            graph
        } else {
            self.graph.compacted(&live, &self.view(version), &store.view())?
        };
        Ok(Self::of(store, graph))
    }
}
