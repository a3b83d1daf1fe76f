//! Laws of estimates, of their slack and of strict bounds.

use std::slice;

use super::*;
use crate::distance::PreparedQuery;

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
