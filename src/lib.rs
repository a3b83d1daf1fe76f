#![doc = include_str!("../README.md")]

// In reading order: each uses what stands above it.
mod distance;
mod error;
mod flat;
mod format;
mod graph;
mod index;
pub mod lance;
mod metadata;
mod persist;
mod search;
mod util;
mod vectors;
#[allow(dead_code, reason = "some is used by one feature only")]
mod codes;

pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use flat::FlatIndex;
pub use graph::{BuildParams, Coding, GraphHealth, HnswGraph, LevelStats, LongList, PruneStrategy, Selection};
pub use index::{HnswIndex, IndexStats, ResidentBytes, SearchCursor};
pub use metadata::Metadata;
pub use search::{Hit, Hits, IndexVersion, RowMask, SearchParams, SearchPlan, SearchStats};
pub use vectors::{
    ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorSource, VectorStoreSnapshot,
};
