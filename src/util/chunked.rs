//! Append-only arrays that grow in chunks: nothing moves, so a reader needs no protocol to look.
//!
//! Chunk sizes grow by sixteenths: 16 chunks of [`FIRST`] elements, 16 of twice that, and so on.
//! At most a sixteenth of an array is unused, and a directory of [`CHUNKS`] entries covers every
//! `u32` index, so there is no capacity to declare.

use std::sync::OnceLock;

/// Elements of each of the first 16 chunks.
pub(crate) const FIRST: usize = 64;
const STEPS_LOG2: u32 = 4;
const BASE: u64 = (FIRST as u64) << STEPS_LOG2;
/// Chunks that cover all `u32` indices.
pub(crate) const CHUNKS: usize = (33 - BASE.ilog2() as usize) << STEPS_LOG2;

/// Where an index lives.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub chunk: usize,
    pub offset: usize,
    /// Elements of the chunk.
    pub len: usize,
}

/// Maps an index to its chunk. With `BASE` added, the chunk is named by the position of the highest
/// bit and the four bits below it.
#[inline(always)]
pub(crate) fn locate(index: u32) -> Place {
    let shifted = u64::from(index) + BASE;
    let high = shifted.ilog2();
    let len_log2 = high - STEPS_LOG2;
    let step = (shifted >> len_log2) & ((1 << STEPS_LOG2) - 1);
    Place {
        chunk: (((high - BASE.ilog2()) << STEPS_LOG2) as u64 + step) as usize,
        offset: (shifted & ((1 << len_log2) - 1)) as usize,
        len: 1 << len_log2,
    }
}

/// Elements of each of the chunks that an array of `len` elements has.
pub(crate) fn chunk_lens(len: u32) -> impl Iterator<Item = usize> {
    let mut element = 0_u64;
    std::iter::from_fn(move || {
        let place = locate(u32::try_from(element).ok().filter(|&element| element < len)?);
        element += place.len as u64;
        Some(place.len)
    })
}

/// The directory: one cell per chunk, filled in order.
pub(crate) type Directory<T> = Box<[OnceLock<Box<[T]>>]>;

/// A directory without chunks.
pub(crate) fn empty_directory<T>() -> Directory<T> {
    (0..CHUNKS).map(|_| OnceLock::new()).collect()
}

/// Chunked array of cells with interior mutability.
pub(crate) struct Chunked<T> {
    chunks: Directory<T>,
}

impl<T: Default> Chunked<T> {
    pub fn new() -> Self {
        Self { chunks: empty_directory() }
    }

    /// The element, or `None` if its chunk does not exist yet.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        let place = locate(index);
        self.chunks[place.chunk].get()?.get(place.offset)
    }

    /// The element, after making its chunk if need be.
    pub fn get_or_grow(&self, index: u32) -> &T {
        let place = locate(index);
        let chunk = self.chunks[place.chunk].get_or_init(|| (0..place.len).map(|_| T::default()).collect());
        &chunk[place.offset]
    }

    /// The element, to be changed, after making its chunk if need be: for an array that nobody shares.
    pub fn get_mut_or_grow(&mut self, index: u32) -> &mut T {
        let place = locate(index);
        self.get_or_grow(index);
        let chunk = self.chunks[place.chunk].get_mut().map_or(&mut [][..], |chunk| chunk);
        &mut chunk[place.offset]
    }

    /// Bytes of the directory and of the chunks of `len` elements.
    pub fn bytes_for(len: u32) -> usize {
        let elements: usize = chunk_lens(len).sum();
        CHUNKS * size_of::<OnceLock<Box<[T]>>>() + elements * size_of::<T>()
    }

    /// Bytes by which the array grows at most, until it has the elements below `len`.
    pub fn growth(&self, len: u32) -> usize {
        Self::bytes_for(len).saturating_sub(self.resident_bytes())
    }

    /// Bytes of the directory and all chunks, without what the elements point to.
    pub fn resident_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().filter_map(OnceLock::get).map(|c| size_of_val::<[T]>(c)).sum();
        size_of_val::<[_]>(&self.chunks) + chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_fill_chunks_in_order_and_waste_at_most_a_sixteenth() {
        let (mut chunk, mut offset, mut total) = (0, 0, FIRST);
        for index in 0..3_000_000_u32 {
            let place = locate(index);
            if (place.chunk, place.offset) != (chunk, offset) {
                (chunk, offset) = (chunk + 1, 0);
                assert_eq!((place.chunk, place.offset), (chunk, offset), "at {index}");
                total += place.len;
            }
            assert!(place.offset < place.len);
            assert!(total - index as usize <= FIRST.max(index as usize / 16 + FIRST), "at {index}");
            offset += 1;
        }
        for len in [0, 1, 64, 65, 100_000] {
            let cells = Chunked::<u64>::new();
            let growth = cells.growth(len);
            let before = cells.resident_bytes();
            (0..len).for_each(|at| _ = cells.get_or_grow(at));
            assert_eq!((cells.resident_bytes() - before, cells.growth(len)), (growth, 0), "{len}");
        }
        let last = locate(u32::MAX);
        assert_eq!((last.chunk < CHUNKS, last.offset < last.len), (true, true));
    }
}
