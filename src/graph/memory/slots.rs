//! Neighbor lists in memory: fixed rows of slots, in chunks that never move.
//!
//! ```text
//! chunk of n rows:  | n x neighbor ids | n x edge distances | n anchors | n upper offsets |
//! row:  ids from the front, then u32::MAX; distances at the same places; whole cache lines
//! ```
//! Readers touch the neighbor ids only. A slot is one word, so whatever a reader finds in it was
//! written there whole; what it may find is the publication protocol's business (`super`).

use std::sync::OnceLock;

use crate::util::atomics::{AtomicU32, LANES, Ordering};
use crate::util::chunked::{Directory, Place, chunk_lens, empty_directory, locate};
use crate::util::prefetch::prefetch;

/// No neighbor, no anchor, no upper levels.
pub(crate) const NONE: u32 = u32::MAX;

/// [`LANES`] slots: one cache line.
#[repr(align(64))]
pub(crate) struct Line([AtomicU32; LANES]);

/// A row of slots.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [Line]);

impl<'a> Row<'a> {
    /// The words, for readers, [`NONE`] in unused slots: from the back, so that an edge the writer moves
    /// forward meanwhile is met at its new place if it was gone from the old one (see
    /// [`SlotArena::replace`]).
    #[inline(always)]
    pub fn for_each(self, mut visit: impl FnMut(u32)) {
        for line in self.0.iter().rev() {
            for slot in line.0.iter().rev() {
                // Acquire pairs with the Release stores of `replace`: on the way forward, earlier
                // moves are seen, and so is a `ready` that covers the id.
                visit(slot.load(Ordering::Acquire));
            }
        }
    }

    /// Slots of the row, used or not.
    #[inline(always)]
    pub fn slots(self) -> usize {
        self.0.len() * LANES
    }

    /// Starts fetching the row.
    #[inline(always)]
    pub fn prefetch(self) {
        prefetch(self.0, self.0.len());
    }

    /// The ids in the order of their slots; writer only.
    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        let words = self.0.iter().flat_map(|line| &line.0);
        words.map(|slot| slot.load(Ordering::Relaxed)).take_while(|&word| word != NONE)
    }

    /// The first `len` words, as distances.
    pub fn floats(self, len: usize) -> impl Iterator<Item = f32> + 'a {
        let words = self.0.iter().flat_map(|line| &line.0);
        words.take(len).map(|slot| f32::from_bits(slot.load(Ordering::Relaxed)))
    }

    /// Stores a word; writer only. Release for the ids of a row that readers may be walking.
    fn store(self, at: usize, word: u32, ordering: Ordering) {
        if let Some(line) = self.0.get(at / LANES) {
            line.0[at % LANES].store(word, ordering);
        }
    }
}

/// Rows of slots, addressed by a number that counts from 0.
pub(crate) struct SlotArena {
    chunks: Directory<Line>,
    lines_per_row: usize,
    /// Whether rows have an anchor and an upper offset.
    side_columns: bool,
}

impl SlotArena {
    pub fn new(slots_per_row: usize, side_columns: bool) -> Self {
        Self { chunks: empty_directory(), lines_per_row: slots_per_row.div_ceil(LANES), side_columns }
    }

    /// Slots of a row, used or not.
    pub fn slots_per_row(&self) -> usize {
        self.lines_per_row * LANES
    }

    fn lines(&self, rows: usize) -> usize {
        let side = if self.side_columns { 2 * rows.div_ceil(LANES) } else { 0 };
        2 * rows * self.lines_per_row + side
    }

    /// Makes the chunk of `row` exist. Chunks start out all [`NONE`].
    pub fn grow(&self, row: u32) {
        let place = locate(row);
        self.chunks[place.chunk].get_or_init(|| {
            let line = || Line(std::array::from_fn(|_| AtomicU32::new(NONE)));
            (0..self.lines(place.len)).map(|_| line()).collect()
        });
    }

    #[inline(always)]
    fn chunk(&self, place: Place) -> &[Line] {
        self.chunks[place.chunk].get().map_or(&[], |chunk| chunk)
    }

    #[inline(always)]
    fn row(&self, place: Place, row: usize) -> Row<'_> {
        let start = row * self.lines_per_row;
        Row(self.chunk(place).get(start..start + self.lines_per_row).unwrap_or(&[]))
    }

    /// The neighbor ids of a row; empty if the row is not there.
    #[inline(always)]
    pub fn neighbors(&self, row: u32) -> Row<'_> {
        let place = locate(row);
        self.row(place, place.offset)
    }

    /// The edge distances of a row; writer and export only.
    pub fn distances(&self, row: u32) -> Row<'_> {
        let place = locate(row);
        self.row(place, place.len + place.offset)
    }

    fn side(&self, row: u32, column: usize) -> Option<&AtomicU32> {
        let place = locate(row);
        let start = 2 * place.len * self.lines_per_row + column * place.len.div_ceil(LANES);
        self.chunk(place).get(start + place.offset / LANES).map(|line| &line.0[place.offset % LANES])
    }

    /// The neighbor whose edge keeps this node reachable; writer only.
    pub fn anchor(&self, row: u32) -> u32 {
        self.side(row, 0).map_or(NONE, |cell| cell.load(Ordering::Relaxed))
    }

    pub fn set_anchor(&self, row: u32, anchor: u32) {
        if let Some(cell) = self.side(row, 0) {
            cell.store(anchor, Ordering::Relaxed);
        }
    }

    /// Row of this node's level-1 list in the upper arena.
    #[inline(always)]
    pub fn upper(&self, row: u32) -> u32 {
        self.side(row, 1).map_or(NONE, |cell| cell.load(Ordering::Relaxed))
    }

    pub fn set_upper(&self, row: u32, upper: u32) {
        if let Some(cell) = self.side(row, 1) {
            cell.store(upper, Ordering::Relaxed);
        }
    }

    /// The edges of a row, in the order of its slots.
    pub fn edges(&self, row: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        let neighbors = self.neighbors(row);
        neighbors.iter().zip(self.distances(row).floats(neighbors.slots()))
    }

    /// Writes `edges` over a row that no reader can reach yet.
    pub fn write(&self, row: u32, edges: &[(u32, f32)]) {
        let (neighbors, distances) = (self.neighbors(row), self.distances(row));
        for at in 0..neighbors.slots() {
            let (id, distance) = edges.get(at).copied().unwrap_or((NONE, f32::NAN));
            neighbors.store(at, id, Ordering::Relaxed);
            distances.store(at, distance.to_bits(), Ordering::Relaxed);
        }
    }

    /// Turns the list of a row that readers may be walking into `edges`, one slot at a time: what
    /// stays keeps its slot, what is new takes a freed or a free one, and a gap is closed with the
    /// last edge, which is stored in the gap before it is removed from the end. Edges only ever move
    /// forward and readers go backward, so a reader meets every edge that stays, once or twice.
    pub fn replace(&self, row: u32, edges: &[(u32, f32)]) {
        let (neighbors, distances) = (self.neighbors(row), self.distances(row));
        let mut current: Vec<u32> = neighbors.iter().collect();
        let put = |at: usize, (id, distance): (u32, f32)| {
            distances.store(at, distance.to_bits(), Ordering::Relaxed);
            neighbors.store(at, id, Ordering::Release);
        };
        let mut added: Vec<(u32, f32)> =
            edges.iter().copied().filter(|edge| !current.contains(&edge.0)).collect();
        added.reverse();
        let stays = |id: u32| edges.iter().find(|edge| edge.0 == id).copied();
        let mut at = 0;
        while at < current.len() {
            match (stays(current[at]), added.pop()) {
                (Some(edge), unused) => {
                    distances.store(at, edge.1.to_bits(), Ordering::Relaxed);
                    added.extend(unused);
                    at += 1;
                }
                (None, Some(edge)) => {
                    put(at, edge);
                    current[at] = edge.0;
                    at += 1;
                }
                (None, None) => {
                    let last = current.len() - 1;
                    if let Some(edge) = stays(current[last]).filter(|_| last > at) {
                        put(at, edge);
                        current[at] = edge.0;
                    }
                    neighbors.store(last, NONE, Ordering::Release);
                    current.pop();
                }
            }
        }
        for edge in added.into_iter().rev() {
            put(current.len(), edge);
            current.push(edge.0);
        }
    }

    /// Bytes of the directory and all chunks.
    pub fn resident_bytes(&self) -> usize {
        let chunks: usize =
            self.chunks.iter().filter_map(OnceLock::get).map(|c| size_of_val::<[Line]>(c)).sum();
        size_of_val::<[_]>(&self.chunks) + chunks
    }

    /// Bytes by which the arena grows until it has so many rows.
    pub fn growth(&self, rows: u32) -> usize {
        let chunks = Self::bytes_for(self.slots_per_row(), self.side_columns, rows);
        (size_of_val::<[_]>(&self.chunks) + chunks).saturating_sub(self.resident_bytes())
    }

    /// Bytes of the chunks for `rows` rows.
    pub fn bytes_for(slots_per_row: usize, side_columns: bool, rows: u32) -> usize {
        let arena =
            Self { chunks: Box::default(), lines_per_row: slots_per_row.div_ceil(LANES), side_columns };
        let lines: usize = chunk_lens(rows).map(|len| arena.lines(len)).sum();
        lines * size_of::<Line>()
    }
}
