//! AVX-512 VNNI, rows of bytes: differences and products of 16 bits, two registers of sums of 32 bits a row, masked
//! tail.

use std::arch::x86_64::*;

use super::common_len;
use crate::distance::bytes::{Byte, CHUNK};
use crate::distance::isa::Avx512;
use crate::distance::sums::{DOT, L2, ROWS, Sums};

/// Elements that a register holds.
const HALF: usize = 32;

impl<T: Byte> Sums<i16, T> for Avx512 {
    type Sum = i64;
    const GROUPS: bool = true;

    #[inline(always)]
    fn one<const OP: u8>(self, query: &[i16], row: &[T]) -> i64 {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW, VL and VNNI.
        let [sum] = unsafe { sums::<T, OP, 1>(query, [row]) };
        sum
    }

    #[inline(always)]
    fn one_with_square(self, query: &[i16], row: &[T]) -> (i64, i64) {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW, VL and VNNI.
        let [sums] = unsafe { sums_with_squares(query, [row]) };
        sums
    }

    #[inline(always)]
    fn rows<const OP: u8>(self, query: &[i16], rows: [&[T]; ROWS]) -> [i64; ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW, VL and VNNI.
        unsafe { sums::<T, OP, ROWS>(query, rows) }
    }

    #[inline(always)]
    fn rows_with_squares(self, query: &[i16], rows: [&[T]; ROWS]) -> [(i64, i64); ROWS] {
        // SAFETY: `self` proves that the CPU has AVX-512 F, BW, VL and VNNI.
        unsafe { sums_with_squares(query, rows) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn sums<T: Byte, const OP: u8, const R: usize>(query: &[i16], rows: [&[T]; R]) -> [i64; R] {
    let len = common_len(query, &rows);
    let mut totals = [0; R];
    let mut at = 0;
    while at < len {
        // A sum of so many is within 32 bits.
        let end = len.min(at + CHUNK);
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        while at < end {
            let masks = masks(at, end);
            for half in 0..2 {
                let (at, mask) = (at + HALF * half, masks[half]);
                // SAFETY: the mask ends at `end`, and no slice is shorter than that.
                let x = unsafe { load_query(query, at, mask) };
                for r in 0..R {
                    // SAFETY: the mask ends at `end`, and no slice is shorter than that.
                    let y = unsafe { load_row(rows[r], at, mask) };
                    acc[r][half] = step::<OP>(acc[r][half], x, y);
                }
            }
            at += 2 * HALF;
        }
        at = end;
        for r in 0..R {
            totals[r] += total(acc[r]);
        }
    }
    totals
}

/// Products of each row with the query and with itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn sums_with_squares<T: Byte, const R: usize>(query: &[i16], rows: [&[T]; R]) -> [(i64, i64); R] {
    let len = common_len(query, &rows);
    let mut totals = [(0, 0); R];
    let mut at = 0;
    while at < len {
        // A sum of so many is within 32 bits.
        let end = len.min(at + CHUNK);
        let mut products = [[_mm512_setzero_si512(); 2]; R];
        let mut squares = [[_mm512_setzero_si512(); 2]; R];
        while at < end {
            let masks = masks(at, end);
            for half in 0..2 {
                let (at, mask) = (at + HALF * half, masks[half]);
                // SAFETY: the mask ends at `end`, and no slice is shorter than that.
                let x = unsafe { load_query(query, at, mask) };
                for r in 0..R {
                    // SAFETY: the mask ends at `end`, and no slice is shorter than that.
                    let y = unsafe { load_row(rows[r], at, mask) };
                    products[r][half] = step::<DOT>(products[r][half], x, y);
                    squares[r][half] = step::<DOT>(squares[r][half], y, y);
                }
            }
            at += 2 * HALF;
        }
        at = end;
        for r in 0..R {
            totals[r].0 += total(products[r]);
            totals[r].1 += total(squares[r]);
        }
    }
    totals
}

/// Those of the two times 32 lanes from `at` on that lie before `end`.
#[inline(always)]
fn masks(at: usize, end: usize) -> [u32; 2] {
    let lanes = u64::MAX >> (2 * HALF).saturating_sub(end - at);
    [lanes as u32, (lanes >> HALF) as u32]
}

/// The lanes of the mask; the others are zero.
///
/// # Safety
/// `at + i < query.len()` for each bit `i` of the mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load_query(query: &[i16], at: usize, mask: u32) -> __m512i {
    // SAFETY: lanes within the mask are within the slice, as the caller promises, and others are not read.
    unsafe { _mm512_maskz_loadu_epi16(mask, query.as_ptr().wrapping_add(at)) }
}

/// The lanes of the mask, as 16 bits; the others are zero.
///
/// # Safety
/// `at + i < row.len()` for each bit `i` of the mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load_row<T: Byte>(row: &[T], at: usize, mask: u32) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: lanes within the mask are bytes of the slice, as the caller promises, and others are not read.
    let bytes = unsafe { _mm256_maskz_loadu_epi8(mask, row.as_ptr().wrapping_add(at).cast()) };
    if T::SIGNED { _mm512_cvtepi8_epi16(bytes) } else { _mm512_cvtepu8_epi16(bytes) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn step<const OP: u8>(sum: __m512i, x: __m512i, y: __m512i) -> __m512i {
    let difference = _mm512_sub_epi16(x, y);
    match OP {
        L2 => _mm512_dpwssd_epi32(sum, difference, difference),
        DOT => _mm512_dpwssd_epi32(sum, x, y),
        _ => _mm512_dpwssd_epi32(sum, _mm512_abs_epi16(difference), _mm512_set1_epi16(1)),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn total(acc: [__m512i; 2]) -> i64 {
    i64::from(_mm512_reduce_add_epi32(_mm512_add_epi32(acc[0], acc[1])))
}
