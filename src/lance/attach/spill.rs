//! Rows on their way through a temporary file: divided among partitions that need not be in memory together.
//!
//! ```text
//! scan --> batch --> parts, one for each partition --> blocks of one Arrow IPC file, each of a single partition
//! ```
//! A partition is read by its blocks. Its rows are in the order of the scan, as without a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use ::lance::Dataset;
use ::lance::dataset::scanner::DatasetRecordBatchStream;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, UInt64Array};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::{FLAT_COLUMN, ROW_ID_COLUMN};
use crate::lance::attach::build_graph::blocking;
use crate::lance::attach::column::Column;
use crate::lance::attach::partitions::{Kind, Part, assign, sample_of, scatter, train_on};
use crate::lance::attach::rows::{ScanLimits, parts, scan};
use crate::lance::index_files::as_stored;
use crate::lance::sq_bounds::Spread;
use crate::vectors::{ArrowFixedSizeListVectorStore, VectorSource, usable_rows, widened};

/// Bytes in memory before they go to the file: a quarter of the limit, in this range.
const BUFFERED: Range<u64> = 1 << 16..1 << 26;

/// Reads a column without holding it.
pub(super) struct Streamed<'a> {
    pub dataset: &'a Dataset,
    pub column: &'a Column,
    pub fragments: &'a RoaringBitmap,
    pub kind: Kind,
    pub limit: u64,
}

impl Streamed<'_> {
    fn buffered(&self) -> u64 {
        (self.limit / 4).clamp(BUFFERED.start, BUFFERED.end)
    }

    fn limits(&self) -> ScanLimits {
        let rows = self.buffered() / 4 / self.kind.row_bytes().max(1) as u64;
        ScanLimits { buffer_bytes: self.buffered(), batch_rows: rows.clamp(64, 8_192) as usize }
    }

    async fn scan(&self) -> Result<Option<DatasetRecordBatchStream>> {
        scan(self.dataset, self.column, self.fragments, Some(self.limits())).await
    }

    /// Counts the rows with a usable vector.
    pub async fn count(&self) -> Result<u64> {
        let (mut rows, distance_type) = (0, self.kind.distance_type);
        let Some(mut stream) = self.scan().await? else { return Ok(0) };
        while let Some(batch) = stream.try_next().await? {
            let (vectors, _) = parts(self.column, &batch)?;
            let runs = blocking(move || usable_rows(&vectors, distance_type)).await?;
            rows += runs.iter().map(|run| u64::from(run.1)).sum::<u64>();
        }
        Ok(rows)
    }

    /// Centroids from the sample that is taken of so many rows where they are in memory.
    pub async fn train(&self, rows: u64, partitions: usize, seed: u64) -> Result<FixedSizeListArray> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let partitions = partitions.min(rows);
        let mut wanted = sample_of(rows, partitions).peekable();
        let (mut sample, mut next, kind) = (Vec::new(), 0_usize, self.kind);
        if let Some(mut stream) = self.scan().await? {
            while let Some(batch) = stream.try_next().await? {
                let (vectors, _) = parts(self.column, &batch)?;
                for (first, len) in usable_rows(&vectors, kind.distance_type)? {
                    let end = next + len as usize;
                    while let Some(row) = wanted.next_if(|&row| row < end) {
                        let vector = vectors.value(first as usize + row - next);
                        let vector = widened(&vector, kind.element_type).unwrap_or_default();
                        sample.extend_from_slice(&vector);
                    }
                    next = end;
                }
            }
        }
        blocking(move || train_on(sample, kind, partitions, seed)).await
    }

    /// Divides the rows among the partitions of the centroids, and looks at where their elements lie for `spread`.
    pub async fn divide(&self, centroids: &FixedSizeListArray, spread: Option<Spread>) -> Result<Spilled> {
        let mut writing = Writing::begin(self.kind, centroids.clone(), spread, self.buffered())?;
        if let Some(mut stream) = self.scan().await? {
            // The writer goes to a thread of its own and comes back, batch by batch.
            while let Some(batch) = stream.try_next().await? {
                let (vectors, row_ids) = parts(self.column, &batch)?;
                let mut at_work = writing;
                writing = blocking(move || {
                    at_work.add(&vectors, &row_ids)?;
                    Ok(at_work)
                })
                .await?;
            }
        }
        blocking(move || writing.finish()).await
    }
}

fn io(source: std::io::Error) -> Error {
    Error::Io { path: std::env::temp_dir(), source }
}

/// The file while rows arrive.
struct Writing {
    kind: Kind,
    centroids: FixedSizeListArray,
    spread: Option<Spread>,
    schema: SchemaRef,
    parts: Vec<Part>,
    /// Bytes in the parts.
    held: u64,
    /// Bytes at which they go to the file.
    most: u64,
    file: File,
    writer: FileWriter<BufWriter<File>>,
    blocks: u32,
    spilled: Vec<Place>,
    skipped: u64,
}

/// Where a partition is in the file.
#[derive(Clone, Debug, Default)]
struct Place {
    blocks: Vec<u32>,
    rows: u64,
}

impl Writing {
    fn begin(kind: Kind, centroids: FixedSizeListArray, spread: Option<Spread>, most: u64) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![
            Field::new(ROW_ID_COLUMN, DataType::UInt64, false),
            Field::new(FLAT_COLUMN, kind.element_type.vectors(kind.dim), false),
        ]));
        // Without a name: it goes with the process, whatever happens to that.
        let file = tempfile::tempfile().map_err(io)?;
        let writer = FileWriter::try_new(BufWriter::new(file.try_clone().map_err(io)?), &schema)?;
        let partitions = centroids.len();
        Ok(Self {
            kind,
            spread,
            schema,
            parts: (0..partitions).map(|_| Part::with_capacity(0, 0)).collect(),
            held: 0,
            most,
            file,
            writer,
            blocks: 0,
            spilled: vec![Place::default(); partitions],
            skipped: 0,
            centroids,
        })
    }

    fn add(&mut self, vectors: &FixedSizeListArray, row_ids: &UInt64Array) -> Result<()> {
        let store = self.kind.store()?;
        store.append_batch_with_row_ids(Arc::new(vectors.clone()), row_ids)?;
        self.skipped += store.skipped().total();
        let rows = Arc::new(store).snapshot();
        if let Some(spread) = &mut self.spread {
            let stored = rows.vectors_of(0..rows.len() as u32)?;
            spread.add(&as_stored(&stored, self.kind.distance_type)?);
        }
        let partition_of =
            if self.parts.len() == 1 { vec![0; rows.len()] } else { assign(&rows, &self.centroids)? };
        scatter(vectors, row_ids, self.kind, &mut partition_of.into_iter(), &mut self.parts)?;
        self.held += (rows.len() * (self.kind.row_bytes() + size_of::<u64>())) as u64;
        if self.held >= self.most { self.flush() } else { Ok(()) }
    }

    /// Writes a block for each partition that has rows in memory.
    fn flush(&mut self) -> Result<()> {
        for (part, place) in self.parts.iter_mut().zip(&mut self.spilled) {
            if part.is_empty() {
                continue;
            }
            let (vectors, row_ids) = part.take(self.kind)?;
            place.rows += row_ids.len() as u64;
            place.blocks.push(self.blocks);
            self.blocks += 1;
            let columns: Vec<ArrayRef> = vec![Arc::new(row_ids), Arc::new(vectors)];
            self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        }
        self.held = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Spilled> {
        self.flush()?;
        self.writer.finish()?;
        let Self { kind, spread, spilled, skipped, mut file, writer, .. } = self;
        drop(writer);
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let reader = FileReader::try_new(BufReader::new(file), None)?;
        Ok(Spilled { kind, spread, places: spilled, skipped, reader })
    }
}

/// Rows that are divided among partitions, in a file.
pub(super) struct Spilled {
    kind: Kind,
    /// Where their elements lie, if that was asked for.
    pub spread: Option<Spread>,
    places: Vec<Place>,
    /// Rows read that have no usable vector.
    pub skipped: u64,
    reader: FileReader<BufReader<File>>,
}

impl Spilled {
    /// Rows of each partition.
    pub fn lengths(&self) -> impl Iterator<Item = u64> {
        self.places.iter().map(|place| place.rows)
    }

    /// Reads a partition, of those that there are.
    pub fn read(&mut self, partition: usize) -> Result<ArrowFixedSizeListVectorStore> {
        let store = self.kind.store()?;
        let lost = || ArrowError::IpcError("a block of a temporary file is not there".to_string());
        for &block in self.places.get(partition).map_or(&[] as &[u32], |place| &place.blocks) {
            self.reader.set_index(block as usize)?;
            let batch = self.reader.next().ok_or_else(lost)??;
            let row_ids = batch.column(0).as_primitive_opt::<UInt64Type>().ok_or_else(lost)?;
            let vectors = batch.column(1).as_fixed_size_list_opt().ok_or_else(lost)?;
            store.append_batch_with_row_ids(Arc::new(vectors.clone()), row_ids)?;
        }
        Ok(store)
    }
}
