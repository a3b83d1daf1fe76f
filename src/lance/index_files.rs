//! The files of one index segment: `index.idx`, which holds the graphs, and `auxiliary.idx`, which holds the vectors.
//!
//! Both have the rows of all partitions one after another, how many of each partition in a buffer of their own (in
//! `index.idx` rows of the graph batch, so all levels), and JSON in the schema metadata. Lance reads a partition as a
//! range of rows.

use std::ops::Range;

use arrow_array::{FixedSizeListArray, RecordBatch, UInt64Array};
use lance_file::version::ConcreteFileVersion;
use lance_index::pb::vector_index_details::{Compression, FlatCompression, ScalarQuantization};
use lance_index::pb::{VectorIndexDetails, VectorMetricType};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_io::object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::format::Storage;
use crate::graph::BuildParams;
use crate::lance::segment_writer::SegmentWriter;
use crate::lance::sq_bounds as bounds;
use crate::lance::unit_length::normalized;
use crate::vectors::VectorSource;
use crate::vectors::VectorStoreSnapshot;

/// Rows that are copied, normalized, quantized and handed to the writer at a time.
pub(crate) const BATCH_ROWS: u32 = 8_192;
/// Bits per element with [`Quantizer::Sq`].
pub(crate) const SQ_BITS: u16 = 8;

/// How an index file stores its vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl<'a> IndexFiles<'a> {
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
        self.write_with_bounds(partitions, centroids, Taken::None).await
    }

    /// [`write`](Self::write), with the bounds of a scalar quantizer that is there already. The elements that are
    /// outside are stored as if they were at the bound.
    pub(crate) async fn write_with_bounds(
        &self,
        partitions: &[Partition],
        centroids: &FixedSizeListArray,
        taken: Taken,
    ) -> Result<()> {
        let bounds = self.bounds(taken, |taken| {
            let batches = partitions.iter().flat_map(|partition| self.batches(&partition.vectors, 0));
            bounds::of(batches.map(|batch| batch.map(|(_, vectors)| vectors)), taken)
        })?;
        let mut writer = SegmentWriter::begin(self, centroids, bounds).await?;
        for partition in partitions {
            writer.push(partition, None).await?;
        }
        writer.finish().await
    }

    /// The bounds of the quantizer, if there is one.
    pub(crate) fn bounds(
        &self,
        taken: Taken,
        find: impl FnOnce(Option<Range<f64>>) -> Result<Range<f64>>,
    ) -> Result<Option<Range<f64>>> {
        match (self.quantizer, taken) {
            (Quantizer::Flat, _) => Ok(None),
            (Quantizer::Sq, Taken::Always(bounds)) => Ok(Some(bounds)),
            (Quantizer::Sq, Taken::IfFit(bounds)) => find(Some(bounds)).map(Some),
            (Quantizer::Sq, Taken::None) => find(None).map(Some),
        }
    }

    /// The rows from an id on in small batches, with their row ids, as they are stored before they are quantized.
    pub(crate) fn batches<'b>(
        &self,
        vectors: &'b VectorStoreSnapshot,
        from: u32,
    ) -> impl Iterator<Item = Result<(UInt64Array, FixedSizeListArray)>> + use<'a, 'b> {
        let (rows, distance_type) = (vectors.len() as u32, self.distance_type);
        (from..rows).step_by(BATCH_ROWS as usize).map(move |start| -> Result<_> {
            let batch = vectors.batch_of(start..rows.min(start.saturating_add(BATCH_ROWS)))?;
            let Storage { row_ids, vectors, .. } = Storage::of(&batch)?;
            Ok((row_ids.clone(), as_stored(vectors, distance_type)?))
        })
    }
}

/// Vectors as they are stored before they are quantized.
pub(crate) fn as_stored(
    vectors: &FixedSizeListArray,
    distance_type: DistanceType,
) -> Result<FixedSizeListArray> {
    if distance_type == DistanceType::Cosine { normalized(vectors) } else { Ok(vectors.clone()) }
}

/// The bounds of a scalar quantizer that a segment takes over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Taken {
    /// It has its own.
    #[default]
    None,
    /// Unless they are too narrow for the vectors.
    IfFit(Range<f64>),
    /// Whatever the vectors are.
    Always(Range<f64>),
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
    use std::sync::Arc;

    use arrow_array::{ArrayRef, UInt32Array};

    use super::*;
    use crate::format::HNSW_METADATA_KEY;
    use crate::lance::columns::lists;
    use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType};

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
