#![doc = include_str!("../README.md")]

mod chunked;
mod distance;
mod error;
mod graph;
mod index;
pub mod lance;
mod params;
mod prefetch;
mod source;
mod store;

pub use distance::{DistanceType, PreparedQuery};
pub use error::{Error, Result};
pub use graph::{GraphHealth, HnswGraph, ScoredPoint, SearchResult};
pub use index::HnswIndex;
pub use params::{BuildParams, SearchParams};
pub use source::VectorSource;
pub use store::{ArrowFixedSizeListVectorStore, SkippedRows, VectorStoreSnapshot};
