//! Length and checksum of a file: taken while it is written, compared while it is read.
//!
//! CRC-32 differs for sure if one bit of a file is flipped, or up to 32 in a row, however long the file is. Any other
//! damage it misses once in 2^32 times.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, Schema};
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::persist::directory::{at, make_read_only};

/// What a file was when it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub bytes: u64,
    pub crc32: u32,
}

/// A file that is written, with the sum of what is in it so far.
struct Summing {
    file: BufWriter<File>,
    bytes: u64,
    hasher: Hasher,
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes an Arrow IPC file that was just made, and waits until it is on the disk.
pub(super) fn write_file(
    (path, file): (PathBuf, File),
    schema: &Schema,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
) -> Result<Sum> {
    let failed = |error: ArrowError| match error {
        ArrowError::IoError(_, source) => at(&path)(source),
        other => Error::Arrow(other),
    };
    let summing = Summing { file: BufWriter::new(file), bytes: 0, hasher: Hasher::new() };
    let mut writer = FileWriter::try_new(summing, schema).map_err(failed)?;
    for batch in batches {
        writer.write(&batch?).map_err(failed)?;
    }
    // Writes the footer and flushes.
    let written = writer.into_inner().map_err(failed)?;
    let file = written.file.get_ref();
    make_read_only(file);
    file.sync_all().map_err(at(&path))?;
    Ok(Sum { bytes: written.bytes, crc32: written.hasher.finalize() })
}

/// Bytes read at a time: they are still in the cache when they are summed.
const PIECE: usize = 64 << 10;

impl Sum {
    /// Fills `content` with the rest of a file, which it compares with the checksum. Whether the checksum is right.
    pub fn read(self, mut file: &File, content: &mut [u8]) -> io::Result<bool> {
        let mut hasher = Hasher::new();
        for piece in content.chunks_mut(PIECE) {
            file.read_exact(piece)?;
            hasher.update(piece);
        }
        Ok(hasher.finalize() == self.crc32)
    }

    /// Whether a file has this checksum. What is read of it is not kept.
    pub fn check(self, mut file: &File) -> io::Result<bool> {
        let mut hasher = Hasher::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(hasher.finalize() == self.crc32),
                Ok(read) => hasher.update(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
