//! The kernels of this CPU, chosen once per process.
//!
//! A kernel never reads past the shorter of its slices, so lengths are a matter of meaning, not of
//! memory safety. The several-rows form gives the same bits as the one-row form.

use std::sync::LazyLock;

use crate::distance::ROWS;

/// Scores one row against one query.
#[derive(Clone, Copy)]
pub(super) struct RowKernel<T = f32>(unsafe fn(&[f32], &[f32]) -> T);

/// Scores [`ROWS`] rows against one query.
#[derive(Clone, Copy)]
pub(super) struct RowsKernel<T = f32>(unsafe fn(&[f32], [&[f32]; ROWS]) -> [T; ROWS]);

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    pub l2: RowKernel,
    pub l2_rows: RowsKernel,
    pub dot: RowKernel,
    pub dot_rows: RowsKernel,
    /// Dot product with the query, and with itself.
    pub cosine: RowKernel<(f32, f32)>,
    pub cosine_rows: RowsKernel<(f32, f32)>,
}

// The only unsafe act here is to call a function that needs certain CPU features; going through
// function pointers saves asking for them on every call (about 2 ns, at 5 to 60 ns per distance).
#[allow(unsafe_code)]
mod call {
    use crate::distance::{ROWS, RowKernel, RowsKernel};

    impl<T> RowKernel<T> {
        #[inline(always)]
        pub(crate) fn call(self, query: &[f32], row: &[f32]) -> T {
            // SAFETY: a kernel is wrapped only by `detect`, after it saw the features it needs.
            unsafe { (self.0)(query, row) }
        }
    }

    impl<T> RowsKernel<T> {
        #[inline(always)]
        pub(crate) fn call(self, query: &[f32], rows: [&[f32]; ROWS]) -> [T; ROWS] {
            // SAFETY: as above.
            unsafe { (self.0)(query, rows) }
        }
    }
}

/// The kernels in use.
pub(super) fn kernels() -> &'static Kernels {
    static KERNELS: LazyLock<Kernels> = LazyLock::new(detect);
    &KERNELS
}

fn detect() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::distance::x86::{avx2, avx512};
        if is_x86_feature_detected!("avx512f") {
            return Kernels {
                l2: RowKernel(avx512::l2),
                l2_rows: RowsKernel(avx512::l2_rows),
                dot: RowKernel(avx512::dot),
                dot_rows: RowsKernel(avx512::dot_rows),
                cosine: RowKernel(avx512::cosine),
                cosine_rows: RowsKernel(avx512::cosine_rows),
            };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Kernels {
                l2: RowKernel(avx2::l2),
                l2_rows: RowsKernel(avx2::l2_rows),
                dot: RowKernel(avx2::dot),
                dot_rows: RowsKernel(avx2::dot_rows),
                cosine: RowKernel(avx2::cosine),
                cosine_rows: RowsKernel(avx2::cosine_rows),
            };
        }
    }
    LANCE
}

/// lance-linalg's kernels: the baseline on every other CPU.
const LANCE: Kernels = Kernels {
    l2: RowKernel(lance::l2),
    l2_rows: RowsKernel(|query, rows| rows.map(|row| lance::l2(query, row))),
    dot: RowKernel(lance::dot),
    dot_rows: RowsKernel(|query, rows| rows.map(|row| lance::dot(query, row))),
    cosine: RowKernel(lance::cosine),
    cosine_rows: RowsKernel(|query, rows| rows.map(|row| lance::cosine(query, row))),
};

mod lance {
    use lance_linalg::distance::{dot_f32, l2_f32};

    fn common<'a>(a: &'a [f32], b: &'a [f32]) -> (&'a [f32], &'a [f32]) {
        let len = a.len().min(b.len());
        (&a[..len], &b[..len])
    }

    pub fn l2(query: &[f32], row: &[f32]) -> f32 {
        let (query, row) = common(query, row);
        l2_f32(query, row)
    }

    pub fn dot(query: &[f32], row: &[f32]) -> f32 {
        let (query, row) = common(query, row);
        dot_f32(query, row)
    }

    pub fn cosine(query: &[f32], row: &[f32]) -> (f32, f32) {
        (dot(query, row), dot_f32(row, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Every kernel this CPU can run, by name.
    fn all() -> Vec<(&'static str, Kernels)> {
        #[allow(unused_mut)]
        let mut all = vec![("chosen", *kernels()), ("lance-linalg", LANCE)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            use super::super::x86::avx2;
            all.push((
                "avx2",
                Kernels {
                    l2: RowKernel(avx2::l2),
                    l2_rows: RowsKernel(avx2::l2_rows),
                    dot: RowKernel(avx2::dot),
                    dot_rows: RowsKernel(avx2::dot_rows),
                    cosine: RowKernel(avx2::cosine),
                    cosine_rows: RowsKernel(avx2::cosine_rows),
                },
            ));
        }
        all
    }

    #[test]
    fn kernels_agree_with_lance_linalg_on_every_length_and_alignment() {
        let a = values(2048 + 16, 1);
        let b = values((2048 + 16) * ROWS, 2);
        for (name, kernels) in all() {
            for len in 1..=2048 {
                let shift = len % 16;
                let query = &a[shift..shift + len];
                let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &b[r * 2064 + (shift * r) % 16..][..len]);
                let (l2, dot) = (kernels.l2_rows.call(query, rows), kernels.dot_rows.call(query, rows));
                let cosine = kernels.cosine_rows.call(query, rows);
                for r in 0..ROWS {
                    // The error of a sum is relative to the sum of the magnitudes.
                    let scale: f32 = query.iter().zip(rows[r]).map(|(x, y)| (x * y).abs()).sum();
                    let close = |x: f32, y: f32, scale: f32| (x - y).abs() <= 1e-5 * scale.max(1e-3);
                    assert!(close(l2[r], lance::l2(query, rows[r]), l2[r]), "{name} l2 {len}");
                    assert!(close(dot[r], lance::dot(query, rows[r]), scale), "{name} dot {len}");
                    assert_eq!(l2[r].to_bits(), kernels.l2.call(query, rows[r]).to_bits(), "{name} {len}");
                    assert_eq!(dot[r].to_bits(), kernels.dot.call(query, rows[r]).to_bits(), "{name} {len}");
                    assert_eq!(dot[r].to_bits(), kernels.dot.call(rows[r], query).to_bits(), "{name} {len}");
                    assert_eq!(l2[r].to_bits(), kernels.l2.call(rows[r], query).to_bits(), "{name} {len}");
                    let (dot, norm) = cosine[r];
                    assert!(close(dot, lance::dot(query, rows[r]), scale), "{name} cosine {len}");
                    assert!(close(norm, lance::dot(rows[r], rows[r]), norm), "{name} norm {len}");
                    assert_eq!((dot, norm), kernels.cosine.call(query, rows[r]), "{name} {len}");
                    assert_eq!(dot, kernels.cosine.call(rows[r], query).0, "{name} {len}");
                    assert_eq!(norm, kernels.cosine.call(rows[r], rows[r]).0, "{name} {len}");
                }
            }
        }
    }

    #[test]
    fn slices_of_unequal_length_are_read_to_the_shortest_end() {
        let a = values(100, 3);
        for (name, kernels) in all() {
            for (x, y) in [(0, 100), (100, 0), (17, 100), (100, 65), (64, 63)] {
                let short = x.min(y);
                let expected = kernels.l2.call(&a[..short], &a[1..=short]);
                assert_eq!(kernels.l2.call(&a[..x], &a[1..][..y.min(99)]), expected, "{name}");
                // The fallback reads each row to its own end; nothing is read past any.
                let rows = kernels.dot_rows.call(&a[..x], [&a[..y], &a, &a[..3], &[]]);
                assert_eq!(rows[3], 0.0, "{name}");
            }
        }
    }
}
