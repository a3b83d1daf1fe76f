//! The index of that name, if there is one.

use ::lance::Dataset;
use ::lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use lance_index::metrics::NoOpMetricsCollector;
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;

use super::column::Column;
use super::params::AttachParams;
use crate::error::Result;

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

    /// The segment that was built last.
    pub fn newest(&self) -> Option<IndexMetadata> {
        self.segments.iter().max_by_key(|segment| segment.dataset_version).cloned()
    }

    /// Checks that a new segment can be searched together with those that stay, as Lance does when it is committed,
    /// but before it is built.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if metric or kind differ.
    pub async fn check(&self, dataset: &Dataset, column: &Column, params: &AttachParams) -> Result<()> {
        let all = dataset.fragment_bitmap().as_ref();
        let stays = |segment: &&IndexMetadata| {
            segment.effective_fragment_bitmap(all).is_some_and(|fragments| !fragments.is_empty())
        };
        let Some(segment) = self.segments.iter().find(stays) else {
            return Ok(());
        };
        let index = dataset.open_vector_index(&column.name, &segment.uuid, &NoOpMetricsCollector).await?;
        let existing = (index.metric_type().to_string(), index.index_type().to_string());
        let requested = (params.distance_type.to_string(), params.quantizer.index_type().to_string());
        if existing == requested {
            return Ok(());
        }
        Err(column.invalid(format!(
            "its index {:?} is {} with metric {}, not {} with metric {}",
            self.name, existing.1, existing.0, requested.1, requested.0
        )))
    }
}
