//! What a search is asked for, what it may return, what it may cost, and the scan that compares every row.

mod answer;
pub(crate) mod budget;
pub(crate) mod mask;
mod params;
pub(crate) mod query;
pub(crate) mod scan;
pub(crate) mod scope;
pub(crate) mod scored;
pub(crate) mod version;

pub use answer::{DISTANCE_COLUMN, Hit, Hits, ROW_ID_COLUMN, SearchPlan, SearchStats};
pub use mask::RowMask;
pub use params::SearchParams;
pub use version::IndexVersion;
