//! What any module may use: arrays that grow without moving, a hash, a cache hint, the atomics of the protocols.

pub(crate) mod atomics;
pub(crate) mod chunked;
pub(crate) mod hash;
pub(crate) mod prefetch;
