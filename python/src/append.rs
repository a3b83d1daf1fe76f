//! Appends and updates in slices, between which Ctrl-C is heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, GenericListArray, OffsetSizeTrait, UInt64Array};
use arrow_schema::DataType;
use pennon::{Error, Index};
use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::input::Vectors;

/// Rows of a slice: a multiple of the 256 for which the library keeps an address.
const SLICE_ROWS: usize = 8192;

/// What became of the rows that were appended.
#[pyclass(frozen, module = "pennon", name = "Appended")]
pub struct Appended {
    /// Rows of the input.
    #[pyo3(get)]
    rows: usize,
    /// The positions of the rows that were left out because they have no usable vector: null, not finite, or zero under
    /// cosine.
    #[pyo3(get)]
    skipped: Vec<usize>,
    /// The row id of the first row of the input; `None` if there is none.
    #[pyo3(get)]
    first_row_id: Option<u64>,
}

#[pymethods]
impl Appended {
    /// Rows that are in the index now.
    fn __len__(&self) -> usize {
        self.rows - self.skipped.len()
    }

    fn __repr__(&self) -> String {
        let first = self.first_row_id.map_or("None".to_string(), |row_id| row_id.to_string());
        format!("Appended(rows={}, skipped={:?}, first_row_id={first})", self.rows, self.skipped)
    }
}

/// The row ids that a caller gives.
pub enum RowIds {
    /// Those after the greatest so far.
    Next,
    /// Counted up from one.
    From(u64),
    /// One for each row.
    Each(UInt64Array),
}

/// What an append does with a row id that a live row has.
#[derive(Clone, Copy, PartialEq)]
pub enum Taken {
    Refuse,
    Replace,
    /// It cannot be, as the caller knows.
    Never,
}

/// Lets one append at a time pass, and knows the row id after all that the index has seen.
pub struct Writer {
    /// Changed by who holds `turn`.
    next: AtomicU64,
    /// Held for as long as an append takes: nobody waits for it with the interpreter in hand.
    turn: Mutex<()>,
}

impl Writer {
    pub fn new(next_row_id: u64) -> Self {
        Self { next: AtomicU64::new(next_row_id), turn: Mutex::default() }
    }

    /// The row id after the greatest so far, those of an append that is under way among them.
    pub fn next_row_id(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Appends rows slice by slice. What the library would refuse of a later slice is refused before the first.
    pub fn append(
        &self,
        index: &Index,
        vectors: &Vectors,
        row_ids: RowIds,
        taken: Taken,
    ) -> PyResult<Appended> {
        let chunks = &vectors.chunks;
        let rows = chunks.iter().map(|chunk| chunk.len()).sum();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.next_row_id();
        let row_ids = match row_ids {
            RowIds::Next => pennon::RowIds::StartingAt(next),
            RowIds::From(first) => pennon::RowIds::StartingAt(first),
            RowIds::Each(row_ids) => pennon::RowIds::Each(row_ids),
        };
        check_row_ids(&row_ids, rows).or_raise()?;
        let (lowest, highest) = bounds(&row_ids, rows);
        let is_new = lowest >= next;
        let mut appended = Appended { rows, skipped: Vec::new(), first_row_id: first(&row_ids, rows) };
        if rows > SLICE_ROWS || chunks.len() > 1 {
            for chunk in chunks {
                check_lengths(chunk, index.dim()).or_raise()?;
            }
            if taken == Taken::Refuse {
                check_new(index, &row_ids, rows, is_new).or_raise()?;
            }
        }
        // Row ids count as seen before the rows are.
        let seen = highest.map_or(next, |highest| next.max(highest.saturating_add(1)));
        self.next.store(seen, Ordering::Relaxed);
        let is_counted = matches!(row_ids, pennon::RowIds::StartingAt(_));
        let mut done = 0;
        for chunk in chunks {
            // An empty chunk is checked as any other.
            for start in (0..chunk.len().max(1)).step_by(SLICE_ROWS) {
                if done > 0 {
                    Python::attach(|py| py.check_signals())?;
                }
                let slice = chunk.slice(start, SLICE_ROWS.min(chunk.len() - start));
                let ids = match &row_ids {
                    &pennon::RowIds::StartingAt(first) => {
                        pennon::RowIds::StartingAt(first.wrapping_add(done as u64))
                    }
                    pennon::RowIds::Each(row_ids) => pennon::RowIds::Each(row_ids.slice(done, slice.len())),
                };
                let outcome = match taken {
                    Taken::Replace => index.upsert(&slice, ids),
                    // Row ids that count up from above all that were ever there need no comparison.
                    Taken::Never => index.append_unique(&slice, ids),
                    Taken::Refuse if is_new && is_counted => index.append_unique(&slice, ids),
                    Taken::Refuse => index.append(&slice, ids),
                };
                if done == 0 && outcome.is_err() {
                    self.next.store(next, Ordering::Relaxed);
                }
                appended.skipped.extend(outcome.or_raise()?.skipped().map(|row| done + row));
                done += slice.len();
            }
        }
        Ok(appended)
    }
}

fn check_row_ids(row_ids: &pennon::RowIds, rows: usize) -> pennon::Result<()> {
    match row_ids {
        &pennon::RowIds::StartingAt(row_id_start) => {
            match row_id_start.checked_add((rows as u64).saturating_sub(1)) {
                Some(_) => Ok(()),
                None => Err(Error::RowIdOverflow { row_id_start, rows }),
            }
        }
        pennon::RowIds::Each(row_ids) if row_ids.len() != rows => {
            Err(Error::RowIdCount { rows, row_ids: row_ids.len() })
        }
        pennon::RowIds::Each(row_ids) => match row_ids.nulls() {
            Some(nulls) if nulls.null_count() > 0 => {
                let row = nulls.iter().position(|is_valid| !is_valid).unwrap_or(0);
                Err(Error::NullRowId { row })
            }
            _ => Ok(()),
        },
    }
}

/// The least row id and the greatest.
fn bounds(row_ids: &pennon::RowIds, rows: usize) -> (u64, Option<u64>) {
    match row_ids {
        _ if rows == 0 => (u64::MAX, None),
        &pennon::RowIds::StartingAt(first) => (first, Some(first.saturating_add(rows as u64 - 1))),
        pennon::RowIds::Each(row_ids) => {
            let row_ids = row_ids.values();
            (row_ids.iter().copied().min().unwrap_or(u64::MAX), row_ids.iter().copied().max())
        }
    }
}

fn first(row_ids: &pennon::RowIds, rows: usize) -> Option<u64> {
    match row_ids {
        _ if rows == 0 => None,
        &pennon::RowIds::StartingAt(first) => Some(first),
        pennon::RowIds::Each(row_ids) => row_ids.values().first().copied(),
    }
}

/// Checks that all rows have the dimension of the index.
fn check_lengths(chunk: &ArrayRef, dim: usize) -> pennon::Result<()> {
    fn of<O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> pennon::Result<()> {
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            let actual = lists.value_length(row).as_usize();
            if actual != dim {
                return Err(Error::RaggedList { row, expected: dim, actual });
            }
        }
        Ok(())
    }
    match chunk.data_type() {
        DataType::List(_) => of(chunk.as_list::<i32>(), dim),
        DataType::LargeList(_) => of(chunk.as_list::<i64>(), dim),
        _ => Ok(()),
    }
}

/// Checks that no row id is given twice, and that no live row has one.
fn check_new(index: &Index, row_ids: &pennon::RowIds, rows: usize, is_new: bool) -> pennon::Result<()> {
    let reader = index.reader();
    let is_taken = |&(_, row_id): &(usize, u64)| !is_new && reader.contains(row_id);
    let found = match row_ids {
        &pennon::RowIds::StartingAt(first) => (0..rows).zip(first..=u64::MAX).find(is_taken),
        pennon::RowIds::Each(row_ids) => {
            let mut order: Vec<(u64, usize)> = row_ids.values().iter().copied().zip(0..).collect();
            order.sort_unstable();
            let twice = order
                .windows(2)
                .filter(|pair| pair[0].0 == pair[1].0)
                .map(|pair| pair[1])
                .min_by_key(|pair| pair.1);
            let taken = (0..).zip(row_ids.values().iter().copied()).find(is_taken);
            twice.map(|(row_id, row)| (row, row_id)).or(taken)
        }
    };
    match found {
        Some((row, row_id)) => Err(Error::DuplicateRowId { row_id, row }),
        None => Ok(()),
    }
}
