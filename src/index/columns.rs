//! Vectors by columns, 64 at a time, in which a scan sees from some of their elements that rows are too far: PDX
//! (Kuffo, Krippner and Boncz, arXiv 2503.04422).
//!
//! ```text
//! rows 0..64     | element 0 of all 64 | element 1 of all 64 | ... |     256 bytes each
//! rows 64..128   | element 0 of all 64 | element 1 of all 64 | ... |
//! ```
//! One column is subtracted from one element of the query, squared and added to 64 sums, without a sum across a
//! register. A sum of squares only grows, so a row whose sum is beyond the distance of the `k`-th best is none of the
//! `k` best, whatever the rest of it is. After each [`ZONE`] columns the rows that are left are counted; when they are
//! few, or the columns at their end, the rows themselves are scored, where they are. So distances, and with them the
//! order of ties, are those of any other scan to the bit, and rounding is a matter of the bounds alone: these are wide
//! enough for every error that either sum can have.
//!
//! Zones in which the query is far from the mean of the rows, or in which these differ most, come first (as PDX-BOND
//! has it); the columns of a zone are read in the order in which they lie.
//!
//! One kernel is enough for three metrics. For unit vectors the cosine distance is half of the squared distance, so
//! rows under cosine are laid out with norm 1. The squared distance is `|q|^2 + |x|^2 - 2 q x`, so with the squared norm
//! of each row, a bound of a dot product is one of a squared distance.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};

use rayon::prelude::*;

use crate::distance::DistanceType;
use crate::index::generation::View;
use crate::search::scan::{GROUP, Sieve, Sieves};
use crate::util::chunked::Chunked;
use crate::vectors::{ElementType, VectorSource};

/// Rows of a block.
const LANES: usize = GROUP;
/// Columns between two looks at the sums.
const ZONE: usize = 8;
/// What it costs to score a row by itself, beside its elements: as much as so many of them.
const ROW: usize = 32;
/// Elements of columns that are read rather than any row is scored, at least.
const AT_LEAST: usize = ZONE * LANES;
/// The same of each column that is left.
const PER_COLUMN: usize = 4;
/// Rows by which the order of zones is decided, at most.
const SAMPLE: usize = 1024;
/// With more elements, sums may be off by too much for the bounds.
const MAX_DIM: usize = 1 << 20;
/// Squared norms below this leave no product out of range.
const MAX_SQUARE: f64 = 1.0e36;

/// One element of 64 rows.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Column([f32; LANES]);

/// 64 rows.
struct Block {
    columns: Box<[Column]>,
    /// Their squared norms, where they are asked for: infinite if too large to be used.
    squares: Option<Box<Column>>,
}

/// The first rows of a source, by columns.
pub(crate) struct Columns {
    dim: usize,
    distance_type: DistanceType,
    /// Mean and variance of each element.
    spread: Box<[(f64, f64)]>,
    blocks: Chunked<OnceLock<Block>>,
    /// Blocks below this are there.
    made: AtomicU32,
}

impl Columns {
    /// Whether these rows can be laid out: a block of them at least, of elements and under a metric that this is for.
    pub fn are_for(rows: &View<'_>) -> bool {
        let metrics = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];
        rows.len() >= LANES
            && rows.element_type() == ElementType::Float32
            && metrics.contains(&rows.distance_type())
            && rows.dim() <= MAX_DIM
    }

    /// No rows yet. `source` is a sample of what will come.
    pub fn new(source: &impl VectorSource) -> Self {
        let (dim, distance_type, len) = (source.dim(), source.distance_type(), source.len());
        let rows = len.min(SAMPLE);
        let mut sums = vec![(0.0, 0.0); dim];
        for row in 0..rows {
            let vector = source.vector((row * len / rows) as u32);
            let scale = scale(distance_type, square(vector));
            for ((sum, squares), &x) in sums.iter_mut().zip(vector) {
                let x = f64::from(x) * scale;
                *sum += x;
                *squares += x * x;
            }
        }
        let rows = rows.max(1) as f64;
        let spread = |(sum, squares): (f64, f64)| {
            let mean = sum / rows;
            (mean, (squares / rows - mean * mean).max(0.0))
        };
        let spread = sums.into_iter().map(spread).collect();
        Self { dim, distance_type, spread, blocks: Chunked::new(), made: AtomicU32::new(0) }
    }

    /// Lays out the rows of a source that are not yet, but for the last few if they do not fill a block. Returns how
    /// many are. On rayon's current pool.
    pub fn extend(&self, source: &impl VectorSource) -> usize {
        // No lock: a thread that waits for its pool may be given a job of the pool that wants the same one. If two
        // threads make a block, both make the same.
        let (made, end) = (self.made.load(Ordering::Relaxed), (source.len() / LANES) as u32);
        (made..end).into_par_iter().for_each(|number| {
            let _ = self.blocks.get_or_grow(number).set(self.block(source, number * LANES as u32));
        });
        self.made.fetch_max(end, Ordering::Relaxed).max(end) as usize * LANES
    }

    fn block(&self, source: &impl VectorSource, first: u32) -> Block {
        let mut columns = vec![Column([0.0; LANES]); self.dim].into_boxed_slice();
        let mut squares = (self.distance_type == DistanceType::Dot).then(|| Box::new(Column([0.0; LANES])));
        for (lane, id) in (first..).take(LANES).enumerate() {
            let vector = source.vector(id);
            let square = square(vector);
            let scale = scale(self.distance_type, square);
            for (column, &x) in columns.iter_mut().zip(vector) {
                column.0[lane] = (f64::from(x) * scale) as f32;
            }
            if let Some(squares) = &mut squares {
                squares.0[lane] = if square < MAX_SQUARE { square as f32 } else { f32::INFINITY };
            }
        }
        Block { columns, squares }
    }

    /// The sieve of a query; none if it has other elements, or too large ones.
    pub fn sieve(&self, query: &[f32]) -> Option<ColumnSieve<'_>> {
        let square = square(query);
        if query.len() != self.dim || (self.distance_type == DistanceType::Dot && square >= MAX_SQUARE) {
            return None;
        }
        let scale = scale(self.distance_type, square);
        let query: Vec<f32> = query.iter().map(|&x| (f64::from(x) * scale) as f32).collect();
        // What each zone adds to the sum of a row on average.
        let mut zones: Vec<(f64, usize)> = (0..self.dim)
            .step_by(ZONE)
            .map(|start| {
                let elements = query.iter().zip(self.spread.iter()).skip(start).take(ZONE);
                let adds = |(&x, &(mean, variance)): (&f32, &(f64, f64))| {
                    let off = f64::from(x) - mean;
                    off * off + variance
                };
                (elements.map(adds).sum(), start)
            })
            .collect();
        zones.sort_by(|a, b| b.0.total_cmp(&a.0));
        let zones = zones.into_iter().map(|(_, start)| start).collect();
        Some(ColumnSieve { columns: self, query, square, zones, kernel: *KERNEL })
    }

    pub fn resident_bytes(&self) -> usize {
        let made = self.made.load(Ordering::Relaxed) as usize;
        let squares = usize::from(self.distance_type == DistanceType::Dot);
        let blocks = made * (self.dim + squares) * size_of::<Column>();
        size_of::<Self>() + size_of_val::<[_]>(&self.spread) + self.blocks.resident_bytes() + blocks
    }
}

impl Sieves for Columns {
    fn rows(&self) -> usize {
        self.made.load(Ordering::Relaxed) as usize * LANES
    }

    fn of_query(&self, query: &[f32]) -> Option<Box<dyn Sieve + '_>> {
        Some(Box::new(self.sieve(query)?))
    }
}

fn square(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// What a vector of that squared norm is multiplied with.
fn scale(distance_type: DistanceType, square: f64) -> f64 {
    if distance_type == DistanceType::Cosine { 1.0 / square.sqrt() } else { 1.0 }
}

/// One query on its way through the columns.
pub(crate) struct ColumnSieve<'a> {
    columns: &'a Columns,
    /// With norm 1 under cosine.
    query: Vec<f32>,
    /// The query's squared norm, as it was.
    square: f64,
    /// The first columns of the zones, in the order in which they are read.
    zones: Vec<usize>,
    kernel: Kernel,
}

impl ColumnSieve<'_> {
    /// The sum of squares up to which a row may be within `bound`, as `a + b s` for a row of squared norm `s`. None if
    /// every row may.
    ///
    /// Let `u` be half of [`f32::EPSILON`], `n` the elements and `e` the error of a sum of `n` products, relative to
    /// the sum of their magnitudes: at most `1.12 (n + 3) u` with no more than [`MAX_DIM`] elements. Below, `slack` is
    /// `4 (n + 32) u`, more than three times that, which leaves room for the rounding of the bounds themselves. What
    /// underflows is less than the smallest normal number.
    fn limit(&self, bound: f32) -> Option<(f32, f32)> {
        let bound = f64::from(bound);
        let epsilon = f64::from(f32::EPSILON);
        let slack = 2.0 * (self.query.len() + 32) as f64 * epsilon;
        let (level, slope) = match self.columns.distance_type {
            // Two sums of the same squares are within `1 + e` and `1 - e` of the true one.
            DistanceType::L2 => (bound * (1.0 + slack), 0.0),
            // The distance is off by `2 e`, and each of the vectors of norm 1 by `u`.
            DistanceType::Cosine => {
                let chord = (2.0 * (bound + slack)).max(0.0).sqrt() + 2.0 * epsilon;
                (chord * chord * (1.0 + slack), 0.0)
            }
            // The product is off by `e |q| |x|`, the sum of squares by `e |q - x|^2`: together by no more than
            // `3 e (|q|^2 + |x|^2)`.
            DistanceType::Dot => {
                let rounded = 4.0 * epsilon * (self.square + 2.0 + 2.0 * bound.abs());
                let level = self.square * (1.0 + slack) - 2.0 * (1.0 - bound) + rounded;
                (level, 1.0 + slack + 4.0 * epsilon)
            }
            DistanceType::L1 | DistanceType::Hamming => return None,
        };
        let level = (level + f64::from(f32::MIN_POSITIVE)) as f32;
        level.is_finite().then_some((level, slope as f32))
    }
}

// Going through a function pointer saves asking for CPU features on every call.
#[allow(unsafe_code)]
impl Sieve for ColumnSieve<'_> {
    fn sift(&self, first: u32, admitted: u64, bound: f32) -> u64 {
        let block = self.columns.blocks.get(first / LANES as u32).and_then(OnceLock::get);
        let (Some(block), Some((level, slope))) = (block, self.limit(bound)) else { return admitted };
        let bounds = match &block.squares {
            Some(squares) => squares.0.map(|square| level + slope * square),
            None => [level; LANES],
        };
        // SAFETY: the kernel is what `detect` returned, after it saw the features that are needed.
        unsafe { (self.kernel)(&block.columns, &self.query, &self.zones, admitted, &bounds) }
    }
}

/// The rows of a block, of those `admitted`, whose sums are within their bounds as far as was looked.
type Kernel = unsafe fn(&[Column], &[f32], &[usize], u64, &[f32; LANES]) -> u64;

static KERNEL: LazyLock<Kernel> = LazyLock::new(detect);

/// Portable; compiled once for each instruction set, and vectorized by the compiler.
#[inline(always)]
fn sift<const FMA: bool>(
    columns: &[Column],
    query: &[f32],
    zones: &[usize],
    admitted: u64,
    bounds: &[f32; LANES],
) -> u64 {
    let mut sums = [f32::INFINITY; LANES];
    for (lane, sum) in sums.iter_mut().enumerate() {
        if admitted >> lane & 1 == 1 {
            *sum = 0.0;
        }
    }
    let (mut left, mut rows) = (query.len(), admitted.count_ones());
    for &start in zones {
        if rows as usize * (query.len() + ROW) <= AT_LEAST.max(PER_COLUMN * left) {
            break;
        }
        let end = (start + ZONE).min(query.len());
        for (&x, column) in query[start..end].iter().zip(&columns[start..end]) {
            for (sum, &y) in sums.iter_mut().zip(&column.0) {
                let difference = x - y;
                *sum =
                    if FMA { difference.mul_add(difference, *sum) } else { *sum + difference * difference };
            }
        }
        left -= end - start;
        rows = sums.iter().zip(bounds).map(|(sum, bound)| u32::from(sum <= bound)).sum();
    }
    let within = sums.iter().zip(bounds).enumerate();
    admitted & within.fold(0_u64, |rows, (lane, (sum, bound))| rows | u64::from(sum <= bound) << lane)
}

/// The kernel compiled for some features.
macro_rules! compiled {
    ($name:ident, $fma:literal $(, $features:literal)?) => {
        // With features, a function may be called only where the CPU has them.
        #[allow(unsafe_code)]
        $(#[target_feature(enable = $features)])?
        unsafe fn $name(
            columns: &[Column],
            query: &[f32],
            zones: &[usize],
            admitted: u64,
            bounds: &[f32; LANES],
        ) -> u64 {
            sift::<$fma>(columns, query, zones, admitted, bounds)
        }
    };
}

compiled!(portable, false);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, true, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, true, "avx512f,avx512bw,avx512vl,avx2,fma");

fn detect() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        if has_avx2 && has_avx512 {
            return avx512;
        }
        if has_avx2 {
            return avx2;
        }
    }
    portable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::PreparedQuery;

    /// Halves around zero, none of them zero, times `size`: many ties.
    struct Halves {
        dim: usize,
        distance_type: DistanceType,
        values: Vec<f32>,
    }

    impl Halves {
        fn new(rows: usize, dim: usize, distance_type: DistanceType, size: f32) -> Self {
            let mut state = 7_u64;
            let values = (0..rows * dim).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 61) as f32 - 3.5) * size
            });
            Self { dim, distance_type, values: values.collect() }
        }
    }

    impl VectorSource for Halves {
        fn len(&self) -> usize {
            self.values.len() / self.dim
        }

        fn dim(&self) -> usize {
            self.dim
        }

        fn distance_type(&self) -> DistanceType {
            self.distance_type
        }

        fn row_id(&self, id: u32) -> u64 {
            u64::from(id)
        }

        fn vector(&self, id: u32) -> &[f32] {
            &self.values[id as usize * self.dim..][..self.dim]
        }
    }

    /// The kernels that this CPU can run, by name.
    fn kernels() -> Vec<(&'static str, Kernel)> {
        let mut kernels = vec![("portable", portable as Kernel), ("chosen", *KERNEL)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            kernels.push(("avx2", avx2 as Kernel));
        }
        kernels
    }

    #[test]
    fn no_row_within_a_bound_is_left_out() {
        let metrics = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];
        for distance_type in metrics {
            for (dim, size) in
                [(1, 1.0), (2, 1.0e-3), (7, 1.0), (8, 1.0e17), (9, 1.0), (64, 3.0e-20), (130, 1.0)]
            {
                let source = Halves::new(2 * LANES + 5, dim, distance_type, size);
                let columns = Columns::new(&source);
                assert_eq!(columns.extend(&source), 2 * LANES);
                let (mut kept, mut left_out) = (0, 0);
                for query in 0..source.len() as u32 {
                    let query = source.vector(query);
                    let Some(mut sieve) = columns.sieve(query) else { continue };
                    let distances = PreparedQuery::new(query, distance_type);
                    let distances: Vec<f32> =
                        (0..2 * LANES as u32).map(|id| distances.distance(source.vector(id))).collect();
                    for (name, kernel) in kernels() {
                        sieve.kernel = kernel;
                        for (number, distances) in distances.chunks_exact(LANES).enumerate() {
                            let admitted =
                                [u64::MAX, 0x5555_5555_5555_5555, 1 << 63, 0][number * 2 % 4 + dim % 2];
                            for &bound in distances.iter().chain(&[f32::INFINITY, -1.0e30, 0.0]) {
                                let rows = sieve.sift((number * LANES) as u32, admitted, bound);
                                assert_eq!(rows & !admitted, 0, "{name}: not admitted");
                                for (lane, &distance) in distances.iter().enumerate() {
                                    let may = admitted >> lane & 1 == 1 && distance <= bound;
                                    assert!(
                                        !may || rows >> lane & 1 == 1,
                                        "{name}, {distance_type}, {dim} x {size}: no row {lane} at {distance}, \
                                         within {bound}"
                                    );
                                }
                                kept += rows.count_ones();
                                left_out += (admitted & !rows).count_ones();
                            }
                        }
                    }
                }
                println!("{distance_type}, {dim} x {size}: {kept} kept, {left_out} left out");
                assert!(left_out > 0, "{distance_type}, {dim} x {size}: nothing is left out");
            }
        }
    }

    #[test]
    fn rows_are_laid_out_once() {
        let source = Halves::new(5 * LANES - 1, 3, DistanceType::L2, 1.0);
        let columns = Columns::new(&source);
        assert_eq!((columns.extend(&source), columns.extend(&source)), (4 * LANES, 4 * LANES));
        let shorter = Halves::new(LANES, 3, DistanceType::L2, 1.0);
        assert_eq!(columns.extend(&shorter), 4 * LANES);
        let block = columns.blocks.get(3).and_then(OnceLock::get).unwrap();
        for (element, column) in block.columns.iter().enumerate() {
            for (lane, &x) in column.0.iter().enumerate() {
                assert_eq!(x, source.vector((3 * LANES + lane) as u32)[element]);
            }
        }
    }
}
