//! Building: new nodes find their neighbors and are linked (Algorithms 1, 3 and 4).

pub(crate) mod anchors;
pub(crate) mod back_edges;
mod insert;
mod params;
pub(crate) mod select;
pub(crate) mod team;

pub use params::{BuildParams, Coding, PruneStrategy, Selection};
