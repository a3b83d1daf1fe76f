//! Vectors by id: the trait through which a graph reads them, and the store over Arrow batches.

#[macro_use]
mod store;

/// Vector ids are below this: walks keep an id and a mark in one word.
pub(crate) const MAX_VECTORS: u32 = 1 << 31;

mod admit;
mod appended;
mod blocks;
mod element_type;
mod lists;
mod row_ids;
mod snapshot;
mod source;
#[cfg(test)]
pub(crate) mod test_line;
#[cfg(test)]
mod truncate_tests;

pub use admit::SkippedRows;
pub use appended::Appended;
pub use element_type::ElementType;
pub(crate) use element_type::widened;
pub(crate) use lists::fixed_size_lists;
pub use row_ids::RowIds;
pub use snapshot::VectorStoreSnapshot;
pub use source::VectorSource;
pub use store::ArrowFixedSizeListVectorStore;
pub(crate) use store::Placed;
#[cfg(feature = "lance")]
pub(crate) use store::usable_rows;
