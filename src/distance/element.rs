//! The elements that vectors are made of: each is widened to `f32` on its way into a register.

use half::f16;

<<<<<<< HEAD
use crate::distance::{DistanceType, PreparedQuery};
=======
use super::bytes::IntegerQuery;
#[cfg(target_arch = "x86_64")]
use super::isa::{Avx2, Avx512};
use super::score::scored;
#[cfg(target_arch = "x86_64")]
use super::sums::Loops;
use super::{DistanceType, PreparedQuery};
>>>>>>> distance

/// An element of a stored vector.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// The value; infinite or NaN where this is, or where it is beyond `f32`.
    fn widen(self) -> f32;

    /// The value as a byte: without its fraction, 0 for what is below or NaN, 255 for what is above.
    #[inline(always)]
    fn byte(self) -> u8 {
        self.widen() as u8
    }

    /// The query in integers, if it is one of integers and rows of such elements are.
    fn integers(vector: &[f32], distance_type: DistanceType) -> Option<IntegerQuery> {
        let _ = (vector, distance_type);
        None
    }

    /// Prepares a query for [`score`](Self::score).
    fn prepare(vector: &[f32], distance_type: DistanceType) -> PreparedQuery<'_> {
        PreparedQuery::new(vector, distance_type).with_integers(Self::integers(vector, distance_type))
    }

    /// Distances to rows. `ahead` is called with the number of each row before it is read.
    fn score(query: &PreparedQuery<'_>, rows: &[&[Self]], ahead: impl Fn(usize), out: &mut [f32]);
}

macro_rules! elements {
    ($($t:ty: |$x:ident| $widen:expr;)*) => {$(
        impl Element for $t {
            #[inline(always)]
            fn widen(self) -> f32 {
                let $x = self;
                $widen
            }

            fn score(query: &PreparedQuery<'_>, rows: &[&[Self]], ahead: impl Fn(usize), out: &mut [f32]) {
                query.score_floats(rows, ahead, out);
            }
        }
    )*};
}

elements! {
    f32: |x| x;
    f64: |x| x as f32;
    // bfloat16: the upper half of an `f32`.
    [u8; 2]: |x| f32::from_bits(u32::from(u16::from_le_bytes(x)) << 16);
    f16: |x| {
        let half = u32::from(x.to_bits());
        let magnitude = (half & 0x7fff) << 13;
        // The exponents differ by 112. Subnormal numbers are a fraction on top of the smallest normal one.
        let smallest = 113 << 23;
        let subnormal = (f32::from_bits(magnitude + smallest) - f32::from_bits(smallest)).to_bits();
        let finite = if magnitude < 0x0400 << 13 { subnormal } else { magnitude + (112 << 23) };
        let bits = if magnitude < 0x7c00 << 13 { finite } else { magnitude | 0x7f80_0000 };
        f32::from_bits(bits | (half & 0x8000) << 16)
    };
}

<<<<<<< HEAD
/// Independent sums of the loop over long rows: four registers of AVX-512.
const WIDE: usize = 64;
/// And of that over what is left: one register.
const NARROW: usize = 16;

/// `step` over all pairs, in many sums.
#[inline(always)]
fn fold<T: Element>(query: &[f32], row: &[T], step: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let len = query.len().min(row.len());
    let (queries, query) = query[..len].as_chunks::<WIDE>();
    let (rows, row) = row[..len].as_chunks::<WIDE>();
    let mut sums = [0.0_f32; WIDE];
    for (query, row) in queries.iter().zip(rows) {
        add(&mut sums, query, row, &step);
    }
    let mut sums: [f32; NARROW] =
        array::from_fn(|i| (sums[i] + sums[i + 16]) + (sums[i + 32] + sums[i + 48]));
    let (queries, query) = query.as_chunks::<NARROW>();
    let (rows, row) = row.as_chunks::<NARROW>();
    for (query, row) in queries.iter().zip(rows) {
        add(&mut sums, query, row, &step);
    }
    let sums: [f32; 8] = array::from_fn(|i| sums[i] + sums[i + 8]);
    let mut sums: [f32; 4] = array::from_fn(|i| sums[i] + sums[i + 4]);
    let (queries, query) = query.as_chunks::<4>();
    let (rows, row) = row.as_chunks::<4>();
    for (query, row) in queries.iter().zip(rows) {
        add(&mut sums, query, row, &step);
    }
    let sum = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    query.iter().zip(row).fold(sum, |sum, (&x, &y)| step(sum, x, y.widen()))
}

#[inline(always)]
fn add<T: Element, const N: usize>(
    sums: &mut [f32; N],
    query: &[f32; N],
    row: &[T; N],
    step: impl Fn(f32, f32, f32) -> f32,
) {
    for i in 0..N {
        sums[i] = step(sums[i], query[i], row[i].widen());
    }
}

#[inline(always)]
fn add_product<const FMA: bool>(sum: f32, x: f32, y: f32) -> f32 {
    if FMA { x.mul_add(y, sum) } else { sum + x * y }
}

#[inline(always)]
fn l2<T: Element, const FMA: bool>(query: &[f32], row: &[T]) -> f32 {
    fold(query, row, |sum, x, y| add_product::<FMA>(sum, x - y, x - y))
}

#[inline(always)]
fn dot<T: Element, const FMA: bool>(query: &[f32], row: &[T]) -> f32 {
    fold(query, row, add_product::<FMA>)
}

#[inline(always)]
fn cosine<T: Element, const FMA: bool>(query: &[f32], row: &[T]) -> (f32, f32) {
    (dot::<T, FMA>(query, row), fold(query, row, |sum, _, y| add_product::<FMA>(sum, y, y)))
}

#[inline(always)]
fn l1<T: Element>(query: &[f32], row: &[T]) -> f32 {
    fold(query, row, |sum, x, y| sum + (x - y).abs())
}

/// Bits that differ; elements are bytes.
#[inline(always)]
fn hamming<T: Element>(query: &[f32], row: &[T]) -> f32 {
    let pairs = query.iter().zip(row);
    pairs.map(|(&x, &y)| (x as u8 ^ y.widen() as u8).count_ones()).sum::<u32>() as f32
}

/// The kernels compiled for some features.
macro_rules! compiled {
    ($name:ident, $fma:literal $(, $features:literal)?) => {
        // With features, a function may be called only where the CPU has them.
        #[allow(unsafe_code)]
        fn $name<T: Element>() -> Kernels<T> {
            $(#[target_feature(enable = $features)])?
            unsafe fn l2<T: Element>(query: &[f32], row: &[T]) -> f32 {
                crate::distance::element::l2::<T, $fma>(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn dot<T: Element>(query: &[f32], row: &[T]) -> f32 {
                crate::distance::element::dot::<T, $fma>(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn cosine<T: Element>(query: &[f32], row: &[T]) -> (f32, f32) {
                crate::distance::element::cosine::<T, $fma>(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn l1<T: Element>(query: &[f32], row: &[T]) -> f32 {
                crate::distance::element::l1(query, row)
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn hamming<T: Element>(query: &[f32], row: &[T]) -> f32 {
                crate::distance::element::hamming(query, row)
            }
            Kernels { l2, dot, cosine, l1, hamming }
        }
    };
}

compiled!(portable, false);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, true, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, true, "avx512f,avx512bw,avx512vl,avx2,fma");

pub(super) fn detect<T: Element>() -> Kernels<T> {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
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
impl<T: Element> Kernels<T> {
    #[inline(always)]
    pub fn l2(&self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: `detect` is the only maker of kernels in use, after it saw the features that they need.
        unsafe { (self.l2)(query, row) }
    }

    #[inline(always)]
    pub fn dot(&self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.dot)(query, row) }
    }

    /// Dot products of the row with the query and with itself.
    #[inline(always)]
    pub fn cosine(&self, query: &[f32], row: &[T]) -> (f32, f32) {
        // SAFETY: as above.
        unsafe { (self.cosine)(query, row) }
    }

    #[inline(always)]
    pub fn l1(&self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.l1)(query, row) }
    }

    #[inline(always)]
    pub fn hamming(&self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.hamming)(query, row) }
    }
=======
scored! {
    f32, f32 => Avx2, Avx512;
    f64, f32 => Loops, Loops;
    [u8; 2], f32 => Loops, Loops;
    f16, f32 => Loops, Loops;
>>>>>>> distance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_widens_as_ieee_says() {
        for bits in 0..=u16::MAX {
            let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * 2.0_f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction / 1024.0) * 2.0_f64.powi(exponent - 15),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude } as f32;
            let widened = f16::from_bits(bits).widen();
            assert!(
                widened.to_bits() == expected.to_bits() || widened.is_nan() && expected.is_nan(),
                "{bits:#x}: {widened}, not {expected}"
            );
        }
    }
}
