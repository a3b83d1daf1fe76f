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
///
/// # Safety
/// Nobody may write to the file or cut it off until then.
pub(super) unsafe fn map(file: &File) -> io::Result<Buffer> {
    // SAFETY: the file must not change while it is mapped. Nothing in this crate changes it: a save writes to files
    // that it has made itself under names of their own (`File::create_new`), makes them read-only before a manifest
    // names them, and never opens them for writing again. What it does to those of other saves is to take their names
    // away: on Unix the bytes of a mapped file stay until the last mapping goes, Windows refuses. That nobody else
    // writes to the file is the caller's promise.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Buffer::from(Bytes::from_owner(map)))
}
