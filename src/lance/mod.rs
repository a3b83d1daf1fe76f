//! Lance: its formats, and with features its own types, MemTables and datasets.

#[cfg(feature = "lance")]
mod attach;
#[cfg(feature = "lance")]
mod columns;
#[cfg(feature = "lance")]
mod index_files;
#[cfg(feature = "lance-index")]
mod interop;
#[cfg(feature = "lance")]
mod plugin;
#[cfg(all(feature = "datafusion", feature = "lance"))]
pub(crate) mod sql;
#[cfg(feature = "lance")]
mod segment_reader;
#[cfg(feature = "lance")]
mod segment_writer;
#[cfg(feature = "lance")]
mod sq_bounds;
#[cfg(feature = "lance")]
mod unit_length;

pub use crate::format::{
    DISTANCE_COLUMN, DISTANCE_TYPE_KEY, FLAT_COLUMN, HNSW_METADATA_KEY, LanceHnswMetadata, LanceHnswParams,
    NEIGHBORS_COLUMN, QUERY_INDEX_COLUMN, ROW_ID_COLUMN, VECTOR_ID_COLUMN,
};
#[cfg(feature = "lance")]
pub use attach::{
    AttachParams, AttachedIndex, Fold, FoldParams, IndexModel, SegmentDescriptor, attach_index,
    build_index_segment, commit_segments, optimize_index,
};
#[cfg(feature = "lance")]
pub use index_files::Quantizer;
#[cfg(feature = "lance")]
pub use plugin::{
    PennonMemIndex, PennonMemIndexParams, PennonMemIndexPlugin, live_index, live_indexes, registry,
    registry_with,
};
