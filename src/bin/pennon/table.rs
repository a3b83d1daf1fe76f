//! A Parquet, Arrow IPC or fbin file as a stream of record batches.
//!
//! The format is decided by the file's first bytes, of fbin files (which have no such bytes) by
//! the extension.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, Field, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::failure::{Context, Failure, Result, decode, fail};
use crate::fbin::{self, FBIN_COLUMN, FbinBatches};
use crate::{input_file, ipc_layout};

/// Rows per batch of a Parquet file, which leaves the choice to the reader.
const BATCH_ROWS: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    IpcFile,
    IpcStream,
    Fbin,
}

/// A file whose header has been read.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    format: Format,
    schema: SchemaRef,
    rows: u64,
}

impl Table {
    /// Reads the header of a file.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = input_file::open(path)?;
        let format = Format::of(path, &mut file)?;
        let (schema, rows) = match format {
            Format::Parquet => decode(path, || {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
                let rows = builder.metadata().file_metadata().num_rows();
                let rows = u64::try_from(rows).map_err(|_| ParquetError::General(format!("{rows} rows")))?;
                Ok::<_, ParquetError>((Arc::clone(builder.schema()), rows))
            })?,
            Format::IpcFile => {
                let rows = decode(path, || ipc_layout::file_rows(&mut file, length))?;
                let reader = decode(path, || FileReader::try_new_buffered(file, None))?;
                (reader.schema(), rows)
            }
            Format::IpcStream => {
                let rows = decode(path, || ipc_layout::stream_rows(&mut file, length))?;
                input_file::rewind(path, &mut file)?;
                let reader = decode(path, || StreamReader::try_new_buffered(file, None))?;
                (reader.schema(), rows)
            }
            Format::Fbin => fbin::read_header(path, &mut file, length)?,
        };
        Ok(Self { path: path.to_owned(), format, schema, rows })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The vector column to use: the one asked for, of an fbin file its only one.
    pub fn vector_column<'a>(&self, requested: &'a str) -> &'a str {
        if self.format == Format::Fbin { FBIN_COLUMN } else { requested }
    }

    /// The field of a column.
    pub fn field(&self, column: &str) -> Result<&Field> {
        Ok(self.schema.field(self.index_of(column)?))
    }

    fn index_of(&self, column: &str) -> Result<usize> {
        let fields = self.schema.fields();
        if let Some(index) = fields.iter().position(|field| field.name() == column) {
            return Ok(index);
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        fail(format!(
            "{} has no column '{column}'; its columns are: {}",
            self.path.display(),
            names.join(", ")
        ))
    }

    /// All columns of all rows, in row order.
    pub fn all_batches(&self) -> Result<Batches> {
        self.batches_of((0..self.schema.fields().len()).collect())
    }

    /// Some columns of all rows, in row order. Find them by name: their order is the file's.
    pub fn batches(&self, columns: &[&str]) -> Result<Batches> {
        let indices = columns.iter().map(|column| self.index_of(column));
        let mut indices = indices.collect::<Result<Vec<_>>>()?;
        indices.sort_unstable();
        indices.dedup();
        self.batches_of(indices)
    }

    fn batches_of(&self, columns: Vec<usize>) -> Result<Batches> {
        let path = self.path.as_path();
        let (mut file, length) = input_file::open(path)?;
        let batches: BoxedBatches = match self.format {
            Format::Parquet => Box::new(decode(path, || {
                let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
                let columns = ProjectionMask::roots(builder.parquet_schema(), columns);
                let builder = builder.with_batch_size(BATCH_ROWS);
                builder.with_projection(columns).build()
            })?),
            Format::IpcFile => Box::new(decode(path, || FileReader::try_new_buffered(file, Some(columns)))?),
            Format::IpcStream => {
                Box::new(decode(path, || StreamReader::try_new_buffered(file, Some(columns)))?)
            }
            Format::Fbin => {
                let (schema, rows) = fbin::read_header(path, &mut file, length)?;
                Box::new(FbinBatches::new(file, schema, rows))
            }
        };
        Ok(Batches { path: self.path.clone(), batches, rows_left: self.rows, ended: false })
    }
}

impl Format {
    fn of(path: &Path, file: &mut File) -> Result<Self> {
        if fbin::is_fbin(path) {
            return Ok(Self::Fbin);
        }
        let mut start = Vec::new();
        file.by_ref()
            .take(8)
            .read_to_end(&mut start)
            .context(|| format!("cannot read {}", path.display()))?;
        input_file::rewind(path, file)?;
        if start.starts_with(b"PAR1") {
            Ok(Self::Parquet)
        } else if start.starts_with(b"ARROW1") {
            Ok(Self::IpcFile)
        } else if start.starts_with(&[0xff; 4]) {
            Ok(Self::IpcStream)
        } else {
            let name = path.display();
            fail(format!("{name} is neither a Parquet nor an Arrow IPC file (bad magic bytes)"))
        }
    }
}

type BoxedBatches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send>;

/// The batches of a file; ends with an error unless they have as many rows as its header says.
pub struct Batches {
    path: PathBuf,
    batches: BoxedBatches,
    rows_left: u64,
    ended: bool,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = decode(&self.path, || self.batches.next().transpose());
        let batch = match next {
            Ok(batch) => batch,
            Err(failure) => return self.end(failure),
        };
        let rows = batch.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        match (batch, self.rows_left.checked_sub(rows)) {
            (Some(batch), Some(rows_left)) => {
                self.rows_left = rows_left;
                Some(Ok(batch))
            }
            (None, Some(0)) => None,
            _ => {
                let name = self.path.display();
                let message = format!("cannot read {name}: it has not the rows its header says");
                self.end(Failure::new(message))
            }
        }
    }
}

impl Batches {
    fn end(&mut self, failure: Failure) -> Option<Result<RecordBatch>> {
        self.ended = true;
        Some(Err(failure))
    }
}
