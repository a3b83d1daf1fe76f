//! The graph in memory: lists of neighbors, the watermarks that publish them, the level of each node.

pub(crate) mod borrowed;
pub(crate) mod levels;
pub(crate) mod slots;
#[cfg(test)]
mod slots_tests;
pub(crate) mod watermarks;
