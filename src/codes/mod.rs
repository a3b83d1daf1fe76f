//! Compact codes: a byte per element, from which distances are estimated and bounded.
//!
//! A row `x` is kept as `x_i ~ lo + step * c_i` with codes `c_i` of a byte and `lo` and `step` of its own, so there is
//! nothing to train and a row's codes never change. A query becomes integers too, of 14 bits: then a distance needs the
//! dot product of two vectors of integers, which is the same on every CPU, and a dozen operations in `f64`.
//!
//! - An *estimate* is the metric's distance up to noise; it is right on average. Rows of whole numbers within 255 of
//!   each other are *lossless*: their estimates to queries of whole numbers are the distances.
//! - The *slack* of an estimate is about three standard deviations of its noise: searches compute again, on rows, what
//!   it cannot exclude.
//! - A row is told to be *near* by a strict bound: it is not only if the exact kernels compute a larger distance in
//!   `f32`. Scans that skip rows by it are exact.
//!
//! Codes are written once, in order of id, and then read without waiting: [`arena`] has the protocol.

mod arena;
mod bound;
mod estimate;
mod kernels;
mod query;
mod record;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use arrow_buffer::Buffer;

use crate::distance::DistanceType;
use crate::distance::isa::Isa;
use arena::Arena;
use bound::Limits;
use kernels::Score;
pub(crate) use query::CodeQuery;
use record::Header;

/// The largest dimension: with more, the sum of squared codes may not fit its field.
const MAX_DIM: usize = 1 << 16;
/// Under cosine, errors of vectors of length 1 up to here are the rounding of `f32`.
const ROUNDED: f32 = 1.0 / (1 << 20) as f32;

/// The metrics that codes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    L2,
    Cosine,
    Dot,
}

/// What records are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    dim: usize,
    metric: Metric,
}

impl Shape {
    fn new(dim: usize, distance_type: DistanceType) -> Option<Self> {
        let metric = match distance_type {
            DistanceType::L2 => Metric::L2,
            DistanceType::Cosine => Metric::Cosine,
            DistanceType::Dot => Metric::Dot,
            DistanceType::L1 | DistanceType::Hamming => return None,
        };
        (1..=MAX_DIM).contains(&dim).then_some(Self { dim, metric })
    }

    fn record_len(self) -> usize {
        (record::HEADER + self.dim).next_multiple_of(32)
    }

    /// Whether codes and header say all about a row.
    fn is_lossless(self, header: Header) -> bool {
        header.error <= if self.metric == Metric::Cosine { ROUNDED } else { 0.0 }
    }
}

/// The codes of vectors by their ids, from 0 on.
pub(crate) struct Codes {
    shape: Shape,
    limits: Limits,
    records: Arena,
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").field("shape", &self.shape).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Codes {
    /// Codes of no vectors yet. None for what has no codes: metrics other than L2, cosine and dot, and dimensions of 0
    /// or above 65,536.
    pub fn new(dim: usize, distance_type: DistanceType) -> Option<Self> {
        Some(Self::empty(Shape::new(dim, distance_type)?))
    }

    fn empty(shape: Shape) -> Self {
        Self { shape, limits: Limits::new(shape.dim), records: Arena::new(shape.record_len()) }
    }

    /// Ids below are coded. What was written for them before is seen by whoever reads them after this call.
    pub fn len(&self) -> u32 {
        self.records.view().len()
    }

    /// Codes the ids from [`len`](Self::len) to `end`, whose elements `row` gives: of as many ids as are worth it on as
    /// many threads as rayon's current pool has. All are published at the end; one call at a time codes, others wait.
    ///
    /// A row of another length, or with an element that is not finite, has no codes: its bounds are the smallest, its
    /// slack is infinite, and its estimate means nothing.
    pub fn extend<'a>(&self, end: u32, row: impl Fn(u32) -> Cow<'a, [f32]> + Sync) {
        let isa = Isa::detect();
        self.records.extend(end, |id, record| record::encode(isa, self.shape, &row(id), record));
    }

    /// Prepares a query for estimates and bounds of these codes, or of others for the same dimension and metric.
    ///
    /// A query of another length, or with an element that is not finite, is no query: bounds are the smallest, slack is
    /// infinite, and estimates mean nothing.
    pub fn prepare(&self, query: &[f32]) -> CodeQuery {
        self.prepare_for(query, Isa::detect())
    }

    fn prepare_for(&self, query: &[f32], isa: Isa) -> CodeQuery {
        CodeQuery::new(self.shape, query, isa)
    }

    /// A query of nothing, for [`query_row`](Self::query_row).
    pub fn blank_query(&self) -> CodeQuery {
        CodeQuery::unknown(self.shape, Isa::detect())
    }

    /// Makes `query` that of a coded row: an estimate by it has the errors of both rows, which its slack covers. False
    /// if the row is not coded; then the query is what it was.
    pub fn query_row(&self, id: u32, query: &mut CodeQuery) -> bool {
        let record = self.records.view().record(id);
        record.is_some_and(|record| {
            query.become_row(self.shape, record);
            true
        })
    }

    /// Starts fetching all that is kept of an id, up to 32 cache lines.
    #[inline(always)]
    pub fn prefetch(&self, id: u32) {
        self.records.prefetch(id);
    }

    /// Estimates the distances of the first ids that `out` has place for; infinite for ids that are not coded.
    /// Estimates are the same to the bit on every CPU, however ids are grouped.
    pub fn estimate(&self, query: &CodeQuery, ids: &[u32], out: &mut [f32]) {
        let dim = self.shape.dim as f64;
        let absent = f32::INFINITY;
        match self.shape.metric {
            Metric::L2 => {
                self.score(query, ids, out, absent, |header, dot| estimate::l2(dim, query, header, dot));
            }
            Metric::Cosine => {
                self.score(query, ids, out, absent, |header, dot| estimate::cosine(dim, query, header, dot));
            }
            Metric::Dot => {
                self.score(query, ids, out, absent, |header, dot| estimate::dot(query, header, dot))
            }
        }
    }

    /// Whether the distance that the exact kernels compute in `f32` may be `bound` or less, for the first ids that `out`
    /// has place for: false only where it is certainly above. True for ids that are not coded.
    pub fn near(&self, query: &CodeQuery, ids: &[u32], bound: f32, out: &mut [bool]) {
        let limits = self.limits;
        match self.shape.metric {
            Metric::L2 | Metric::Cosine => {
                let reach = limits.reach(query, bound, self.shape.metric == Metric::Cosine);
                self.score(query, ids, out, true, |header, dot| limits.is_within(reach, query, header, dot));
            }
            Metric::Dot => {
                let is_beyond = |header, dot| limits.dot(query, header, dot) > f64::from(bound);
                self.score(query, ids, out, true, |header, dot| !is_beyond(header, dot));
            }
        }
    }

    #[inline(always)]
    fn score<T: Copy>(
        &self,
        query: &CodeQuery,
        ids: &[u32],
        out: &mut [T],
        absent: T,
        finish: impl Fn(Header, i64) -> T,
    ) {
        query.isa.run(Score { records: self.records.view(), query, ids, out, absent, finish });
    }

    /// How far the distance may be from an estimate of it: about three standard deviations of the noise. 0 for a
    /// lossless row and a query of whole numbers; infinite for an id that is not coded.
    pub fn slack(&self, query: &CodeQuery, id: u32, estimate: f32) -> f32 {
        let record = self.records.view().record(id);
        record.map_or(f32::INFINITY, |record| {
            estimate::slack(self.shape, query, Header::read(record), estimate)
        })
    }

    /// Whether the codes say all about a row: then its estimate is the distance, if the query is of whole numbers, up
    /// to the rounding of `f32`.
    #[cfg(test)]
    pub fn is_lossless(&self, id: u32) -> bool {
        let record = self.records.view().record(id);
        record.is_some_and(|record| self.shape.is_lossless(Header::read(record)))
    }

    /// The codes of `ids`, which become the ids from 0 on. If one is not coded, the copy ends before it.
    pub fn retain(&self, ids: &[u32]) -> Self {
        let copy = Self::empty(self.shape);
        let view = self.records.view();
        let coded = ids.iter().take_while(|&&id| id < view.len()).count();
        copy.records.extend(u32::try_from(coded).unwrap_or(u32::MAX), |at, record| {
            if let Some(from) = ids.get(at as usize).and_then(|&id| view.record(id)) {
                record.copy_from_slice(from);
            }
        });
        copy
    }

    /// Bytes of the record of each id.
    pub fn record_len(&self) -> usize {
        self.records.record_len()
    }

    /// Appends the records of the coded ones of `ids` to `out`: [`record_len`](Self::record_len) bytes each, the same
    /// on every machine.
    pub fn read_records(&self, ids: Range<u32>, out: &mut Vec<u8>) {
        let view = self.records.view();
        for record in ids.map_while(|id| view.record(id)) {
            out.extend_from_slice(record);
        }
    }

    /// Adds the records that [`read_records`](Self::read_records) gave of the next ids. False, and nothing is added, if
    /// they are not such records.
    pub fn add_records(&self, records: &[u8]) -> bool {
        if !self.are_records(records) {
            return false;
        }
        let (start, record_len) = (self.len(), self.record_len());
        let added = (records.len() / record_len) as u32;
        self.records.extend(start.saturating_add(added), |id, record| {
            let at = (id - start) as usize * record_len;
            if let Some(from) = records.get(at..at + record_len) {
                record.copy_from_slice(from);
            }
        });
        true
    }

    /// Codes whose records stay where they were saved, in parts of `1 << rows_log2` and a last one of at most as many.
    /// There will be no others. None if they are not records of vectors like these.
    pub fn saved(
        dim: usize,
        distance_type: DistanceType,
        parts: Vec<Buffer>,
        rows_log2: u32,
    ) -> Option<Self> {
        let codes = Self::new(dim, distance_type)?;
        if !parts.iter().all(|part| codes.are_records(part)) {
            return None;
        }
        Some(Self { records: Arena::saved(codes.record_len(), parts, rows_log2)?, ..codes })
    }

    fn are_records(&self, records: &[u8]) -> bool {
        let mut all = records.chunks_exact(self.record_len());
        all.all(|record| record::is_record(self.shape, record)) && all.remainder().is_empty()
    }

    /// Bytes of memory in use.
    pub fn resident_bytes(&self) -> usize {
        self.records.resident_bytes()
    }

    /// What [`resident_bytes`](Self::resident_bytes) is with `rows` ids of `dim` elements.
    pub fn bytes_for(dim: usize, rows: u32) -> usize {
        Arena::bytes_for((record::HEADER + dim).next_multiple_of(32), rows)
    }
}
