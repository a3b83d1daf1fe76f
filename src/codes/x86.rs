//! Dot products by AVX2 and by AVX-512 VNNI.
//!
//! Records are whole multiples of 32 bytes. A kernel loads each as slices of 32 or 64 bytes of it, so that it reads no
//! byte of the next record, which a writer may be at.

// Loads through pointers are unsafe.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::kernels::LINES;
use super::query::{Planes, Words};

/// Codes are widened to 16 bits. A sum in `i32` takes `LINES` times two `vpmaddwd`, each of two products:
/// `128 * 2 * 2 * 255 * 16,383 < 2^31`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn avx2<const N: usize>(query: &[Words], records: [&[u8]; N]) -> [i64; N] {
    let mut len = query.len();
    let mut halves: [&[[u8; 32]]; N] = [&[]; N];
    for r in 0..N {
        halves[r] = records[r].as_chunks().0;
        len = len.min(halves[r].len());
    }
    // Said once, so that the loop need not check.
    for record in &mut halves {
        *record = &record[..len];
    }
    let query = &query[..len];
    let mut totals = [0_i64; N];
    let mut start = 0;
    while start < len {
        let end = len.min(start + LINES);
        let mut sums = [_mm256_setzero_si256(); N];
        for i in start..end {
            let [low, high] = load_words(&query[i]);
            for r in 0..N {
                let [codes_low, codes_high] = load_widened(&halves[r][i]);
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(codes_low, low));
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(codes_high, high));
            }
        }
        for r in 0..N {
            totals[r] += sum(sums[r]);
        }
        start = end;
    }
    totals
}

/// Two planes of the query, each multiplied by `vpdpbusd`, which adds four products to a sum. Sums fit an `i32` up to
/// the largest dimension: all 16 of a plane are together at most `255 * 127 * 65,536 < 2^31`.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn avx512<const N: usize>(query: &[Planes], records: [&[u8]; N]) -> [i64; N] {
    let mut len = query.len();
    let mut whole: [&[[u8; 64]]; N] = [&[]; N];
    for r in 0..N {
        whole[r] = records[r].as_chunks().0;
        len = len.min(whole[r].len());
    }
    // Said once, so that the loop need not check.
    for record in &mut whole {
        *record = &record[..len];
    }
    let last = query.get(len);
    let query = &query[..len];
    let mut high = [_mm512_setzero_si512(); N];
    let mut low = [_mm512_setzero_si512(); N];
    for i in 0..len {
        let (query_high, query_low) = (load(&query[i].high), load(&query[i].low));
        for r in 0..N {
            let codes = load(&whole[r][i]);
            high[r] = _mm512_dpbusd_epi32(high[r], codes, query_high);
            low[r] = _mm512_dpbusd_epi32(low[r], codes, query_low);
        }
    }
    // Half a line is left, or nothing.
    if let Some(last) = last {
        let (query_high, query_low) = (load(&last.high), load(&last.low));
        for r in 0..N {
            if let Some(codes) = records[r].get(64 * len..).and_then(|rest| rest.first_chunk::<32>()) {
                let codes = load_half(codes);
                high[r] = _mm512_dpbusd_epi32(high[r], codes, query_high);
                low[r] = _mm512_dpbusd_epi32(low[r], codes, query_low);
            }
        }
    }
    let (high, low) = (lane_sums(&high), lane_sums(&low));
    let mut totals = [0; N];
    for r in 0..N {
        totals[r] = 128 * i64::from(high[r]) + i64::from(low[r]);
    }
    totals
}

/// The sum of each vector's lanes; of four vectors at a time.
#[inline]
#[target_feature(enable = "avx512f")]
fn lane_sums<const N: usize>(sums: &[__m512i; N]) -> [i32; N] {
    let mut totals = [0; N];
    let (fours, rest) = sums.as_chunks::<4>();
    let (total_fours, total_rest) = totals.as_chunks_mut::<4>();
    for (&[a, b, c, d], totals) in fours.iter().zip(total_fours) {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // In each quarter, a sum of every vector.
        let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
        let quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        // SAFETY: the array takes 16 bytes; the store needs no alignment.
        unsafe { _mm_storeu_si128(totals.as_mut_ptr().cast(), quarter) }
    }
    for (&sum, total) in rest.iter().zip(total_rest) {
        *total = _mm512_reduce_add_epi32(sum);
    }
    totals
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference covers 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 32 bytes, and zeros.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_half(bytes: &[u8; 32]) -> __m512i {
    // SAFETY: the reference covers 32 bytes; the load needs no alignment.
    let half = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    _mm512_zextsi256_si512(half)
}

/// 32 integers of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn load_words(Words(words): &Words) -> [__m256i; 2] {
    let (halves, _) = words.as_chunks::<16>();
    [0, 1].map(|half| {
        // SAFETY: the reference covers 16 integers of 2 bytes; the load needs no alignment.
        unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) }
    })
}

/// 32 bytes, widened to 16 bits each.
#[inline]
#[target_feature(enable = "avx2")]
fn load_widened(bytes: &[u8; 32]) -> [__m256i; 2] {
    let (halves, _) = bytes.as_chunks::<16>();
    [0, 1].map(|half| {
        // SAFETY: the reference covers 16 bytes; the load needs no alignment.
        let bytes = unsafe { _mm_loadu_si128(halves[half].as_ptr().cast()) };
        _mm256_cvtepu8_epi16(bytes)
    })
}

/// The sum of eight sums, none of them negative.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(sums: __m256i) -> i64 {
    let mut lanes = [0_i32; 8];
    // SAFETY: the array takes 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) }
    lanes.iter().map(|&lane| i64::from(lane)).sum()
}
