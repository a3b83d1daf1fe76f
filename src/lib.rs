#![doc = include_str!("../README.md")]

// In reading order: each uses what stands above it.
mod error;
mod util;
mod distance;
mod vectors;
mod codes;
mod search;
mod graph;
mod format;
mod index;
mod metadata;
mod persist;
mod collection;
pub mod lance;

#[cfg(feature = "datafusion")]
pub use collection::sql;
pub use collection::{
    Collection, CollectionBuilder, CollectionHits, CollectionReader, CollectionSearch, ColumnQuery, Filter,
    Fusion, Key, Written,
};
pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use format::LanceBatches;
pub use graph::{
    BuildParams, Coding, GraphHealth, HnswGraph, LevelStats, LongList, PruneStrategy, Selection,
};
#[doc(hidden)]
pub use index::CompactionStep;
pub use index::{
    BatchHits, Compaction, Cursor, GraphView, Index, IndexBuilder, IndexStats, Reader, ResidentBytes, Row,
};
pub use metadata::Metadata;
pub use persist::{Loaded, SaveOptions, WriterLock};
pub use search::{Hit, Hits, IndexVersion, RowMask, SearchParams, SearchPlan, SearchStats};
pub use vectors::{
    Appended, ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorSource,
    VectorStoreSnapshot,
};
