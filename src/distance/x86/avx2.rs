//! AVX2 with FMA: 8 lanes, two accumulators a row (16 registers hold no more), masked tail.

use std::arch::x86_64::*;

use crate::distance::ROWS;
use crate::distance::x86::common_len;

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn l2(query: &[f32], row: &[f32]) -> f32 {
    score::<1, true>(query, [row])[0]
}

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn l2_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    score::<ROWS, true>(query, rows)
}

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn dot(query: &[f32], row: &[f32]) -> f32 {
    score::<1, false>(query, [row])[0]
}

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn dot_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
    score::<ROWS, false>(query, rows)
}

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn cosine(query: &[f32], row: &[f32]) -> (f32, f32) {
    score_with_norms(query, [row])[0]
}

/// # Safety
/// The CPU has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn cosine_rows(query: &[f32], rows: [&[f32]; ROWS]) -> [(f32, f32); ROWS] {
    score_with_norms(query, rows)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn score<const R: usize, const L2: bool>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    let mut i = 0;
    while i + 16 <= len {
        for a in 0..2 {
            // SAFETY: `i + 16 <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, i + 8 * a) };
            for r in 0..R {
                // SAFETY: as above.
                let y = unsafe { load(rows[r], i + 8 * a) };
                acc[r][a] = step::<L2>(x, y, acc[r][a]);
            }
        }
        i += 16;
    }
    while i < len {
        // SAFETY: `i < len`, and no slice is shorter than `len`.
        let x = unsafe { load_up_to(query, i, len) };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { load_up_to(rows[r], i, len) };
            acc[r][0] = step::<L2>(x, y, acc[r][0]);
        }
        i += 8;
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        sums[r] = reduce(_mm256_add_ps(acc[r][0], acc[r][1]));
    }
    sums
}

/// Dot products of each row with the query and with itself; one accumulator each, for the registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn score_with_norms<const R: usize>(query: &[f32], rows: [&[f32]; R]) -> [(f32, f32); R] {
    let len = common_len(query, &rows);
    let mut dots = [_mm256_setzero_ps(); R];
    let mut norms = [_mm256_setzero_ps(); R];
    let mut i = 0;
    while i < len {
        // SAFETY: `i < len`, and no slice is shorter than `len`.
        let x = unsafe { if i + 8 <= len { load(query, i) } else { load_up_to(query, i, len) } };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { if i + 8 <= len { load(rows[r], i) } else { load_up_to(rows[r], i, len) } };
            dots[r] = _mm256_fmadd_ps(x, y, dots[r]);
            norms[r] = _mm256_fmadd_ps(y, y, norms[r]);
        }
        i += 8;
    }
    let mut sums = [(0.0, 0.0); R];
    for r in 0..R {
        sums[r] = (reduce(dots[r]), reduce(norms[r]));
    }
    sums
}

/// # Safety
/// `at + 8 <= values.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(values: &[f32], at: usize) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe { _mm256_loadu_ps(values.as_ptr().add(at)) }
}

/// The 8 values from `at` on, zero from `len` on.
///
/// # Safety
/// `at < len <= values.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_up_to(values: &[f32], at: usize, len: usize) -> __m256 {
    let lanes = _mm256_set1_epi32((len - at).min(8) as i32);
    let mask = _mm256_cmpgt_epi32(lanes, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: the mask admits lanes below `len - at` only; masked-out lanes are not read.
    unsafe { _mm256_maskload_ps(values.as_ptr().add(at), mask) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const L2: bool>(x: __m256, y: __m256, acc: __m256) -> __m256 {
    if L2 {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, acc)
    } else {
        _mm256_fmadd_ps(x, y, acc)
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sum: __m256) -> f32 {
    let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
}
