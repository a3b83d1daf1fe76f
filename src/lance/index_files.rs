//! The files of one index segment: `index.idx`, which holds the graphs, and `auxiliary.idx`, which holds the vectors.
//!
//! Both have the rows of all partitions one after another, how many of each partition in a buffer of their own (in
//! `index.idx` rows of the graph batch, so all levels), and JSON in the schema metadata. Lance reads a partition as a
//! range of rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, UInt64Array};
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
use lance_index::vector::quantizer::Quantization;
use lance_index::vector::sq::ScalarQuantizer;
use lance_index::vector::sq::storage::{SQ_METADATA_KEY, ScalarQuantizationMetadata};
use lance_index::vector::storage::STORAGE_METADATA_KEY;
use lance_index::{
    INDEX_AUXILIARY_FILE_NAME, INDEX_FILE_NAME, INDEX_METADATA_SCHEMA_KEY, IndexMetadata as FileMetadata,
};
use lance_io::object_store::ObjectStore;
use object_store::path::Path;
use prost::Message;
use serde::Serialize;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::format::{DISTANCE_TYPE_KEY, FLAT_COLUMN, HNSW_METADATA_KEY, ROW_ID_COLUMN, Storage, hnsw_fields};
use crate::graph::BuildParams;
use crate::lance::sq_bounds as bounds;
use crate::lance::unit_length::normalized;
use crate::vectors::VectorSource;
use crate::vectors::{ElementType, VectorStoreSnapshot};

/// Rows that are copied, normalized, quantized and handed to the writer at a time.
const BATCH_ROWS: u32 = 8_192;
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
    /// 8-bit scalar quantization: `IVF_HNSW_SQ`. Of floats only: bits in Hamming distance have nothing to be scaled.
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

    /// Checks that Lance searches vectors that are stored so.
    ///
    /// # Errors
    /// [`Error::NotInLance`] if it does not.
    pub(crate) fn check(self, distance_type: DistanceType) -> Result<()> {
        match (self, distance_type) {
            (Self::Sq, DistanceType::Hamming) => Err(Error::NotInLance {
                what: "IVF_HNSW_SQ index with distance type",
                actual: distance_type.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// One IVF partition.
pub(crate) struct Partition {
    /// The `lance:hnsw` batch of these rows.
    pub graph: RecordBatch,
    /// Id `r` is node `r`, its row id is Lance's; as the caller's rows are (not normalized).
    pub vectors: VectorStoreSnapshot,
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
    /// `centroids`, one for each partition, are what a query is compared with when partitions are chosen. They are of
    /// the type of the vectors: Lance compares no others.
    ///
    /// # Errors
    /// - [`Error::InvalidBatch`] if a graph has no metadata,
    /// - [`Error::NotInLance`] if a scalar quantizer would have bounds that are not finite,
    /// - [`Error::LanceDataset`] if a file cannot be written; what was written by then is left.
    pub(crate) async fn write(&self, partitions: &[Partition], centroids: &FixedSizeListArray) -> Result<()> {
        self.write_with_bounds(partitions, centroids, None).await
    }

    /// [`write`](Self::write), with the bounds of a scalar quantizer that is there already, if the vectors fit into
    /// them; the few elements that are outside are stored as if they were at the bound.
    pub(crate) async fn write_with_bounds(
        &self,
        partitions: &[Partition],
        centroids: &FixedSizeListArray,
        taken: Option<Range<f64>>,
    ) -> Result<()> {
        let codec = Codec::new(self, partitions, centroids, taken)?;
        self.write_vectors(partitions, &codec).await?;
        self.write_graphs(partitions, centroids).await
    }

    async fn write_vectors(&self, partitions: &[Partition], codec: &Codec) -> Result<()> {
        let row_id = Field::new(ROW_ID_COLUMN, DataType::UInt64, true);
        let schema = Arc::new(Schema::new(vec![row_id, codec.field()]));
        let mut writer = self.create(INDEX_AUXILIARY_FILE_NAME, &schema).await?;
        let mut ivf = IvfModel::empty();
        for partition in partitions {
            for batch in self.batches(partition) {
                let (row_ids, vectors) = batch?;
                let columns: Vec<ArrayRef> = vec![Arc::new(row_ids), codec.encode(vectors)?];
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

    async fn write_graphs(&self, partitions: &[Partition], centroids: &FixedSizeListArray) -> Result<()> {
        let mut fields = hnsw_fields();
        let (key, value) = LIST_ENCODING;
        for field in fields.iter_mut().filter(|field| matches!(field.data_type(), DataType::List(_))) {
            field.set_metadata(HashMap::from([(key.to_string(), value.to_string())]));
        }
        let mut writer = self.create(INDEX_FILE_NAME, &Schema::new(fields)).await?;
        let mut ivf = IvfModel::new(centroids.clone(), None);
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
    ) -> impl Iterator<Item = Result<(UInt64Array, FixedSizeListArray)>> + 'a {
        let vectors = &partition.vectors;
        let rows = vectors.len() as u32;
        (0..rows).step_by(BATCH_ROWS as usize).map(move |start| -> Result<_> {
            let batch = vectors.batch_of(start..rows.min(start.saturating_add(BATCH_ROWS)))?;
            let Storage { row_ids, vectors, .. } = Storage::of(&batch)?;
            let is_cosine = self.distance_type == DistanceType::Cosine;
            let vectors = if is_cosine { normalized(vectors)? } else { vectors.clone() };
            Ok((row_ids.clone(), vectors))
        })
    }
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
    fn new(
        files: &IndexFiles<'_>,
        partitions: &[Partition],
        centroids: &FixedSizeListArray,
        taken: Option<Range<f64>>,
    ) -> Result<Self> {
        let (vectors, dim) = (centroids.data_type().clone(), length(centroids.value_length()));
        if files.quantizer == Quantizer::Flat {
            return Ok(Self { vectors, dim, quantizer: None });
        }
        let batches = partitions.iter().flat_map(|partition| files.batches(partition));
        let stored = batches.map(|batch| batch.map(|(_, vectors)| vectors));
        let bounds = bounds::of(stored, taken)?;
        Ok(Self { vectors, dim, quantizer: Some(ScalarQuantizer::with_bounds(SQ_BITS, dim, bounds)) })
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
    use arrow_array::UInt32Array;

    use super::*;
    use crate::lance::columns::lists;
    use crate::vectors::ArrowFixedSizeListVectorStore;

    #[test]
    fn a_graph_without_its_metadata_is_refused() {
        let rows = lists(ElementType::Float16, 2, vec![1.0; 6]).unwrap();
        let (element_type, distance_type) = (ElementType::Float16, DistanceType::Cosine);
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, 2, distance_type).unwrap();
        store.append_batch(Arc::new(rows.clone()), 0).unwrap();
        let ids: ArrayRef = Arc::new(UInt32Array::from(vec![0, 1, 2]));
        let graph = RecordBatch::try_from_iter([("__vector_id", ids)]).unwrap();
        let partition = Partition { graph, vectors: Arc::new(store).snapshot() };

        let files = IndexFiles {
            store: &ObjectStore::memory(),
            dir: Path::from("index"),
            version: ConcreteFileVersion::V2_1,
            quantizer: Quantizer::Sq,
            distance_type,
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let error = runtime.block_on(files.write(&[partition], &rows.slice(0, 1))).unwrap_err();
        assert!(matches!(error, Error::InvalidBatch { kind: HNSW_METADATA_KEY, .. }), "{error}");
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
