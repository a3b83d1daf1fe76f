//! The index of that name, if there is one, and what a further segment of it takes over.

use std::sync::Arc;

use ::lance::Dataset;
use ::lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use arrow_array::{Array, FixedSizeListArray};
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::pb::vector_index_details::Compression;
use lance_index::pb::{VectorIndexDetails, VectorMetricType};
use lance_index::vector::VectorIndex;
use lance_index::vector::quantizer::Quantizer as LanceQuantizer;
use lance_linalg::distance::DistanceType as LanceDistanceType;
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::lance::attach::column::Column;
use crate::lance::attach::model::IndexModel;
use crate::lance::attach::params::AttachParams;
use crate::lance::columns::fixed_size;
use crate::lance::index_files::Taken;

/// What the segments of an index have to have in common for Lance to merge them, beside metric and kind: what is not
/// given is to be found anew.
#[derive(Default)]
pub(super) struct Model {
    /// One for each partition.
    pub centroids: Option<FixedSizeListArray>,
    /// Of the scalar quantizer.
    pub bounds: Taken,
}

/// The segments that the manifest has under the name of the index.
pub(super) struct Existing {
    pub name: String,
    segments: Vec<IndexMetadata>,
}

impl Existing {
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if an index of another column has the name that was asked
    /// for.
    pub async fn find(dataset: &Dataset, column: &Column, params: &AttachParams) -> Result<Self> {
        let indices = dataset.load_indices().await?;
        let is_foreign = |index: &IndexMetadata, name: &str| {
            index.name == name && index.keyed_field() != Some(column.field)
        };
        let name = match &params.name {
            Some(name) if indices.iter().any(|index| is_foreign(index, name)) => {
                return Err(column.invalid(format!("index {name:?} is one of another column")));
            }
            Some(name) => name.clone(),
            None => {
                // Lance's own way out when the name is taken.
                let first = format!("{}_idx", column.name);
                let (mut name, mut number) = (first.clone(), 2);
                while indices.iter().any(|index| is_foreign(index, &name)) {
                    name = format!("{first}_{number}");
                    number += 1;
                }
                name
            }
        };
        let segments = indices.iter().filter(|index| index.name == name).cloned().collect();
        Ok(Self { name, segments })
    }

    /// The fragments that need no further segment. Of a segment whose fragments are not known it has to be assumed
    /// that it covers all: Lance lets nothing be added to it.
    pub fn covered(&self, dataset: &Dataset) -> RoaringBitmap {
        let all = dataset.fragment_bitmap().as_ref();
        let covered = |segment: &IndexMetadata| segment.effective_fragment_bitmap(all);
        self.segments
            .iter()
            .fold(RoaringBitmap::new(), |sum, segment| sum | covered(segment).unwrap_or_else(|| all.clone()))
    }

    /// The segment that was added last.
    pub fn newest(&self) -> Option<IndexMetadata> {
        self.segments.last().cloned()
    }

    /// Opens the segments that cover anything and returns the newest of them.
    ///
    /// That a further segment can be searched together with them is checked as Lance does when it is committed, but
    /// before it is built, and also where none is to be built: what is there is then what was asked for.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if a segment has another metric or is of another kind.
    pub async fn open(
        &self,
        dataset: &Dataset,
        column: &Column,
        params: &AttachParams,
    ) -> Result<Option<Arc<dyn VectorIndex>>> {
        let all = dataset.fragment_bitmap().as_ref();
        let requested = (params.distance_type.to_string(), params.quantizer.index_type().to_string());
        let mut newest = None;
        for segment in &self.segments {
            let fragments = segment.effective_fragment_bitmap(all);
            let actual = if fragments.is_none_or(|fragments| !fragments.is_empty()) {
                let index =
                    dataset.open_vector_index(&column.name, &segment.uuid, &NoOpMetricsCollector).await?;
                let actual = (index.metric_type().to_string(), index.index_type().to_string());
                newest = Some(index);
                Some(actual)
            } else {
                // Without rows there need be no files either.
                recorded(segment)
            };
            if let Some((metric, kind)) = actual.filter(|actual| *actual != requested) {
                return Err(column.invalid(format!(
                    "its index {:?} is {kind} with metric {metric}, not {} with metric {}",
                    self.name, requested.1, requested.0
                )));
            }
        }
        Ok(newest)
    }

    /// What a segment takes over from the newest one that covers anything, or from the model that is given.
    ///
    /// # Errors
    /// - [`Error::InvalidColumn`](crate::Error::InvalidColumn) if the type of its centroids is not that of the column,
    /// - [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) or
    ///   [`Error::ModelMismatch`](crate::Error::ModelMismatch) if the model is not one for the column, or not that of
    ///   the index.
    pub fn model(
        &self,
        column: &Column,
        newest: Option<&dyn VectorIndex>,
        given: Option<&IndexModel>,
    ) -> Result<Model> {
        if let Some(given) = given {
            given.check_column(column)?;
        }
        let bounds = newest.and_then(|index| match index.quantizer() {
            LanceQuantizer::Scalar(quantizer) => Some(quantizer.bounds()),
            _ => None,
        });
        let centroids = newest.and_then(|index| index.ivf_model().centroids_array());
        let centroids = centroids.map(|centroids| self.centroids(column, centroids)).transpose()?;
        let Some(given) = given else {
            return Ok(Model { centroids, bounds: bounds.map_or(Taken::None, Taken::IfFit) });
        };
        let differs = |what: &'static str, model: String| {
            let actual = format!("those of the newest segment of index {:?}", self.name);
            Err(Error::ModelMismatch { what, model, actual })
        };
        if centroids.as_ref().is_some_and(|centroids| centroids != given.centroids()) {
            return differs("centroids", format!("{} of its own", given.partitions()));
        }
        if bounds.is_some() && bounds != given.bounds() {
            return differs("bounds", format!("{:?}", given.bounds()));
        }
        let bounds = given.bounds().map_or(Taken::None, Taken::Always);
        Ok(Model { centroids: Some(given.centroids().clone()), bounds })
    }

    /// Centroids as a further segment of the index has them.
    fn centroids(&self, column: &Column, centroids: &FixedSizeListArray) -> Result<FixedSizeListArray> {
        let Column { element_type, dim, .. } = *column;
        let (item, length) = (element_type.item(), dim as i32);
        // Lance's trainer may leave `Float32` for a column of `Float16`, which its own search then refuses.
        if centroids.value_type() != *item.data_type() || centroids.value_length() != length {
            return Err(column.invalid(format!(
                "the centroids of its index {:?} are {}, not of {length} {element_type}",
                self.name,
                centroids.data_type()
            )));
        }
        fixed_size(element_type, dim, Arc::clone(centroids.values()))
    }
}

/// Metric and kind of a segment as the manifest has them, if it says anything.
fn recorded(segment: &IndexMetadata) -> Option<(String, String)> {
    let details = segment.index_details.as_deref().filter(|details| !details.value.is_empty())?;
    let details = details.to_msg::<VectorIndexDetails>().ok()?;
    let metric = LanceDistanceType::from(VectorMetricType::try_from(details.metric_type).ok()?);
    let graph = if details.hnsw_index_config.is_some() { "HNSW_" } else { "" };
    let storage = match details.compression {
        Some(Compression::Pq(_)) => "PQ",
        Some(Compression::Sq(_)) => "SQ",
        Some(Compression::Rq(_)) => "RQ",
        Some(Compression::Flat(_)) | None => "FLAT",
    };
    Some((metric.to_string(), format!("IVF_{graph}{storage}")))
}
