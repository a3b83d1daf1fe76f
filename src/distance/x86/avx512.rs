//! AVX-512F: 16 lanes, four accumulators a row, masked tail.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::ROWS;

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn l2(query: &[f32], row: &[f32]) -> f32 {
    score::<1, true>(query, [row])[0]
}

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn l2_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    score::<ROWS, true>(query, rows)
}

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn dot(query: &[f32], row: &[f32]) -> f32 {
    score::<1, false>(query, [row])[0]
}

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn dot_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    score::<ROWS, false>(query, rows)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn score<const R: usize, const L2: bool>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm512_setzero_ps(); 4]; R];
    let mut i = 0;
    while i + 64 <= len {
        for a in 0..4 {
            let at = i + 16 * a;
            // SAFETY: `at + 16 <= i + 64 <= len`, and no slice is shorter than `len`.
            let x = unsafe { _mm512_loadu_ps(query.as_ptr().add(at)) };
            for r in 0..R {
                // SAFETY: as above.
                let y = unsafe { _mm512_loadu_ps(rows[r].as_ptr().add(at)) };
                acc[r][a] = step::<L2>(x, y, acc[r][a]);
            }
        }
        i += 64;
    }
    while i < len {
        // All 16 lanes, or as many as are left.
        let mask = u16::MAX >> 16_usize.saturating_sub(len - i);
        // SAFETY: the mask admits lanes below `len - i` only; masked-out lanes are not read.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, query.as_ptr().add(i)) };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { _mm512_maskz_loadu_ps(mask, rows[r].as_ptr().add(i)) };
            acc[r][0] = step::<L2>(x, y, acc[r][0]);
        }
        i += 16;
    }
    std::array::from_fn(|r| {
        let [a, b, c, d] = acc[r];
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
    })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const L2: bool>(x: __m512, y: __m512, acc: __m512) -> __m512 {
    if L2 {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, acc)
    } else {
        _mm512_fmadd_ps(x, y, acc)
    }
}
