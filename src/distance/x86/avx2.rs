//! AVX2 with FMA, sums of `f32`: four registers of partial sums a row, so two rows at a time; masked tail.

use std::arch::x86_64::*;

use super::{chunks, common_len};
use crate::distance::element::Element;
use crate::distance::isa::Avx2;
use crate::distance::sums::{DOT, L2, LANES, ROWS, Sums, padded_tail, widened};

impl<T: Element> Sums<f32, T> for Avx2 {
    type Sum = f32;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[f32], row: &[T]) -> f32 {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [sum] = unsafe { sums::<T, OP, 1>(query, [row]) };
        sum
    }

    // Its eight registers of sums leave no room for a second row.
    #[inline(always)]
    fn one_with_square(self, query: &[f32], row: &[T]) -> (f32, f32) {
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        unsafe { sum_with_square(query, row) }
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[f32], rows: [&[T]; ROWS]) -> [f32; ROWS] {
        let [a, b, c, d] = rows;
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [a, b] = unsafe { sums::<T, OP, 2>(query, [a, b]) };
        // SAFETY: `self` proves that the CPU has AVX2 and FMA.
        let [c, d] = unsafe { sums::<T, OP, 2>(query, [c, d]) };
        [a, b, c, d]
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums<T: Element, const OP: u8, const R: usize>(query: &[f32], rows: [&[T]; R]) -> [f32; R] {
    let len = common_len(query, &rows);
    let query_chunks = chunks(query, len);
    let row_chunks = rows.map(|row| chunks(row, len));
    let mut acc = [[_mm256_setzero_ps(); 4]; R];
    for at in 0..len / LANES {
        let x = load(&query_chunks[at]);
        for r in 0..R {
            let y = load(&widened(&row_chunks[r][at]));
            for quarter in 0..4 {
                acc[r][quarter] = step::<OP>(acc[r][quarter], x[quarter], y[quarter]);
            }
        }
    }
    if !len.is_multiple_of(LANES) {
        let x = tail(&query[..len]);
        for r in 0..R {
            let y = tail(&rows[r][..len]);
            for quarter in 0..4 {
                acc[r][quarter] = step::<OP>(acc[r][quarter], x[quarter], y[quarter]);
            }
        }
    }
    acc.map(|acc| total(acc))
}

/// Products of the row with the query and with itself.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_with_square<T: Element>(query: &[f32], row: &[T]) -> (f32, f32) {
    let len = common_len(query, &[row]);
    let mut products = [_mm256_setzero_ps(); 4];
    let mut squares = [_mm256_setzero_ps(); 4];
    for (x, y) in chunks(query, len).iter().zip(chunks(row, len)) {
        let (x, y) = (load(x), load(&widened(y)));
        for quarter in 0..4 {
            products[quarter] = step::<DOT>(products[quarter], x[quarter], y[quarter]);
            squares[quarter] = step::<DOT>(squares[quarter], y[quarter], y[quarter]);
        }
    }
    if !len.is_multiple_of(LANES) {
        let (x, y) = (tail(&query[..len]), tail(&row[..len]));
        for quarter in 0..4 {
            products[quarter] = step::<DOT>(products[quarter], x[quarter], y[quarter]);
            squares[quarter] = step::<DOT>(squares[quarter], y[quarter], y[quarter]);
        }
    }
    (total(products), total(squares))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(chunk: &[f32; LANES]) -> [__m256; 4] {
    let mut quarters = [_mm256_setzero_ps(); 4];
    for (quarter, values) in quarters.iter_mut().zip(chunk.as_chunks::<8>().0) {
        // SAFETY: there are 8 values.
        *quarter = unsafe { _mm256_loadu_ps(values.as_ptr()) };
    }
    quarters
}

/// What is behind the last whole chunk, and zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn tail<T: Element>(values: &[T]) -> [__m256; 4] {
    match T::floats(values) {
        Some(values) => {
            let at = values.len() / LANES * LANES;
            [
                load_from(values, at),
                load_from(values, at + 8),
                load_from(values, at + 16),
                load_from(values, at + 24),
            ]
        }
        None => load(&padded_tail(values)),
    }
}

/// The 8 values from `at` on, zero from the end on.
#[inline]
#[target_feature(enable = "avx2")]
fn load_from(values: &[f32], at: usize) -> __m256 {
    let lanes = _mm256_set1_epi32(values.len().saturating_sub(at).min(8) as i32);
    let mask = _mm256_cmpgt_epi32(lanes, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    // SAFETY: the mask ends with the slice, and lanes outside of it are not read.
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
