//! A file as memory.

// A file cannot become memory without a promise that nobody changes it. What it buys: an index of which the heap holds
// next to nothing (`tests/persist_memory.rs` measures it), and whose pages the system loads, shares and drops.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use arrow_buffer::Buffer;
use bytes::Bytes;
use memmap2::Mmap;

/// The bytes of a file of an index, read-only, until the last buffer that shares them is dropped.
pub(super) fn map(file: &File) -> io::Result<Buffer> {
    // SAFETY: the file must not change while it is mapped. A save never writes to a file that a manifest names: it
    // makes files of its own and takes the names of old ones away, whose bytes stay as long as they are mapped. That
    // nobody else writes to the files of an index or cuts them off is what `HnswIndex::load_mmap` asks of its callers.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Buffer::from(Bytes::from_owner(map)))
}
