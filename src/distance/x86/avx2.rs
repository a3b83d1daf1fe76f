//! AVX2 with FMA: 8 lanes, two accumulators a row (16 registers hold no more), masked tail.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::ROWS;

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

#[inline]
#[target_feature(enable = "avx2,fma")]
fn score<const R: usize, const L2: bool>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm256_setzero_ps(); 2]; R];
    let mut i = 0;
    while i + 16 <= len {
        for a in 0..2 {
            let at = i + 8 * a;
            // SAFETY: `at + 8 <= i + 16 <= len`, and no slice is shorter than `len`.
            let x = unsafe { _mm256_loadu_ps(query.as_ptr().add(at)) };
            for r in 0..R {
                // SAFETY: as above.
                let y = unsafe { _mm256_loadu_ps(rows[r].as_ptr().add(at)) };
                acc[r][a] = step::<L2>(x, y, acc[r][a]);
            }
        }
        i += 16;
    }
    while i < len {
        let mask = first_lanes(len - i);
        // SAFETY: the mask admits lanes below `len - i` only; masked-out lanes are not read.
        let x = unsafe { _mm256_maskload_ps(query.as_ptr().add(i), mask) };
        for r in 0..R {
            // SAFETY: as above.
            let y = unsafe { _mm256_maskload_ps(rows[r].as_ptr().add(i), mask) };
            acc[r][0] = step::<L2>(x, y, acc[r][0]);
        }
        i += 8;
    }
    std::array::from_fn(|r| reduce(_mm256_add_ps(acc[r][0], acc[r][1])))
}

/// A mask of the first `lanes` lanes, or of all eight.
#[inline]
#[target_feature(enable = "avx2")]
fn first_lanes(lanes: usize) -> __m256i {
    let lanes = _mm256_set1_epi32(lanes.min(8) as i32);
    _mm256_cmpgt_epi32(lanes, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
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
