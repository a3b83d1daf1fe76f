//! AVX-512F, rows of `f32`: two registers of partial sums a row, masked tail.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::isa::Avx512;
use crate::distance::sums::{DOT, L2, LANES, ROWS, Sums};

impl Sums<f32, f32> for Avx512 {
    type Sum = f32;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[f32], row: &[f32]) -> f32 {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        let [sum] = unsafe { sums::<OP, 1>(query, [row]) };
        sum
    }

    #[inline(always)]
    fn one_with_square(self, query: &[f32], row: &[f32]) -> (f32, f32) {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        let [sums] = unsafe { sums_with_squares(query, [row]) };
        sums
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[f32], rows: [&[f32]; ROWS]) -> [f32; ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { sums::<OP, ROWS>(query, rows) }
    }

    #[inline(always)]
    fn rows_with_squares(self, query: &[f32], rows: [&[f32]; ROWS]) -> [(f32, f32); ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512F.
        unsafe { sums_with_squares(query, rows) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn sums<const OP: u8, const R: usize>(query: &[f32], rows: [&[f32]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let mut acc = [[_mm512_setzero_ps(); 2]; R];
    let mut at = 0;
    while at + LANES <= len {
        for half in 0..2 {
            // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, at + 16 * half) };
            for r in 0..R {
                // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
                let y = unsafe { load(rows[r], at + 16 * half) };
                acc[r][half] = step::<OP>(acc[r][half], x, y);
            }
        }
        at += LANES;
    }
    if at < len {
        for half in 0..2 {
            let mask = mask(at + 16 * half, len);
            // SAFETY: the mask ends at `len`, and no slice is shorter than `len`.
            let x = unsafe { load_masked(query, at + 16 * half, mask) };
            for r in 0..R {
                // SAFETY: the mask ends at `len`, and no slice is shorter than `len`.
                let y = unsafe { load_masked(rows[r], at + 16 * half, mask) };
                acc[r][half] = step::<OP>(acc[r][half], x, y);
            }
        }
    }
    let mut sums = [0.0; R];
    for r in 0..R {
        sums[r] = total(acc[r]);
    }
    sums
}

/// Products of each row with the query and with itself.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums_with_squares<const R: usize>(query: &[f32], rows: [&[f32]; R]) -> [(f32, f32); R] {
    let len = common_len(query, &rows);
    let mut products = [[_mm512_setzero_ps(); 2]; R];
    let mut squares = [[_mm512_setzero_ps(); 2]; R];
    let mut at = 0;
    while at + LANES <= len {
        for half in 0..2 {
            // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
            let x = unsafe { load(query, at + 16 * half) };
            for r in 0..R {
                // SAFETY: `at + LANES <= len`, and no slice is shorter than `len`.
                let y = unsafe { load(rows[r], at + 16 * half) };
                products[r][half] = step::<DOT>(products[r][half], x, y);
                squares[r][half] = step::<DOT>(squares[r][half], y, y);
            }
        }
        at += LANES;
    }
    if at < len {
        for half in 0..2 {
            let mask = mask(at + 16 * half, len);
            // SAFETY: the mask ends at `len`, and no slice is shorter than `len`.
            let x = unsafe { load_masked(query, at + 16 * half, mask) };
            for r in 0..R {
                // SAFETY: the mask ends at `len`, and no slice is shorter than `len`.
                let y = unsafe { load_masked(rows[r], at + 16 * half, mask) };
                products[r][half] = step::<DOT>(products[r][half], x, y);
                squares[r][half] = step::<DOT>(squares[r][half], y, y);
            }
        }
    }
    let mut sums = [(0.0, 0.0); R];
    for r in 0..R {
        sums[r] = (total(products[r]), total(squares[r]));
    }
    sums
}

/// # Safety
/// `at + 16 <= values.len()`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(values: &[f32], at: usize) -> __m512 {
    // SAFETY: `at` is within the slice, as the caller promises.
    let start = unsafe { values.as_ptr().add(at) };
    // SAFETY: 16 values follow, as the caller promises.
    unsafe { _mm512_loadu_ps(start) }
}

/// Those of the 16 lanes from `at` on that lie before `len`.
#[inline(always)]
fn mask(at: usize, len: usize) -> u16 {
    ((1_u32 << len.saturating_sub(at).min(16)) - 1) as u16
}

/// The lanes of the mask; the others are zero.
///
/// # Safety
/// `at + i < values.len()` for each bit `i` of the mask.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_masked(values: &[f32], at: usize, mask: u16) -> __m512 {
    // SAFETY: lanes within the mask are within the slice, as the caller promises, and others are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(at)) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const OP: u8>(sum: __m512, x: __m512, y: __m512) -> __m512 {
    match OP {
        L2 => {
            let difference = _mm512_sub_ps(x, y);
            _mm512_fmadd_ps(difference, difference, sum)
        }
        DOT => _mm512_fmadd_ps(x, y, sum),
        _ => _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(x, y))),
    }
}

/// Upper halves are added to lower ones.
#[inline]
#[target_feature(enable = "avx512f")]
fn total(acc: [__m512; 2]) -> f32 {
    let sums = _mm512_add_ps(acc[0], acc[1]);
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sums)));
    let sums = _mm256_add_ps(_mm512_castps512_ps256(sums), upper);
    let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)))
}
