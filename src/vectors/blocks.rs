//! From vector id to address and row id.
//!
//! ```text
//! id --/256--> Block { first, second, split }     one look-up, then the vector itself
//!                 i < split: first  + i * dim
//!                 else:      second + (i - split) * dim
//!                 three or more runs of rows: a table of 256 addresses
//! ```
//! A block of whole batches costs about a hundred bytes for its 256 ids; only a block of many short
//! runs (single-row batches, many null rows) pays 16 bytes a row for a table.
//!
//! # Protocol
//! One writer appends; readers look up ids that are committed, which each look-up checks. The writer stores what an id
//! resolves to, and then `committed` with Release; a reader who loads that with Acquire sees all of it. Meanwhile the
//! writer goes on in the same block, so what follows must hold whenever a reader looks:
//! - A batch is in `batches`, from which nothing is removed, before an address in it is stored.
//! - `split` is [`BLOCK`], then the end of the block's first run, then [`TABLE`]. Each is stored before any id past the
//!   runs of before is committed. So a committed id of the first run is below `split` or in the table, one of the
//!   second run is at or past `split` or in the table, and one of a later run is in the table.
//! - `first` is stored before an id of the block is committed, `second` before one past the first run is; neither is
//!   stored again after that.
//! - A table is complete up to the last committed id before `split` is [`TABLE`]. That store is a Release and each load
//!   of `split` an Acquire, as ids move that a reader knew to be committed before.
//!
//! Nothing of this depends on how an append ends: what it stored and did not commit, the next one stores again.
//! `tests/loom/blocks.rs` runs this file on loom's atomics, as it is and with each ordering weakened in turn.

// Addresses instead of slices: a block of slices is four times as large, falls out of the first-level
// cache, and checks what `committed` covers already. Measured on GloVe: 5 % of a build's time.
#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::slice;

use arrow_array::{Array, ArrayRef};

use crate::error::Result;
use crate::util::atomics::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, BLOCK, OnceLock, Ordering,
};
use crate::util::chunked::Chunked;
use crate::vectors::element_type::Stored;
use crate::vectors::row_ids::RowIds;

/// Bytes of a cache line.
const LINE: usize = 64;
/// `split` of a block whose ids are in its table.
const TABLE: u32 = u32::MAX;
/// Bytes of the table of a block.
const TABLE_BYTES: usize = BLOCK as usize * (size_of::<usize>() + size_of::<AtomicU64>());

/// One appended batch, in the caller's buffers or in those of a copy.
#[derive(Clone)]
pub(crate) struct Batch {
    /// Element `position * dim` is the first of the row at `position`.
    pub values: ArrayRef,
    pub row_ids: RowIds,
    /// Bytes of the buffers that are not the caller's.
    pub own_bytes: usize,
}

/// Addresses of [`BLOCK`] consecutive ids.
#[repr(align(32))]
struct Block<T> {
    /// Address of id 0.
    first: AtomicPtr<T>,
    /// Address of id `split`.
    second: AtomicPtr<T>,
    split: AtomicU32,
}

impl<T> Default for Block<T> {
    fn default() -> Self {
        Self {
            first: AtomicPtr::new(null_mut()),
            second: AtomicPtr::new(null_mut()),
            split: AtomicU32::new(BLOCK),
        }
    }
}

/// The batches of [`BLOCK`] consecutive ids, for their row ids: a batch number above a position.
struct Places<T> {
    first: AtomicU64,
    second: AtomicU64,
    table: OnceLock<Table<T>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { first: AtomicU64::new(0), second: AtomicU64::new(0), table: OnceLock::new() }
    }
}

struct Table<T> {
    addresses: Box<[AtomicPtr<T>]>,
    places: Box<[AtomicU64]>,
}

impl<T> Table<T> {
    fn new() -> Self {
        Self {
            addresses: (0..BLOCK).map(|_| AtomicPtr::new(null_mut())).collect(),
            places: (0..BLOCK).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }
}

fn place(batch: u32, position: u32) -> u64 {
    u64::from(batch) << 32 | u64::from(position)
}

/// Vectors of elements `T` by id.
pub(crate) struct Directory<T> {
    dim: usize,
    blocks: Chunked<Block<T>>,
    places: Chunked<Places<T>>,
    batches: Chunked<OnceLock<Batch>>,
    /// Written by the writer only.
    batch_count: AtomicU32,
    tables: AtomicU32,
    /// Of all batches.
    own_bytes: AtomicUsize,
    /// Whether every row id is above those of the ids before it.
    ascends: AtomicBool,
    /// Ids below this are complete. Stored with Release by the writer, loaded with Acquire by readers.
    committed: AtomicU32,
}

impl<T: Stored> Directory<T> {
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            blocks: Chunked::new(),
            places: Chunked::new(),
            batches: Chunked::new(),
            batch_count: AtomicU32::new(0),
            tables: AtomicU32::new(0),
            own_bytes: AtomicUsize::new(0),
            ascends: AtomicBool::new(true),
            committed: AtomicU32::new(0),
        }
    }

    /// Ids below this can be looked up.
    #[inline(always)]
    pub fn committed(&self) -> u32 {
        // Pairs with the Release store in `append`: whoever sees an id sees where it is.
        self.committed.load(Ordering::Acquire)
    }

    /// The vector of `id`, or nothing if there is none.
    #[inline(always)]
    pub fn vector(&self, id: u32) -> &[T] {
        if id >= self.committed() {
            return &[];
        }
        let Some(block) = self.blocks.get(id / BLOCK) else { return &[] };
        let at = id % BLOCK;
        // Pairs with the Release store of `TABLE` in `append_run`: whoever sees that sees the table.
        let split = block.split.load(Ordering::Acquire);
        let address = if at < split && split != TABLE {
            // SAFETY: a committed id below `split` is in the block's first run (see the protocol), so that `at` rows
            // lie before it from `first` on, in one batch.
            unsafe { block.first.load(Ordering::Relaxed).add(at as usize * self.dim) }
        } else if split != TABLE {
            // SAFETY: a committed id at or past `split` is in the block's second run, if there is no table (see the
            // protocol), so that `at - split` rows lie before it from `second` on, in one batch.
            unsafe { block.second.load(Ordering::Relaxed).add((at - split) as usize * self.dim) }
        } else {
            return self.vector_in_table(id);
        };
        // SAFETY: I-store: for every id below `committed`, `append` stored the address of `dim` values in
        // the buffer of a batch before the Release store of `committed` that was loaded above. The batch is
        // in `batches`, from which nothing is ever removed, and Arrow buffers do not change.
        unsafe { slice::from_raw_parts(address, self.dim) }
    }

    /// The vector of a committed id in a block whose ids are in its table.
    #[cold]
    fn vector_in_table(&self, id: u32) -> &[T] {
        let table = self.places.get(id / BLOCK).and_then(|places| places.table.get());
        let cell = table.and_then(|table| table.addresses.get((id % BLOCK) as usize));
        let address = cell.map_or(null_mut(), |cell| cell.load(Ordering::Relaxed));
        if address.is_null() {
            return &[];
        }
        // SAFETY: a cell that is not null was stored by `append_run`, with the address of `dim` values in the buffer of
        // a batch. The id is committed, so that I-store holds of it: the address is that of its own vector, as the
        // stores of other addresses, by an append that committed nothing, came before.
        unsafe { slice::from_raw_parts(address.cast_const(), self.dim) }
    }

    /// The row id of `id`.
    pub fn row_id(&self, id: u32) -> Option<u64> {
        let (batch, position) = self.place_of(id)?;
        Some(self.batches.get(batch)?.get()?.row_ids.get(position as usize))
    }

    /// Batch number and position of `id`.
    fn place_of(&self, id: u32) -> Option<(u32, u32)> {
        if id >= self.committed() {
            return None;
        }
        let (split, at) = (self.blocks.get(id / BLOCK)?.split.load(Ordering::Acquire), id % BLOCK);
        let places = self.places.get(id / BLOCK)?;
        let place = match split {
            TABLE => places.table.get()?.places.get(at as usize)?.load(Ordering::Relaxed),
            split if at < split => places.first.load(Ordering::Relaxed) + u64::from(at),
            split => places.second.load(Ordering::Relaxed) + u64::from(at - split),
        };
        Some(((place >> 32) as u32, place as u32))
    }

    /// Appends the vectors of ascending ids of another directory, over its buffers. Single writer.
    pub fn extend_from(&self, other: &Self, ids: &[u32]) {
        let places: Vec<(u32, u32)> = ids.iter().filter_map(|&id| other.place_of(id)).collect();
        for places in places.chunk_by(|a, b| a.0 == b.0) {
            let runs: Vec<(u32, u32)> = places
                .chunk_by(|a, b| a.1.checked_add(1) == Some(b.1))
                .map(|run| (run[0].1, run.len() as u32))
                .collect();
            if let Some(batch) = other.batches.get(places[0].0).and_then(OnceLock::get) {
                self.append(batch.clone(), &runs);
            }
        }
    }

    /// A directory of the given ids, in their order, over one new buffer.
    pub fn copied(&self, ids: &[u32]) -> Result<Self> {
        let copied = Self::new(self.dim);
        let Some(&first) = ids.first() else { return Ok(copied) };
        let len = ids.len() * self.dim;
        let mut values: Vec<T> = Vec::with_capacity(len + LINE / size_of::<T>());
        // From a line of the cache on: rows of whole lines then touch no line more than they fill.
        let offset = Some(values.as_ptr().align_offset(LINE)).filter(|&offset| offset < LINE).unwrap_or(0);
        values.extend(self.vector(first).iter().copied().cycle().take(offset));
        ids.iter().for_each(|&id| values.extend_from_slice(self.vector(id)));
        let row_ids: Vec<u64> = ids.iter().map(|&id| self.row_id(id).unwrap_or(u64::MAX)).collect();
        let own_bytes = values.capacity() * size_of::<T>() + row_ids.capacity() * size_of::<u64>();
        let values = T::array(values)?.slice(offset, len);
        let batch = Batch { values, row_ids: RowIds::Each(row_ids.into()), own_bytes };
        copied.append(batch, &[(0, ids.len() as u32)]);
        Ok(copied)
    }

    /// The row id of `id`, and how many ids from it on count up with their row ids.
    pub fn row_id_run(&self, id: u32) -> Option<(u64, u32)> {
        let committed = self.committed();
        if id >= committed {
            return None;
        }
        let (split, at) = (self.blocks.get(id / BLOCK)?.split.load(Ordering::Acquire), id % BLOCK);
        let places = self.places.get(id / BLOCK)?;
        let (place, end) = match split {
            TABLE => (places.table.get()?.places.get(at as usize)?.load(Ordering::Relaxed), at + 1),
            split if at < split => (places.first.load(Ordering::Relaxed) + u64::from(at), split),
            split => (places.second.load(Ordering::Relaxed) + u64::from(at - split), BLOCK),
        };
        let (batch, position) = (self.batches.get((place >> 32) as u32)?.get()?, place as u32 as usize);
        // Ids past `committed` may be in another batch than this block says now.
        let rows = (end - at).min(committed - id) as usize;
        Some((batch.row_ids.get(position), batch.row_ids.run(position, rows) as u32))
    }

    /// Whether row ids ascend with ids, for all ids that are committed.
    pub fn ascends(&self) -> bool {
        // Stored before the `committed` that the caller loaded.
        self.ascends.load(Ordering::Relaxed)
    }

    /// Gives the ids from `committed` on to the rows of `runs` (first position, length). Single writer.
    pub fn append(&self, batch: Batch, runs: &[(u32, u32)]) {
        let number = self.batch_count.load(Ordering::Relaxed);
        // First of all, and addresses are those of the batch that is there: so they last as long as `self`, also if
        // this append ends early.
        let batch = self.batches.get_or_grow(number).get_or_init(|| batch);
        self.batch_count.store(number + 1, Ordering::Relaxed);
        self.own_bytes.fetch_add(batch.own_bytes, Ordering::Relaxed);
        // Arrays of other elements do not come here.
        let Some(values) = T::values(&batch.values) else { return };
        let mut next = self.committed.load(Ordering::Relaxed);
        let mut last = next.checked_sub(1).and_then(|id| self.row_id(id));
        for &(position, rows) in runs {
            let first = batch.row_ids.get(position as usize);
            if last.is_some_and(|last| last >= first)
                || !batch.row_ids.ascend(position as usize, rows as usize)
            {
                self.ascends.store(false, Ordering::Relaxed);
            }
            last = Some(batch.row_ids.get((position + rows - 1) as usize));
        }
        for &(mut position, mut rows) in runs {
            while rows > 0 {
                let take = rows.min(BLOCK - next % BLOCK);
                let (start, end) = (position as usize * self.dim, (position + take) as usize * self.dim);
                // A check that the rows are there: everything below relies on it.
                let values = &values[start..end];
                self.append_run(next, values, place(number, position));
                (next, position, rows) = (next + take, position + take, rows - take);
            }
        }
        // Pairs with `committed()`.
        self.committed.store(next, Ordering::Release);
    }

    /// The ids from `next` on, all in one block, are the rows of `values`.
    fn append_run(&self, next: u32, values: &[T], first_place: u64) {
        let block = self.blocks.get_or_grow(next / BLOCK);
        let places = self.places.get_or_grow(next / BLOCK);
        let at = next % BLOCK;
        let address = values.as_ptr().cast_mut();
        let split = block.split.load(Ordering::Relaxed);
        // Relaxed, where only ids that are not committed yet depend on it: `committed` publishes these.
        if at == 0 {
            block.first.store(address, Ordering::Relaxed);
            places.first.store(first_place, Ordering::Relaxed);
            // It may be otherwise after an append that committed nothing.
            block.split.store(BLOCK, Ordering::Relaxed);
        } else if split == BLOCK {
            block.second.store(address, Ordering::Relaxed);
            places.second.store(first_place, Ordering::Relaxed);
            block.split.store(at, Ordering::Relaxed);
        } else {
            let table = places.table.get_or_init(|| {
                self.tables.fetch_add(1, Ordering::Relaxed);
                Table::new()
            });
            let set = |at: u32, address: *const T, place: u64| {
                table.addresses[at as usize].store(address.cast_mut(), Ordering::Relaxed);
                table.places[at as usize].store(place, Ordering::Relaxed);
            };
            if split != TABLE {
                for old in 0..at {
                    let (start, place, row) = if old < split {
                        (&block.first, &places.first, old)
                    } else {
                        (&block.second, &places.second, old - split)
                    };
                    let address = start.load(Ordering::Relaxed).wrapping_add(row as usize * self.dim);
                    set(old, address, place.load(Ordering::Relaxed) + u64::from(row));
                }
            }
            for (row, vector) in (0..).zip(values.chunks_exact(self.dim)) {
                set(at + row, vector.as_ptr(), first_place + u64::from(row));
            }
            // Pairs with the Acquire loads of `split`: committed ids are looked up in the table from now on.
            block.split.store(TABLE, Ordering::Release);
        }
    }

    /// Takes back the ids from `end` on; the next append gives them out again. Single writer. The buffers of their batch
    /// stay in `batches`.
    ///
    /// # Safety
    /// Nobody looks up an id from `end` on, now or by a length that was loaded before.
    pub unsafe fn truncate(&self, end: u32) {
        let committed = self.committed.load(Ordering::Relaxed);
        if end >= committed {
            return;
        }
        // Release, though nothing is new: who loads this length has to see the ids below it.
        self.committed.store(end, Ordering::Release);
        for block in end / BLOCK..=(committed - 1) / BLOCK {
            let Some(block_of_ids) = self.blocks.get(block) else { continue };
            // Ids of the block that stay are in `first`, in `second` or in the table, where readers find them as before.
            let kept = end.saturating_sub(block * BLOCK);
            let split = block_of_ids.split.load(Ordering::Relaxed);
            if kept == 0 || (split != TABLE && split >= kept) {
                // Relaxed: the ids that stay were in `first` before they were committed.
                block_of_ids.split.store(BLOCK, Ordering::Relaxed);
            }
        }
    }

    /// Bytes by which [`resident_bytes`](Self::resident_bytes) grows at most with so many rows more, of one batch.
    pub fn growth(&self, rows: u32) -> usize {
        let end = self.committed().saturating_add(rows);
        let batches = self.batch_count.load(Ordering::Relaxed).saturating_add(1);
        // Only blocks that get rows of the batch become tables.
        let tables = (rows.div_ceil(BLOCK) + 1) as usize;
        self.blocks.growth(end.div_ceil(BLOCK))
            + self.places.growth(end.div_ceil(BLOCK))
            + self.batches.growth(batches)
            + tables * TABLE_BYTES
    }

    /// Bytes held beside the caller's buffers, copies of them included.
    pub fn resident_bytes(&self) -> usize {
        self.blocks.resident_bytes()
            + self.places.resident_bytes()
            + self.batches.resident_bytes()
            + self.tables.load(Ordering::Relaxed) as usize * TABLE_BYTES
            + self.own_bytes.load(Ordering::Relaxed)
    }
}
