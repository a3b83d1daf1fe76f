//! Distances: Lance's for every length and alignment, symmetric, and the ones that a search reports.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, Float32Array};
use lance_linalg::distance::{cosine_distance, dot_distance, l2_f32};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, Index, SearchParams, VectorSource,
    VectorStoreSnapshot,
};

use crate::data::{METRICS, Rows, Shape, assert_sorted, build, exact_distance, list, uniform};
use crate::export::Exported;

fn lance_distance(distance_type: DistanceType, a: &[f32], b: &[f32]) -> f32 {
    match distance_type {
        DistanceType::L2 => l2_f32(a, b),
        DistanceType::Cosine => cosine_distance(a, b),
        DistanceType::Dot => dot_distance(a, b),
        other => panic!("Lance has another name for {other}"),
    }
}

/// What rounding may cost: a little of the size of the terms that are summed.
fn tolerance(distance_type: DistanceType, a: &[f32], b: &[f32]) -> f64 {
    let terms = |term: fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(&x, &y)| term(f64::from(x), f64::from(y))).sum()
    };
    match distance_type {
        DistanceType::L2 => 2e-6 * terms(|x, y| (x - y) * (x - y)),
        DistanceType::Cosine => 5e-6,
        _ => 1e-6 * (1.0 + terms(|x, y| (x * y).abs())),
    }
}

fn stored(array: &FixedSizeListArray, distance_type: DistanceType) -> VectorStoreSnapshot {
    let store = Arc::new(
        ArrowFixedSizeListVectorStore::try_new(array.value_length() as usize, distance_type).unwrap(),
    );
    let ids = store.append_batch(Arc::new(array.clone()), 0).unwrap();
    assert_eq!(ids, 0..array.len() as u32, "no row was skipped");
    store.snapshot()
}

/// Every distance between the rows of `array`, and from `query` to them, against Lance and against f64.
/// Returns the largest difference from Lance, in tolerances.
fn check(array: &FixedSizeListArray, query: &[f32], distance_type: DistanceType, case: &str) -> f64 {
    let snapshot = stored(array, distance_type);
    let mut worst = 0.0f64;
    let mut compare = |ours: f32, a: &[f32], b: &[f32], what: &str| {
        let allowed = tolerance(distance_type, a, b);
        let lance = f64::from(lance_distance(distance_type, a, b));
        let exact = exact_distance(distance_type, a, b);
        let ours = f64::from(ours);
        assert!((ours - exact).abs() <= allowed, "{case}, {distance_type} {what}: {ours}, exactly {exact}");
        assert!(
            (ours - lance).abs() <= 2.0 * allowed,
            "{case}, {distance_type} {what}: {ours}, Lance {lance}"
        );
        if allowed > 0.0 {
            worst = worst.max((ours - lance).abs() / allowed);
        }
    };
    for left in 0..array.len() as u32 {
        let vector = snapshot.vector(left);
        compare(snapshot.distance_to(query, left), query, vector, "from a query");
        for right in 0..array.len() as u32 {
            let there = snapshot.distance_between(left, right);
            let back = snapshot.distance_between(right, left);
            assert_eq!(
                there.to_bits(),
                back.to_bits(),
                "{case}, {distance_type}: {there} from {left} to {right}, {back} back"
            );
            compare(there, vector, snapshot.vector(right), "between rows");
            compare(
                snapshot.distance_to(vector, right),
                vector,
                snapshot.vector(right),
                "from a row as a query",
            );
        }
        if distance_type == DistanceType::L2 {
            assert_eq!(snapshot.distance_between(left, left), 0.0, "{case}: a row to itself");
            assert_eq!(snapshot.distance_to(vector, left), 0.0, "{case}: a row as a query to itself");
        }
    }
    worst
}

#[test]
fn every_length_agrees_with_lance() {
    let pool = Float32Array::from(uniform(10 * 2_048 + 64, 1, 1).values);
    let query = uniform(2_048, 1, 2).values;
    for distance_type in METRICS {
        let mut worst = 0.0f64;
        for dim in 1..=2_048 {
            let array = list(pool.slice(dim % 17, 10 * dim), dim, "item", true, None);
            let sliced = array.slice(1 + dim % 5, 4);
            worst = worst.max(check(&sliced, &query[..dim], distance_type, &format!("dim {dim}")));
        }
        println!("{distance_type}: lengths 1..=2048 are within {worst:.3} tolerances of Lance");
    }
}

#[test]
fn every_misaligned_slice_agrees_with_lance() {
    let dims =
        [1, 3, 5, 7, 9, 13, 15, 17, 31, 33, 47, 63, 65, 97, 127, 129, 255, 257, 511, 769, 1_023, 1_537];
    for distance_type in METRICS {
        let mut worst = 0.0f64;
        for dim in dims {
            let array = uniform(20, dim, dim as u64).array();
            for offset in 1..=15 {
                let case = format!("dim {dim} from row {offset}");
                let query = uniform(1, dim, offset as u64).values;
                worst = worst.max(check(&array.slice(offset, 4), &query, distance_type, &case));
            }
        }
        println!("{distance_type}: misaligned slices are within {worst:.3} tolerances of Lance");
    }
}

#[test]
fn a_search_reports_the_distances_of_its_source() {
    let dims =
        [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 384, 767, 768, 1_023];
    for distance_type in METRICS {
        for dim in dims {
            let rows = uniform(200, dim, dim as u64);
            let index = build(&rows, distance_type, &BuildParams::default(), 67);
            let snapshot = index.reader().snapshot();
            let query = uniform(1, dim, 3).values;
            let case = format!("{distance_type}, dim {dim}");
            for (way, results) in [
                ("graph", index.search(&query, &SearchParams::new(200).ef(200)).unwrap().into_vec()),
                ("exact", index.search_exact(&query, &SearchParams::new(200)).unwrap().into_vec()),
            ] {
                assert_eq!(results.len(), 200, "{case}, {way}");
                assert_sorted(&results, &case);
                for result in results {
                    let distance = snapshot.distance_to(&query, result.id);
                    assert_eq!(
                        result.distance.to_bits(),
                        distance.to_bits(),
                        "{case}, {way}: {result:?}, not {distance}"
                    );
                }
            }
        }
    }
}

/// Equal rows must be equally far, wherever they lie in a block of rows or in memory.
#[test]
fn copies_are_at_the_same_distance_wherever_they_lie() {
    for distance_type in METRICS {
        for dim in [1, 3, 8, 17, 33, 100, 129] {
            let rows = Rows { dim, values: uniform(1, dim, 9).values.repeat(300) };
            let index = build(&rows, distance_type, &BuildParams::default(), 70);
            let query = uniform(1, dim, 5).values;
            for results in [
                index.search(&query, &SearchParams::new(300).ef(300)).unwrap().into_vec(),
                index.search_exact(&query, &SearchParams::new(300)).unwrap().into_vec(),
            ] {
                assert!(
                    results.iter().map(|r| r.id).eq(0..300),
                    "{distance_type}, dim {dim}: ties are not in order of id"
                );
                assert!(results.iter().all(|r| r.distance.to_bits() == results[0].distance.to_bits()));
            }
        }
    }
}

/// Magnitudes far from 1, but nothing that Lance could not compute. (The square of 1e-20 is subnormal.)
#[test]
fn large_and_small_rows_keep_their_digits() {
    for distance_type in METRICS {
        for scale in [1e-20f32, 1e-18, 1e-15, 1e-9, 1e9, 1e15, 1e18] {
            let mut rows = Shape::Random.rows(6, 24, 4);
            rows.values.iter_mut().for_each(|value| *value *= scale);
            let snapshot = stored(&rows.array(), distance_type);
            for (left, right) in [(0, 1), (2, 3), (4, 5)] {
                let exact = exact_distance(distance_type, rows.row(left), rows.row(right));
                let ours = f64::from(snapshot.distance_between(left as u32, right as u32));
                let allowed = match distance_type {
                    DistanceType::Dot => 1e-5 * (1.0 + 24.0 * f64::from(scale) * f64::from(scale)),
                    DistanceType::L2 => 1e-5 * exact + 1e-43,
                    _ if scale < 1e-19 => 1e-4,
                    _ => 1e-5,
                };
                assert!(
                    (ours - exact).abs() <= allowed,
                    "{distance_type} at scale {scale:e}: {ours}, exactly {exact}"
                );
            }
        }
    }
}

/// Finite numbers whose squares are not: the rows may be skipped, but nothing panics, no id is lost, and a
/// distance that is not a number never comes before one that is.
#[test]
fn finite_rows_that_overflow_poison_nothing() {
    for distance_type in METRICS {
        let mut rows = uniform(600, 8, 4);
        for (row, scale) in
            [(0, f32::MAX), (5, 1e-30), (77, 1e-44), (300, 1e30), (301, -f32::MAX), (599, 3e38)]
        {
            rows.values[row * 8..(row + 1) * 8].iter_mut().enumerate().for_each(|(axis, value)| {
                *value = if (axis + row) % 2 == 0 { scale } else { -scale };
            });
        }
        let index = Index::hnsw(8, distance_type, BuildParams::default()).unwrap();
        for (start, array) in rows.batches(200) {
            index.append(&array, start).unwrap();
        }
        let n = index.len();
        assert_eq!(n as u64 + index.skipped().total(), 600, "{distance_type}");
        let health = index.health().unwrap();
        assert_eq!((health.reachable, health.components), (n, 1), "{distance_type}: {health}");
        for query in [rows.row(1), rows.row(0), rows.row(300)] {
            let Ok(found) = index.search(query, &SearchParams::new(600).ef(600)) else { continue };
            assert_eq!(found.len(), n, "{distance_type}");
            let numbers = found.iter().take_while(|r| !r.distance.is_nan()).count();
            assert!(
                found[numbers..].iter().all(|r| r.distance.is_nan()),
                "{distance_type}: NaN before a number"
            );
            assert_sorted(&found[..numbers], &format!("{distance_type}, overflow"));
            // A row whose cosine cannot be computed must not outrank those whose can.
            let below = found.iter().find(|r| distance_type == DistanceType::Cosine && r.distance < -1e-3);
            assert!(below.is_none(), "{distance_type}: {below:?}");
        }
        let near = index.search(rows.row(2), &SearchParams::new(10).ef(100)).unwrap().into_vec();
        assert_eq!(near.len(), 10, "{distance_type}");
        if distance_type == DistanceType::L2 {
            assert_eq!((near[0].row_id, near[0].distance), (2, 0.0));
        }
        assert_eq!(
            Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()).reachable(),
            n,
            "{distance_type}"
        );
    }
}
