//! The files of one index segment: `index.idx`, which holds the graphs, and `auxiliary.idx`, which holds the vectors.
//!
//! Both have the rows of all partitions one after another, how many of each partition in a buffer of their own (in
//! `index.idx` rows of the graph batch, so all levels), and JSON in the schema metadata. Lance reads a partition as a
//! range of rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use lance_file::version::ConcreteFileVersion;
use lance_file::versions::create_writer;
use lance_file::writer::{FileWriter, FileWriterOptions};
use lance_index::pb::vector_index_details::{Compression, FlatCompression, ScalarQuantization};
use lance_index::pb::{Ivf, VectorIndexDetails, VectorMetricType};
use lance_index::vector::SQ_CODE_COLUMN;
use lance_index::vector::flat::index::FlatMetadata;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::ivf::storage::{IVF_METADATA_KEY, IvfModel};
use lance_index::vector::sq::ScalarQuantizer;
use lance_index::vector::sq::storage::{SQ_METADATA_KEY, ScalarQuantizationMetadata};
use lance_index::vector::storage::STORAGE_METADATA_KEY;
use lance_index::{
    INDEX_AUXILIARY_FILE_NAME, INDEX_FILE_NAME, INDEX_METADATA_SCHEMA_KEY, IndexMetadata as FileMetadata,
};
use lance_io::object_store::ObjectStore;
use lance_linalg::kernels::normalize_fsl;
use object_store::path::Path;
use prost::Message;
use serde::Serialize;

use super::{DISTANCE_TYPE_KEY, FLAT_COLUMN, HNSW_METADATA_KEY, ROW_ID_COLUMN, hnsw_fields, list_item};
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::params::BuildParams;

/// Rows that are normalized, quantized and handed to the writer at a time.
const BATCH_ROWS: usize = 8_192;
/// Bits per element with [`Quantizer::Sq`].
const SQ_BITS: u16 = 8;
/// What Lance's MemTable flush asks for in the lists of a graph: the default encoding is said to read runs of empty
/// lists back wrongly. File version 2.0 has no choice and ignores it.
const LIST_ENCODING: (&str, &str) = ("lance-encoding:structural-encoding", "fullzip");

/// How an index file stores its vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantizer {
    /// As they are: `IVF_HNSW_FLAT`.
    #[default]
    Flat,
    /// 8-bit scalar quantization: `IVF_HNSW_SQ`.
    Sq,
}

impl Quantizer {
    /// Lance's name of the kind of index.
    pub(crate) fn index_type(self) -> &'static str {
        match self {
            Self::Flat => "IVF_HNSW_FLAT",
            Self::Sq => "IVF_HNSW_SQ",
        }
    }
}

/// One IVF partition.
pub(crate) struct Partition {
    /// The `lance:hnsw` batch of these rows.
    pub graph: RecordBatch,
    /// Float32, without nulls; row `r` is node `r`, as the caller's rows are (not normalized).
    pub vectors: FixedSizeListArray,
    /// Lance's row id of each row.
    pub row_ids: UInt64Array,
    /// What the query is compared with when partitions are chosen.
    pub centroid: Vec<f32>,
}

/// Where the files of a segment go, and their kind.
pub(crate) struct IndexFiles<'a> {
    pub store: &'a ObjectStore,
    pub dir: Path,
    pub version: ConcreteFileVersion,
    pub quantizer: Quantizer,
    pub distance_type: DistanceType,
}

impl IndexFiles<'_> {
    /// Writes `index.idx` and `auxiliary.idx`. Under cosine vectors are stored with length 1, as Lance's builder does.
    ///
    /// # Errors
    /// - [`Error::RowIdCount`] or [`Error::InvalidBatch`] if the parts of a partition do not belong together,
    /// - [`Error::LanceDataset`] if a file cannot be written; what was written by then is left.
    pub(crate) async fn write(&self, partitions: &[Partition]) -> Result<()> {
        self.write_with_bounds(partitions, None).await
    }

    /// [`write`](Self::write), with the bounds of a scalar quantizer that is there already; what is outside of them is
    /// stored as if it were at the bound.
    pub(crate) async fn write_with_bounds(
        &self,
        partitions: &[Partition],
        bounds: Option<Range<f64>>,
    ) -> Result<()> {
        for Partition { vectors, row_ids, .. } in partitions {
            if vectors.len() != row_ids.len() {
                return Err(Error::RowIdCount { rows: vectors.len(), row_ids: row_ids.len() });
            }
        }
        self.write_vectors(partitions, bounds).await?;
        self.write_graphs(partitions).await
    }

    async fn write_vectors(&self, partitions: &[Partition], bounds: Option<Range<f64>>) -> Result<()> {
        let codec = Codec::new(self, partitions, bounds)?;
        let row_id = Field::new(ROW_ID_COLUMN, DataType::UInt64, true);
        let schema = Arc::new(Schema::new(vec![row_id, codec.field()]));
        let mut writer = self.create(INDEX_AUXILIARY_FILE_NAME, &schema).await?;
        let mut ivf = IvfModel::empty();
        for partition in partitions {
            for (vectors, row_ids) in self.batches(partition) {
                let columns: Vec<ArrayRef> = vec![Arc::new(row_ids), codec.encode(vectors?)?];
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
                writer.write_batch(&batch).await?;
            }
            ivf.add_partition(count(partition.vectors.len())?);
        }
        let metadata = codec.metadata()?;
        writer.add_schema_metadata(DISTANCE_TYPE_KEY, self.distance_type.to_string());
        writer.add_schema_metadata(STORAGE_METADATA_KEY, json(&[&metadata])?);
        if self.quantizer == Quantizer::Sq {
            writer.add_schema_metadata(SQ_METADATA_KEY, metadata);
        }
        finish(writer, &ivf).await
    }

    async fn write_graphs(&self, partitions: &[Partition]) -> Result<()> {
        let mut fields = hnsw_fields();
        let (key, value) = LIST_ENCODING;
        for field in fields.iter_mut().filter(|field| matches!(field.data_type(), DataType::List(_))) {
            field.set_metadata(HashMap::from([(key.to_string(), value.to_string())]));
        }
        let mut writer = self.create(INDEX_FILE_NAME, &Schema::new(fields)).await?;
        let mut ivf = IvfModel::new(centroids(partitions)?, None);
        let mut metadata = Vec::with_capacity(partitions.len());
        for Partition { graph, .. } in partitions {
            ivf.add_partition(count(graph.num_rows())?);
            // Lance writes nothing for an empty partition and an empty string for its metadata.
            if graph.num_rows() == 0 {
                metadata.push("");
                continue;
            }
            let text = graph.schema_ref().metadata().get(HNSW_METADATA_KEY);
            metadata.push(text.ok_or_else(|| Error::InvalidBatch {
                kind: HNSW_METADATA_KEY,
                problem: format!("no schema metadata {HNSW_METADATA_KEY:?}"),
            })?);
            writer.write_batch(graph).await?;
        }
        let file = FileMetadata {
            index_type: self.quantizer.index_type().to_string(),
            distance_type: self.distance_type.to_string(),
        };
        writer.add_schema_metadata(INDEX_METADATA_SCHEMA_KEY, json(&file)?);
        writer.add_schema_metadata(HNSW_METADATA_KEY, json(&metadata)?);
        finish(writer, &ivf).await
    }

    async fn create(&self, name: &str, schema: &Schema) -> Result<FileWriter> {
        let file = self.store.create(&self.dir.clone().join(name)).await?;
        let schema = lance_core::datatypes::Schema::try_from(schema)?;
        Ok(create_writer(self.version, file, schema, FileWriterOptions::default())?)
    }

    /// The rows of a partition in small batches, as they are stored before they are quantized.
    fn batches<'a>(
        &'a self,
        partition: &'a Partition,
    ) -> impl Iterator<Item = (Result<FixedSizeListArray>, UInt64Array)> + 'a {
        let Partition { vectors, row_ids, .. } = partition;
        (0..vectors.len()).step_by(BATCH_ROWS).map(move |start| {
            let rows = BATCH_ROWS.min(vectors.len() - start);
            (self.stored(&vectors.slice(start, rows)), row_ids.slice(start, rows))
        })
    }

    fn stored(&self, vectors: &FixedSizeListArray) -> Result<FixedSizeListArray> {
        let is_cosine = self.distance_type == DistanceType::Cosine;
        let vectors = if is_cosine { normalize_fsl(vectors)? } else { vectors.clone() };
        // The name and the nullability of the elements are those of the file, whatever the caller's are.
        let (_, dim, values, _) = vectors.into_parts();
        Ok(FixedSizeListArray::try_new(list_item(DataType::Float32), dim, values, None)?)
    }
}

/// What becomes of the vectors in `auxiliary.idx`.
struct Codec {
    dim: i32,
    /// None if they stay as they are.
    quantizer: Option<ScalarQuantizer>,
}

impl Codec {
    /// A file has one quantizer: if no bounds are given, they are those of the stored vectors of all partitions.
    fn new(files: &IndexFiles<'_>, partitions: &[Partition], bounds: Option<Range<f64>>) -> Result<Self> {
        let dim = partitions.first().map_or(0, |partition| partition.vectors.value_length());
        if files.quantizer == Quantizer::Flat {
            return Ok(Self { dim, quantizer: None });
        }
        let mut quantizer = ScalarQuantizer::new(SQ_BITS, length(dim));
        if bounds.is_none() {
            for (vectors, _) in partitions.iter().flat_map(|partition| files.batches(partition)) {
                quantizer.update_bounds::<Float32Type>(&vectors?)?;
            }
        }
        let bounds = bounds.unwrap_or_else(|| short(quantizer.bounds().start)..short(quantizer.bounds().end));
        Ok(Self { dim, quantizer: Some(ScalarQuantizer::with_bounds(SQ_BITS, length(dim), bounds)) })
    }

    fn field(&self) -> Field {
        let (name, item) = match self.quantizer {
            None => (FLAT_COLUMN, DataType::Float32),
            Some(_) => (SQ_CODE_COLUMN, DataType::UInt8),
        };
        Field::new(name, DataType::FixedSizeList(list_item(item), self.dim), true)
    }

    fn encode(&self, vectors: FixedSizeListArray) -> Result<ArrayRef> {
        match &self.quantizer {
            None => Ok(Arc::new(vectors)),
            Some(quantizer) => Ok(quantizer.transform::<Float32Type>(&vectors)?),
        }
    }

    /// What Lance's reader of the storage wants to know, as JSON.
    fn metadata(&self) -> Result<String> {
        let dim = length(self.dim);
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

fn centroids(partitions: &[Partition]) -> Result<FixedSizeListArray> {
    let dim = partitions.first().map_or(0, |partition| partition.vectors.value_length());
    let values: Vec<f32> = partitions.iter().flat_map(|partition| &partition.centroid).copied().collect();
    let values = Arc::new(Float32Array::from(values));
    Ok(FixedSizeListArray::try_new(list_item(DataType::Float32), dim, values, None)?)
}

/// A bound with so few digits that it comes out of JSON as it went in: the last of 17 digits may not, and Lance merges
/// only segments whose bounds are equal.
fn short(bound: f64) -> f64 {
    format!("{bound:.11e}").parse().unwrap_or(bound)
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

/// What the manifest says of such an index: metric, quantizer, and the parameters to rebuild from.
///
/// # Errors
/// [`Error::NotInLance`] if Lance has no such metric, [`Error::LanceDataset`] if it cannot be encoded.
pub(crate) fn details(
    distance_type: DistanceType,
    quantizer: Quantizer,
    params: &BuildParams,
) -> Result<prost_types::Any> {
    let compression = match quantizer {
        Quantizer::Flat => Compression::Flat(FlatCompression {}),
        Quantizer::Sq => Compression::Sq(ScalarQuantization { num_bits: u32::from(SQ_BITS) }),
    };
    let metric = VectorMetricType::from(lance_linalg::distance::DistanceType::try_from(distance_type)?);
    let details = VectorIndexDetails {
        metric_type: metric.into(),
        hnsw_index_config: Some((&HnswBuildParams::from(params)).into()),
        compression: Some(compression),
        ..Default::default()
    };
    Ok(prost_types::Any::from_msg(&details).map_err(lance_core::Error::from)?)
}

impl From<lance_core::Error> for Error {
    fn from(source: lance_core::Error) -> Self {
        Self::LanceDataset { source: Box::new(source) }
    }
}

impl From<Error> for lance_core::Error {
    /// Lance's own errors come back as they were; others are kept as they are inside.
    fn from(error: Error) -> Self {
        match error {
            Error::LanceDataset { source } => *source,
            other => Self::external(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rows and a graph batch of as many, without its metadata.
    fn partition(row_ids: u64) -> Partition {
        let values = Arc::new(Float32Array::from(vec![1.0_f32; 6]));
        let ids: ArrayRef = Arc::new(arrow_array::UInt32Array::from(vec![0, 1, 2]));
        Partition {
            graph: RecordBatch::try_from_iter([("__vector_id", ids)]).unwrap(),
            vectors: FixedSizeListArray::try_new(list_item(DataType::Float32), 2, values, None).unwrap(),
            row_ids: (0..row_ids).collect::<Vec<_>>().into(),
            centroid: vec![0.0; 2],
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let store = ObjectStore::memory();
        let files = IndexFiles {
            store: &store,
            dir: Path::from("index"),
            version: ConcreteFileVersion::V2_1,
            quantizer: Quantizer::Sq,
            distance_type: DistanceType::Cosine,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let write = |partition| runtime.block_on(files.write(&[partition])).unwrap_err();
        let error = write(partition(2));
        assert!(matches!(error, Error::RowIdCount { rows: 3, row_ids: 2 }), "{error}");
        let error = write(partition(3));
        assert!(matches!(error, Error::InvalidBatch { kind: HNSW_METADATA_KEY, .. }), "{error}");
    }

    #[test]
    fn short_bounds_survive_json() {
        for bound in [-1.4_f32, 0.0, 0.1, 1.0e-5, 1234.567].map(f64::from) {
            let short = short(bound);
            assert!((short - bound).abs() <= bound.abs() * 1e-11, "{bound} and {short}");
            let mut read = short;
            for _ in 0..3 {
                read = serde_json::from_str(&json(&read).unwrap()).unwrap();
                assert_eq!(read, short);
            }
        }
    }

    #[test]
    fn errors_of_lance_pass_through_and_others_are_kept() {
        let lance = lance_core::Error::from(Error::from(lance_core::Error::not_found("x")));
        assert!(matches!(lance, lance_core::Error::NotFound { .. }), "{lance}");
        let kept = lance_core::Error::from(Error::UnknownRowId { row_id: 7 });
        let kept = kept.external_source().and_then(|source| source.downcast_ref::<Error>());
        assert!(matches!(kept, Some(Error::UnknownRowId { row_id: 7 })));
    }
}
