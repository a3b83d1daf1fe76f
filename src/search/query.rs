//! What makes a query usable, and keys its answer.

use std::ops::Range;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::search::scored::{distance, id, key};
use crate::search::{Hit, SearchParams};
use crate::vectors::VectorSource;

/// The keys of the distances that may be returned.
pub(crate) fn key_range(params: &SearchParams) -> Result<Option<Range<u64>>> {
    let Some(Range { start: lower, end: upper }) = params.distance_range.clone() else { return Ok(None) };
    if lower.is_nan() || upper.is_nan() || lower > upper {
        return Err(Error::InvalidDistanceRange { lower, upper });
    }
    Ok(Some(key(lower, 0)..key(upper, 0)))
}

/// The answer of keys.
pub(crate) fn results<S: VectorSource + ?Sized>(keys: Vec<u64>, source: &S) -> Vec<Hit> {
    let result = |key| Hit { id: id(key), row_id: source.row_id(id(key)), distance: distance(key) };
    keys.into_iter().map(result).collect()
}

/// Checks that distances from `query` to the vectors of `source` mean something.
pub(crate) fn check_query<S: VectorSource + ?Sized>(query: &[f32], source: &S) -> Result<()> {
    if query.len() != source.dim() {
        return Err(Error::DimensionMismatch { expected: source.dim(), actual: query.len() });
    }
    if let Some(position) = query.iter().position(|x| !x.is_finite()) {
        return Err(Error::UnusableQuery { reason: "a value that is not finite", position });
    }
    if source.distance_type() == DistanceType::Hamming
        && let Some(position) = query.iter().position(|&x| x != f32::from(x as u8))
    {
        return Err(Error::UnusableQuery { reason: "a value that is not a byte", position });
    }
    if source.distance_type() == DistanceType::Cosine && query.iter().all(|&x| x == 0.0) {
        return Err(Error::UnusableQuery {
            reason: "a zero vector has no cosine distance, first zero",
            position: 0,
        });
    }
    Ok(())
}

pub(crate) fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
