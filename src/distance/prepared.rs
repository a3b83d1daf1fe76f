//! A query, and all that is chosen and computed once for it.

use super::DistanceType;
use super::bytes::{Byte, IntegerQuery};
use super::element::Element;
use super::hamming::{self, Hamming};
use super::isa::Isa;
use super::score::{Query, Score, square};

/// Rows of which the addresses are asked for before the first of them is scored.
const BLOCK: usize = 32;

/// A query with all that can be computed once for it: for cosine its norm, and in the form that the metric reads.
///
/// Vectors are as long as the query. If one is not, both are read up to the end of the shorter, never past it; under
/// cosine the query's norm is that of all its elements nevertheless.
///
/// Under [`DistanceType::Hamming`] elements are taken as bytes: fractions are cut off, what is below 0 or NaN counts as
/// 0, and what is above 255 as 255.
#[derive(Clone, Debug)]
pub struct PreparedQuery<'a> {
    vector: &'a [f32],
    distance_type: DistanceType,
    isa: Isa,
    /// Its product with itself, summed as every product is; under cosine only.
    square: f32,
    /// Its elements as bytes; under Hamming only.
    bytes: Box<[u8]>,
    /// For rows of bytes, if the query is of integers.
    integers: Option<IntegerQuery>,
}

impl<'a> PreparedQuery<'a> {
    /// Prepares `vector` for distances of the given type.
    #[inline]
    pub fn new(vector: &'a [f32], distance_type: DistanceType) -> Self {
        Self::for_isa(Isa::detect(), vector, distance_type)
    }

    pub(super) fn for_isa(isa: Isa, vector: &'a [f32], distance_type: DistanceType) -> Self {
        let (mut square_of_vector, mut bytes) = (0.0, Box::default());
        match distance_type {
            DistanceType::Cosine => square_of_vector = square(isa, vector),
            DistanceType::Hamming => bytes = hamming::bytes(vector),
            DistanceType::L2 | DistanceType::Dot | DistanceType::L1 => {}
        }
        Self { vector, distance_type, isa, square: square_of_vector, bytes, integers: None }
    }

    pub(super) fn with_integers(self, integers: Option<IntegerQuery>) -> Self {
        Self { integers, ..self }
    }

    /// The query as it was given.
    pub fn vector(&self) -> &'a [f32] {
        self.vector
    }

    /// Distance to one vector.
    #[inline]
    pub fn distance(&self, vector: &[f32]) -> f32 {
        let mut distance = [0.0];
        f32::score(self, &[vector], &mut distance);
        distance[0]
    }

    /// Distances to several vectors, of which `row(i)` is the `i`-th: to the bit as [`distance`](Self::distance) gives
    /// them, but in fewer passes over the query. `row` is called for some vectors ahead of the one that is read.
    #[inline]
    pub fn distances<'v>(&self, row: impl Fn(usize) -> &'v [f32], out: &mut [f32]) {
        let mut at = 0;
        for out in out.chunks_mut(BLOCK) {
            let mut rows: [&[f32]; BLOCK] = [&[]; BLOCK];
            for (i, to) in rows.iter_mut().enumerate().take(out.len()) {
                *to = row(at + i);
            }
            f32::score(self, &rows[..out.len()], out);
            at += BLOCK;
        }
    }

    /// Distances to rows, in sums of `f32`.
    pub(super) fn score_floats<T: Element>(&self, rows: &[&[T]], out: &mut [f32]) {
        let Self { vector, distance_type, square, .. } = *self;
        if distance_type == DistanceType::Hamming {
            self.isa.run(Hamming { bytes: &self.bytes, rows, out });
        } else {
            let query = Query { vector, square, given: vector };
            self.isa.run(Score { query, distance_type, rows, out });
        }
    }

    /// Distances to rows of bytes, in integers if the query is of integers.
    pub(super) fn score_bytes<T: Byte>(&self, rows: &[&[T]], out: &mut [f32]) {
        match &self.integers {
            Some(integers) => {
                let query =
                    Query { vector: integers.elements(), square: integers.square(), given: self.vector };
                self.isa.run(Score { query, distance_type: self.distance_type, rows, out });
            }
            None => self.score_floats(rows, out),
        }
    }
}
