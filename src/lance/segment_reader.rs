//! The files of an index segment as they are read, one partition at a time.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use futures::TryStreamExt;
use lance_core::cache::LanceCache;
use lance_encoding::decoder::FilterExpression;
use lance_file::reader::{FileReader, FileReaderOptions};
use lance_file::versions::reader_projection_from_column_names;
use lance_index::pb::Ivf;
use lance_index::vector::SQ_CODE_COLUMN;
use lance_index::vector::ivf::storage::{IVF_METADATA_KEY, IvfModel};
use lance_index::{INDEX_AUXILIARY_FILE_NAME, INDEX_FILE_NAME};
use lance_io::ReadBatchParams;
use lance_io::object_store::ObjectStore;
use lance_io::scheduler::{ScanScheduler, SchedulerConfig};
use lance_io::utils::CachedFileSize;
use object_store::path::Path;
use prost::Message;

use crate::error::{Error, Result};
use crate::format::{FLAT_COLUMN, HNSW_METADATA_KEY, LanceHnswMetadata, ROW_ID_COLUMN};
use crate::graph::BuildParams;

/// Rows that are decoded at a time, and batches of them ahead.
const BATCH_ROWS: u32 = 8_192;
const READAHEAD: u32 = 4;

/// Both files of a segment, open.
pub(crate) struct SegmentReader {
    graphs: FileReader,
    graph_lengths: IvfModel,
    /// Of each partition's graph; empty where there is none.
    metadata: Vec<String>,
    vectors: FileReader,
    lengths: IvfModel,
}

/// A partition as it is in the files: row `r` is node `r`.
pub(crate) struct StoredPartition {
    pub row_ids: UInt64Array,
    /// Vectors as they are stored, or the codes of a scalar quantizer.
    pub vectors: FixedSizeListArray,
    /// The `lance:hnsw` batch; none if the files have no graph of it.
    pub graph: Option<RecordBatch>,
}

fn invalid(kind: &'static str, problem: impl Into<String>) -> Error {
    Error::InvalidBatch { kind, problem: problem.into() }
}

impl SegmentReader {
    /// Opens the files of a segment with a graph.
    ///
    /// # Errors
    /// [`Error::LanceDataset`] if they cannot be read, [`Error::InvalidBatch`] if they are not of such a segment.
    pub async fn open(store: Arc<ObjectStore>, dir: &Path) -> Result<Self> {
        let config = SchedulerConfig::max_bandwidth(&store);
        let scheduler = ScanScheduler::new(store, config);
        let (graphs, graph_lengths) = open(&scheduler, dir, INDEX_FILE_NAME).await?;
        let (vectors, lengths) = open(&scheduler, dir, INDEX_AUXILIARY_FILE_NAME).await?;
        let metadata = graphs.schema().metadata.get(HNSW_METADATA_KEY);
        let metadata = metadata.ok_or_else(|| invalid(HNSW_METADATA_KEY, "no graphs"))?;
        let metadata: Vec<String> = serde_json::from_str(metadata)
            .map_err(|error| invalid(HNSW_METADATA_KEY, format!("metadata: {error}")))?;
        Ok(Self { graphs, graph_lengths, metadata, vectors, lengths })
    }

    /// How the graphs were built, as the first of them says.
    pub fn params(&self) -> BuildParams {
        let first = self.metadata.iter().find(|text| !text.is_empty());
        let metadata = first.and_then(|text| serde_json::from_str::<LanceHnswMetadata>(text).ok());
        metadata.map_or_else(BuildParams::default, |metadata| BuildParams::from(&metadata.params))
    }

    /// The row ids of all partitions.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn row_ids(&self) -> Result<Vec<u64>> {
        let (version, schema) = (self.vectors.metadata().version(), self.vectors.schema());
        let projection = reader_projection_from_column_names(version, schema, &[ROW_ID_COLUMN])?;
        let mut found = Vec::new();
        if self.vectors.num_rows() > 0 {
            let filter = FilterExpression::no_filter();
            let (params, rows) = (ReadBatchParams::RangeFull, BATCH_ROWS);
            let stream = self.vectors.read_stream_projected(params, rows, READAHEAD, projection, filter);
            let mut stream = stream.await?;
            while let Some(batch) = stream.try_next().await? {
                let row_ids = batch.column(0).as_primitive_opt::<UInt64Type>();
                let none = || invalid(FLAT_COLUMN, format!("column {ROW_ID_COLUMN:?} is not UInt64"));
                found.extend_from_slice(row_ids.ok_or_else(none)?.values());
            }
        }
        Ok(found)
    }

    /// Reads a partition.
    ///
    /// # Errors
    /// [`Error::LanceDataset`] if it cannot be read, [`Error::InvalidBatch`] if it has not the columns of such a file.
    pub async fn read(&self, partition: usize) -> Result<StoredPartition> {
        let range = range_of(&self.lengths, partition);
        let range = range.ok_or_else(|| invalid(FLAT_COLUMN, format!("no partition {partition}")))?;
        let rows = read(&self.vectors, range).await?;
        let column = |name| rows.column_by_name(name);
        let row_ids = column(ROW_ID_COLUMN).and_then(|array| array.as_primitive_opt::<UInt64Type>());
        let vectors = column(FLAT_COLUMN).or_else(|| column(SQ_CODE_COLUMN));
        let vectors = vectors.and_then(|array| array.as_fixed_size_list_opt());
        let (Some(row_ids), Some(vectors)) = (row_ids, vectors) else {
            return Err(invalid(FLAT_COLUMN, format!("columns {:?}", rows.schema_ref().fields())));
        };
        let metadata = self.metadata.get(partition).filter(|text| !text.is_empty());
        let graph = match (metadata, range_of(&self.graph_lengths, partition)) {
            (Some(metadata), Some(range)) => {
                let graph = read(&self.graphs, range).await?;
                let schema = Schema::new(graph.schema_ref().fields().clone());
                let metadata = [(HNSW_METADATA_KEY.to_string(), metadata.clone())];
                let schema = Arc::new(schema.with_metadata(metadata.into()));
                Some(RecordBatch::try_new(schema, graph.columns().to_vec())?)
            }
            _ => None,
        };
        Ok(StoredPartition { row_ids: row_ids.clone(), vectors: vectors.clone(), graph })
    }
}

/// The rows of a partition in a file.
fn range_of(ivf: &IvfModel, partition: usize) -> Option<Range<usize>> {
    let (start, rows) = (*ivf.offsets.get(partition)?, *ivf.lengths.get(partition)?);
    Some(start..start.checked_add(rows as usize)?)
}

/// Opens a file and reads the lengths of its partitions.
async fn open(scheduler: &Arc<ScanScheduler>, dir: &Path, name: &str) -> Result<(FileReader, IvfModel)> {
    let file = scheduler.open_file(&dir.clone().join(name), &CachedFileSize::unknown()).await?;
    let options = FileReaderOptions::default();
    let reader = FileReader::try_open(file, None, Arc::default(), &LanceCache::no_cache(), options).await?;
    let position = reader.schema().metadata.get(IVF_METADATA_KEY).and_then(|at| at.parse().ok());
    let position = position.ok_or_else(|| invalid(FLAT_COLUMN, format!("no {IVF_METADATA_KEY:?}")))?;
    let ivf = reader.read_global_buffer(position).await?;
    let ivf = Ivf::decode(ivf).map_err(|error| invalid(FLAT_COLUMN, error.to_string()))?;
    Ok((reader, IvfModel::try_from(ivf)?))
}

/// Rows of a file as one batch.
async fn read(reader: &FileReader, rows: Range<usize>) -> Result<RecordBatch> {
    let schema = Arc::new(Schema::from(reader.schema().as_ref()));
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema));
    }
    let filter = FilterExpression::no_filter();
    let params = ReadBatchParams::Range(rows);
    let stream = reader.read_stream(params, BATCH_ROWS, READAHEAD, filter).await?;
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}
