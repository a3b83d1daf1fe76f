//! Vectors by id: the trait through which a graph reads them, and the store over Arrow batches.

#[macro_use]
mod store;

mod admit;
mod blocks;
mod element_type;
mod row_ids;
mod snapshot;
mod source;
#[cfg(test)]
pub(crate) mod test_line;

pub use admit::SkippedRows;
pub use element_type::ElementType;
pub(crate) use element_type::widened;
pub use row_ids::RowIds;
pub use snapshot::VectorStoreSnapshot;
pub use source::VectorSource;
pub use store::ArrowFixedSizeListVectorStore;
pub(crate) use store::{Appended, usable_rows};
