//! An index copied in an order that suits searches.

use std::sync::PoisonError;

use crate::error::Result;
use crate::index::HnswIndex;

impl HnswIndex {
    /// A new index of the live rows, whose ids are given out anew so that rows that are met together lie together:
    /// the vectors are copied in that order into one buffer, and the neighbor lists follow. Row ids stay. This index
    /// is as it was; the new one takes appends as any other, in the order of arrival again. After Coleman, Segarra,
    /// Smola and Shrivastava, [arXiv 2104.03221](https://arxiv.org/abs/2104.03221).
    ///
    /// Searches give the same row ids at the same distances, but that rows at exactly the same distance, which come
    /// in the order of their ids, may change places. With dead rows in the index, that is said of the
    /// [compacted](Self::compact) one.
    ///
    /// Worth it where vectors and lists are larger than the caches. Appends wait meanwhile; rows that are deleted
    /// meanwhile are still in the new index, whose versions are its own and whose count of skipped rows is zero.
    ///
    /// # Errors
    /// None that are known: as [`compact`](Self::compact).
    pub fn reordered(&self) -> Result<Self> {
        if self.tombstones() > 0 {
            return self.compact()?.reordered();
        }
        let _one_at_a_time = self.table.appending.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        let ids = self.graph.breadth_first(version.vectors());
        let store = self.table.store.copied(&ids)?;
        let graph = self.graph.compacted(&ids, &self.view(version), &store.view())?;
        Ok(Self::of(store, graph))
    }
}
