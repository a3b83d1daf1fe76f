//! Rows of bytes and a query of integers: differences fit into 16 bits and sums are exact.

use super::DistanceType;
use super::PreparedQuery;
use super::element::Element;
use super::sums::{DOT, L2, Loops, Sums};

/// Elements whose sum of squared differences of at most `2 * LIMIT` fits into an `i32`.
pub(super) const CHUNK: usize = 8192;
/// Elements of a query in integers are at most so large: every byte, signed or not, and its negation.
const LIMIT: f32 = 255.0;

/// A byte.
pub(super) trait Byte: Element {
    /// Whether it is an `i8`; else it is a `u8`.
    #[cfg(target_arch = "x86_64")]
    const SIGNED: bool;

    fn wide(self) -> i16;
}

macro_rules! bytes {
    ($($t:ty: $signed:literal, |$x:ident| $byte:expr;)*) => {$(
        impl Byte for $t {
            #[cfg(target_arch = "x86_64")]
            const SIGNED: bool = $signed;

            #[inline(always)]
            fn wide(self) -> i16 {
                i16::from(self)
            }
        }

        impl Element for $t {
            #[inline(always)]
            fn widen(self) -> f32 {
                f32::from(self)
            }

            #[inline(always)]
            fn byte(self) -> u8 {
                let $x = self;
                $byte
            }

            fn integers(vector: &[f32], distance_type: DistanceType) -> Option<IntegerQuery> {
                IntegerQuery::new(vector, distance_type)
            }

            fn score(query: &PreparedQuery<'_>, rows: &[&[Self]], out: &mut [f32]) {
                query.score_bytes(rows, out);
            }
        }
    )*};
}

bytes! {
    i8: true, |x| x.max(0) as u8;
    u8: false, |x| x;
}

/// A query whose elements are integers, beside its form in `f32`.
#[derive(Clone, Debug)]
pub(crate) struct IntegerQuery {
    elements: Box<[i16]>,
    /// Its product with itself; under cosine only.
    square: f32,
}

impl IntegerQuery {
    /// None if there is an element that is no integer, or too large, and under Hamming, which takes bytes.
    fn new(vector: &[f32], distance_type: DistanceType) -> Option<Self> {
        // From here to its double there are no `f32` but integers: a sum with it is rounded to one, and has it in its
        // last bits. The compiler makes vector instructions of this and not of `as i16`.
        const SHIFT: f32 = (3 << 22) as f32;
        let is_integer = |x: f32| (x.abs() <= LIMIT) & (x + SHIFT - SHIFT == x);
        // Without an early end, for the same reason.
        let are_integers = vector.iter().fold(true, |all, &x| all & is_integer(x));
        if !are_integers || distance_type == DistanceType::Hamming {
            return None;
        }
        let elements: Box<[i16]> = vector.iter().map(|&x| (x + SHIFT).to_bits() as i16).collect();
        let square = match distance_type {
            DistanceType::Cosine => elements.chunks(CHUNK).map(square).sum::<i64>() as f32,
            _ => 0.0,
        };
        Some(Self { elements, square })
    }

    pub fn elements(&self) -> &[i16] {
        &self.elements
    }

    pub fn square(&self) -> f32 {
        self.square
    }
}

fn square(elements: &[i16]) -> i64 {
    i64::from(elements.iter().fold(0_i32, |sum, &x| sum.wrapping_add(step::<DOT>(x, x))))
}

impl<T: Byte> Sums<i16, T> for Loops {
    type Sum = i64;
    const GROUPS: bool = false;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[i16], row: &[T]) -> i64 {
        let mut total = 0;
        for (query, row) in query.chunks(CHUNK).zip(row.chunks(CHUNK)) {
            let mut sum = 0_i32;
            for (&x, y) in query.iter().zip(row) {
                sum = sum.wrapping_add(step::<OP>(x, y.wide()));
            }
            total += i64::from(sum);
        }
        total
    }

    #[inline(always)]
    fn one_with_square(self, query: &[i16], row: &[T]) -> (i64, i64) {
        let mut total = (0, 0);
        for (query, row) in query.chunks(CHUNK).zip(row.chunks(CHUNK)) {
            let mut sum = (0_i32, 0_i32);
            for (&x, y) in query.iter().zip(row) {
                sum.0 = sum.0.wrapping_add(step::<DOT>(x, y.wide()));
                sum.1 = sum.1.wrapping_add(step::<DOT>(y.wide(), y.wide()));
            }
            total = (total.0 + i64::from(sum.0), total.1 + i64::from(sum.1));
        }
        total
    }
}

/// What a pair adds to a sum. Wrapping for the compiler alone: nothing in range wraps.
#[inline(always)]
pub(super) fn step<const OP: u8>(x: i16, y: i16) -> i32 {
    let difference = x.wrapping_sub(y);
    match OP {
        L2 => i32::from(difference).wrapping_mul(i32::from(difference)),
        DOT => i32::from(x).wrapping_mul(i32::from(y)),
        _ => i32::from(difference.wrapping_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integers_in_range_are_taken() {
        let takes = |x: f32| IntegerQuery::new(&[0.0, x, 1.0], DistanceType::L2).is_some();
        assert!([0.0, -0.0, 1.0, -128.0, 255.0, -255.0].into_iter().all(takes));
        assert!(![0.5, 256.0, -1.0e9, 1.0e-20, f32::MAX, f32::NAN].into_iter().any(takes));
        assert!(IntegerQuery::new(&[0.0, 255.0], DistanceType::Hamming).is_none());
    }

    #[test]
    fn elements_keep_their_values_and_the_square_is_exact() {
        let vector: Vec<f32> = (-255..=255).map(|x| x as f32).collect();
        let query = IntegerQuery::new(&vector, DistanceType::Cosine).unwrap();
        assert!(query.elements().iter().zip(-255..).all(|(&x, expected)| x == expected));
        assert_eq!(query.square(), 2.0 * (255 * 256 * 511 / 6) as f32);
        let long = vec![255.0; 20 * CHUNK + 3];
        let query = IntegerQuery::new(&long, DistanceType::Cosine).unwrap();
        assert_eq!(query.square(), ((20 * CHUNK + 3) * 255 * 255) as f32);
    }
}
