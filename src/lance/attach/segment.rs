//! An index segment on its way from the process that built it to the one that commits it.

use std::sync::Arc;

use ::lance::Dataset;
use ::lance::index::{IndexSegment, IntoIndexSegment};
use lance_index::VECTOR_INDEX_VERSION;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::lance::attach::column::Column;

/// A segment whose files are in place and which no manifest names yet: what has to reach the process that commits,
/// in any format that serde writes.
///
/// Lance takes it as it is, too: it is an `IntoIndexSegment` for `Dataset::commit_existing_index_segments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDescriptor {
    uuid: Uuid,
    field: i32,
    fragments: Vec<u32>,
    /// Where the vectors of each fragment were.
    sources: Vec<String>,
    dataset_version: u64,
    partitions: usize,
    rows: u64,
    skipped: u64,
    details_type: String,
    details: Vec<u8>,
}

/// What a segment turned out to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    pub partitions: usize,
    pub rows: u64,
    pub skipped: u64,
}

impl SegmentDescriptor {
    pub(super) fn new(
        uuid: Uuid,
        dataset: &Dataset,
        column: &Column,
        fragments: &RoaringBitmap,
        Sizes { partitions, rows, skipped }: Sizes,
        details: prost_types::Any,
    ) -> Self {
        let field = column.field;
        // A fragment that is not there has no source, and is found to be stale.
        let source = |id: u32| source(dataset, id, field).unwrap_or_default();
        Self {
            uuid,
            field,
            fragments: fragments.iter().collect(),
            sources: fragments.iter().map(source).collect(),
            dataset_version: dataset.manifest().version,
            partitions,
            rows,
            skipped,
            details_type: details.type_url,
            details: details.value,
        }
    }

    /// Checks that the rows of the segment are still those of a dataset, but for deleted ones.
    ///
    /// # Errors
    /// [`Error::StaleSegment`] if fragments are gone, or have their vectors in other files.
    pub(super) fn check(&self, dataset: &Dataset) -> Result<()> {
        let mut sources = self.sources.iter();
        let is_stale = |&id: &u32| {
            let built = sources.next();
            built.is_none() || built != source(dataset, id, self.field).as_ref()
        };
        let fragments: Vec<u32> = self.fragments.iter().copied().filter(is_stale).collect();
        if fragments.is_empty() {
            return Ok(());
        }
        let (built, current) = (self.dataset_version, dataset.manifest().version);
        Err(Error::StaleSegment { uuid: self.uuid, built, current, fragments })
    }

    /// Version of the dataset that it was built from.
    pub fn dataset_version(&self) -> u64 {
        self.dataset_version
    }

    /// IVF partitions, each with a graph of its own.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of its fragments that have no usable vector.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Id of the segment: its files are in `_indices/<uuid>`.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The fragments whose rows are in it, ascending.
    pub fn fragments(&self) -> &[u32] {
        &self.fragments
    }
}

/// The files that the values of a field are in, and which none of its later values can be in.
fn source(dataset: &Dataset, fragment: u32, field: i32) -> Option<String> {
    let fragment = dataset.fragments().iter().find(|found| found.id == u64::from(fragment))?;
    let overlays = fragment.overlays.iter().map(|overlay| &overlay.data_file);
    let files = fragment.files.iter().chain(overlays).filter(|file| file.fields.contains(&field));
    Some(files.map(|file| file.path.as_str()).collect::<Vec<_>>().join("|"))
}

impl IntoIndexSegment for SegmentDescriptor {
    fn into_index_segment(self) -> lance_core::Result<IndexSegment> {
        let details = prost_types::Any { type_url: self.details_type, value: self.details };
        Ok(IndexSegment::new(
            self.uuid,
            self.fragments,
            [self.field],
            Arc::new(details),
            VECTOR_INDEX_VERSION as i32,
            self.dataset_version,
            [],
        ))
    }
}
