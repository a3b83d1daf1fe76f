//! A collection without its dead rows.

use std::sync::Arc;

use arrow_array::{BooleanArray, UInt64Array};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;

use crate::collection::Collection;
use crate::collection::table::{Part, Rows};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::index::{Compaction, Index};
use crate::util::atomics::{lock, try_lock};

/// A part of fewer live rows than this is put together with its neighbors.
const SMALL: usize = 1024;
/// A part gets no more rows that way.
const LARGE: usize = 64 << 10;
/// With fewer than one of so many rows alive, the live rows of a part are copied, so that its buffers can go.
const SPARSE: usize = 2;

impl Collection {
    /// Removes the dead rows, while everybody goes on: each index is [compacted](Index::compact); batches without a live
    /// row are dropped; the columns of small batches, and of those of which less than half is alive, are copied, without
    /// the vectors. Row ids and keys stay. Returns what was done to each index.
    ///
    /// Searches wait for nothing. Writes wait for the last rows of each index to follow, and while the columns that have to
    /// be copied are.
    ///
    /// # Errors
    /// As [`Index::compact`]; the rows are the same then, and some of the indexes may be compacted.
    pub fn compact(&self) -> Result<Vec<Compaction>> {
        self.compact_controlled(&Control::new())
    }

    /// [`compact`](Self::compact) that can be watched and cancelled, as [`Index::compact_controlled`]. If it is
    /// cancelled, the rows are the same, and some of the indexes may be compacted.
    ///
    /// # Errors
    /// As [`compact`](Self::compact), [`Error::Cancelled`], and [`Error::Busy`] if it is not to wait for another
    /// compaction.
    pub fn compact_controlled(&self, control: &Control<'_>) -> Result<Vec<Compaction>> {
        let _one_at_a_time = match try_lock(&self.compacting) {
            Some(guard) => guard,
            None if !control.waits() => return Err(Error::Busy),
            None => lock(&self.compacting),
        };
        let compact = |index: &Index| index.compact_controlled(control);
        let reports = self.indexes.iter().map(compact).collect::<Result<Vec<_>>>()?;
        let next_row_id = lock(&self.writer);
        let rows = self.shared.current.load().rows.compacted()?;
        let _keys = lock(&self.shared.keys);
        self.publish(rows, *next_row_id);
        Ok(reports)
    }
}

impl Rows {
    /// These rows without most of those that are dead.
    fn compacted(&self) -> Result<Self> {
        let mut parts: Vec<Arc<Part>> = Vec::new();
        let mut dead = Vec::new();
        let mut first = 0_u32;
        let mut small = Small::default();
        for placed in self.placed_parts() {
            let live = self.live_rows(placed);
            let (rows, of) = (live.count_set_bits(), placed.part.rows());
            if rows == 0 {
                continue;
            }
            if rows >= SMALL && rows * SPARSE >= of {
                if let Some(part) = small.take()? {
                    first += part.rows() as u32;
                    parts.push(part);
                }
                dead.extend((!&live).set_indices_u32().map(|row| first + row));
                first += of as u32;
                parts.push(Arc::clone(&placed.part));
                continue;
            }
            if small.rows + rows > LARGE
                && let Some(part) = small.take()?
            {
                first += part.rows() as u32;
                parts.push(part);
            }
            small.rows += rows;
            small.parts.push((Arc::clone(&placed.part), BooleanArray::from(live)));
        }
        parts.extend(small.take()?);
        Ok(Self::new(parts, &dead))
    }
}

/// Parts that become one.
#[derive(Default)]
struct Small {
    parts: Vec<(Arc<Part>, BooleanArray)>,
    rows: usize,
}

impl Small {
    fn take(&mut self) -> Result<Option<Arc<Part>>> {
        self.rows = 0;
        let parts = std::mem::take(&mut self.parts);
        let Some((first, live)) = parts.first() else { return Ok(None) };
        if parts.len() == 1 && live.false_count() == 0 {
            return Ok(Some(Arc::clone(first)));
        }
        let row_ids =
            parts.iter().flat_map(|(part, live)| live.values().set_indices().map(|row| part.row_id(row)));
        let row_ids: UInt64Array = row_ids.collect::<Vec<_>>().into();
        let live = parts.iter().map(|(part, live)| filter_record_batch(&part.columns, live));
        let live = live.collect::<Result<Vec<_>, _>>()?;
        let columns = concat_batches(&first.columns.schema(), &live)?;
        Ok(Some(Arc::new(Part::with_row_ids(row_ids, columns))))
    }
}
