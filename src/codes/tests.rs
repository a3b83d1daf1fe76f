//! Laws of codes: what holds for every row and query, of many kinds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{slice, thread};

use super::*;
use arrow_buffer::Buffer;

use crate::distance::PreparedQuery;
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

#[test]
fn no_codes_for_other_metrics_and_dimensions() {
    for distance_type in METRICS {
        assert!(Codes::new(0, distance_type).is_none());
        assert!(Codes::new(MAX_DIM, distance_type).is_some());
        assert!(Codes::new(MAX_DIM + 1, distance_type).is_none());
    }
    assert!(Codes::new(8, DistanceType::L1).is_none());
    assert!(Codes::new(8, DistanceType::Hamming).is_none());
}

#[test]
fn strict_bounds_hold_for_every_kind_of_row_and_query() {
    let mut rng = Rng(1);
    let mut pairs = 0;
    for dim in dims().chain([MAX_DIM]) {
        for kind in KINDS {
            let mut rows = vectors(kind, dim, 3, &mut rng);
            rows.extend(vectors(KINDS[rng.word() as usize % KINDS.len()], dim, 2, &mut rng));
            // Queries of any kind, a row itself, one beside it, and one far outside of its range.
            let mut queries = vec![vector(KINDS[rng.word() as usize % KINDS.len()], dim, &mut rng)];
            queries.push(vector(kind, dim, &mut rng));
            queries.push(rows[0].clone());
            queries.push(rows[1].iter().map(|&x| x.next_up().clamp(f32::MIN, f32::MAX)).collect());
            queries.push(rows[2].iter().map(|&x| (x * 1000.0 + 5.0).clamp(f32::MIN, f32::MAX)).collect());
            for distance_type in METRICS {
                let codes = codes_of(&rows, distance_type);
                for query in &queries {
                    let prepared = codes.prepare(query);
                    let estimates = estimates(&codes, &prepared);
                    let exact_query = PreparedQuery::new(query, distance_type);
                    for (i, row) in rows.iter().enumerate() {
                        let exact = exact_query.distance(row);
                        let case = format!("{distance_type} {kind:?} {dim} row {i}");
                        // Sums of both signs beyond the range of f32 are not a number.
                        assert!(near(&codes, &prepared, exact)[i], "{case}: {exact} and not near");
                        assert!(!estimates[i].is_nan(), "{case}");
                        assert!(codes.slack(&prepared, i as u32, estimates[i]) >= 0.0, "{case}");
                        pairs += 1;
                    }
                }
            }
        }
    }
    println!("{pairs} pairs");
}

#[test]
fn sums_beyond_f32_are_bounded_too() {
    // Kernels add these elements in one sum, which leaves the range of f32 before it comes back.
    let mut row = vec![0.0; 192];
    (row[0], row[64], row[128]) = (3.0e38, 3.0e38, -3.3e38);
    let query = vec![1.0; 192];
    let codes = codes_of(slice::from_ref(&row), DistanceType::Dot);
    let exact = PreparedQuery::new(&query, DistanceType::Dot).distance(&row);
    assert_eq!(exact, f32::NEG_INFINITY);
    assert_eq!(near(&codes, &codes.prepare(&query), exact), [true]);
}

#[test]
fn rows_are_told_to_be_far_when_they_are_a_little_beyond_a_bound() {
    let mut rng = Rng(2);
    for dim in [32, 128, 784] {
        for (kind, share) in
            [(Kind::Gaussian, 0.96), (Kind::Uniform, 0.96), (Kind::Offset, 0.88), (Kind::Whole, 0.999)]
        {
            let rows = vectors(kind, dim, 200, &mut rng);
            let query = vector(kind, dim, &mut rng);
            let codes = codes_of(&rows, DistanceType::L2);
            let prepared = codes.prepare(&query);
            let is_far = |(i, row): (usize, &Vec<f32>)| {
                let bound = (share * exact(DistanceType::L2, &query, row)) as f32;
                !near(&codes, &prepared, bound)[i]
            };
            let far = rows.iter().enumerate().filter(|&row| is_far(row)).count();
            assert!(far >= 180, "{kind:?} {dim}: {far} of 200");
        }
        for distance_type in [DistanceType::Cosine, DistanceType::Dot] {
            let rows = vectors(Kind::Gaussian, dim, 200, &mut rng);
            let query = vector(Kind::Gaussian, dim, &mut rng);
            let codes = codes_of(&rows, distance_type);
            let prepared = codes.prepare(&query);
            let scale = if distance_type == DistanceType::Dot { dim as f64 } else { 1.0 };
            for (i, row) in rows.iter().enumerate() {
                let bound = (exact(distance_type, &query, row) - 0.03 * scale) as f32;
                assert!(!near(&codes, &prepared, bound)[i], "{distance_type} {dim}: {bound}");
            }
        }
    }
}

#[test]
fn estimates_and_bounds_have_the_same_bits_on_every_instruction_set_and_in_any_group() {
    let mut rng = Rng(3);
    for dim in dims() {
        for kind in [Kind::Gaussian, Kind::Offset, Kind::Whole, Kind::Scales] {
            let rows = vectors(kind, dim, 7, &mut rng);
            let query = vector(kind, dim, &mut rng);
            for distance_type in METRICS {
                let codes = codes_of(&rows, distance_type);
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let reference = codes.prepare_for(&query, Isa::PORTABLE);
                let bounds = estimates(&codes, &reference);
                let all_near = |query: &CodeQuery| -> Vec<bool> {
                    bounds.iter().flat_map(|&bound| near(&codes, query, 0.99 * bound)).collect()
                };
                let expected = (bits(bounds.clone()), all_near(&reference));
                for isa in Isa::available() {
                    let query = codes.prepare_for(&query, isa);
                    let found = (bits(estimates(&codes, &query)), all_near(&query));
                    assert_eq!(found, expected, "{isa:?} {distance_type} {kind:?} {dim}");
                    for (id, &expected) in expected.0.iter().enumerate() {
                        let mut one = [0.0];
                        codes.estimate(&query, &[id as u32], &mut one);
                        assert_eq!(one[0].to_bits(), expected, "{isa:?} {distance_type} {kind:?} {dim}");
                    }
                }
            }
        }
    }
}

#[test]
fn records_have_the_same_bytes_on_every_instruction_set() {
    let mut rng = Rng(13);
    for dim in dims() {
        for kind in KINDS {
            let mut row = vector(kind, dim, &mut rng);
            // Either zero may be the smallest element.
            row.iter_mut().filter(|x| **x < 0.0 && dim % 2 == 0).for_each(|x| *x = -0.0);
            for distance_type in METRICS {
                let Some(shape) = Shape::new(dim, distance_type) else { continue };
                let encoded = |isa: Isa| {
                    let mut record = vec![0; shape.record_len()];
                    record::encode(isa, shape, &row, &mut record);
                    record
                };
                let expected = encoded(Isa::PORTABLE);
                assert!(record::is_record(shape, &expected), "{distance_type} {kind:?} {dim}");
                for isa in Isa::available() {
                    assert_eq!(encoded(isa), expected, "{isa:?} {distance_type} {kind:?} {dim}");
                }
            }
        }
    }
}

#[test]
fn whole_numbers_are_lossless() {
    let mut rng = Rng(4);
    for dim in dims() {
        for offset in [0.0_f32, -300.0, 1.0e6] {
            let shifted = |mut vector: Vec<f32>| {
                vector.iter_mut().for_each(|x| *x += offset);
                vector
            };
            let rows: Vec<_> = vectors(Kind::Whole, dim, 5, &mut rng).into_iter().map(shifted).collect();
            let query: Vec<f32> =
                (0..dim).map(|_| (rng.uniform() * 16_000.0).floor() as f32 + offset).collect();
            for distance_type in [DistanceType::L2, DistanceType::Dot] {
                let codes = codes_of(&rows, distance_type);
                let prepared = codes.prepare(&query);
                for (id, (row, estimate)) in rows.iter().zip(estimates(&codes, &prepared)).enumerate() {
                    let id = id as u32;
                    // Sums of whole numbers below 2^53 are exact in f64.
                    assert_eq!(
                        estimate,
                        exact(distance_type, &query, row) as f32,
                        "{distance_type} {dim} {offset}"
                    );
                    assert!(codes.is_lossless(id));
                    assert_eq!(codes.slack(&prepared, id, estimate), 0.0);
                }
            }
            let codes = codes_of(&rows, DistanceType::Cosine);
            let prepared = codes.prepare(&query);
            for (id, (row, estimate)) in rows.iter().zip(estimates(&codes, &prepared)).enumerate() {
                let exact = exact(DistanceType::Cosine, &query, row);
                assert!((f64::from(estimate) - exact).abs() < 1e-6, "{dim}: {estimate}, not {exact}");
                assert!(codes.is_lossless(id as u32));
                assert_eq!(codes.slack(&prepared, id as u32, estimate), 0.0);
            }
        }
    }
    // A range of 255 alone makes nothing lossless.
    let codes = codes_of(&[vec![0.0, 255.0, 0.25]], DistanceType::L2);
    assert!(!codes.is_lossless(0));
    // Nor do whole numbers further apart.
    let codes = codes_of(&[vec![0.0, 256.0, 3.0]], DistanceType::L2);
    assert!(!codes.is_lossless(0));
    assert!(codes_of(&[vec![0.3; 9]], DistanceType::L2).is_lossless(0));
}

#[test]
fn estimates_are_right_on_average_and_slack_covers_them() {
    let mut rng = Rng(5);
    for dim in [24, 100, 384, 784] {
        for kind in [Kind::Gaussian, Kind::Uniform, Kind::Sparse, Kind::Offset, Kind::Outlier, Kind::Binary] {
            for distance_type in METRICS {
                // At a length of 1, noise on a common offset of a million is lost in f32 itself.
                if kind == Kind::Offset && distance_type != DistanceType::L2 {
                    continue;
                }
                let rows = vectors(kind, dim, 500, &mut rng);
                let codes = codes_of(&rows, distance_type);
                let (mut sum, mut squares, mut covered, mut count) = (0.0, 0.0, 0, 0.0);
                for query in vectors(kind, dim, 8, &mut rng) {
                    let prepared = codes.prepare(&query);
                    for (id, (row, estimate)) in rows.iter().zip(estimates(&codes, &prepared)).enumerate() {
                        let error = f64::from(estimate) - exact(distance_type, &query, row);
                        let slack = f64::from(codes.slack(&prepared, id as u32, estimate));
                        // A step is rounded to f32: that is the noise of rows of few values.
                        let rounding = 1e-6 * (1.0 + exact(DistanceType::L2, &vec![0.0; dim], row));
                        covered += u32::from(error.abs() <= slack + rounding);
                        // In units of the slack, so that all pairs count alike.
                        let error = error / (slack + rounding);
                        sum += error;
                        squares += error * error;
                        count += 1.0;
                    }
                }
                let mean = sum / count;
                let deviation = (squares / count - mean * mean).max(0.0).sqrt();
                println!(
                    "{distance_type} {kind:?} {dim}: mean {mean:.4}, deviation {deviation:.4}, {covered} of {count}"
                );
                assert!(
                    f64::from(covered) >= 0.98 * count,
                    "{distance_type} {kind:?} {dim}: {covered} of {count}"
                );
                // Errors of one row have its reconstruction in common: a row counts once.
                let standard_error = deviation / (rows.len() as f64).sqrt();
                let is_regular = matches!(kind, Kind::Gaussian | Kind::Uniform);
                assert!(
                    !is_regular || mean.abs() <= 4.0 * standard_error,
                    "{distance_type} {kind:?} {dim}: {mean}"
                );
            }
        }
    }
}

#[test]
fn the_length_of_errors_does_not_make_near_rows_farther() {
    let mut rng = Rng(14);
    // Rows that lose something, and lossless ones, where the loss is the query's.
    let kinds = [Kind::Gaussian, Kind::Whole];
    for (distance_type, kind) in
        [DistanceType::L2, DistanceType::Cosine].into_iter().flat_map(|t| kinds.map(|k| (t, k)))
    {
        let (mut sum, mut squares, mut bias) = (0.0, 0.0, 0.0);
        let pairs = 400;
        for _ in 0..pairs {
            let row = vector(kind, 784, &mut rng);
            // A few steps away in each element: there the error is largest beside the distance.
            let query: Vec<f32> = row.iter().map(|&x| x + 0.05 * rng.gaussian() as f32).collect();
            let codes = codes_of(slice::from_ref(&row), distance_type);
            let prepared = codes.prepare(&query);
            let error = f64::from(estimates(&codes, &prepared)[0]) - exact(distance_type, &query, &row);
            sum += error;
            squares += error * error;
            let header = Header::read(codes.records.view().record(0).unwrap());
            bias += f64::from(header.error * header.error) + prepared.noise;
        }
        let pairs = f64::from(pairs);
        let (mean, bias) =
            (sum / pairs, if distance_type == DistanceType::L2 { 1.0 } else { 0.5 } * bias / pairs);
        let standard_error = ((squares / pairs - mean * mean) / pairs).sqrt();
        println!("{distance_type} {kind:?}: mean {mean:e}, standard error {standard_error:e}, bias {bias:e}");
        // Where the query is so near, f32 rounds what remains.
        assert!(mean.abs() <= 4.0 * standard_error + 1e-9, "{distance_type} {kind:?}");
        // The bias that was taken away would have been seen.
        assert!(bias > 10.0 * standard_error, "{distance_type} {kind:?}");
    }
}

#[test]
fn a_common_offset_costs_no_accuracy() {
    let mut rng = Rng(6);
    let rows = vectors(Kind::Offset, 128, 100, &mut rng);
    let query = vector(Kind::Offset, 128, &mut rng);
    let codes = codes_of(&rows, DistanceType::L2);
    for (row, estimate) in rows.iter().zip(estimates(&codes, &codes.prepare(&query))) {
        let exact = exact(DistanceType::L2, &query, row);
        assert!((f64::from(estimate) / exact - 1.0).abs() < 0.01, "{estimate}, not {exact}");
    }
}

#[test]
fn rows_and_queries_without_codes_have_the_smallest_bounds() {
    let good = vec![1.0, 2.5, -3.0, 0.0];
    let bad = [vec![1.0, f32::NAN, 0.0, 0.0], vec![0.0, 0.0, f32::INFINITY, 1.0], vec![1.0; 3], vec![]];
    for distance_type in METRICS {
        let codes = Codes::new(4, distance_type).unwrap();
        let mut rows = vec![good.clone()];
        rows.extend(bad.iter().cloned());
        codes.extend(5, |id| Cow::Borrowed(&rows[id as usize]));
        let query = codes.prepare(&good);
        for id in 1..5_usize {
            let (near, estimate) = (near(&codes, &query, f32::MIN)[id], estimates(&codes, &query)[id]);
            assert!(near && !estimate.is_nan(), "{distance_type} {id}: {estimate}");
            assert_eq!(codes.slack(&query, id as u32, estimate), f32::INFINITY);
            assert!(!codes.is_lossless(id as u32));
        }
        for query in &bad {
            let query = codes.prepare(query);
            for (near, estimate) in near(&codes, &query, f32::MIN).into_iter().zip(estimates(&codes, &query))
            {
                assert!(near && !estimate.is_nan(), "{distance_type}: {estimate}");
                assert_eq!(codes.slack(&query, 0, estimate), f32::INFINITY);
            }
        }
    }
}

#[test]
fn ids_without_codes_are_infinitely_far_and_bounded_by_nothing() {
    let rows = vectors(Kind::Gaussian, 20, 6, &mut Rng(7));
    let codes = codes_of(&rows, DistanceType::L2);
    let query = codes.prepare(&rows[0]);
    let ids = [0, 6, 1, 2, 3, 4, 5, u32::MAX, 64, 1 << 20];
    let (mut scores, mut near) = ([0.0; 10], [false; 10]);
    codes.estimate(&query, &ids, &mut scores);
    codes.near(&query, &ids, -1.0, &mut near);
    for (i, &id) in ids.iter().enumerate() {
        codes.prefetch(id);
        assert_eq!(scores[i] == f32::INFINITY, id >= 6, "{id}");
        assert_eq!(near[i], id >= 6 || id == 0, "{id}");
    }
    assert_eq!(codes.slack(&query, 6, 1.0), f32::INFINITY);
    assert!(!codes.is_lossless(6));
    // The first of more ids than there is place for.
    let mut few = [0.0; 6];
    codes.estimate(&query, &ids, &mut few);
    assert_eq!(few, scores[..6]);
}

fn from_records(dim: usize, distance_type: DistanceType, records: &[u8]) -> Option<Codes> {
    let codes = Codes::new(dim, distance_type)?;
    codes.add_records(records).then_some(codes)
}

#[test]
fn records_are_read_where_they_were_saved() {
    let mut rng = Rng(80);
    for count in [1, 31, 32, 33, 64, 70] {
        let rows = vectors(Kind::Gaussian, 77, count, &mut rng);
        let codes = codes_of(&rows, DistanceType::L2);
        let part = |start: u32| {
            let mut bytes = Vec::new();
            codes.read_records(start..start + 32, &mut bytes);
            Buffer::from(bytes)
        };
        let parts: Vec<Buffer> = (0..count as u32).step_by(32).map(part).collect();
        let saved = Codes::saved(77, DistanceType::L2, parts.clone(), 5).unwrap();
        let query = codes.prepare(&rows[0]);
        assert_eq!(saved.len(), count as u32);
        assert_eq!(estimates(&saved, &query), estimates(&codes, &query));
        assert_eq!(saved.resident_bytes(), Codes::new(77, DistanceType::L2).unwrap().resident_bytes());
        saved.prefetch(count as u32);
        saved.extend(count as u32 + 1, |_| Cow::Borrowed(&rows[0]));
        assert_eq!(saved.len(), count as u32, "there are no others");
        // Parts that are not of as many records, and a part of half a record.
        assert!(Codes::saved(77, DistanceType::L2, parts.clone(), 4).is_none() || count < 17);
        assert!(count < 33 || Codes::saved(77, DistanceType::L2, parts.clone(), 6).is_none());
        assert!(Codes::saved(77, DistanceType::L2, vec![parts[0].slice(1)], 5).is_none());
        assert!(Codes::saved(78, DistanceType::L1, parts, 5).is_none());
    }
    assert!(Codes::saved(77, DistanceType::L2, Vec::new(), 5).is_none());
}

#[test]
fn records_come_back_from_bytes_and_others_are_refused() {
    let mut rng = Rng(8);
    for distance_type in METRICS {
        for kind in KINDS {
            let rows = vectors(kind, 77, 70, &mut rng);
            let codes = codes_of(&rows, distance_type);
            let mut bytes = Vec::new();
            codes.read_records(0..40, &mut bytes);
            codes.read_records(40..1000, &mut bytes);
            assert_eq!(bytes.len(), 70 * codes.record_len());
            let back = from_records(77, distance_type, &bytes).unwrap();
            let query = codes.prepare(&rows[3]);
            assert_eq!(back.len(), 70);
            assert_eq!(estimates(&back, &query), estimates(&codes, &query), "{kind:?}");
            assert_eq!(near(&back, &query, 1.0), near(&codes, &query, 1.0), "{kind:?}");
            // A row that has no codes is a record too.
            let odd = codes_of(&[vec![f32::NAN; 77]], distance_type);
            let mut bytes = Vec::new();
            odd.read_records(0..1, &mut bytes);
            assert!(from_records(77, distance_type, &bytes).is_some());
        }
        let codes = codes_of(&vectors(Kind::Gaussian, 77, 3, &mut rng), distance_type);
        let mut bytes = Vec::new();
        codes.read_records(0..3, &mut bytes);
        assert!(from_records(77, distance_type, &bytes[1..]).is_none());
        assert!(from_records(70, distance_type, &bytes).is_none());
        assert!(from_records(200, distance_type, &bytes).is_none());
        assert!(from_records(0, distance_type, &bytes).is_none());
        assert!(from_records(77, DistanceType::L1, &bytes).is_none());
        for at in (0..bytes.len()).filter(|at| !(0..8).contains(&(at % codes.record_len()))) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            // An error that is larger by little is an error too, unless its share changes.
            let in_error = (16..20).contains(&(at % codes.record_len()));
            assert!(in_error || from_records(77, distance_type, &changed).is_none(), "byte {at}");
        }
        for nan in [0, 4, 16] {
            let mut changed = bytes.clone();
            changed[nan..nan + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            assert!(from_records(77, distance_type, &changed).is_none(), "byte {nan}");
        }
    }
    let none = from_records(5, DistanceType::L2, &[]).unwrap();
    assert_eq!(none.len(), 0);
}

#[test]
fn retained_records_are_those_of_their_rows() {
    let rows = vectors(Kind::Gaussian, 50, 3000, &mut Rng(9));
    let codes = codes_of(&rows, DistanceType::Cosine);
    let ids: Vec<u32> = (0..3000).rev().step_by(3).collect();
    let kept = codes.retain(&ids);
    let query = codes.prepare(&rows[17]);
    let all = estimates(&codes, &query);
    let expected: Vec<f32> = ids.iter().map(|&id| all[id as usize]).collect();
    assert_eq!(estimates(&kept, &query), expected);
    assert_eq!(codes.retain(&[4, 5, 3000, 6]).len(), 2);
}

#[test]
fn memory_is_what_was_asked_for_and_a_third_or_less() {
    let rows = vectors(Kind::Gaussian, 30, 2000, &mut Rng(10));
    for count in [0, 1, 64, 65, 1024, 1025, 2000] {
        let codes = Codes::new(30, DistanceType::L2).unwrap();
        codes.extend(count, |id| Cow::Borrowed(&rows[id as usize]));
        assert_eq!(codes.resident_bytes(), Codes::bytes_for(30, count), "{count} rows");
    }
    // A new chunk has just begun: never is more of the memory unused.
    let count = (1 << 20) - 1024 + 1;
    let share = |dim: usize| Codes::bytes_for(dim, count) as f64 / (dim as f64 * 4.0 * f64::from(count));
    println!("128: {:.4}, 384: {:.4}, 784: {:.4}", share(128), share(384), share(784));
    assert!(share(128) <= 0.37);
    for dim in 384..=2048 {
        assert!(share(dim) <= 0.30, "{dim}: {}", share(dim));
    }
    assert_eq!(Codes::new(128, DistanceType::L2).unwrap().record_len(), 160);
}

#[test]
fn any_number_of_threads_writes_the_same_records() {
    let rows = vectors(Kind::Gaussian, 33, 5000, &mut Rng(11));
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let codes = Codes::new(33, DistanceType::Dot).unwrap();
        pool.install(|| {
            for end in [1, 100, 2001, 2000, 5000] {
                codes.extend(end, |id| Cow::Owned(rows[id as usize].clone()));
            }
        });
        let mut bytes = Vec::new();
        codes.read_records(0..u32::MAX, &mut bytes);
        (codes.len(), bytes)
    };
    let expected = bytes(1);
    assert_eq!(expected.0, 5000);
    for threads in [2, 3, 8] {
        assert!(bytes(threads) == expected, "{threads} threads");
    }
}

#[test]
fn a_panic_publishes_nothing_and_the_next_call_codes_again() {
    let rows = vectors(Kind::Gaussian, 9, 1000, &mut Rng(12));
    let codes = Codes::new(9, DistanceType::L2).unwrap();
    let row = |id: u32| Cow::Borrowed(&rows[id as usize][..]);
    codes.extend(10, row);
    let broken = |id: u32| {
        assert!(id != 700, "broken");
        Cow::Owned(vec![0.0; 9])
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| codes.extend(1000, broken)));
    assert!(result.is_err());
    assert_eq!(codes.len(), 10);
    codes.extend(1000, row);
    let query = codes.prepare(&rows[500]);
    assert_eq!(estimates(&codes, &query), estimates(&codes_of(&rows, DistanceType::L2), &query));
}

#[test]
fn readers_beside_a_writer_see_whole_records_only() {
    const ROWS: u32 = 6000;
    let rows = vectors(Kind::Gaussian, 45, ROWS as usize, &mut Rng(13));
    let expected = codes_of(&rows, DistanceType::L2);
    let query = expected.prepare(&rows[0]);
    let expected = estimates(&expected, &query);
    let codes = Codes::new(45, DistanceType::L2).unwrap();
    let done = AtomicBool::new(false);
    let read = || {
        let ids: Vec<u32> = (0..ROWS).collect();
        let mut out = vec![0.0; ids.len()];
        loop {
            let last = done.load(Ordering::Acquire);
            let before = codes.len() as usize;
            codes.estimate(&query, &ids, &mut out);
            let coded = out.iter().position(|estimate| *estimate == f32::INFINITY).unwrap_or(out.len());
            assert!(before <= coded && coded <= codes.len() as usize);
            assert_eq!(out[..coded], expected[..coded]);
            assert!(out[coded..].iter().all(|estimate| *estimate == f32::INFINITY));
            if last {
                return coded;
            }
        }
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        let row = |id: u32| Cow::Borrowed(&rows[id as usize][..]);
        for end in (0..=ROWS).step_by(7).chain([ROWS]) {
            codes.extend(end, row);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), ROWS as usize);
        }
    });
}
