//! The atomics of the publication protocols, in one place: the model of `tests/loom` puts its own here.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots of one line of a neighbor list: 64 bytes.
pub(crate) const LANES: usize = 16;
