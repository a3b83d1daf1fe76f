//! AVX2, rows of bytes: differences and products of 16 bits, one register of sums of 32 bits a row, and the tail one
//! by one.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::bytes::{Byte, CHUNK, step as step_one};
use crate::distance::isa::Avx2;
use crate::distance::sums::{DOT, L2, ROWS, Sums};

/// Elements that a register holds.
const STEP: usize = 16;

impl<T: Byte> Sums<i16, T> for Avx2 {
    type Sum = i64;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[i16], row: &[T]) -> i64 {
        // SAFETY: `self` proves that the CPU has AVX2.
        let [sum] = unsafe { sums::<T, OP, 1>(query, [row]) };
        sum
    }

    #[inline(always)]
    fn one_with_square(self, query: &[i16], row: &[T]) -> (i64, i64) {
        // SAFETY: `self` proves that the CPU has AVX2.
        let [sums] = unsafe { sums_with_squares(query, [row]) };
        sums
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[i16], rows: [&[T]; ROWS]) -> [i64; ROWS] {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { sums::<T, OP, ROWS>(query, rows) }
    }

    #[inline(always)]
    fn rows_with_squares(self, query: &[i16], rows: [&[T]; ROWS]) -> [(i64, i64); ROWS] {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { sums_with_squares(query, rows) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums<T: Byte, const OP: u8, const R: usize>(query: &[i16], rows: [&[T]; R]) -> [i64; R] {
    let len = common_len(query, &rows);
    let mut totals = [0; R];
    let mut at = 0;
    while at < len {
        // A sum of so many is within 32 bits.
        let end = len.min(at + CHUNK);
        let mut acc = [_mm256_setzero_si256(); R];
        while at + STEP <= end {
            // SAFETY: `at + STEP <= end`, and no slice is shorter than `end`.
            let x = unsafe { load_query(query, at) };
            for r in 0..R {
                // SAFETY: `at + STEP <= end`, and no slice is shorter than `end`.
                let y = unsafe { load_row(rows[r], at) };
                acc[r] = step::<OP>(acc[r], x, y);
            }
            at += STEP;
        }
        for r in 0..R {
            let mut sum = total(acc[r]);
            for (&x, y) in query[at..end].iter().zip(&rows[r][at..end]) {
                sum = sum.wrapping_add(step_one::<OP>(x, y.wide()));
            }
            totals[r] += i64::from(sum);
        }
        at = end;
    }
    totals
}

/// Products of each row with the query and with itself.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_with_squares<T: Byte, const R: usize>(query: &[i16], rows: [&[T]; R]) -> [(i64, i64); R] {
    let len = common_len(query, &rows);
    let mut totals = [(0, 0); R];
    let mut at = 0;
    while at < len {
        // A sum of so many is within 32 bits.
        let end = len.min(at + CHUNK);
        let mut products = [_mm256_setzero_si256(); R];
        let mut squares = [_mm256_setzero_si256(); R];
        while at + STEP <= end {
            // SAFETY: `at + STEP <= end`, and no slice is shorter than `end`.
            let x = unsafe { load_query(query, at) };
            for r in 0..R {
                // SAFETY: `at + STEP <= end`, and no slice is shorter than `end`.
                let y = unsafe { load_row(rows[r], at) };
                products[r] = step::<DOT>(products[r], x, y);
                squares[r] = step::<DOT>(squares[r], y, y);
            }
            at += STEP;
        }
        for r in 0..R {
            let (mut product, mut square) = (total(products[r]), total(squares[r]));
            for (&x, y) in query[at..end].iter().zip(&rows[r][at..end]) {
                product = product.wrapping_add(step_one::<DOT>(x, y.wide()));
                square = square.wrapping_add(step_one::<DOT>(y.wide(), y.wide()));
            }
            totals[r].0 += i64::from(product);
            totals[r].1 += i64::from(square);
        }
        at = end;
    }
    totals
}

/// # Safety
/// `at + STEP <= query.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_query(query: &[i16], at: usize) -> __m256i {
    // SAFETY: `at` is within the slice, as the caller promises.
    let start = unsafe { query.as_ptr().add(at) };
    // SAFETY: 16 values follow, as the caller promises.
    unsafe { _mm256_loadu_si256(start.cast()) }
}

/// 16 bytes, as 16 bits each.
///
/// # Safety
/// `at + STEP <= row.len()`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_row<T: Byte>(row: &[T], at: usize) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: `at` is within the slice, as the caller promises.
    let start = unsafe { row.as_ptr().add(at) };
    // SAFETY: 16 bytes follow, as the caller promises.
    let bytes = unsafe { _mm_loadu_si128(start.cast()) };
    if T::SIGNED { _mm256_cvtepi8_epi16(bytes) } else { _mm256_cvtepu8_epi16(bytes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn step<const OP: u8>(sum: __m256i, x: __m256i, y: __m256i) -> __m256i {
    let difference = _mm256_sub_epi16(x, y);
    let pairs = match OP {
        L2 => _mm256_madd_epi16(difference, difference),
        DOT => _mm256_madd_epi16(x, y),
        _ => _mm256_madd_epi16(_mm256_abs_epi16(difference), _mm256_set1_epi16(1)),
    };
    _mm256_add_epi32(sum, pairs)
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(sums: __m256i) -> i32 {
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b00_00_11_10>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b00_00_00_01>(sums));
    _mm_cvtsi128_si32(sums)
}
