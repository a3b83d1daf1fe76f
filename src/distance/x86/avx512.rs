//! AVX-512, sums of `f32`: two registers of partial sums a row, four rows at a time, masked tail.

use std::arch::x86_64::*;

use super::{chunks, common_len};
use crate::distance::element::Element;
use crate::distance::isa::Avx512;
use crate::distance::sums::{DOT, L2, LANES, ROWS, Sums, padded_tail, widened};

impl<T: Element> Sums<f32, T> for Avx512 {
    type Sum = f32;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW and VL.
        let [sum] = unsafe { sums::<T, OP, 1>(query, [row]) };
        sum
    }

    #[inline(always)]
    fn one_with_square(self, query: &[f32], row: &[T]) -> (f32, f32) {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW and VL.
        let [sums] = unsafe { sums_with_squares(query, [row]) };
        sums
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[f32], rows: [&[T]; ROWS]) -> [f32; ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW and VL.
        unsafe { sums::<T, OP, ROWS>(query, rows) }
    }

    #[inline(always)]
    fn rows_with_squares(self, query: &[f32], rows: [&[T]; ROWS]) -> [(f32, f32); ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW and VL.
        unsafe { sums_with_squares(query, rows) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sums<T: Element, const OP: u8, const R: usize>(query: &[f32], rows: [&[T]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let query_chunks = chunks(query, len);
    let row_chunks = rows.map(|row| chunks(row, len));
    let mut acc = [[_mm512_setzero_ps(); 2]; R];
    for at in 0..len / LANES {
        let x = load(&query_chunks[at]);
        for r in 0..R {
            let y = load(&widened(&row_chunks[r][at]));
            for half in 0..2 {
                acc[r][half] = step::<OP>(acc[r][half], x[half], y[half]);
            }
        }
    }
    if !len.is_multiple_of(LANES) {
        let x = tail(&query[..len]);
        for r in 0..R {
            let y = tail(&rows[r][..len]);
            for half in 0..2 {
                acc[r][half] = step::<OP>(acc[r][half], x[half], y[half]);
            }
        }
    }
    acc.map(|acc| total(acc))
}

/// Products of each row with the query and with itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn sums_with_squares<T: Element, const R: usize>(query: &[f32], rows: [&[T]; R]) -> [(f32, f32); R] {
    let len = common_len(query, &rows);
    let query_chunks = chunks(query, len);
    let row_chunks = rows.map(|row| chunks(row, len));
    let mut products = [[_mm512_setzero_ps(); 2]; R];
    let mut squares = [[_mm512_setzero_ps(); 2]; R];
    for at in 0..len / LANES {
        let x = load(&query_chunks[at]);
        for r in 0..R {
            let y = load(&widened(&row_chunks[r][at]));
            for half in 0..2 {
                products[r][half] = step::<DOT>(products[r][half], x[half], y[half]);
                squares[r][half] = step::<DOT>(squares[r][half], y[half], y[half]);
            }
        }
    }
    if !len.is_multiple_of(LANES) {
        let x = tail(&query[..len]);
        for r in 0..R {
            let y = tail(&rows[r][..len]);
            for half in 0..2 {
                products[r][half] = step::<DOT>(products[r][half], x[half], y[half]);
                squares[r][half] = step::<DOT>(squares[r][half], y[half], y[half]);
            }
        }
    }
    let mut sums = [(0.0, 0.0); R];
    for r in 0..R {
        sums[r] = (total(products[r]), total(squares[r]));
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(chunk: &[f32; LANES]) -> [__m512; 2] {
    let start = chunk.as_ptr();
    // SAFETY: the chunk has 32 values.
    let lower = unsafe { _mm512_loadu_ps(start) };
    // SAFETY: the chunk has 32 values, so 16 follow.
    let upper = unsafe { _mm512_loadu_ps(start.wrapping_add(16)) };
    [lower, upper]
}

/// What is behind the last whole chunk, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn tail<T: Element>(values: &[T]) -> [__m512; 2] {
    match T::floats(values) {
        Some(values) => {
            let at = values.len() / LANES * LANES;
            [load_from(values, at), load_from(values, at + 16)]
        }
        None => load(&padded_tail(values)),
    }
}

/// The 16 values from `at` on, zero from the end on.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_from(values: &[f32], at: usize) -> __m512 {
    let mask = (1_u32 << values.len().saturating_sub(at).min(16)) - 1;
    // SAFETY: the mask ends with the slice, and lanes outside of it are not read.
    unsafe { _mm512_maskz_loadu_ps(mask as u16, values.as_ptr().wrapping_add(at)) }
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
