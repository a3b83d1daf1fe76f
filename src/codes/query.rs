//! A query in integers of 14 bits, and what is computed once for it.
//!
//! `q_i ~ lo + step * n_i`: 64 times finer than a row's codes, so that the noise of an estimate is the row's alone. A
//! query of whole numbers within 2^14 of each other is coded as it is.

use super::estimate::{Row, variance};
use super::record::{Extent, Grid, HEADER, Header, LANES, squared_length};
use super::{Metric, Shape};
use crate::distance::isa::{Isa, Kernel};

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
    /// `integers` stand where a record has its bytes: they begin with zeros, where it has its header.
    #[inline(always)]
    pub fn new(integers: &[i16]) -> Self {
        let planes = integers.chunks(64).map(|integers| {
            let mut planes = Planes { high: [0; 64], low: [0; 64] };
            for ((high, low), &integer) in planes.high.iter_mut().zip(&mut planes.low).zip(integers) {
                (*high, *low) = ((integer >> 7) as u8, (integer & 127) as u8);
            }
            planes
        });
        let words = integers.chunks(32).map(|integers| {
            let mut words = [0; 32];
            words[..integers.len()].copy_from_slice(integers);
            Words(words)
        });
        Self { planes: planes.collect(), words: words.collect() }
    }

    /// The codes of a record, in the place of the integers.
    #[inline(always)]
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
        isa.run(Prepare { shape, query, isa })
    }

    #[inline(always)]
    fn prepared(shape: Shape, query: &[f32], isa: Isa) -> Self {
        let extent = if query.len() == shape.dim { Extent::of(query, shape.metric) } else { None };
        let Some(extent) = extent else { return Self::unknown(shape, isa) };
        let Extent { min, max, whole, scale } = extent;
        let whole = whole && max - min <= INTEGERS;
        let lo = min * scale;
        let step = if whole { scale } else { (max * scale - lo) / INTEGERS };
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        let mut integers = vec![0; shape.record_len()];
        let grid = Grid { scale, lo, step, per_step, most: INTEGERS };
        let mut sums = Sums::default();
        let (blocks, rest) = query.as_chunks::<LANES>();
        let (block_integers, rest_integers) = integers[HEADER..HEADER + shape.dim].as_chunks_mut::<LANES>();
        for (xs, integers) in blocks.iter().zip(block_integers) {
            sums.add(&grid, xs, integers);
        }
        sums.add(&grid, rest, rest_integers);
        let integers = Integers::new(&integers);
        let (sum, square) =
            (sums.integers.iter().sum::<u64>() as f64, sums.squares.iter().sum::<u64>() as f64);
        let noise = sums.errors.iter().sum::<f64>();
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
        self.isa.run(SetCodes { integers: &mut self.integers, record });
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
            integers: Integers::new(&vec![0; shape.record_len()]),
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

/// What is added up while a query is coded.
#[derive(Default)]
struct Sums {
    integers: [u64; LANES],
    squares: [u64; LANES],
    errors: [f64; LANES],
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, grid: &Grid, xs: &[f32], integers: &mut [i16]) {
        for (i, (&x, integer)) in xs.iter().zip(integers).enumerate().take(LANES) {
            let (nearest, error) = grid.place(x);
            *integer = nearest as i16;
            self.integers[i] += nearest;
            self.squares[i] += nearest * nearest;
            self.errors[i] += error * error;
        }
    }
}

struct Prepare<'a> {
    shape: Shape,
    query: &'a [f32],
    isa: Isa,
}

impl Kernel for Prepare<'_> {
    type Output = CodeQuery;

    #[inline(always)]
    fn portable(self) -> CodeQuery {
        CodeQuery::prepared(self.shape, self.query, self.isa)
    }
}

struct SetCodes<'a> {
    integers: &'a mut Integers,
    record: &'a [u8],
}

impl Kernel for SetCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn portable(self) {
        self.integers.set_codes(self.record);
    }
}
