//! Dot products of a query's integers with the codes of rows: the same integers on every instruction set.
//!
//! A product is at most `255 * 16,383`, about 2^22: sums of no more than 512 of them fit an `i32`, and sums of all
//! fit an `i64`.

use super::arena::View;
use super::query::{CodeQuery, Integers, Words};
use super::record::Header;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::distance::isa::Kernel;
#[cfg(target_arch = "x86_64")]
use crate::distance::isa::{Avx2, Avx512};

/// Rows that are scored at a time.
const ROWS: usize = 4;
/// Lines of [`Words`] whose products are summed in `i32`. With 16 sums a line, each takes 256 products.
pub(super) const LINES: usize = 128;

/// A way to compute dot products.
trait Dots: Copy {
    /// Dot products of the query with the codes of each record.
    fn dots<const N: usize>(self, query: &Integers, records: [&[u8]; N]) -> [i64; N];
}

#[derive(Clone, Copy)]
struct Portable;

impl Dots for Portable {
    #[inline(always)]
    fn dots<const N: usize>(self, query: &Integers, records: [&[u8]; N]) -> [i64; N] {
        let mut totals = [0; N];
        for (total, record) in totals.iter_mut().zip(records) {
            for (words, codes) in query.words.chunks(LINES).zip(record.as_chunks().0.chunks(LINES)) {
                *total += portable_part(words, codes);
            }
        }
        totals
    }
}

/// The sum of up to [`LINES`] lines.
#[inline(always)]
fn portable_part(words: &[Words], codes: &[[u8; 32]]) -> i64 {
    let mut sums = [0_i32; 32];
    for (Words(words), codes) in words.iter().zip(codes) {
        for ((sum, &word), &code) in sums.iter_mut().zip(words).zip(codes) {
            *sum += i32::from(word) * i32::from(code);
        }
    }
    sums.iter().map(|&sum| i64::from(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
impl Dots for Avx2 {
    // Unsafe is only the call of a function that needs features of the CPU.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn dots<const N: usize>(self, query: &Integers, records: [&[u8]; N]) -> [i64; N] {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { x86::avx2(&query.words, records) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Dots for Avx512 {
    // Unsafe is only the call of a function that needs features of the CPU.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn dots<const N: usize>(self, query: &Integers, records: [&[u8]; N]) -> [i64; N] {
        // SAFETY: `self` proves that the CPU has AVX-512 F and VNNI.
        unsafe { x86::avx512(&query.planes, records) }
    }
}

/// Scores ids: `finish` makes a score of a record's header and dot product, ids without a record get `absent`.
pub(super) struct Score<'a, T, F> {
    pub records: View<'a>,
    pub query: &'a CodeQuery,
    pub ids: &'a [u32],
    pub out: &'a mut [T],
    pub absent: T,
    pub finish: F,
}

impl<T: Copy, F: Fn(Header, i64) -> T> Score<'_, T, F> {
    #[inline(always)]
    fn with(self, dots: impl Dots) {
        let Self { records, query, ids, out, absent, finish } = self;
        let query = &query.integers;
        let len = ids.len().min(out.len());
        for (ids, out) in ids[..len].chunks(ROWS).zip(out[..len].chunks_mut(ROWS)) {
            // A group that is not full is filled up with its first: four rows cost little more than one.
            let first = ids[0];
            let record = |i: usize| records.record(ids.get(i).copied().unwrap_or(first));
            if let (Some(a), Some(b), Some(c), Some(d)) = (record(0), record(1), record(2), record(3)) {
                let records = [a, b, c, d];
                let products = dots.dots(query, records);
                for ((out, record), product) in out.iter_mut().zip(records).zip(products) {
                    *out = finish(Header::read(record), product);
                }
            } else {
                for (&id, out) in ids.iter().zip(out) {
                    *out = records.record(id).map_or(absent, |record| {
                        let [dot] = dots.dots(query, [record]);
                        finish(Header::read(record), dot)
                    });
                }
            }
        }
    }
}

impl<T: Copy, F: Fn(Header, i64) -> T> Kernel for Score<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn portable(self) {
        self.with(Portable);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx2(self, avx2: Avx2) {
        self.with(avx2);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx512(self, avx512: Avx512) {
        self.with(avx512);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::HEADER;
    use super::*;
    use crate::distance::isa::Isa;

    /// All forms of the dot products of one call.
    struct All<'a, const N: usize>(&'a Integers, [&'a [u8]; N]);

    impl<const N: usize> Kernel for All<'_, N> {
        type Output = [i64; N];

        #[inline(always)]
        fn portable(self) -> [i64; N] {
            Portable.dots(self.0, self.1)
        }

        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        fn avx2(self, avx2: Avx2) -> [i64; N] {
            avx2.dots(self.0, self.1)
        }

        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        fn avx512(self, avx512: Avx512) -> [i64; N] {
            avx512.dots(self.0, self.1)
        }
    }

    /// Compares all instruction sets with the sum itself.
    fn check(dim: usize, code: impl Fn(usize, usize) -> u8, integer: impl Fn(usize) -> u16) {
        let len = (HEADER + dim).next_multiple_of(32);
        let mut integers = vec![0; len];
        (0..dim).for_each(|i| integers[HEADER + i] = integer(i) as i16);
        let query = Integers::new(&integers);
        // Headers are not zero: they must not count.
        let records: Vec<Vec<u8>> = (0..ROWS)
            .map(|row| {
                let mut record = vec![0; len];
                record[..HEADER].fill(0xa5);
                (0..dim).for_each(|i| record[HEADER + i] = code(row, i));
                record
            })
            .collect();
        let expected: Vec<i64> = (0..ROWS)
            .map(|row| (0..dim).map(|i| i64::from(code(row, i)) * i64::from(integer(i))).sum())
            .collect();
        let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &records[row][..]);
        for isa in Isa::available() {
            assert_eq!(isa.run(All(&query, rows))[..], expected, "{isa:?}, {dim} dimensions");
            for row in 0..ROWS {
                assert_eq!(isa.run(All(&query, [rows[row]])), [expected[row]], "{isa:?}, {dim} dimensions");
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_sum_itself() {
        let noise = |x: usize| crate::util::hash::mix(x as u64);
        let dims = (1..=300).chain([511, 784, 1024, 1536, 4075, 4076, 4077, 4096, 8171, 8192, 10_007]);
        for dim in dims {
            check(dim, |row, i| noise(row * 100_000 + i) as u8, |i| (noise(i) >> 20) as u16 & 0x3fff);
        }
    }

    #[test]
    fn the_largest_codes_and_integers_overflow_nothing() {
        for dim in [4096, 16_384, 65_535, 65_536] {
            check(dim, |_, _| u8::MAX, |_| 0x3fff);
            check(dim, |_, _| u8::MAX, |_| 0x3f80);
            check(dim, |_, _| u8::MAX, |_| 0x007f);
        }
    }
}
