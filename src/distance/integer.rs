//! Vectors of bytes and a query of integers: differences fit into 16 bits and sums are exact.
//!
//! Unsafe, as in [`element`], is only the call of what was compiled for a CPU's features. Beside the loops over `f32`, 384
//! bytes take 13 ns instead of 31 in L2 (`cargo bench --bench elements`).

use std::sync::LazyLock;

use crate::distance::element::{self, Element};
use crate::distance::{DistanceType, Metric, PreparedQuery};

/// Elements whose sum of squared differences of at most `2 * LIMIT` fits into an `i32`.
const CHUNK: usize = 8192;
/// Elements of a query in integers are at most so large: every byte, signed or not, and its negation.
const LIMIT: f32 = 255.0;

/// A byte.
pub(crate) trait Integer: Element {
    fn wide(self) -> i16;

    /// The kernels of this CPU.
    fn integer_kernels() -> &'static Kernels<Self>;
}

macro_rules! integers {
    ($($t:ty)*) => {$(
        impl Integer for $t {
            #[inline(always)]
            fn wide(self) -> i16 {
                i16::from(self)
            }

            fn integer_kernels() -> &'static Kernels<Self> {
                static KERNELS: LazyLock<Kernels<$t>> = LazyLock::new(detect);
                &KERNELS
            }
        }

        impl Element for $t {
            #[inline(always)]
            fn widen(self) -> f32 {
                f32::from(self)
            }

            fn kernels() -> &'static element::Kernels<Self> {
                static KERNELS: LazyLock<element::Kernels<$t>> = LazyLock::new(element::detect);
                &KERNELS
            }

            fn prepare(vector: &[f32], distance_type: DistanceType) -> PreparedQuery<'_> {
                let integers = IntegerQuery::new(vector, distance_type);
                PreparedQuery { integers, ..PreparedQuery::new(vector, distance_type) }
            }

            #[inline(always)]
            fn score<'v>(query: &PreparedQuery<'_>, row: impl Fn(usize) -> &'v [$t], out: &mut [f32]) {
                score(query, row, out);
            }
        }
    )*};
}

integers! { i8 u8 }

/// A query whose elements are integers, beside its form in `f32`.
#[derive(Clone)]
pub(super) struct IntegerQuery {
    elements: Box<[i16]>,
    /// The same in bytes; under Hamming only.
    bits: Box<[u8]>,
    /// Its dot product with itself; under cosine only.
    square: f32,
}

impl IntegerQuery {
    /// None if there is an element that is no integer, or too large, or under Hamming no byte.
    pub fn new(vector: &[f32], distance_type: DistanceType) -> Option<Self> {
        // From here to its double there are no `f32` but integers: a sum with it is rounded to one, and has it in its
        // last bits. The compiler makes vector instructions of this and not of `as i16`.
        const SHIFT: f32 = (3 << 22) as f32;
        let is_integer = |x: f32| (x.abs() <= LIMIT) & (x + SHIFT - SHIFT == x);
        // Without an early end, for the same reason.
        if !vector.iter().fold(true, |all, &x| all & is_integer(x)) {
            return None;
        }
        let is_hamming = distance_type == DistanceType::Hamming;
        if is_hamming && vector.iter().any(|&x| x < 0.0) {
            return None;
        }
        let elements: Box<[i16]> = vector.iter().map(|&x| (x + SHIFT).to_bits() as i16).collect();
        let square = match distance_type {
            DistanceType::Cosine => (elements.chunks(CHUNK).map(square).sum::<i64>()) as f32,
            _ => 0.0,
        };
        let bits = if is_hamming { elements.iter().map(|&x| x as u8).collect() } else { Box::default() };
        Some(Self { elements, bits, square })
    }
}

fn square(elements: &[i16]) -> i64 {
    i64::from(elements.iter().fold(0_i32, |sum, &x| sum.wrapping_add(product(x, x))))
}

/// Scores rows as [`Element::score`] does, in integers if the query is of integers.
#[inline(always)]
pub(super) fn score<'v, T: Integer>(
    query: &PreparedQuery<'_>,
    row: impl Fn(usize) -> &'v [T],
    out: &mut [f32],
) {
    let Some(IntegerQuery { elements, bits, square }) = &query.integers else {
        return element::score(query, row, out);
    };
    let kernels = T::integer_kernels();
    match query.metric {
        Metric::L2(..) => each(row, out, |row| kernels.l2(elements, row) as f32),
        Metric::Dot(..) => each(row, out, |row| 1.0 - kernels.dot(elements, row) as f32),
        Metric::Cosine(..) => each(row, out, |row| {
            let (dot, norm) = kernels.cosine(elements, row);
            query.cosine((dot as f32, norm as f32), *square, row)
        }),
        Metric::L1 => each(row, out, |row| kernels.l1(elements, row) as f32),
        Metric::Hamming => each(row, out, |row| kernels.hamming(bits, row) as f32),
    }
}

#[inline(always)]
fn each<'v, T: 'v>(row: impl Fn(usize) -> &'v [T], out: &mut [f32], distance: impl Fn(&[T]) -> f32) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = distance(row(i));
    }
}

type Kernel<T, R> = unsafe fn(&[i16], &[T]) -> R;

/// What one row is scored with. A kernel never reads past the shorter slice.
pub(crate) struct Kernels<T> {
    l2: Kernel<T, i64>,
    dot: Kernel<T, i64>,
    cosine: Kernel<T, (i64, i64)>,
    l1: Kernel<T, i64>,
    hamming: unsafe fn(&[u8], &[T]) -> i64,
}

/// `step` over all pairs.
#[inline(always)]
fn sum<T: Integer>(query: &[i16], row: &[T], step: impl Fn(i16, i16) -> i32) -> i64 {
    let chunks = query.chunks(CHUNK).zip(row.chunks(CHUNK));
    let sums = chunks.map(|(query, row)| {
        let pairs = query.iter().zip(row);
        i64::from(pairs.fold(0_i32, |sum, (&x, y)| sum.wrapping_add(step(x, y.wide()))))
    });
    sums.sum()
}

#[inline(always)]
fn product(x: i16, y: i16) -> i32 {
    i32::from(x).wrapping_mul(i32::from(y))
}

#[inline(always)]
fn l2<T: Integer>(query: &[i16], row: &[T]) -> i64 {
    sum(query, row, |x, y| {
        let difference = x.wrapping_sub(y);
        product(difference, difference)
    })
}

#[inline(always)]
fn dot<T: Integer>(query: &[i16], row: &[T]) -> i64 {
    sum(query, row, product)
}

#[inline(always)]
fn cosine<T: Integer>(query: &[i16], row: &[T]) -> (i64, i64) {
    (sum(query, row, product), sum(query, row, |_, y| product(y, y)))
}

#[inline(always)]
fn l1<T: Integer>(query: &[i16], row: &[T]) -> i64 {
    sum(query, row, |x, y| i32::from(x.wrapping_sub(y).wrapping_abs()))
}

/// Bits that differ.
#[inline(always)]
fn hamming<T: Integer>(query: &[u8], row: &[T]) -> i64 {
    // A count of bits is the same in words of 64 as in bytes; some CPUs have an instruction for eight of these.
    const BYTES: usize = 64;
    let len = query.len().min(row.len());
    let (query, row) = (&query[..len], &row[..len]);
    let (queries, query_tail) = query.as_chunks::<BYTES>();
    let (rows, row_tail) = row.as_chunks::<BYTES>();
    let differ = |&x: &u8, y: T| x ^ y.wide() as u8;
    let chunks = queries.iter().zip(rows).map(|(query, row)| {
        let bytes: [u8; BYTES] = std::array::from_fn(|i| differ(&query[i], row[i]));
        let words = bytes.as_chunks::<8>().0.iter();
        words.fold(0, |sum: i64, &word| sum.wrapping_add(i64::from(u64::from_ne_bytes(word).count_ones())))
    });
    let tail = query_tail.iter().zip(row_tail).map(|(x, &y)| i64::from(differ(x, y).count_ones()));
    chunks.sum::<i64>() + tail.sum::<i64>()
}

/// The kernels compiled for some features.
macro_rules! compiled {
    ($name:ident $(, $features:literal)?) => {
        // With features, a function may be called only where the CPU has them.
        #[allow(unsafe_code)]
        fn $name<T: Integer>() -> Kernels<T> {
            $(#[target_feature(enable = $features)])?
            unsafe fn l2<T: Integer>(query: &[i16], row: &[T]) -> i64 {
                crate::distance::integer::l2(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn dot<T: Integer>(query: &[i16], row: &[T]) -> i64 {
                crate::distance::integer::dot(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn cosine<T: Integer>(query: &[i16], row: &[T]) -> (i64, i64) {
                crate::distance::integer::cosine(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn l1<T: Integer>(query: &[i16], row: &[T]) -> i64 {
                crate::distance::integer::l1(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn hamming<T: Integer>(query: &[u8], row: &[T]) -> i64 {
                crate::distance::integer::hamming(query, row)
            }
            Kernels { l2, dot, cosine, l1, hamming }
        }
    };
}

compiled!(portable);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2,popcnt");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,popcnt");

fn detect<T: Integer>() -> Kernels<T> {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vpopcntdq");
        if has_avx2 && has_avx512 {
            return avx512();
        }
        if has_avx2 {
            return avx2();
        }
    }
    portable()
}

// Going through function pointers saves asking for CPU features on every call.
#[allow(unsafe_code)]
impl<T: Integer> Kernels<T> {
    #[inline(always)]
    fn l2(&self, query: &[i16], row: &[T]) -> i64 {
        // SAFETY: `detect` is the only maker of kernels in use, after it saw the features that they need.
        unsafe { (self.l2)(query, row) }
    }

    #[inline(always)]
    fn dot(&self, query: &[i16], row: &[T]) -> i64 {
        // SAFETY: as above.
        unsafe { (self.dot)(query, row) }
    }

    /// Dot products of the row with the query and with itself.
    #[inline(always)]
    fn cosine(&self, query: &[i16], row: &[T]) -> (i64, i64) {
        // SAFETY: as above.
        unsafe { (self.cosine)(query, row) }
    }

    #[inline(always)]
    fn l1(&self, query: &[i16], row: &[T]) -> i64 {
        // SAFETY: as above.
        unsafe { (self.l1)(query, row) }
    }

    #[inline(always)]
    fn hamming(&self, query: &[u8], row: &[T]) -> i64 {
        // SAFETY: as above.
        unsafe { (self.hamming)(query, row) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not repeat, the extreme ones among them.
    fn bytes(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        (0..len).map(|at| if at % 7 == 0 { 255 * (next() & 1) } else { next() }).collect()
    }

    fn sets<T: Integer>() -> Vec<(&'static str, Kernels<T>)> {
        #[allow(unused_mut)]
        let mut sets = vec![("portable", portable()), ("chosen", detect())];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            sets.push(("avx2", avx2()));
        }
        sets
    }

    fn check<T: Integer>(query: &[i16], row: &[T]) {
        let sum = |f: fn(i64, i64) -> i64| -> i64 {
            query.iter().zip(row).map(|(&x, y)| f(i64::from(x), i64::from(y.wide()))).sum()
        };
        let bits: Vec<u8> = query.iter().map(|&x| x as u8).collect();
        for (name, kernels) in sets::<T>() {
            let len = query.len().min(row.len());
            assert_eq!(kernels.l2(query, row), sum(|x, y| (x - y) * (x - y)), "{name} l2 {len}");
            assert_eq!(kernels.dot(query, row), sum(|x, y| x * y), "{name} dot {len}");
            let cosine = (sum(|x, y| x * y), sum(|_, y| y * y));
            assert_eq!(kernels.cosine(query, row), cosine, "{name} cosine {len}");
            assert_eq!(kernels.l1(query, row), sum(|x, y| (x - y).abs()), "{name} l1 {len}");
            let differ = sum(|x, y| i64::from((x as u8 ^ y as u8).count_ones()));
            assert_eq!(kernels.hamming(&bits, row), differ, "{name} hamming {len}");
        }
    }

    #[test]
    fn sums_are_exact_on_every_length() {
        let (left, right) = (bytes(700, 1), bytes(700, 2));
        let (query, negated): (Vec<i16>, Vec<i16>) =
            left.iter().map(|&x| (i16::from(x), -i16::from(x))).unzip();
        let signed: Vec<i8> = right.iter().map(|&x| x as i8).collect();
        for len in 0..=query.len() {
            check(&query[..len], &right[..len]);
            check(&negated[..len], &signed[..len]);
        }
        check(&query[..5], &right);
        check(&query, &signed[..5]);
    }

    #[test]
    fn sums_beyond_32_bits_are_exact() {
        let len = 20 * CHUNK + 3;
        check(&vec![-255; len], &vec![255_u8; len]);
        check(&vec![255; len], &vec![-128_i8; len]);
    }

    #[test]
    fn only_integers_in_range_are_taken() {
        let takes = |x: f32| IntegerQuery::new(&[0.0, x, 1.0], DistanceType::L2).is_some();
        assert!([0.0, -0.0, 1.0, -128.0, 255.0, -255.0].into_iter().all(takes));
        assert!(![0.5, 256.0, -1.0e9, 1.0e-20, f32::MAX, f32::NAN].into_iter().any(takes));
        assert!(IntegerQuery::new(&[0.0, 255.0], DistanceType::Hamming).is_some());
        assert!(IntegerQuery::new(&[0.0, -1.0], DistanceType::Hamming).is_none());
    }
}
