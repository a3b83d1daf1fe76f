//! The index of that name, if there is one, and what a further segment of it takes over.

use std::ops::Range;

use ::lance::Dataset;
use ::lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use arrow_array::FixedSizeListArray;
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::vector::quantizer::Quantizer as LanceQuantizer;
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;

use super::column::Column;
use super::params::AttachParams;
use crate::error::Result;

/// What the segments of an index have to have in common for Lance to merge them, beside metric and kind: what is not
/// given is to be found anew.
#[derive(Default)]
pub(super) struct Model {
    /// One for each partition.
    pub centroids: Option<FixedSizeListArray>,
    /// Of the scalar quantizer.
    pub bounds: Option<Range<f64>>,
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

    /// What a further segment takes over from the newest one that covers anything. That both can be searched together
    /// is checked as Lance does when the segment is committed, but before it is built.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if metric or kind differ.
    pub async fn model(&self, dataset: &Dataset, column: &Column, params: &AttachParams) -> Result<Model> {
        let all = dataset.fragment_bitmap().as_ref();
        let stays = |segment: &&IndexMetadata| {
            segment.effective_fragment_bitmap(all).is_some_and(|fragments| !fragments.is_empty())
        };
        let Some(segment) = self.segments.iter().rev().find(stays) else {
            return Ok(Model::default());
        };
        let index = dataset.open_vector_index(&column.name, &segment.uuid, &NoOpMetricsCollector).await?;
        let existing = (index.metric_type().to_string(), index.index_type().to_string());
        let requested = (params.distance_type.to_string(), params.quantizer.index_type().to_string());
        if existing != requested {
            return Err(column.invalid(format!(
                "its index {:?} is {} with metric {}, not {} with metric {}",
                self.name, existing.1, existing.0, requested.1, requested.0
            )));
        }
        let bounds = match index.quantizer() {
            LanceQuantizer::Scalar(quantizer) => Some(quantizer.bounds()),
            _ => None,
        };
        Ok(Model { centroids: index.ivf_model().centroids_array().cloned(), bounds })
    }
}
