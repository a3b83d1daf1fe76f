//! From sums to distances: rows are scored in one call of a function compiled for the instruction set.

use super::DistanceType;
use super::bytes::Byte;
use super::element::Element;
#[cfg(target_arch = "x86_64")]
use super::isa::{Avx2, Avx512};
use super::isa::{Isa, Kernel};
use super::sums::{DOT, L1, L2, Loops, ROWS, Sum, Sums};

/// A query in the elements that it is scored in.
pub(super) struct Query<'a, Q> {
    pub vector: &'a [Q],
    /// Its product with itself; under cosine only.
    pub square: f32,
    /// It as it was given.
    pub given: &'a [f32],
}

// By hand, because `Q` need not be `Copy` for it.
impl<Q> Clone for Query<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q> Copy for Query<'_, Q> {}

/// Distances of a query to rows, under any metric but Hamming.
pub(super) struct Score<'a, Q, T> {
    pub query: Query<'a, Q>,
    pub distance_type: DistanceType,
    pub rows: &'a [&'a [T]],
    pub out: &'a mut [f32],
}

/// A query of these elements and rows of those are scored by what makes their sums on each instruction set.
macro_rules! kernels {
    ($($query:ty, $row:ident;)*) => {$(
        impl<T: $row> Kernel for Score<'_, $query, T> {
            type Output = ();

            #[inline(always)]
            fn portable(self) {
                self.with(Loops);
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
    )*};
}

kernels! {
    f32, Element;
    i16, Byte;
}

impl<Q, T: Element> Score<'_, Q, T> {
    #[inline(always)]
    fn with<S: Sums<Q, T>>(self, sums: S) {
        match self.distance_type {
            DistanceType::L2 => self.each::<Plain<L2>, S>(sums),
            DistanceType::L1 => self.each::<Plain<L1>, S>(sums),
            DistanceType::Dot => self.each::<Dot, S>(sums),
            DistanceType::Cosine => self.each::<Cosine, S>(sums),
            DistanceType::Hamming => {}
        }
    }

    #[inline(always)]
    fn each<M: Metric, S: Sums<Q, T>>(self, sums: S) {
        let Self { query, rows, out, .. } = self;
        let mut at = 0;
        if S::GROUPS {
            let (groups, _) = rows.as_chunks::<ROWS>();
            for (&group, out) in groups.iter().zip(out.as_chunks_mut::<ROWS>().0) {
                *out = if is_as_long(group, query.vector.len()) {
                    M::rows(sums, query, group)
                } else {
                    let [a, b, c, d] = group;
                    let one = M::one::<Q, T, S>;
                    [one(sums, query, a), one(sums, query, b), one(sums, query, c), one(sums, query, d)]
                };
                at += ROWS;
            }
        }
        let (rows, out) = (rows.get(at..).unwrap_or(&[]), out.get_mut(at..).unwrap_or(&mut []));
        for (row, out) in rows.iter().zip(out) {
            *out = M::one(sums, query, row);
        }
    }
}

/// Whether no row ends before the query does. Rows that are scored together end together.
#[inline(always)]
fn is_as_long<T>(rows: [&[T]; ROWS], len: usize) -> bool {
    let [a, b, c, d] = rows;
    len <= a.len().min(b.len()).min(c.len()).min(d.len())
}

/// What a distance is made of. All methods are `#[inline(always)]`, as a [`Kernel`]'s are.
trait Metric {
    fn one<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, row: &[T]) -> f32;

    fn rows<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, rows: [&[T]; ROWS]) -> [f32; ROWS];
}

/// A sum is the distance.
struct Plain<const OP: u8>;

impl<const OP: u8> Metric for Plain<OP> {
    #[inline(always)]
    fn one<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, row: &[T]) -> f32 {
        sums.one::<OP>(query.vector, row).rounded()
    }

    #[inline(always)]
    fn rows<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, rows: [&[T]; ROWS]) -> [f32; ROWS] {
        let [a, b, c, d] = sums.rows::<OP>(query.vector, rows);
        [a.rounded(), b.rounded(), c.rounded(), d.rounded()]
    }
}

struct Dot;

impl Metric for Dot {
    #[inline(always)]
    fn one<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, row: &[T]) -> f32 {
        1.0 - sums.one::<DOT>(query.vector, row).rounded()
    }

    #[inline(always)]
    fn rows<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, rows: [&[T]; ROWS]) -> [f32; ROWS] {
        let [a, b, c, d] = sums.rows::<DOT>(query.vector, rows);
        [1.0 - a.rounded(), 1.0 - b.rounded(), 1.0 - c.rounded(), 1.0 - d.rounded()]
    }
}

struct Cosine;

impl Metric for Cosine {
    #[inline(always)]
    fn one<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, row: &[T]) -> f32 {
        let (product, square) = sums.one_with_square(query.vector, row);
        cosine(query, product.rounded(), square.rounded(), row)
    }

    #[inline(always)]
    fn rows<Q, T: Element, S: Sums<Q, T>>(sums: S, query: Query<'_, Q>, rows: [&[T]; ROWS]) -> [f32; ROWS] {
        let sums = sums.rows_with_squares(query.vector, rows);
        let mut out = [0.0; ROWS];
        for r in 0..ROWS {
            out[r] = cosine(query, sums[r].0.rounded(), sums[r].1.rounded(), rows[r]);
        }
        out
    }
}

/// The distance, of a row's products with the query and with itself.
#[inline(always)]
fn cosine<Q, T: Element>(query: Query<'_, Q>, product: f32, square: f32, row: &[T]) -> f32 {
    const SAFE: std::ops::Range<f32> = 1.0e-30..1.0e30;
    if SAFE.contains(&square) && SAFE.contains(&query.square) {
        // The product of the norms first: the same bits whichever vector is the query.
        1.0 - product / (query.square.sqrt() * square.sqrt())
    } else {
        wide_cosine(query.given, row)
    }
}

/// Cosine distance of vectors so long or so short that their products may leave the range of `f32`.
#[cold]
fn wide_cosine<T: Element>(a: &[f32], b: &[T]) -> f32 {
    let (mut dot, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (&x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y.widen()));
        dot += x * y;
        square_a += x * x;
        square_b += y * y;
    }
    (1.0 - dot / (square_a.sqrt() * square_b.sqrt())) as f32
}

/// The product of a query with itself, for cosine: the sum that a row of the same elements has.
pub(super) fn square(isa: Isa, vector: &[f32]) -> f32 {
    isa.run(Square(vector))
}

struct Square<'a>(&'a [f32]);

impl Kernel for Square<'_> {
    type Output = f32;

    #[inline(always)]
    fn portable(self) -> f32 {
        Loops.one::<DOT>(self.0, self.0)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx2(self, avx2: Avx2) -> f32 {
        avx2.one::<DOT>(self.0, self.0)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx512(self, avx512: Avx512) -> f32 {
        avx512.one::<DOT>(self.0, self.0)
    }
}
