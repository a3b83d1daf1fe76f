//! Walking: the ways of a query through the graph (Algorithms 2 and 5).

pub(crate) mod beam;
pub(crate) mod cursor;
pub(crate) mod filtered;
pub(crate) mod plan;
pub(crate) mod rerank;
pub(crate) mod scorer;
pub(crate) mod scratch;
pub(crate) mod search;
pub(crate) mod steps;
pub(crate) mod visited;
