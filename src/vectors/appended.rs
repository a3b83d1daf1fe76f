//! What became of the rows that were appended.

use std::ops::{Deref, Range};

use crate::vectors::store::Placed;

/// The vector ids that the usable rows of a batch got, in the order of the rows, and which rows were skipped.
///
/// It derefs to the range of ids: `appended.len()` rows were taken in. Ids belong to one
/// [generation](Self::generation) of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    generation: u64,
    rows: usize,
    placed: Placed,
}

impl Appended {
    pub(crate) fn new(generation: u64, rows: usize, placed: Placed) -> Self {
        Self { generation, rows, placed }
    }

    /// The vector ids of the usable rows.
    pub fn ids(&self) -> Range<u32> {
        self.placed.ids.clone()
    }

    /// The number of the generation that the ids belong to: [`IndexVersion::generation`](crate::IndexVersion::generation).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Rows of the batch, usable or not.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The positions of the rows that got an id, ascending, as runs of consecutive rows.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.placed.runs.iter().map(|&(first, rows)| first as usize..first as usize + rows as usize)
    }

    /// The positions of the rows that were skipped because they have no usable vector, ascending. Of several batches,
    /// rows are counted on from one to the next.
    pub fn skipped(&self) -> impl Iterator<Item = usize> + '_ {
        let starts = self.runs().map(|run| run.end);
        let ends = self.runs().map(|run| run.start).chain([self.rows]);
        [0].into_iter().chain(starts).zip(ends).flat_map(|(start, end)| start..end)
    }
}

impl Deref for Appended {
    type Target = Range<u32>;

    fn deref(&self) -> &Range<u32> {
        &self.placed.ids
    }
}

/// By its ids.
impl PartialEq<Range<u32>> for Appended {
    fn eq(&self, ids: &Range<u32>) -> bool {
        self.placed.ids == *ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_in_or_skipped() {
        let skipped = |rows, runs: &[(u32, u32)]| {
            let taken = runs.iter().map(|run| run.1).sum();
            let placed = Placed { ids: 0..taken, runs: runs.to_vec() };
            Appended::new(1, rows, placed).skipped().collect::<Vec<_>>()
        };
        assert!(skipped(0, &[]).is_empty());
        assert_eq!(skipped(2, &[]), [0, 1]);
        assert!(skipped(3, &[(0, 3)]).is_empty());
        assert_eq!(skipped(8, &[(1, 2), (4, 1), (5, 1)]), [0, 3, 6, 7]);
    }
}
