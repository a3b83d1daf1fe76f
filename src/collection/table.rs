//! The rows of a collection without their vectors: batches as they arrived, and which rows are dead.
//!
//! Row ids count up and are never given out again, so a row is found by two binary searches: for its part, and in that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::{Array, ArrayRef, RecordBatch, UInt64Array, new_empty_array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::Schema;
use arrow_select::interleave::interleave;

use crate::collection::key::{Key, key_of};
use crate::error::Result;
use crate::search::IndexVersion;
use crate::search::version::Versions;
use crate::util::chunked::Chunked;
use crate::vectors::RowIds;

/// The other columns of one batch.
pub(super) struct Part {
    /// No other part in this process has it.
    pub number: u64,
    /// Ascending.
    row_ids: RowIds,
    pub columns: RecordBatch,
}

impl Part {
    /// A batch whose rows have these row ids, which ascend.
    pub fn new(row_ids: RowIds, columns: RecordBatch) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), row_ids, columns }
    }

    /// A batch whose rows have these row ids, which ascend.
    pub fn with_row_ids(row_ids: UInt64Array, columns: RecordBatch) -> Self {
        let first = row_ids.values().first().copied().unwrap_or(0);
        let last = row_ids.values().last().copied().unwrap_or(0);
        let count_up = last.wrapping_sub(first).wrapping_add(1) == row_ids.len() as u64;
        Self::new(if count_up { RowIds::StartingAt(first) } else { RowIds::Each(row_ids) }, columns)
    }

    pub fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    pub fn row_id(&self, row: usize) -> u64 {
        self.row_ids.get(row)
    }

    /// The row of a row id.
    pub fn find(&self, row_id: u64) -> Option<usize> {
        match &self.row_ids {
            RowIds::StartingAt(start) => {
                usize::try_from(row_id.checked_sub(*start)?).ok().filter(|&row| row < self.rows())
            }
            RowIds::Each(row_ids) => row_ids.values().binary_search(&row_id).ok(),
        }
    }

    /// Rows from `row` on, `rows` at most, whose row ids count up.
    pub fn run(&self, row: usize, rows: usize) -> usize {
        self.row_ids.run(row, rows.min(self.rows() - row))
    }
}

/// A part, and the position of its first row among all rows of the table.
#[derive(Clone)]
pub(super) struct Placed {
    pub part: Arc<Part>,
    pub first: u32,
}

/// The parts of a collection. A version of it has some of them, from the first on.
pub(super) struct Table {
    parts: Chunked<OnceLock<Placed>>,
    /// Dead rows by position.
    pub versions: Versions,
}

/// The rows of a version.
#[derive(Clone)]
pub(super) struct Rows {
    pub table: Arc<Table>,
    pub parts: u32,
    pub version: IndexVersion,
}

impl Rows {
    /// The rows of some parts, of which those at some positions, which ascend, are dead.
    pub fn new(parts: impl IntoIterator<Item = Arc<Part>>, dead: &[u32]) -> Self {
        let placed: Chunked<OnceLock<Placed>> = Chunked::new();
        let (mut count, mut first) = (0, 0);
        for part in parts {
            let rows = part.rows() as u32;
            placed.get_or_grow(count).get_or_init(|| Placed { part, first });
            (count, first) = (count + 1, first + rows);
        }
        let versions = Versions::starting_with(0, first, dead);
        let version = versions.current();
        Self { table: Arc::new(Table { parts: placed, versions }), parts: count, version }
    }

    /// These rows and a part more, of which nothing is dead yet. One caller at a time.
    pub fn then(&self, part: Arc<Part>) -> Self {
        let first = self.version.vectors() as u32;
        let version = self.version.then(first + part.rows() as u32, self.version.deletes());
        self.table.parts.get_or_grow(self.parts).get_or_init(|| Placed { part, first });
        Self { table: Arc::clone(&self.table), parts: self.parts + 1, version }
    }

    /// These rows without some that are alive. One caller at a time.
    pub fn without(&self, row_ids: &[u64]) -> Self {
        let mut deletes = self.version.deletes();
        for position in row_ids.iter().filter_map(|&row_id| self.position(row_id)) {
            deletes += 1;
            self.table.versions.bury(position, deletes);
        }
        let version = self.version.then(self.version.vectors() as u32, deletes);
        Self { table: Arc::clone(&self.table), parts: self.parts, version }
    }

    /// Rows that are alive.
    pub fn live(&self) -> usize {
        self.version.live()
    }

    pub fn placed(&self, number: u32) -> Option<&Placed> {
        self.table.parts.get(number).filter(|_| number < self.parts)?.get()
    }

    /// The parts, in the order of their row ids.
    pub fn placed_parts(&self) -> impl Iterator<Item = &Placed> {
        (0..self.parts).map_while(|number| self.placed(number))
    }

    /// The part that begins last of those that begin at a row id or before.
    pub fn part_before(&self, row_id: u64) -> Option<u32> {
        let (mut low, mut high) = (0, self.parts);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.placed(middle).is_some_and(|placed| placed.part.row_id(0) <= row_id) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// The part and the row of a row id, dead or alive.
    pub fn locate(&self, row_id: u64) -> Option<(u32, usize)> {
        let number = self.part_before(row_id)?;
        Some((number, self.placed(number)?.part.find(row_id)?))
    }

    fn position(&self, row_id: u64) -> Option<u32> {
        let (number, row) = self.locate(row_id)?;
        Some(self.placed(number)?.first + row as u32)
    }

    pub fn is_live(&self, row_id: u64) -> bool {
        self.position(row_id).is_some_and(|position| !self.table.versions.is_dead(position, self.version))
    }

    /// One bit for each row of a part: whether it is alive.
    pub fn live_rows(&self, placed: &Placed) -> BooleanBuffer {
        let rows = placed.part.rows();
        if self.version.deletes() == 0 {
            return BooleanBuffer::new_set(rows);
        }
        let is_dead = |row| self.table.versions.is_dead(placed.first + row as u32, self.version);
        BooleanBuffer::collect_bool(rows, |row| !is_dead(row))
    }

    /// The key of a row, if it is in `column`.
    pub fn key(&self, row_id: u64, column: usize) -> Option<Key<'_>> {
        let (number, row) = self.locate(row_id)?;
        key_of(self.placed(number)?.part.columns.column(column), row)
    }

    /// Some rows of some of the other columns.
    pub fn gather(&self, row_ids: &[u64], columns: &[usize], types: &Schema) -> Result<Vec<ArrayRef>> {
        let located: Vec<(u32, usize)> = row_ids.iter().filter_map(|&row_id| self.locate(row_id)).collect();
        let mut numbers: Vec<u32> = located.iter().map(|place| place.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let place = |(number, row)| (numbers.binary_search(&number).unwrap_or(0), row);
        let places: Vec<(usize, usize)> = located.into_iter().map(place).collect();
        let parts: Vec<&Placed> = numbers.iter().filter_map(|&number| self.placed(number)).collect();
        let gather = |&column: &usize| {
            if places.is_empty() {
                return Ok(new_empty_array(types.field(column).data_type()));
            }
            let arrays: Vec<&dyn Array> =
                parts.iter().map(|placed| &**placed.part.columns.column(column)).collect();
            Ok(interleave(&arrays, &places)?)
        };
        columns.iter().map(gather).collect()
    }
}
