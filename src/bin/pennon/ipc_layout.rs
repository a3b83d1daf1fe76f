//! Walks the framing of an Arrow IPC file before a decoder does: counts the rows, and refuses
//! blocks that reach past the end of the file.
//!
//! The decoder allocates the length that a block claims to have. In a damaged file that can be
//! any number, and an allocation that fails aborts the process, which nothing can catch.

use std::io::{Read, Seek, SeekFrom};

use arrow_ipc::reader::read_footer_length;
use arrow_ipc::{Block, root_as_footer, root_as_message};

type Result<T> = std::result::Result<T, String>;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// The rows of a file in the IPC file format.
pub fn file_rows(file: &mut (impl Read + Seek), length: u64) -> Result<u64> {
    let tail = read_at(file, length, length.checked_sub(10), 10)?;
    let tail: [u8; 10] = tail.try_into().map_err(|_| truncated())?;
    let footer_length = read_footer_length(tail).map_err(|_| truncated())? as u64;
    let start = (length - 10).checked_sub(footer_length);
    let footer = read_at(file, length, start, footer_length)?;
    let footer = root_as_footer(&footer).map_err(|error| format!("bad footer: {error}"))?;
    for block in footer.dictionaries().into_iter().flatten() {
        block_metadata(file, length, block)?;
    }
    let mut rows = 0;
    for block in footer.recordBatches().into_iter().flatten() {
        let metadata = block_metadata(file, length, block)?;
        let prefix = if metadata.starts_with(&CONTINUATION) { 8 } else { 4 };
        let (message_rows, _) = message(metadata.get(prefix..).unwrap_or_default())?;
        rows += message_rows;
    }
    Ok(rows)
}

/// The rows of a file in the IPC stream format.
pub fn stream_rows(file: &mut (impl Read + Seek), length: u64) -> Result<u64> {
    let mut position = 0;
    let mut rows = 0;
    while position < length {
        let mut size = read_at(file, length, Some(position), 4)?;
        position += 4;
        if size == CONTINUATION {
            size = read_at(file, length, Some(position), 4)?;
            position += 4;
        }
        let size: [u8; 4] = size.try_into().map_err(|_| truncated())?;
        let size = u64::from(u32::from_le_bytes(size));
        if size == 0 {
            break;
        }
        let metadata = read_at(file, length, Some(position), size)?;
        let (message_rows, body) = message(&metadata)?;
        rows += message_rows;
        let next = (position + size).checked_add(body);
        position =
            next.filter(|next| *next <= length).ok_or_else(|| outside(position, size, body, length))?;
    }
    Ok(rows)
}

/// The rows and the body length of an encapsulated message; no rows unless it is a record batch.
fn message(metadata: &[u8]) -> Result<(u64, u64)> {
    let message = root_as_message(metadata).map_err(|error| format!("bad message: {error}"))?;
    let rows = message.header_as_record_batch();
    let rows = rows.map_or(0, |batch| batch.length());
    match (u64::try_from(rows), u64::try_from(message.bodyLength())) {
        (Ok(rows), Ok(body)) => Ok((rows, body)),
        _ => Err(format!("bad message: {rows} rows in {} bytes", message.bodyLength())),
    }
}

/// The metadata of a block that lies inside the file.
fn block_metadata(file: &mut (impl Read + Seek), length: u64, block: &Block) -> Result<Vec<u8>> {
    let number = |value: i64| u64::try_from(value).map_err(|_| format!("bad block: {block:?}"));
    let start = number(block.offset())?;
    let metadata = number(i64::from(block.metaDataLength()))?;
    let body = number(block.bodyLength())?;
    // Three numbers below 2^63: their sum can only overflow a u64 in the last step.
    (start + metadata)
        .checked_add(body)
        .filter(|end| *end <= length)
        .ok_or_else(|| outside(start, metadata, body, length))?;
    read_at(file, length, Some(start), metadata)
}

fn read_at(file: &mut (impl Read + Seek), length: u64, start: Option<u64>, size: u64) -> Result<Vec<u8>> {
    let start = start.ok_or_else(truncated)?;
    if start.checked_add(size).is_none_or(|end| end > length) {
        return Err(truncated());
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| truncated())?];
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn truncated() -> String {
    "the Arrow IPC file is truncated".to_owned()
}

fn outside(start: u64, metadata: u64, body: u64, length: u64) -> String {
    format!(
        "the Arrow IPC file is truncated: a block at byte {start} of {metadata} + {body} bytes \
         reaches past its {length} bytes"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    use arrow_ipc::writer::{FileWriter, StreamWriter};

    use super::*;

    fn batch() -> RecordBatch {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..100));
        RecordBatch::try_from_iter([("number", column)]).unwrap()
    }

    #[test]
    fn rows_are_counted_and_any_truncation_is_an_error() {
        let batch = batch();
        let mut writer = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let rows = |bytes: &[u8]| file_rows(&mut Cursor::new(bytes), bytes.len() as u64);
        assert_eq!(rows(&bytes), Ok(200));
        for length in 0..bytes.len() {
            assert!(rows(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn streams_are_counted_and_end_inside_the_file() {
        let batch = batch();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let rows = |bytes: &[u8]| stream_rows(&mut Cursor::new(bytes), bytes.len() as u64);
        assert_eq!(rows(&bytes), Ok(100));
        // The end marker takes 8 bytes; a stream may lack it, but not the end of its last body.
        assert_eq!(rows(&bytes[..bytes.len() - 8]), Ok(100));
        assert!(rows(&bytes[..bytes.len() - 16]).is_err());
    }
}
