//! What the caller calls the rows of a batch.

use arrow_array::{Array, UInt64Array};

use crate::error::{Error, Result};

/// The row ids of one batch.
#[derive(Clone, Debug)]
pub enum RowIds {
    /// Row `i` of the batch has this one plus `i`, whether or not the rows before it are usable.
    StartingAt(u64),
    /// One for each row.
    Each(UInt64Array),
}

impl RowIds {
    /// Checks that there is a row id for each of `rows` rows.
    pub(crate) fn check(&self, rows: usize) -> Result<()> {
        match self {
            &Self::StartingAt(row_id_start) => {
                if row_id_start.checked_add((rows as u64).saturating_sub(1)).is_none() {
                    return Err(Error::RowIdOverflow { row_id_start, rows });
                }
            }
            Self::Each(row_ids) => {
                if row_ids.len() != rows {
                    return Err(Error::RowIdCount { rows, row_ids: row_ids.len() });
                }
                if let Some(row) = (0..rows).find(|&row| row_ids.is_null(row)) {
                    return Err(Error::NullRowId { row });
                }
            }
        }
        Ok(())
    }

    /// Whether each row id is above the one before, and the first.
    pub(crate) fn ascending_from(&self) -> Option<u64> {
        match self {
            &Self::StartingAt(start) => Some(start),
            Self::Each(row_ids) => {
                let row_ids = row_ids.values();
                row_ids.is_sorted_by(|a, b| a < b).then(|| row_ids.first().copied().unwrap_or(u64::MAX))
            }
        }
    }

    /// The first row whose row id an earlier one of the batch has.
    pub(crate) fn first_twice(&self) -> Option<usize> {
        let Self::Each(row_ids) = self else { return None };
        let row_ids = row_ids.values();
        let mut order: Vec<usize> = (0..row_ids.len()).collect();
        order.sort_unstable_by_key(|&row| (row_ids[row], row));
        let twice = order.windows(2).filter(|pair| row_ids[pair[0]] == row_ids[pair[1]]);
        twice.map(|pair| pair[1]).min()
    }

    /// The row id of a row that is in the batch.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> u64 {
        match self {
            Self::StartingAt(start) => start.wrapping_add(row as u64),
            Self::Each(row_ids) => row_ids.values().get(row).copied().unwrap_or(u64::MAX),
        }
    }

    /// Rows from `row` on whose row ids count up by one.
    pub(crate) fn run(&self, row: usize, rows: usize) -> usize {
        match self {
            Self::StartingAt(_) => rows,
            Self::Each(row_ids) => {
                let following = row_ids.values().get(row..row + rows).unwrap_or(&[]).windows(2);
                1 + following.take_while(|pair| pair[0].checked_add(1) == Some(pair[1])).count()
            }
        }
    }

    /// Whether the row ids of `rows` rows from `row` on ascend.
    pub(crate) fn ascend(&self, row: usize, rows: usize) -> bool {
        match self {
            Self::StartingAt(_) => true,
            Self::Each(row_ids) => row_ids
                .values()
                .get(row..row + rows)
                .is_some_and(|row_ids| row_ids.is_sorted_by(|a, b| a < b)),
        }
    }
}

impl From<u64> for RowIds {
    fn from(row_id_start: u64) -> Self {
        Self::StartingAt(row_id_start)
    }
}

impl From<UInt64Array> for RowIds {
    fn from(row_ids: UInt64Array) -> Self {
        Self::Each(row_ids)
    }
}

impl From<&UInt64Array> for RowIds {
    fn from(row_ids: &UInt64Array) -> Self {
        Self::Each(row_ids.clone())
    }
}
