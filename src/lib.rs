#![doc = include_str!("../README.md")]

mod chunked;
mod distance;
mod error;
mod graph;
mod index;
pub mod lance;
mod mask;
mod mix;
mod params;
mod persist;
mod prefetch;
mod rows;
mod source;
mod store;
mod sync;
mod version;

pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use graph::{
    GraphHealth, HnswGraph, LevelStats, LongList, Reorder, ScoredPoint, SearchPlan, SearchResult, SearchStats,
};
pub use index::{HnswIndex, IndexStats, ResidentBytes, SearchCursor};
pub use mask::RowMask;
pub use params::{BuildParams, PruneStrategy, SearchParams, Selection};
pub use source::VectorSource;
pub use store::{ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorStoreSnapshot};
pub use version::IndexVersion;
