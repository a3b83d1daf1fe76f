//! The true neighbors of a query, and how many of them a search found.

use pennon::{HnswIndex, SearchParams, SearchResult, VectorSource};

use crate::failure::Result;

/// The true neighbors of one query.
///
/// A found row counts as true if it is one of them, or if it is as near as the farthest of them:
/// among rows at one distance the choice is arbitrary.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Ascending.
    ids: Vec<u32>,
    farthest: f32,
    size: usize,
}

impl Truth {
    /// The `k` nearest by an exact scan.
    pub fn exact(index: &HnswIndex, query: &[f32], k: usize) -> Result<Self> {
        let nearest = index.search_exact(query, SearchParams::top(k))?;
        let pairs = nearest.iter().map(|row| (row.id, row.distance));
        Ok(Self::new(pairs, nearest.len()))
    }

    /// Given row ids, of which those without a vector in the index cannot be found.
    ///
    /// The distances are computed here: those of another program may be of another scale.
    pub fn given(source: &impl VectorSource, query: &[f32], row_ids: &[u32]) -> Self {
        let ids = row_ids.iter().filter_map(|row| id_of_ascending(source, u64::from(*row)));
        let pairs = ids.map(|id| (id, source.distance_to(query, id)));
        Self::new(pairs, row_ids.len())
    }

    fn new(pairs: impl Iterator<Item = (u32, f32)>, size: usize) -> Self {
        let mut ids = Vec::with_capacity(size);
        let mut farthest = f32::NEG_INFINITY;
        for (id, distance) in pairs {
            ids.push(id);
            farthest = farthest.max(distance);
        }
        ids.sort_unstable();
        Self { ids, farthest, size }
    }

    /// The share of the true neighbors that `found`, an answer of as many rows, has.
    pub fn recall(&self, found: &[SearchResult]) -> f64 {
        let is_true =
            |row: &&SearchResult| row.distance <= self.farthest || self.ids.binary_search(&row.id).is_ok();
        let hits = found.iter().take(self.size).filter(is_true).count();
        hits as f64 / self.size.max(1) as f64
    }
}

/// The id of a row in a source whose row ids ascend, as they do when they are file positions.
fn id_of_ascending(source: &impl VectorSource, row_id: u64) -> Option<u32> {
    let (mut low, mut high) = (0, u32::try_from(source.len()).ok()?);
    while low < high {
        let middle = low + (high - low) / 2;
        if source.row_id(middle) < row_id {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let inside = (low as usize) < source.len();
    (inside && source.row_id(low) == row_id).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[(u32, f32)]) -> Vec<SearchResult> {
        let result = |(id, distance): &(u32, f32)| SearchResult {
            id: *id,
            row_id: u64::from(*id),
            distance: *distance,
        };
        rows.iter().map(result).collect()
    }

    #[test]
    fn equally_near_rows_count_as_true() {
        let truth = Truth::new([(7, 0.5), (3, 1.0)].into_iter(), 2);
        let recall = |rows: &[(u32, f32)]| truth.recall(&found(rows));
        assert_eq!(recall(&[(7, 0.5), (3, 1.0)]), 1.0);
        assert_eq!(recall(&[(7, 0.5), (9, 1.0)]), 1.0);
        assert_eq!(recall(&[(7, 0.5), (9, 1.5)]), 0.5);
        assert_eq!(recall(&[(7, 0.5)]), 0.5);
        assert_eq!(recall(&[]), 0.0);
    }
}
