//! The files of an index segment as they are written, one partition after the other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use lance_file::versions::create_writer;
use lance_file::writer::{FileWriter, FileWriterOptions};
use lance_index::pb::Ivf;
use lance_index::vector::SQ_CODE_COLUMN;
use lance_index::vector::flat::index::FlatMetadata;
use lance_index::vector::ivf::storage::{IVF_METADATA_KEY, IvfModel};
use lance_index::vector::quantizer::Quantization;
use lance_index::vector::sq::ScalarQuantizer;
use lance_index::vector::sq::storage::{SQ_METADATA_KEY, ScalarQuantizationMetadata};
use lance_index::vector::storage::STORAGE_METADATA_KEY;
use lance_index::{
    INDEX_AUXILIARY_FILE_NAME, INDEX_FILE_NAME, INDEX_METADATA_SCHEMA_KEY, IndexMetadata as FileMetadata,
};
use prost::Message;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::format::{DISTANCE_TYPE_KEY, FLAT_COLUMN, HNSW_METADATA_KEY, ROW_ID_COLUMN, hnsw_fields};
use crate::lance::index_files::{BATCH_ROWS, IndexFiles, Partition, SQ_BITS};
use crate::vectors::{ElementType, VectorSource};

/// What Lance's MemTable flush asks for in the lists of a graph: the default encoding is said to read runs of empty
/// lists back wrongly. File version 2.0 has no choice and ignores it.
const LIST_ENCODING: (&str, &str) = ("lance-encoding:structural-encoding", "fullzip");

/// Both files of a segment. No more than one partition need be in memory.
pub(crate) struct SegmentWriter<'a> {
    files: &'a IndexFiles<'a>,
    codec: Codec,
    schema: SchemaRef,
    vectors: FileWriter,
    /// Rows of each partition.
    lengths: IvfModel,
    graphs: FileWriter,
    /// Centroids, and rows of each partition's graph.
    ivf: IvfModel,
    /// Of each partition's graph.
    metadata: Vec<String>,
}

impl<'a> SegmentWriter<'a> {
    /// Creates the files. With bounds there is a scalar quantizer, which has these.
    pub async fn begin(
        files: &'a IndexFiles<'a>,
        centroids: &FixedSizeListArray,
        bounds: Option<Range<f64>>,
    ) -> Result<Self> {
        let codec = Codec::new(centroids, bounds);
        let row_id = Field::new(ROW_ID_COLUMN, DataType::UInt64, true);
        let schema = Arc::new(Schema::new(vec![row_id, codec.field()]));
        let vectors = create(files, INDEX_AUXILIARY_FILE_NAME, &schema).await?;
        let mut fields = hnsw_fields();
        let (key, value) = LIST_ENCODING;
        for field in fields.iter_mut().filter(|field| matches!(field.data_type(), DataType::List(_))) {
            field.set_metadata(HashMap::from([(key.to_string(), value.to_string())]));
        }
        let graphs = create(files, INDEX_FILE_NAME, &Schema::new(fields)).await?;
        let (lengths, ivf) = (IvfModel::empty(), IvfModel::new(centroids.clone(), None));
        Ok(Self { files, codec, schema, vectors, lengths, graphs, ivf, metadata: Vec::new() })
    }

    /// Writes the next partition. `stored` is what the files have for its first rows, where that is known: it is
    /// written as it is.
    pub async fn push(&mut self, partition: &Partition, stored: Option<&FixedSizeListArray>) -> Result<()> {
        let Partition { graph, vectors } = partition;
        let known = stored.map_or(0, Array::len).min(vectors.len());
        for start in (0..known).step_by(BATCH_ROWS as usize) {
            let rows = (known - start).min(BATCH_ROWS as usize);
            let row_ids = (start..start + rows).map(|id| vectors.row_id(id as u32));
            let row_ids = UInt64Array::from_iter_values(row_ids);
            if let Some(stored) = stored {
                self.write_rows(row_ids, Arc::new(stored.slice(start, rows))).await?;
            }
        }
        for batch in self.files.batches(vectors, known as u32) {
            let (row_ids, vectors) = batch?;
            let encoded = self.codec.encode(vectors)?;
            self.write_rows(row_ids, encoded).await?;
        }
        self.lengths.add_partition(count(vectors.len())?);

        self.ivf.add_partition(count(graph.num_rows())?);
        // Lance writes nothing for an empty partition and an empty string for its metadata.
        if graph.num_rows() == 0 {
            self.metadata.push(String::new());
            return Ok(());
        }
        let text = graph.schema_ref().metadata().get(HNSW_METADATA_KEY);
        self.metadata.push(text.cloned().ok_or_else(|| Error::InvalidBatch {
            kind: HNSW_METADATA_KEY,
            problem: format!("no schema metadata {HNSW_METADATA_KEY:?}"),
        })?);
        self.graphs.write_batch(graph).await?;
        Ok(())
    }

    async fn write_rows(&mut self, row_ids: UInt64Array, vectors: ArrayRef) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![Arc::new(row_ids), vectors];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.vectors.write_batch(&batch).await?;
        Ok(())
    }

    /// Ends the files.
    pub async fn finish(self) -> Result<()> {
        let Self { files, codec, mut vectors, lengths, mut graphs, ivf, metadata, .. } = self;
        let codec_metadata = codec.metadata()?;
        vectors.add_schema_metadata(DISTANCE_TYPE_KEY, files.distance_type.to_string());
        vectors.add_schema_metadata(STORAGE_METADATA_KEY, json(&[&codec_metadata])?);
        if codec.quantizer.is_some() {
            vectors.add_schema_metadata(SQ_METADATA_KEY, codec_metadata);
        }
        finish(vectors, &lengths).await?;
        let file = FileMetadata {
            index_type: files.quantizer.index_type().to_string(),
            distance_type: files.distance_type.to_string(),
        };
        graphs.add_schema_metadata(INDEX_METADATA_SCHEMA_KEY, json(&file)?);
        graphs.add_schema_metadata(HNSW_METADATA_KEY, json(&metadata)?);
        finish(graphs, &ivf).await
    }
}

async fn create(files: &IndexFiles<'_>, name: &str, schema: &Schema) -> Result<FileWriter> {
    let file = files.store.create(&files.dir.clone().join(name)).await?;
    let schema = lance_core::datatypes::Schema::try_from(schema)?;
    Ok(create_writer(files.version, file, schema, FileWriterOptions::default())?)
}

/// What becomes of the vectors in `auxiliary.idx`.
struct Codec {
    /// Their type as they are.
    vectors: DataType,
    dim: usize,
    /// None if they stay as they are.
    quantizer: Option<ScalarQuantizer>,
}

impl Codec {
    /// A file has one quantizer: for the stored vectors of all partitions.
    fn new(centroids: &FixedSizeListArray, bounds: Option<Range<f64>>) -> Self {
        let (vectors, dim) = (centroids.data_type().clone(), length(centroids.value_length()));
        let quantizer = bounds.map(|bounds| ScalarQuantizer::with_bounds(SQ_BITS, dim, bounds));
        Self { vectors, dim, quantizer }
    }

    fn field(&self) -> Field {
        match self.quantizer {
            None => Field::new(FLAT_COLUMN, self.vectors.clone(), true),
            Some(_) => Field::new(SQ_CODE_COLUMN, ElementType::UInt8.vectors(self.dim), true),
        }
    }

    fn encode(&self, vectors: FixedSizeListArray) -> Result<ArrayRef> {
        match &self.quantizer {
            None => Ok(Arc::new(vectors)),
            Some(quantizer) => Ok(quantizer.quantize(&vectors)?),
        }
    }

    /// What Lance's reader of the storage wants to know, as JSON.
    fn metadata(&self) -> Result<String> {
        let dim = self.dim;
        match &self.quantizer {
            None => json(&FlatMetadata { dim }),
            Some(quantizer) => {
                let bounds = quantizer.bounds();
                json(&ScalarQuantizationMetadata { dim, num_bits: SQ_BITS, bounds })
            }
        }
    }
}

/// Ends a file with the lengths of its partitions.
async fn finish(mut writer: FileWriter, ivf: &IvfModel) -> Result<()> {
    let buffer = Ivf::try_from(ivf)?.encode_to_vec();
    let position = writer.add_global_buffer(buffer.into()).await?;
    writer.add_schema_metadata(IVF_METADATA_KEY, position.to_string());
    writer.finish().await?;
    Ok(())
}

/// Arrow's dimensions are signed.
fn length(dim: i32) -> usize {
    usize::try_from(dim).unwrap_or(0)
}

/// Lance counts the rows of a partition in 32 bits.
fn count(rows: usize) -> Result<u32> {
    u32::try_from(rows).map_err(|_| Error::TooManyVectors { len: 0, added: rows })
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value).map_err(lance_core::Error::from)?)
}
