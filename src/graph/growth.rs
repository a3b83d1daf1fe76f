//! What memory an insert will take, before it takes it.

use crate::codes::Codes;
use crate::graph::{Coding, HnswGraph};
use crate::vectors::VectorSource;

/// Bytes of the working memory of a walk for each row, in eighths: a stamp, and room ahead.
const STAMP_EIGHTHS: usize = 9;
/// Bytes of it for each candidate and each slot of a list, with room ahead.
const CANDIDATE: usize = 64;
/// Working memory of so many bytes is that of one walk at least.
const SMALL: usize = 16 << 10;

impl HnswGraph {
    /// Bytes by which [`resident_bytes`](Self::resident_bytes) grows at most if the next `added` nodes are inserted, as
    /// long as nobody searches.
    pub(crate) fn growth<S: VectorSource + ?Sized>(&self, added: u32, source: &S) -> usize {
        let upper_rows = self.lock_writer().upper_rows;
        let next = self.watermarks.load().ready;
        let end = next.saturating_add(added);
        let upper: usize = (next..end).map(|id| self.levels.target_level(id)).sum();
        let upper_rows = (upper_rows as usize).saturating_add(upper).min(u32::MAX as usize) as u32;

        let is_coded = match self.codes.get() {
            Some(codes) => codes.is_some(),
            None => {
                let wanted = self.params.codes != Coding::Off && source.has_plain_metric();
                wanted && Codes::new(source.dim(), source.distance_type()).is_some()
            }
        };
        let coded = if is_coded { Codes::bytes_for(source.dim(), end) } else { 0 };
        let codes = coded.saturating_sub(self.codes(0).map_or(0, Codes::resident_bytes));

        // Each walk of the insert takes working memory, and whatever working memory there is grows with the graph.
        let [_, _, scratch] = self.bytes_by_part();
        let (next, end) = (next as usize, end as usize);
        let threads = rayon::current_num_threads().max(1);
        let walks = threads.max(scratch / next.max(SMALL));
        let candidates = self.params.ef_construction.saturating_add(self.longest_list());
        let grown = (end * STAMP_EIGHTHS / 8 - next).saturating_add(candidates.saturating_mul(CANDIDATE));
        let missing = threads.saturating_mul(next).saturating_sub(scratch);
        let walks = walks.saturating_mul(grown).saturating_add(missing);

        self.nodes.growth(end as u32) + self.upper.growth(upper_rows) + codes + walks
    }
}
