//! The record of a row: its layout, how a row becomes one, and which bytes are one.
//!
//! ```text
//! lo: f32 | step: f32 | sum: u32 | square: u32 | error: f32 | dim codes, a byte each | zeros to a multiple of 32
//! x_i ~ lo + step * c_i      sum = S c      square = S c^2 - share      error >= |x - (lo + step c)|
//! ```
//! All numbers are little-endian. Under cosine, `x` is the row at length 1.
//!
//! *Share* is the error's part of the sum of squares, `error^2 / step^2` to the nearest integer. The errors of the
//! elements have nothing to do with the query, so the squared distance to a reconstruction is larger than that to the
//! row by `|error|^2` on average: with the share taken away, estimates are unbiased. As it follows from `error` and
//! `step`, the sum of squares itself is known too, for strict bounds.
//!
//! A record of an odd multiple of 32 bytes touches no more cache lines than one that is padded to 64.

use std::array;

use super::{Metric, Shape};
use crate::distance::isa::{Isa, Kernel};

/// Bytes before the codes.
pub(super) const HEADER: usize = 20;
/// The largest code.
const CODES: f64 = 255.0;
/// Whole numbers up to here are coded as such: their sums are exact in `f64`, and at length 1 an `f32` beside them is
/// still finer than their distance.
pub(super) const WHOLE: f64 = (1 << 22) as f64;
/// Added to a number from 0 to 2^51, leaves the nearest integer in the last bits. Instructions for many numbers at a
/// time can do that on every CPU.
pub(super) const SHIFT: f64 = (3_u64 << 51) as f64;
/// Independent sums of the loops over rows.
pub(super) const LANES: usize = 8;

/// The numbers in front of the codes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub lo: f32,
    pub step: f32,
    /// Sum of the codes.
    pub sum: u32,
    /// Sum of the squared codes, less the error's share.
    pub square: u32,
    /// Length of the row's difference to its reconstruction, rounded up; infinite if the row could not be coded.
    pub error: f32,
}

impl Header {
    /// What a row is coded as that has no codes.
    const UNKNOWN: Self = Self { lo: 0.0, step: 0.0, sum: 0, square: 0, error: f32::INFINITY };

    #[inline(always)]
    pub fn read(record: &[u8]) -> Self {
        let Some(bytes) = record.first_chunk::<HEADER>() else { return Self::UNKNOWN };
        let word = |i: usize| array::from_fn(|byte| bytes[4 * i + byte]);
        Self {
            lo: f32::from_le_bytes(word(0)),
            step: f32::from_le_bytes(word(1)),
            sum: u32::from_le_bytes(word(2)),
            square: u32::from_le_bytes(word(3)),
            error: f32::from_le_bytes(word(4)),
        }
    }

    fn write(&self, record: &mut [u8]) {
        let words = [
            self.lo.to_le_bytes(),
            self.step.to_le_bytes(),
            self.sum.to_le_bytes(),
            self.square.to_le_bytes(),
            self.error.to_le_bytes(),
        ];
        for (to, from) in record.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
    }

    /// The error's share of the sum of squares.
    fn share(&self) -> u32 {
        if self.step > 0.0 && self.error.is_finite() {
            let ratio = f64::from(self.error) / f64::from(self.step);
            (ratio * ratio + 0.5) as u32
        } else {
            0
        }
    }

    /// The sum of the squared codes.
    pub fn squares(&self) -> f64 {
        f64::from(self.square) + f64::from(self.share())
    }
}

/// What coding needs to know about a vector.
pub(super) struct Extent {
    pub min: f64,
    pub max: f64,
    /// Whether all elements are whole numbers up to [`WHOLE`].
    pub whole: bool,
    /// What elements are multiplied with: under cosine one by the vector's length.
    pub scale: f64,
}

impl Extent {
    /// None if an element is not finite.
    #[inline(always)]
    pub fn of(vector: &[f32], metric: Metric) -> Option<Self> {
        let mut ranges = Ranges::default();
        let (blocks, rest) = vector.as_chunks::<LANES>();
        blocks.iter().for_each(|block| ranges.add(block));
        ranges.add(rest);
        let Ranges { min, max, whole, finite } = ranges;
        let (whole, finite) = (whole == [true; LANES], finite == [true; LANES]);
        // Which zero is the smaller is left to the CPU; with zero added, there is one.
        let min = min.into_iter().fold(f32::INFINITY, f32::min) + 0.0;
        let max = max.into_iter().fold(f32::NEG_INFINITY, f32::max) + 0.0;
        let length = if metric == Metric::Cosine { squared_length(vector).sqrt() } else { 1.0 };
        // A vector without a direction stays what it is.
        let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
        (finite && !vector.is_empty()).then_some(Self {
            min: f64::from(min),
            max: f64::from(max),
            whole,
            scale,
        })
    }

    /// More than what the rounding of `f64` adds to the length of an error, for `reach` the largest magnitude coded.
    pub fn rounding(&self, dim: usize, reach: f64, metric: Metric) -> f64 {
        // Four roundings an element, each of a number no larger than twice `reach`; the vector's length is a sum.
        let length = if metric == Metric::Cosine { ((dim + 64) as f64) * f64::EPSILON } else { 0.0 };
        4.0 * f64::EPSILON * reach * (dim as f64).sqrt() + length
    }
}

/// What [`Extent::of`] finds out about elements, in independent lanes.
struct Ranges {
    min: [f32; LANES],
    max: [f32; LANES],
    whole: [bool; LANES],
    finite: [bool; LANES],
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            min: [f32::INFINITY; LANES],
            max: [f32::NEG_INFINITY; LANES],
            whole: [true; LANES],
            finite: [true; LANES],
        }
    }
}

impl Ranges {
    #[inline(always)]
    fn add(&mut self, xs: &[f32]) {
        for (i, &x) in xs.iter().enumerate().take(LANES) {
            self.min[i] = if x < self.min[i] { x } else { self.min[i] };
            self.max[i] = if x > self.max[i] { x } else { self.max[i] };
            self.finite[i] &= x.is_finite();
            let wide = f64::from(x);
            self.whole[i] &= (wide + SHIFT - SHIFT == wide) & (wide.abs() <= WHOLE);
        }
    }
}

/// Sum of the squares of the elements, in independent sums.
#[inline(always)]
pub(super) fn squared_length(vector: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (blocks, rest) = vector.as_chunks::<LANES>();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

/// Writes the record of a row over zeros.
pub(super) fn encode(isa: Isa, shape: Shape, row: &[f32], record: &mut [u8]) {
    isa.run(Encode { shape, row, record });
}

struct Encode<'a> {
    shape: Shape,
    row: &'a [f32],
    record: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn portable(self) {
        write_record(self.shape, self.row, self.record);
    }
}

#[inline(always)]
fn write_record(shape: Shape, row: &[f32], record: &mut [u8]) {
    let header = match record.get_mut(HEADER..HEADER + shape.dim) {
        Some(codes) if row.len() == shape.dim => quantize(shape.metric, row, codes).unwrap_or_else(|| {
            codes.fill(0);
            Header::UNKNOWN
        }),
        _ => Header::UNKNOWN,
    };
    header.write(record);
}

/// None if the row cannot be coded.
#[inline(always)]
fn quantize(metric: Metric, row: &[f32], codes: &mut [u8]) -> Option<Header> {
    let extent = Extent::of(row, metric)?;
    let Extent { min, max, whole, scale } = extent;
    let whole = whole && max - min <= CODES;
    let (lo, step) = if whole {
        ((min * scale) as f32, if max > min { scale as f32 } else { 0.0 })
    } else {
        // Rounded outwards, so that the codes reach from the smallest to the largest element.
        let lo = round_down(min * scale);
        (lo, round_up(((max * scale - f64::from(lo)) / CODES).max(0.0)))
    };
    let mut grid = Grid { scale, lo: f64::from(lo), step: f64::from(step), per_step: 0.0, most: CODES };
    if step > 0.0 {
        grid.per_step = 1.0 / grid.step;
    }
    let mut sums = Sums::default();
    let (blocks, rest) = row.as_chunks::<LANES>();
    let (block_codes, rest_codes) = codes.as_chunks_mut::<LANES>();
    for (xs, codes) in blocks.iter().zip(block_codes) {
        sums.add(&grid, xs, codes);
    }
    sums.add(&grid, rest, rest_codes);

    // Nothing is lost by whole numbers, nor by elements that are all the same; at length 1, `f32` rounds them.
    let exact = metric != Metric::Cosine && (whole || max == min);
    let error = if exact {
        0.0
    } else {
        let reach = grid.lo.abs() + CODES * grid.step;
        // A sum of at most 8,192 squares in each lane.
        let error = sums.errors.iter().sum::<f64>().sqrt() * (1.0 + 16_384.0 * f64::EPSILON);
        error + extent.rounding(row.len(), reach, metric)
    };
    let mut header = Header { lo, step, sum: sums.codes, square: sums.squares, error: round_up(error) };
    // A share larger than the sum itself leaves no way back to the sum.
    header.square = header.square.checked_sub(header.share())?;
    Some(header)
}

/// Which values integers stand for.
pub(super) struct Grid {
    /// What elements are multiplied with first.
    pub scale: f64,
    pub lo: f64,
    pub step: f64,
    /// One by the step; 0 if that is.
    pub per_step: f64,
    /// The largest integer.
    pub most: f64,
}

impl Grid {
    /// The integer nearest to an element, and how far off the value is that it stands for.
    #[inline(always)]
    pub fn place(&self, x: f32) -> (u64, f64) {
        let x = f64::from(x) * self.scale;
        let shifted = ((x - self.lo) * self.per_step).clamp(0.0, self.most) + SHIFT;
        (shifted.to_bits() & 0xffff, x - (self.lo + self.step * (shifted - SHIFT)))
    }
}

/// What is added up while a row is coded.
#[derive(Default)]
struct Sums {
    errors: [f64; LANES],
    codes: u32,
    squares: u32,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, grid: &Grid, xs: &[f32], codes: &mut [u8]) {
        for ((&x, code), errors) in xs.iter().zip(codes).zip(&mut self.errors) {
            let (nearest, error) = grid.place(x);
            *code = nearest as u8;
            *errors += error * error;
            self.codes += u32::from(*code);
            self.squares += u32::from(*code) * u32::from(*code);
        }
    }
}

/// The largest `f32` that is not above.
pub(super) fn round_down(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

/// The smallest `f32` that is not below.
pub(super) fn round_up(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

/// Whether bytes are what [`encode`] can have written: estimates and bounds of what is, are numbers.
pub(super) fn is_record(shape: Shape, record: &[u8]) -> bool {
    let header = Header::read(record);
    let Some((codes, rest)) = record.get(HEADER..).and_then(|rest| rest.split_at_checked(shape.dim)) else {
        return false;
    };
    let sum: u64 = codes.iter().map(|&code| u64::from(code)).sum();
    let squares: u64 = codes.iter().map(|&code| u64::from(code) * u64::from(code)).sum();
    header.lo.is_finite()
        && header.step.is_finite()
        && header.step.is_sign_positive()
        && header.error >= 0.0
        && u64::from(header.sum) == sum
        && u64::from(header.square) + u64::from(header.share()) == squares
        && rest.iter().all(|&byte| byte == 0)
}
