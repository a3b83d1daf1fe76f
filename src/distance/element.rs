//! The elements that vectors are made of: each is widened to `f32` on its way into a register.

use half::f16;

use super::bytes::IntegerQuery;
use super::{DistanceType, PreparedQuery};

/// An element of a stored vector.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// The value; infinite or NaN where this is, or where it is beyond `f32`.
    fn widen(self) -> f32;

    /// The values as they are, if they are `f32`.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn floats(values: &[Self]) -> Option<&[f32]> {
        let _ = values;
        None
    }

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

    /// Distances to rows.
    fn score(query: &PreparedQuery<'_>, rows: &[&[Self]], out: &mut [f32]);
}

macro_rules! elements {
    ($($t:ty: |$x:ident| $widen:expr $(, $floats:item)?;)*) => {$(
        impl Element for $t {
            #[inline(always)]
            fn widen(self) -> f32 {
                let $x = self;
                $widen
            }

            fn score(query: &PreparedQuery<'_>, rows: &[&[Self]], out: &mut [f32]) {
                query.score_floats(rows, out);
            }

            $($floats)?
        }
    )*};
}

elements! {
    f32: |x| x,
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        fn floats(values: &[f32]) -> Option<&[f32]> {
            Some(values)
        };
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
