//! AVX2 with FMA, rows of `f32`: four registers of partial sums a row, so two rows at a time; masked tail.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::isa::Avx2;
use crate::distance::sums::{DOT, L2, LANES, ROWS, Sums};

impl Sums<f32, f32> for Avx2 {
    type Sum = f32;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[f32], row: &[f32]) -> f32 {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [sum] = unsafe { sums::<OP, 1>(query, [row]) };
        sum
    }

    // Its eight registers of sums leave no room for a second row.
    #[inline(always)]
    fn one_with_square(self, query: &[f32], row: &[f32]) -> (f32, f32) {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { sum_with_square(query, row) }
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
        let [a, b, c, d] = rows;
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [a, b] = unsafe { sums::<OP, 2>(query, [a, b]) };
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [c, d] = unsafe { sums::<OP, 2>(query, [c, d]) };
        [a, b, c, d]
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums<const OP: u8, const R: usize>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm256_setzero_ps(); 4]; R];
    let mut at = 0;
    while at + LANES <= len {
        for quarter in 0..4 {
            // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, at + 8 * quarter) };
            for r in 0..R {
                // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
                let y = unsafe { load(rows[r], at + 8 * quarter) };
                acc[r][quarter] = step::<OP>(acc[r][quarter], x, y);
            }
        }
        at += LANES;
    }
    if at < len {
        for quarter in 0..4 {
            // SAFETY: no slice is shorter than `len`.
            let x = unsafe { load_up_to(query, at + 8 * quarter, len) };
            for r in 0..R {
                // SAFETY: no slice is shorter than `len`.
                let y = unsafe { load_up_to(rows[r], at + 8 * quarter, len) };
                acc[r][quarter] = step::<OP>(acc[r][quarter], x, y);
            }
        }
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        sums[r] = total(acc[r]);
    }
    sums
}

/// Products of the row with the query and with itself.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_with_square(query: &[f32], row: &[f32]) -> (f32, f32) {
    let len = common_len(query, &[row]);
    let mut products = [_mm256_setzero_ps(); 4];
    let mut squares = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at + LANES <= len {
        for quarter in 0..4 {
            // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, at + 8 * quarter) };
            // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
            let y = unsafe { load(row, at + 8 * quarter) };
            products[quarter] = step::<DOT>(products[quarter], x, y);
            squares[quarter] = step::<DOT>(squares[quarter], y, y);
        }
        at += LANES;
    }
    if at < len {
        for quarter in 0..4 {
            // SAFETY: no slice is shorter than `len`.
            let x = unsafe { load_up_to(query, at + 8 * quarter, len) };
            // SAFETY: no slice is shorter than `len`.
            let y = unsafe { load_up_to(row, at + 8 * quarter, len) };
            products[quarter] = step::<DOT>(products[quarter], x, y);
            squares[quarter] = step::<DOT>(squares[quarter], y, y);
        }
    }
    (total(products), total(squares))
}

/// # Safety
/// `at + 8 <= values.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(values: &[f32], at: usize) -> __m256 {
    // SAFETY: `at` is within the slice, as the caller promises.
    let start = unsafe { values.as_ptr().add(at) };
    // SAFETY: 8 values follow, as the caller promises.
    unsafe { _mm256_loadu_ps(start) }
}

/// The 8 values from `at` on, zero from `len` on.
///
/// # Safety
/// `len <= values.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_up_to(values: &[f32], at: usize, len: usize) -> __m256 {
    let lanes = _mm256_set1_epi32(len.saturating_sub(at).min(8) as i32);
    let mask = _mm256_cmpgt_epi32(lanes, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: the mask admits lanes before `len` only, which the caller bounds; other lanes are not read.
    unsafe { _mm256_maskload_ps(values.as_ptr().wrapping_add(at), mask) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const OP: u8>(sum: __m256, x: __m256, y: __m256) -> __m256 {
    match OP {
        L2 => {
            let difference = _mm256_sub_ps(x, y);
            _mm256_fmadd_ps(difference, difference, sum)
        }
        DOT => _mm256_fmadd_ps(x, y, sum),
        _ => _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_sub_ps(x, y))),
    }
}

/// Upper halves are added to lower ones.
#[inline]
#[target_feature(enable = "avx2")]
fn total(acc: [__m256; 4]) -> f32 {
    let sums = _mm256_add_ps(_mm256_add_ps(acc[0], acc[2]), _mm256_add_ps(acc[1], acc[3]));
    let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)))
}
