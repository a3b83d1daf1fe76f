//! AVX-512F: 16 lanes, four accumulators a row, masked tail.

use std::arch::x86_64::*;

use crate::distance::ROWS;
use crate::distance::x86::common_len;

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

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn cosine(query: &[f32], row: &[f32]) -> (f32, f32) {
    score_with_norms(query, [row])[0]
}

/// # Safety
/// The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn cosine_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [(f32, f32); ROWS] {
    score_with_norms(query, rows)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn score<const R: usize, const L2: bool>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm512_setzero_ps(); 4]; R];
    let mut i = 0;
    while i + 64 <= len {
        for a in 0..4 {
            // SAFETY: `i + 64 <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, i + 16 * a) };
            for r in 0..R {
                // SAFETY: as above.
                let y = unsafe { load(rows[r], i + 16 * a) };
                acc[r][a] = step::<L2>(x, y, acc[r][a]);
            }
        }
        i += 64;
    }
    while i < len {
        // SAFETY: `i < len`, and no slice is shorter than `len`.
        let x = unsafe { load_up_to(query, i, len) };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { load_up_to(rows[r], i, len) };
            acc[r][0] = step::<L2>(x, y, acc[r][0]);
        }
        i += 16;
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        let [a, b, c, d] = acc[r];
        sums[r] = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
    }
    sums
}

/// Dot products of each row with the query and with itself; two accumulators each, for the registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn score_with_norms<const R: usize>(query: &[f32], rows: [&[f32]; R]) -> [(f32, f32); R] {
    let len = common_len(query, &rows);
    let mut dots = [[_mm512_setzero_ps(); 2]; R];
    let mut norms = [[_mm512_setzero_ps(); 2]; R];
    let mut i = 0;
    while i + 32 <= len {
        for a in 0..2 {
            // SAFETY: `i + 32 <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, i + 16 * a) };
            for r in 0..R {
                // SAFETY: as above.
                let y = unsafe { load(rows[r], i + 16 * a) };
                dots[r][a] = _mm512_fmadd_ps(x, y, dots[r][a]);
                norms[r][a] = _mm512_fmadd_ps(y, y, norms[r][a]);
            }
        }
        i += 32;
    }
    while i < len {
        // SAFETY: `i < len`, and no slice is shorter than `len`.
        let x = unsafe { load_up_to(query, i, len) };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { load_up_to(rows[r], i, len) };
            dots[r][0] = _mm512_fmadd_ps(x, y, dots[r][0]);
            norms[r][0] = _mm512_fmadd_ps(y, y, norms[r][0]);
        }
        i += 16;
    }
    let mut sums = [(0.0, 0.0); R];
    for r in 0..R {
        sums[r].0 = _mm512_reduce_add_ps(_mm512_add_ps(dots[r][0], dots[r][1]));
        sums[r].1 = _mm512_reduce_add_ps(_mm512_add_ps(norms[r][0], norms[r][1]));
    }
    sums
}

/// # Safety
/// `at + 16 <= values.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(values: &[f32], at: usize) -> __m512 {
    // SAFETY: as the caller promises.
    unsafe { _mm512_loadu_ps(values.as_ptr().add(at)) }
}

/// The 16 values from `at` on, zero from `len` on.
///
/// # Safety
/// `at < len <= values.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_up_to(values: &[f32], at: usize, len: usize) -> __m512 {
    let mask = u16::MAX >> 16_usize.saturating_sub(len - at);
    // SAFETY: the mask admits lanes below `len - at` only; masked-out lanes are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().add(at)) }
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
