//! Laws of codes: what holds for every row and query, of many kinds.

mod records;
mod scores;

use super::*;
use crate::util::hash::mix;

const METRICS: [DistanceType; 3] = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];

/// Seeded random numbers.
struct Rng(u64);

impl Rng {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Gaussian,
    Uniform,
    Whole,
    /// Noise of 1 around a million.
    Offset,
    /// One element is a thousand times as large as the others.
    Outlier,
    /// Mostly zeros.
    Sparse,
    Constant,
    /// Subnormal numbers.
    Denormal,
    Tiny,
    /// Up to the largest `f32`, of both signs.
    Edge,
    /// Magnitudes from 10^-20 to 10^20.
    Scales,
    /// A million times as large as a Gaussian.
    Far,
    /// Two values.
    Binary,
}

const KINDS: [Kind; 13] = [
    Kind::Gaussian,
    Kind::Uniform,
    Kind::Whole,
    Kind::Offset,
    Kind::Outlier,
    Kind::Sparse,
    Kind::Constant,
    Kind::Denormal,
    Kind::Tiny,
    Kind::Edge,
    Kind::Scales,
    Kind::Far,
    Kind::Binary,
];

fn vector(kind: Kind, dim: usize, rng: &mut Rng) -> Vec<f32> {
    let constant = rng.gaussian();
    let outlier = rng.word() as usize % dim;
    let element = |i: usize| {
        let x = rng.gaussian();
        match kind {
            Kind::Gaussian => x,
            Kind::Uniform => rng.uniform(),
            Kind::Whole => (rng.uniform() * 256.0).floor() - 20.0,
            Kind::Offset => 1.0e6 + x,
            Kind::Outlier => x * if i == outlier { 1000.0 } else { 1.0 },
            Kind::Sparse => x.max(1.5) - 1.5,
            Kind::Constant => constant,
            Kind::Denormal => x * 1.0e-43,
            Kind::Tiny => x * 1.0e-30,
            Kind::Edge => (2.0 * rng.uniform() - 1.0) * f64::from(f32::MAX),
            Kind::Scales => x * 10.0_f64.powf(40.0 * rng.uniform() - 20.0),
            Kind::Far => x * 1.0e6,
            Kind::Binary => 0.1 + 0.7 * (x > 0.0) as u8 as f64,
        }
    };
    let mut vector: Vec<f32> = (0..dim).map(element).map(|x| x as f32).collect();
    if vector.iter().all(|&x| x == 0.0) {
        vector[0] = f32::from_bits(1);
    }
    vector
}

fn vectors(kind: Kind, dim: usize, count: usize, rng: &mut Rng) -> Vec<Vec<f32>> {
    (0..count).map(|_| vector(kind, dim, rng)).collect()
}

fn codes_of(rows: &[Vec<f32>], distance_type: DistanceType) -> Codes {
    let codes = Codes::new(rows[0].len(), distance_type).unwrap();
    codes.extend(rows.len() as u32, |id| Cow::Borrowed(&rows[id as usize]));
    codes
}

fn estimates(codes: &Codes, query: &CodeQuery) -> Vec<f32> {
    let ids: Vec<u32> = (0..codes.len()).collect();
    let mut out = vec![f32::NAN; ids.len()];
    codes.estimate(query, &ids, &mut out);
    out
}

fn near(codes: &Codes, query: &CodeQuery, bound: f32) -> Vec<bool> {
    let ids: Vec<u32> = (0..codes.len()).collect();
    let mut out = vec![false; ids.len()];
    codes.near(query, &ids, bound, &mut out);
    out
}

/// Dimensions with every remainder of 64, and large ones.
fn dims() -> impl Iterator<Item = usize> {
    (1..=131).chain([255, 300, 384, 500, 784, 1023, 1536, 2048, 4096])
}

/// The distance in `f64`.
fn exact(distance_type: DistanceType, query: &[f32], row: &[f32]) -> f64 {
    let pairs = || query.iter().zip(row).map(|(&q, &x)| (f64::from(q), f64::from(x)));
    let dot: f64 = pairs().map(|(q, x)| q * x).sum();
    match distance_type {
        DistanceType::L2 => pairs().map(|(q, x)| (q - x) * (q - x)).sum(),
        DistanceType::Dot => 1.0 - dot,
        _ => {
            let squares = pairs().fold((0.0, 0.0), |sums, (q, x)| (sums.0 + q * q, sums.1 + x * x));
            1.0 - dot / (squares.0.sqrt() * squares.1.sqrt())
        }
    }
}
