//! From vector id to address and row id.
//!
//! ```text
//! id --/256--> Block { split, segments: [rows of one buffer; 2], table }
//!                 i < split: segments[0] + i      one look-up, then the vector itself
//!                 else:      segments[1] + i - split
//!                 three or more segments: table[i] = (batch, position)  --> batches
//! ```
//! A block of whole batches costs about a hundred bytes for its 256 ids; only a block of many short
//! runs (single-row batches, many null rows) pays 8 bytes a row for a table.
//!
//! One writer appends; readers look up ids that the store has committed. What such an id resolves to
//! never changes: `split` moves only past the ids that were committed before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrow_buffer::ScalarBuffer;

use crate::chunked::Chunked;

const BLOCK: u32 = 256;
/// `split` of a block whose ids are in its table.
const TABLE: u32 = u32::MAX;

/// What the caller calls the rows of one batch.
pub(super) enum RowIds {
    /// Consecutive, from this one on.
    From(u64),
    /// One each.
    Each(ScalarBuffer<u64>),
}

/// One appended batch, in the caller's buffers.
pub(super) struct Batch {
    /// Element `position * dim` is the first of the row at `position`.
    pub values: ScalarBuffer<f32>,
    pub row_ids: RowIds,
}

/// Consecutive ids that are consecutive rows of one batch.
struct Segment {
    /// Starts at the segment's first row.
    values: ScalarBuffer<f32>,
    batch: u32,
    position: u32,
}

struct Block {
    /// Ids of the block below this are in the first segment.
    split: AtomicU32,
    segments: [OnceLock<Segment>; 2],
    table: OnceLock<Box<[AtomicU64]>>,
}

impl Default for Block {
    fn default() -> Self {
        Self { split: AtomicU32::new(BLOCK), segments: Default::default(), table: OnceLock::new() }
    }
}

pub(super) struct Directory {
    blocks: Chunked<Block>,
    batches: Chunked<OnceLock<Batch>>,
    /// Written by the writer only.
    batch_count: AtomicU32,
    tables: AtomicU32,
}

/// Where an id is found.
enum Found<'a> {
    Segment(&'a Segment, u32),
    Batch(&'a Batch, u32),
}

impl Directory {
    pub fn new() -> Self {
        Self {
            blocks: Chunked::new(),
            batches: Chunked::new(),
            batch_count: AtomicU32::new(0),
            tables: AtomicU32::new(0),
        }
    }

    #[inline(always)]
    fn find(&self, id: u32) -> Option<Found<'_>> {
        let block = self.blocks.get(id / BLOCK)?;
        let at = id % BLOCK;
        // Pairs with the Release stores in `append`: a split is seen after what it points to.
        match block.split.load(Ordering::Acquire) {
            TABLE => self.find_in_table(block, at),
            split if at < split => Some(Found::Segment(block.segments[0].get()?, at)),
            split => Some(Found::Segment(block.segments[1].get()?, at - split)),
        }
    }

    #[cold]
    fn find_in_table<'a>(&'a self, block: &'a Block, at: u32) -> Option<Found<'a>> {
        let word = block.table.get()?.get(at as usize)?.load(Ordering::Relaxed);
        let batch = self.batches.get((word >> 32) as u32)?.get()?;
        Some(Found::Batch(batch, word as u32))
    }

    /// The vector of `id`, or nothing if there is none.
    #[inline(always)]
    pub fn vector(&self, id: u32, dim: usize) -> &[f32] {
        let (values, row): (&[f32], u32) = match self.find(id) {
            Some(Found::Segment(segment, row)) => (&segment.values, row),
            Some(Found::Batch(batch, position)) => (&batch.values, position),
            None => return &[],
        };
        let start = row as usize * dim;
        values.get(start..start + dim).unwrap_or(&[])
    }

    /// The row id of `id`.
    pub fn row_id(&self, id: u32) -> Option<u64> {
        let (batch, position) = match self.find(id)? {
            Found::Segment(segment, row) => (self.batches.get(segment.batch)?.get()?, segment.position + row),
            Found::Batch(batch, position) => (batch, position),
        };
        match &batch.row_ids {
            RowIds::From(start) => start.checked_add(u64::from(position)),
            RowIds::Each(row_ids) => row_ids.get(position as usize).copied(),
        }
    }

    /// Gives the ids from `next` on to the rows of `runs` (first position, length). Single writer.
    pub fn append(&self, batch: Batch, next: u32, runs: &[(u32, u32)], dim: usize) {
        let number = self.batch_count.load(Ordering::Relaxed);
        let mut next = next;
        for &(mut position, mut rows) in runs {
            while rows > 0 {
                let take = rows.min(BLOCK - next % BLOCK);
                let segment = Segment {
                    values: batch.values.slice(position as usize * dim, take as usize * dim),
                    batch: number,
                    position,
                };
                self.append_to_block(next, segment, take);
                (next, position, rows) = (next + take, position + take, rows - take);
            }
        }
        // Before the ids are committed, so before anybody asks for them.
        let _ = self.batches.get_or_grow(number).set(batch);
        self.batch_count.store(number + 1, Ordering::Relaxed);
    }

    /// `rows` ids from `next` on, all in one block, are the rows of `segment`.
    fn append_to_block(&self, next: u32, segment: Segment, rows: u32) {
        let block = self.blocks.get_or_grow(next / BLOCK);
        let at = next % BLOCK;
        let split = block.split.load(Ordering::Relaxed);
        if at == 0 {
            let _ = block.segments[0].set(segment);
        } else if split == BLOCK {
            let _ = block.segments[1].set(segment);
            block.split.store(at, Ordering::Release);
        } else {
            let table = block.table.get_or_init(|| {
                self.tables.fetch_add(1, Ordering::Relaxed);
                (0..BLOCK).map(|_| AtomicU64::new(u64::MAX)).collect()
            });
            let word = |batch: u32, position: u32| u64::from(batch) << 32 | u64::from(position);
            if split != TABLE {
                for (old, cell) in (0..at).zip(table) {
                    let (segment, row) = if old < split { (0, old) } else { (1, old - split) };
                    if let Some(s) = block.segments[segment].get() {
                        cell.store(word(s.batch, s.position + row), Ordering::Relaxed);
                    }
                }
            }
            for row in 0..rows {
                table[(at + row) as usize]
                    .store(word(segment.batch, segment.position + row), Ordering::Relaxed);
            }
            block.split.store(TABLE, Ordering::Release);
        }
    }

    /// Bytes held beside the caller's buffers.
    pub fn resident_bytes(&self) -> usize {
        let tables = self.tables.load(Ordering::Relaxed) as usize * BLOCK as usize * size_of::<AtomicU64>();
        self.blocks.resident_bytes() + self.batches.resident_bytes() + tables
    }
}
