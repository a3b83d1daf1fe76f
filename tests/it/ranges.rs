//! Searches within a range of distances: never a row outside of it, and nearly every row inside.

use pennon::{BuildParams, DistanceType, Error, Hit, RowMask, SearchParams};

use crate::data::{METRICS, Rows, assert_sorted, build, clustered, exact_distance, graph_of, uniform};

const DIM: usize = 16;
const ROWS: usize = 4_000;
const QUERIES: usize = 15;

/// Clustered rows and queries. Under dot all have length 2: distances go from -3 to 5, and the nearest rows
/// are those in the nearest directions.
fn data(distance_type: DistanceType) -> (Rows, Rows) {
    let mut all = clustered(ROWS + QUERIES, DIM, 64, 31).0;
    if distance_type == DistanceType::Dot {
        for row in all.values.chunks_exact_mut(DIM) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x *= 2.0 / norm);
        }
    }
    (all.part(0..ROWS), all.part(ROWS..ROWS + QUERIES))
}

/// The distances of all rows from one query, in f64.
struct Oracle {
    of_row: Vec<f64>,
    sorted: Vec<f64>,
}

impl Oracle {
    fn new(rows: &Rows, query: &[f32], distance_type: DistanceType) -> Self {
        let of_row: Vec<f64> = rows.iter().map(|row| exact_distance(distance_type, query, row)).collect();
        let mut sorted = of_row.clone();
        sorted.sort_by(f64::total_cmp);
        Self { of_row, sorted }
    }

    /// A bound with about `rank` rows below it, in the middle of a gap: rounding does not move a row over it.
    fn bound(&self, rank: usize) -> f32 {
        let gap = |at: usize| self.sorted[at + 1] - self.sorted[at];
        let at = (rank - 10..rank + 10).max_by(|&a, &b| gap(a).total_cmp(&gap(b))).unwrap();
        assert!(gap(at) > 1e-5 * (1.0 + self.sorted[at].abs()), "the data has no gap near rank {rank}");
        ((self.sorted[at] + self.sorted[at + 1]) / 2.0) as f32
    }

    /// The nearest `k` distances in a range among the rows that qualify.
    fn inside(&self, (lower, upper): (f32, f32), k: usize, admits: impl Fn(u64) -> bool) -> Vec<f64> {
        let (lower, upper) = (f64::from(lower), f64::from(upper));
        let rows = self.of_row.iter().zip(0..).filter(|&(&d, row)| lower <= d && d < upper && admits(row));
        let mut inside: Vec<f64> = rows.map(|(&distance, _)| distance).collect();
        inside.sort_by(f64::total_cmp);
        inside.truncate(k);
        inside
    }

    fn assert_inside(
        &self,
        results: &[Hit],
        (lower, upper): (f32, f32),
        admits: impl Fn(u64) -> bool,
        case: &str,
    ) {
        assert_sorted(results, case);
        for result in results {
            let exact = self.of_row[result.id as usize];
            assert_eq!(result.row_id, u64::from(result.id), "{case}");
            assert!(lower <= result.distance && result.distance < upper, "{case}: {result:?} is outside");
            assert!(admits(result.row_id), "{case}: {result:?} does not qualify");
            assert!(close(result.distance, exact), "{case}: {result:?}, not {exact}");
        }
    }
}

fn close(distance: f32, exact: f64) -> bool {
    (f64::from(distance) - exact).abs() <= 1e-5 * (1.0 + exact.abs())
}

#[test]
fn nearly_every_row_inside_is_found_and_none_outside() {
    for distance_type in METRICS {
        let (rows, queries) = data(distance_type);
        let index = build(&rows, distance_type, &BuildParams::default(), ROWS);
        for (deleted, masked) in [(false, false), (false, true), (true, false), (true, true)] {
            if deleted && !masked {
                (0..ROWS as u64).step_by(5).for_each(|row| index.delete(row).unwrap());
            }
            let admits = |row: u64| !(deleted && row.is_multiple_of(5)) && (!masked || row % 3 == 1);
            // Hits and rows wanted, by range and k.
            let mut tally = [(0, 0); 6];
            let mut negative = 0;
            for query in queries.iter() {
                let oracle = Oracle::new(&rows, query, distance_type);
                let lowest = if distance_type == DistanceType::Dot { f32::NEG_INFINITY } else { 0.0 };
                let near = (lowest, oracle.bound(200));
                let ring = (oracle.bound(100), oracle.bound(400));
                let far = (oracle.bound(3_000), f32::INFINITY);
                let cases = [near, near, ring, ring, far, far].into_iter().zip([10, usize::MAX].repeat(3));
                for (at, (range, k)) in cases.enumerate() {
                    let case = format!("{distance_type}, {range:?}, k {k}, {deleted}, {masked}");
                    let wanted = oracle.inside(range, k, admits);
                    let mut params = SearchParams::new(k).ef(100).distance_range(range.0..range.1);
                    if masked {
                        params = params.mask(RowMask::predicate(|row| row % 3 == 1));
                    }
                    let exact = index.search_exact(query, &params).unwrap().into_vec();
                    oracle.assert_inside(&exact, range, admits, &case);
                    assert_eq!(exact.len(), wanted.len(), "{case}, exact");
                    let same = exact.iter().zip(&wanted).all(|(result, &d)| close(result.distance, d));
                    assert!(same, "{case}: {exact:?}, not {wanted:?}");

                    let found = index.search(query, &params).unwrap().into_vec();
                    oracle.assert_inside(&found, range, admits, &case);
                    assert!(found.len() <= wanted.len(), "{case}: {} of {}", found.len(), wanted.len());
                    let last = wanted.last().copied().unwrap_or(f64::NEG_INFINITY);
                    let limit = last + 1e-9 + 1e-6 * last.abs();
                    tally[at].0 += found.iter().filter(|r| oracle.of_row[r.id as usize] <= limit).count();
                    tally[at].1 += wanted.len();
                    negative += found.iter().filter(|r| r.distance < -0.5).count();
                }
            }
            let names = ["near, k 10", "near, all", "ring, k 10", "ring, all", "far, k 10", "far, all"];
            for (name, (hits, wanted)) in names.into_iter().zip(tally) {
                let recall = hits as f64 / wanted as f64;
                println!("{distance_type}, deleted {deleted}, masked {masked}, {name}: recall {recall:.4}");
                assert!(wanted >= 10 * QUERIES, "{name}: only {wanted} rows are wanted");
                assert!(recall >= 0.95, "{distance_type}, {deleted}, {masked}, {name}: recall {recall}");
            }
            assert_eq!(negative > 0, distance_type == DistanceType::Dot, "{negative} results below -0.5");
        }
    }
}

/// Distances of integer points are exact in `f32`, and many rows are at the same one.
#[test]
fn a_row_at_the_lower_bound_is_in_and_one_at_the_upper_bound_is_out() {
    let values = (0..400).flat_map(|at| [(at % 20) as f32, (at / 20) as f32]).collect();
    let rows = Rows { dim: 2, values };
    // Rows of many lengths: under dot their graph is held to less.
    for (distance_type, floor) in [(DistanceType::L2, 0.95), (DistanceType::Dot, 0.8)] {
        let index = build(&rows, distance_type, &BuildParams::default(), 400);
        let (mut at_lower, mut of, mut found_rows, mut wanted_rows) = (0, 0, 0, 0);
        for query in [[0.0, 1.0], [10.0, 10.0], [3.0, 19.0]] {
            let distance = |row: &[f32]| exact_distance(distance_type, &query, row) as f32;
            let mut all: Vec<(f32, u32)> = rows.iter().map(distance).zip(0..).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut steps: Vec<f32> = all.iter().map(|point| point.0).collect();
            steps.dedup();
            for (from, to) in [(0, 1), (0, 5), (3, 4), (3, 9), (10, steps.len() - 1)] {
                let (lower, upper) = (steps[from], steps[to]);
                let case = format!("{distance_type}, {query:?}, {lower}..{upper}");
                let wanted: Vec<(f32, u32)> =
                    all.iter().copied().filter(|point| lower <= point.0 && point.0 < upper).collect();
                let params = SearchParams::new(usize::MAX).distance_range(lower..upper);
                let exact = index.search_exact(&query, &params).unwrap().into_vec();
                let exact: Vec<(f32, u32)> = exact.iter().map(|r| (r.distance, r.id)).collect();
                assert_eq!(exact, wanted, "{case}");
                let found = index.search(&query, &params).unwrap().into_vec();
                assert_sorted(&found, &case);
                for result in &found {
                    assert!(wanted.contains(&(result.distance, result.id)), "{case}: {result:?}");
                }
                at_lower += found.iter().filter(|result| result.distance == lower).count();
                of += wanted.iter().filter(|point| point.0 == lower).count();
                found_rows += found.len();
                wanted_rows += wanted.len();
            }
        }
        println!(
            "{distance_type}: {found_rows} of {wanted_rows} rows, {at_lower} of {of} at the lower bound"
        );
        assert!(found_rows as f64 >= floor * wanted_rows as f64, "{found_rows} of {wanted_rows} rows");
        assert!(at_lower as f64 >= floor * of as f64, "{at_lower} of {of} rows at the lower bound");
    }
}

#[test]
fn a_range_without_a_distance_holds_nothing() {
    let rows = uniform(300, 8, 33);
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 100);
    let query = rows.row(0);
    let all = index.search_exact(query, &SearchParams::new(300)).unwrap().into_vec();
    let within = |lower: f32, upper: f32| {
        let params = SearchParams::new(usize::MAX).distance_range(lower..upper);
        let found = index.search(query, &params).unwrap().into_vec();
        let exact = index.search_exact(query, &params).unwrap().into_vec();
        assert!(found.len() <= exact.len(), "{lower}..{upper}");
        exact
    };
    let others = [-1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
    for bound in all.iter().map(|result| result.distance).chain(others) {
        assert!(within(bound, bound).is_empty(), "{bound}..{bound}");
    }
    let beyond = all[299].distance * 1.001;
    assert!(within(beyond, f32::INFINITY).is_empty());
    assert!(within(f32::NEG_INFINITY, 0.0).is_empty());
    // Zero has two signs and is one distance.
    assert!(within(-1.0, -0.0).is_empty() && within(0.0, -0.0).is_empty());
    assert_eq!(within(-0.0, f32::MIN_POSITIVE), all[..1]);
    assert_eq!(within(f32::NEG_INFINITY, f32::INFINITY), all);
    let none = SearchParams::new(0).ef(100).distance_range(0.0..f32::INFINITY);
    assert!(index.search(query, &none).unwrap().into_vec().is_empty());
    assert!(index.search_exact(query, &none).unwrap().into_vec().is_empty());
}

#[test]
fn inverted_and_nan_ranges_are_refused() {
    let rows = uniform(50, 4, 34);
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 50);
    let queries = rows.part(0..2).array();
    for (lower, upper) in [
        (2.0, 1.0),
        (0.0, -1.0),
        (f32::INFINITY, f32::NEG_INFINITY),
        (f32::NAN, 1.0),
        (0.0, f32::NAN),
        (f32::NAN, f32::NAN),
    ] {
        let params = || SearchParams::new(5).distance_range(lower..upper);
        let errors = [
            index.search(rows.row(0), &params()).err(),
            index.search_exact(rows.row(0), &params()).err(),
            index.search_batch(&queries, &params()).err(),
            index.cursor(rows.row(0), &params()).err(),
            graph_of(&index).search(rows.row(0), &params(), &index.reader().snapshot()).err(),
        ];
        for (at, error) in errors.into_iter().enumerate() {
            let error = error.unwrap_or_else(|| panic!("search {at} accepts {lower}..{upper}"));
            let Error::InvalidDistanceRange { lower: l, upper: u } = error else { panic!("{at}: {error:?}") };
            assert_eq!((l.to_bits(), u.to_bits()), (lower.to_bits(), upper.to_bits()), "{at}: {error}");
        }
    }
}
