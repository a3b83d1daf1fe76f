#![doc = include_str!("../README.md")]

// In reading order: each uses what stands above it.
mod error;
mod control;
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

pub use collection::{
    Collection, CollectionBuilder, CollectionHits, CollectionReader, CollectionSearch, ColumnQuery, Filter,
    Fusion, Key, Written,
};
pub use control::{Control, Progress, Stage};
pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use format::LanceBatches;
pub use graph::{
    BuildParams, Coding, GraphHealth, HnswGraph, LevelStats, LongList, PruneStrategy, Selection,
};
#[doc(hidden)]
pub use index::CompactionStep;
pub use index::{
    BatchHits, Compaction, Counters, Cursor, GraphView, Index, IndexBuilder, IndexStats, Reader,
    ResidentBytes, Row,
};
pub use metadata::Metadata;
pub use persist::{Loaded, SaveOptions, WriterLock};
pub use search::{Hit, Hits, IndexVersion, RowMask, SearchParams, SearchPlan, SearchStats};
pub use vectors::{
    Appended, ArrowFixedSizeListVectorStore, ElementType, RowIds, SkippedRows, VectorSource,
    VectorStoreSnapshot,
};

/// SQL over collections and Lance datasets, by DataFusion.
///
/// ```sql
/// SELECT id, year FROM words WHERE year >= 2008;
/// -- the ten nearest among the rows that qualify: the condition is tested before the search
/// SELECT id, _distance FROM vector_search('words', [0.1, 0.2], 10, 'ef=64') WHERE year >= 2008;
/// -- the ten nearest to the row whose key is 17
/// SELECT id, _distance FROM vector_search('words', 17, 10);
/// -- answered by the index, if VectorOrderRule is among the optimizer rules
/// SELECT id FROM words ORDER BY cosine_distance(vector, [0.1, 0.2]) LIMIT 10;
/// ```
/// [`register_collection`](sql::register_collection) makes a collection a table and adds the functions. A query reads the
/// version that is current when it is executed. With the feature `lance`, `register_dataset` does that for a version of
/// a Lance dataset.
#[cfg(feature = "datafusion")]
pub mod sql {
    pub use crate::collection::sql::{
        CollectionExec, CollectionTable, VectorOrderRule, VectorSearch, condition, register_collection,
    };
    #[cfg(feature = "lance")]
    pub use crate::lance::sql::{DatasetTable, register_dataset};
}
