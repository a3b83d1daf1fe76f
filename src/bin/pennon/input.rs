//! A Parquet, Arrow IPC or benchmark file, or a Lance dataset, as a stream of record batches.
//!
//! The first bytes of a file tell its format; of benchmark files, which have no such bytes, the extension.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::{FileReader, StreamDecoder, StreamReader, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_schema::{DataType, Field, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{fbin, output};

/// Rows per batch of a Parquet file, which leaves the choice to the reader.
const BATCH_ROWS: usize = 8192;
/// Bytes that are read at a time of a stream.
const CHUNK: u64 = 1 << 20;

pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

#[derive(Clone, Debug, PartialEq)]
enum Format {
    Parquet,
    IpcFile,
    IpcStream,
    Fbin(DataType),
    #[cfg(feature = "lance")]
    Dataset,
}

/// A file whose header has been read.
#[derive(Debug)]
pub struct Input {
    path: PathBuf,
    format: Format,
    schema: SchemaRef,
    /// If the header tells.
    rows: Option<u64>,
}

impl Input {
    pub fn open(path: &Path) -> Result<Self> {
        let format = Format::of(path)?;
        let (schema, rows) = guard(path, || match &format {
            Format::Parquet => {
                let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
                let rows = u64::try_from(builder.metadata().file_metadata().num_rows())?;
                Ok((Arc::clone(builder.schema()), Some(rows)))
            }
            Format::IpcFile => {
                check_blocks(path)?;
                Ok((FileReader::try_new(File::open(path)?, None)?.schema(), None))
            }
            Format::IpcStream => Ok((StreamReader::try_new(File::open(path)?, None)?.schema(), None)),
            Format::Fbin(elements) => {
                let rows = fbin::Rows::open(path, elements.clone())?;
                Ok((Arc::clone(&rows.schema), Some(rows.rows)))
            }
            #[cfg(feature = "lance")]
            Format::Dataset => crate::dataset::header(path),
        })?;
        Ok(Self { path: path.to_owned(), format, schema, rows })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// The column of vectors to use: the one asked for, of a benchmark file its only one.
    pub fn vector_column<'a>(&self, requested: &'a str) -> &'a str {
        if matches!(self.format, Format::Fbin(_)) { fbin::COLUMN } else { requested }
    }

    pub fn field(&self, column: &str) -> Result<&Field> {
        Ok(self.schema.field(self.index_of(column)?))
    }

    fn index_of(&self, column: &str) -> Result<usize> {
        let fields = self.schema.fields();
        if let Some((index, _)) = fields.find(column) {
            return Ok(index);
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        bail!("{} has no column '{column}'; its columns are: {}", self.path.display(), names.join(", "))
    }

    /// Some columns of all rows, in row order. Find them by name: their order is the file's.
    pub fn batches(&self, columns: &[&str]) -> Result<Batches> {
        let indices = columns.iter().map(|column| self.index_of(column));
        let mut indices = indices.collect::<Result<Vec<_>>>()?;
        indices.sort_unstable();
        indices.dedup();
        let path = self.path.as_path();
        let mut batches: Batches = guard(path, || {
            Ok(match &self.format {
                Format::Parquet => {
                    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
                    let columns = ProjectionMask::roots(builder.parquet_schema(), indices);
                    let builder = builder.with_batch_size(BATCH_ROWS).with_projection(columns);
                    Box::new(builder.build()?.map(|batch| Ok(batch?))) as Batches
                }
                Format::IpcFile => {
                    let reader = FileReader::try_new_buffered(File::open(path)?, Some(indices))?;
                    Box::new(reader.map(|batch| Ok(batch?)))
                }
                Format::IpcStream => Box::new(Stream::open(path, indices)?),
                Format::Fbin(elements) => Box::new(fbin::Rows::open(path, elements.clone())?),
                #[cfg(feature = "lance")]
                Format::Dataset => crate::dataset::batches(path, columns)?,
            })
        })?;
        let path = self.path.clone();
        let mut ended = false;
        Ok(Box::new(std::iter::from_fn(move || {
            let next = if ended { None } else { guard(&path, || batches.next().transpose()).transpose() };
            ended = !matches!(next, Some(Ok(_)));
            next
        })))
    }
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let name = path.display();
        let read = || -> std::io::Result<Vec<u8>> {
            let mut start = Vec::new();
            File::open(path)?.take(8).read_to_end(&mut start)?;
            Ok(start)
        };
        if path.is_dir() {
            #[cfg(feature = "lance")]
            if crate::dataset::is_dataset(path) {
                return Ok(Self::Dataset);
            }
            bail!("{name} is a directory, not a file of rows");
        }
        let start = match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no file {name}"),
            start => start.with_context(|| format!("cannot read {name}"))?,
        };
        if let Some(elements) = fbin::elements_of(path) {
            return Ok(Self::Fbin(elements));
        }
        if start.starts_with(b"PAR1") {
            Ok(Self::Parquet)
        } else if start.starts_with(b"ARROW1") {
            Ok(Self::IpcFile)
        } else if start.starts_with(&[0xff; 4]) {
            Ok(Self::IpcStream)
        } else {
            bail!(
                "{name} is neither a Parquet nor an Arrow IPC file, and has none of the extensions fbin, u8bin, i8bin"
            )
        }
    }
}

/// Runs a decoder; its errors and its panics become errors that name the file.
fn guard<T>(path: &Path, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    let cannot_read = || format!("cannot read {}", path.display());
    match panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(outcome) => outcome.with_context(cannot_read),
        Err(_) => bail!("{}: the file is damaged ({})", cannot_read(), output::last_panic().0),
    }
}

/// Refuses an IPC file with blocks that reach past its end. The decoder allocates what a block claims to have, and an
/// allocation that fails ends the process.
fn check_blocks(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let truncated = || format!("it is truncated or damaged ({length} bytes)");
    let mut trailer = [0; 10];
    file.seek(SeekFrom::Start(length.checked_sub(10).with_context(truncated)?))?;
    file.read_exact(&mut trailer)?;
    let footer_length = read_footer_length(trailer).with_context(truncated)?;
    let start = (length - 10).checked_sub(footer_length as u64).with_context(truncated)?;
    let mut footer = vec![0; footer_length];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut footer)?;
    let footer = root_as_footer(&footer).ok().with_context(truncated)?;
    let blocks = footer.dictionaries().into_iter().flatten();
    for block in blocks.chain(footer.recordBatches().into_iter().flatten()) {
        let parts = [block.offset(), block.metaDataLength().into(), block.bodyLength()];
        let parts = parts.into_iter().map(u64::try_from);
        let end = parts.into_iter().try_fold(0_u64, |end, part| end.checked_add(part.ok()?));
        if end.is_none_or(|end| end > start) {
            bail!("{}: a block reaches past its end", truncated());
        }
    }
    Ok(())
}

/// The batches of an Arrow IPC stream. Memory is taken for what was read, not for what a message claims to have.
struct Stream {
    file: File,
    decoder: StreamDecoder,
    buffer: Buffer,
    columns: Vec<usize>,
}

impl Stream {
    fn open(path: &Path, columns: Vec<usize>) -> Result<Self> {
        let buffer = Buffer::from_vec(Vec::<u8>::new());
        Ok(Self { file: File::open(path)?, decoder: StreamDecoder::new(), buffer, columns })
    }

    /// Takes more of the file; false at its end.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = Vec::new();
        self.file.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
        self.buffer = Buffer::from_vec(chunk);
        Ok(!self.buffer.is_empty())
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.buffer.is_empty() && !self.fill()? {
                self.decoder.finish()?;
                return Ok(None);
            }
            if let Some(batch) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(batch.project(&self.columns)?));
            }
        }
    }
}

impl Iterator for Stream {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
