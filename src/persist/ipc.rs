//! The batches of an Arrow IPC file that is in memory, where they lie.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, root_as_footer};
use arrow_schema::{ArrowError, SchemaRef};

/// Bytes at the end of a file: the length of the footer and `ARROW1`.
const TRAILER: usize = 10;

/// What is in a file.
pub(super) struct Content {
    pub schema: SchemaRef,
    /// Over the bytes of the file.
    pub batches: Vec<RecordBatch>,
}

/// Reads a file whose checksum was right.
///
/// # Errors
/// What is wrong with it. Arrow's decoder panics at some numbers that cannot be. Damage does not come here, but what
/// somebody forged might, and must not end the process.
pub(super) fn decode(file: &Buffer) -> Result<Content, String> {
    match catch_unwind(AssertUnwindSafe(|| try_decode(file))) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(_) => Err("the decoder of Arrow files panicked".to_string()),
    }
}

fn try_decode(file: &Buffer) -> Result<Content, ArrowError> {
    let malformed = |what: &str| ArrowError::IpcError(what.to_string());
    let footer_end = file.len().checked_sub(TRAILER).ok_or_else(|| malformed("no footer"))?;
    let trailer: [u8; TRAILER] = file[footer_end..].try_into().map_err(|_| malformed("no footer"))?;
    let footer_length = read_footer_length(trailer)?;
    let start = footer_end.checked_sub(footer_length).ok_or_else(|| malformed("half a footer"))?;
    let footer = root_as_footer(&file[start..footer_end]).map_err(|e| malformed(&e.to_string()))?;
    let schema = footer.schema().ok_or_else(|| malformed("no schema"))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(malformed("numbers in another byte order than this machine's"));
    }
    let schema = Arc::new(fb_to_schema(schema));

    // Buffers start at multiples of 64 bytes: one that would have to be copied is not one that was saved.
    let mut decoder = FileDecoder::new(Arc::clone(&schema), footer.version()).with_require_alignment(true);
    let bytes = |block: &Block| {
        let length = i64::from(block.metaDataLength()).checked_add(block.bodyLength());
        let start = usize::try_from(block.offset()).ok();
        let length = length.and_then(|length| usize::try_from(length).ok());
        start
            .zip(length)
            .filter(|&(start, length)| start.checked_add(length).is_some_and(|end| end <= file.len()))
            .map(|(start, length)| file.slice_with_length(start, length))
            .ok_or_else(|| malformed("a block outside of the file"))
    };
    for block in footer.dictionaries().into_iter().flatten() {
        decoder.read_dictionary(block, &bytes(block)?)?;
    }
    let mut batches = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        batches.extend(decoder.read_record_batch(block, &bytes(block)?)?);
    }
    Ok(Content { schema, batches })
}
