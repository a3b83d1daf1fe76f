//! An index segment on its way from the process that built it to the one that commits it.

use std::sync::Arc;

use ::lance::index::{IndexSegment, IntoIndexSegment};
use lance_index::VECTOR_INDEX_VERSION;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Result;
use crate::lance::attach::column::Column;
use crate::lance::attach::params::AttachParams;
use crate::lance::index_files;

/// A segment whose files are in place and which no manifest names yet: what has to reach the process that commits,
/// in any format that serde writes.
///
/// Lance takes it as it is, too: it is an `IntoIndexSegment` for `Dataset::commit_existing_index_segments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentDescriptor {
    uuid: Uuid,
    field: i32,
    fragments: Vec<u32>,
    dataset_version: u64,
    details_type: String,
    details: Vec<u8>,
}

impl SegmentDescriptor {
    pub(super) fn new(
        uuid: Uuid,
        column: &Column,
        fragments: Vec<u32>,
        dataset_version: u64,
        params: &AttachParams,
    ) -> Result<Self> {
        let details = index_files::details(params.distance_type, params.quantizer, &params.build)?;
        Ok(Self {
            uuid,
            field: column.field,
            fragments,
            dataset_version,
            details_type: details.type_url,
            details: details.value,
        })
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
