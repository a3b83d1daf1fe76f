#![doc = include_str!("../README.md")]

mod chunked;
#[allow(dead_code)]
mod codes;
mod distance;
mod error;
mod flat;
mod graph;
mod index;
pub mod lance;
mod mask;
mod metadata;
mod mix;
mod params;
mod persist;
mod prefetch;
mod rows;
mod source;
mod store;
mod sync;
mod table;
mod vector_index;
mod version;

pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use flat::FlatIndex;
pub use graph::{
    GraphHealth, HnswGraph, LevelStats, LongList, Reorder, ScoredPoint, SearchPlan, SearchResult, SearchStats,
};
pub use index::{HnswIndex, IndexStats, ResidentBytes, SearchCursor};
pub use mask::RowMask;
pub use metadata::Metadata;
pub use params::{BuildParams, PruneStrategy, SearchParams, Selection};
pub use source::VectorSource;
pub use store::{ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorStoreSnapshot};
pub use vector_index::{Flushed, VectorIndex};
pub use version::IndexVersion;
