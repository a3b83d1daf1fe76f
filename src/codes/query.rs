//! A query in integers of 14 bits, and what is computed once for it.
//!
//! `q_i ~ lo + step * n_i`: 64 times finer than a row's codes, so that the noise of an estimate is the row's alone. A
//! query of whole numbers within 2^14 of each other is coded as it is.

use super::estimate::{Row, variance};
use super::record::{Extent, HEADER, Header, SHIFT, squared_length};
use super::{Metric, Shape};
use crate::distance::isa::Isa;

/// The largest integer.
const INTEGERS: f64 = ((1 << 14) - 1) as f64;

/// A query, prepared for estimates and bounds by the codes that made it.
#[derive(Clone, Debug)]
pub(crate) struct CodeQuery {
    pub(super) isa: Isa,
    pub(super) integers: Integers,
    pub(super) lo: f64,
    /// Sum of the integers, as `2 step S n`.
    pub(super) twice_sum: f64,
    pub(super) twice_step: f64,
    pub(super) step: f64,
    /// `step^2 S n^2`.
    pub(super) square: f64,
    /// The square of the length of what the coding of the query lost: 0 for whole numbers.
    pub(super) noise: f64,
    /// Variance of the error of an element: 0 for whole numbers.
    pub(super) variance: f64,
    /// The length of what was lost, rounded up; infinite if the query could not be coded.
    pub(super) error: f64,
    /// Sum of the elements as coded.
    pub(super) sum: f64,
    /// Length of the query as it was given, rounded up.
    pub(super) length: f64,
}

/// The integers of a query as kernels want them. They stand where a record has the codes: zeros before and behind them
/// meet the header and the padding, so that kernels multiply whole records.
#[derive(Clone, Debug)]
pub(super) struct Integers {
    /// A pair of lines for each line of a record.
    pub planes: Box<[Planes]>,
    /// The integers as they are, a line for each half of a record's line.
    pub words: Box<[Words]>,
}

/// Integers `128 * high + low` in bytes that fit signed and unsigned multiplication.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Planes {
    pub high: [u8; 64],
    pub low: [u8; 64],
}

#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Words(pub [i16; 32]);

impl Integers {
    /// `integers` begin at the place of the codes.
    pub fn new(record_len: usize, integers: impl Iterator<Item = u16>) -> Self {
        let mut planes = vec![Planes { high: [0; 64], low: [0; 64] }; record_len.div_ceil(64)];
        let mut words = vec![Words([0; 32]); record_len.div_ceil(32)];
        for (at, integer) in (HEADER..record_len).zip(integers) {
            planes[at / 64].high[at % 64] = (integer >> 7) as u8;
            planes[at / 64].low[at % 64] = (integer & 127) as u8;
            words[at / 32].0[at % 32] = integer as i16;
        }
        Self { planes: planes.into(), words: words.into() }
    }
}

impl Integers {
    /// The codes of a record, in the place of the integers.
    fn set_codes(&mut self, record: &[u8]) {
        for (planes, line) in self.planes.iter_mut().zip(record.chunks(64)) {
            for ((high, low), &code) in planes.high.iter_mut().zip(&mut planes.low).zip(line) {
                (*high, *low) = (code >> 7, code & 127);
            }
        }
        for (Words(words), line) in self.words.iter_mut().zip(record.chunks(32)) {
            for (word, &code) in words.iter_mut().zip(line) {
                *word = i16::from(code);
            }
        }
        // Where the header is, there are no integers.
        if let (Some(planes), Some(Words(words))) = (self.planes.first_mut(), self.words.first_mut()) {
            planes.high[..HEADER].fill(0);
            planes.low[..HEADER].fill(0);
            words[..HEADER].fill(0);
        }
    }
}

impl CodeQuery {
    pub(super) fn new(shape: Shape, query: &[f32], isa: Isa) -> Self {
        let extent = if query.len() == shape.dim { Extent::of(query, shape.metric) } else { None };
        let Some(extent) = extent else { return Self::unknown(shape, isa) };
        let Extent { min, max, whole, scale } = extent;
        let whole = whole && max - min <= INTEGERS;
        let lo = min * scale;
        let step = if whole { scale } else { (max * scale - lo) / INTEGERS };
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        let (mut sum, mut square, mut noise) = (0_u64, 0_u64, 0.0);
        let integers = query.iter().map(|&x| {
            let x = f64::from(x) * scale;
            let shifted = ((x - lo) * per_step).clamp(0.0, INTEGERS) + SHIFT;
            let error = x - (lo + step * (shifted - SHIFT));
            let integer = shifted.to_bits() as u16;
            sum += u64::from(integer);
            square += u64::from(integer) * u64::from(integer);
            noise += error * error;
            integer
        });
        let integers = Integers::new(shape.record_len(), integers);
        let (sum, square) = (sum as f64, square as f64);
        let dim = shape.dim as f64;
        let grow = 1.0 + 2.0 * (dim + 16.0) * f64::EPSILON;
        let error = if whole && shape.metric != Metric::Cosine {
            0.0
        } else {
            noise.sqrt() * grow + extent.rounding(shape.dim, lo.abs() + INTEGERS * step, shape.metric)
        };
        Self {
            isa,
            integers,
            lo,
            twice_sum: 2.0 * step * sum,
            twice_step: 2.0 * step,
            step,
            square: step * step * square,
            noise: if whole { 0.0 } else { noise },
            variance: if whole { 0.0 } else { variance(step, noise, dim) },
            error,
            sum: dim * lo + step * sum,
            length: (squared_length(query).sqrt() * scale) * grow,
        }
    }

    /// Makes this the query of a coded row: of its reconstruction, whose error counts as the query's. None of the row's
    /// elements is read.
    pub(super) fn become_row(&mut self, shape: Shape, record: &[u8]) {
        let header = Header::read(record);
        let row = Row::new(header);
        let dim = shape.dim as f64;
        self.integers.set_codes(record);
        self.lo = row.lo;
        self.step = row.step;
        self.twice_step = 2.0 * row.step;
        self.twice_sum = 2.0 * row.step * row.sum;
        // Without the error's share, as in the header: so there is no noise to take off.
        self.square = row.step * row.step * f64::from(header.square);
        self.noise = 0.0;
        self.error = f64::from(header.error);
        self.variance =
            if shape.is_lossless(header) { 0.0 } else { variance(row.step, self.error * self.error, dim) };
        self.sum = dim * row.lo + row.step * row.sum;
        self.length = row.squared_length(dim, header.squares()).max(0.0).sqrt() + self.error;
    }

    /// What a query is coded as that has no distance to anything: bounds say nothing about it.
    pub(super) fn unknown(shape: Shape, isa: Isa) -> Self {
        Self {
            isa,
            integers: Integers::new(shape.record_len(), std::iter::empty()),
            lo: 0.0,
            twice_sum: 0.0,
            twice_step: 0.0,
            step: 0.0,
            square: 0.0,
            noise: 0.0,
            variance: 0.0,
            error: f64::INFINITY,
            sum: 0.0,
            length: f64::INFINITY,
        }
    }
}
