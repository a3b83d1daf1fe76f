//! Bits that differ.

use super::element::Element;
use super::isa::Kernel;

/// A query as [`DistanceType::Hamming`](super::DistanceType::Hamming) takes it.
pub(super) fn bytes(vector: &[f32]) -> Box<[u8]> {
    vector.iter().map(|x| x.byte()).collect()
}

/// Hamming distances of a query to rows.
pub(super) struct Hamming<'a, T> {
    /// The query.
    pub bytes: &'a [u8],
    pub rows: &'a [&'a [T]],
    pub out: &'a mut [f32],
}

impl<T: Element> Kernel for Hamming<'_, T> {
    type Output = ();

    #[inline(always)]
    fn portable(self) {
        for (row, out) in self.rows.iter().zip(self.out) {
            *out = differing(self.bytes, row) as f32;
        }
    }
}

#[inline(always)]
fn differing<T: Element>(query: &[u8], row: &[T]) -> u64 {
    // A count of bits is the same in words of 64 as in bytes; some CPUs have an instruction for eight of these.
    const BYTES: usize = 64;
    let len = query.len().min(row.len());
    let (queries, query_tail) = query[..len].as_chunks::<BYTES>();
    let (rows, row_tail) = row[..len].as_chunks::<BYTES>();
    let mut sum = 0_u64;
    for (query, row) in queries.iter().zip(rows) {
        let mut bytes = [0; BYTES];
        for i in 0..BYTES {
            bytes[i] = query[i] ^ row[i].byte();
        }
        for &word in bytes.as_chunks::<8>().0 {
            sum = sum.wrapping_add(u64::from(u64::from_ne_bytes(word).count_ones()));
        }
    }
    for (x, y) in query_tail.iter().zip(row_tail) {
        sum = sum.wrapping_add(u64::from((x ^ y.byte()).count_ones()));
    }
    sum
}
