//! Vector sources that break their word: they panic, name other lengths, or hold what no store would take.
//! Sources are safe code, so whatever they do must stay defined, and must not spoil the next call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use pennon::{BuildParams, DistanceType, Error, HnswGraph, PreparedQuery, SearchParams, VectorSource};

use crate::data::{Plain, Rows, Shape, assert_sorted, clustered, exact_distance, ids, in_pool, uniform};
use crate::export::{Exported, bytes};

/// Panics once `left` vectors have been read.
struct Panicking {
    plain: Plain,
    left: AtomicI64,
}

impl VectorSource for Panicking {
    fn len(&self) -> usize {
        self.plain.len()
    }

    fn dim(&self) -> usize {
        self.plain.dim()
    }

    fn distance_type(&self) -> DistanceType {
        self.plain.distance_type()
    }

    fn row_id(&self, id: u32) -> u64 {
        self.plain.row_id(id)
    }

    fn vector(&self, id: u32) -> &[f32] {
        assert!(self.left.fetch_sub(1, Ordering::Relaxed) > 0, "the source gives up, as this test wants");
        self.plain.vector(id)
    }
}

#[test]
fn a_source_that_panics_leaves_a_graph_that_works() {
    let rows = clustered(1_500, 8, 64, 1).0;
    let good = Plain::new(&rows, DistanceType::L2);
    for threads in [1, 2] {
        for base in [0u32, 1, 500] {
            for left in [0, 1, 20, 1_000, 10_000, 40_000] {
                in_pool(threads, || panic_and_retry(&rows, &good, base, left));
            }
        }
    }
}

/// After a panic the graph is as before; then rows arrive again, at first fewer than were linked already.
fn panic_and_retry(rows: &Rows, good: &Plain, base: u32, left: i64) {
    let case = format!("a panic after {left} vectors, onto {base} rows");
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    graph.insert_batch(0..base, good).unwrap();
    let bad = Panicking { plain: Plain::new(rows, DistanceType::L2), left: AtomicI64::new(left) };
    let outcome = catch_unwind(AssertUnwindSafe(|| graph.insert_batch(base..1_500, &bad)));
    assert!(!matches!(outcome, Ok(Ok(()))), "{case}: was not noticed");

    assert_eq!(graph.len(), base as usize, "{case}: rows of the failed call can be seen");
    for id in [0, base / 2, 1_400] {
        let query = rows.row(id as usize);
        let results = graph.search(query, &SearchParams::new(10).ef(200), good).unwrap().into_vec();
        assert_sorted(&results, &case);
        assert_eq!(results.len(), (base as usize).min(10), "{case}");
        assert!(results.iter().all(|r| r.id < base), "{case}: {results:?}");
        if id < base {
            assert_eq!((results[0].id, results[0].distance), (id, 0.0), "{case}");
        }
    }

    let health = graph.health();
    assert_eq!((health.nodes, health.unreachable()), (base as usize, 0), "{case}: {health}");
    Exported::read(&graph.to_lance_hnsw_batch(None).unwrap()).check_prefix(good, &case);

    let some = base + 100;
    let short = Plain::new(&rows.part(0..some as usize), DistanceType::L2);
    graph.insert_batch(base..some, &short).unwrap_or_else(|error| panic!("{case}: {error}"));
    for source in [good, &short] {
        let results = graph
            .search(rows.row(some as usize - 1), &SearchParams::new(5_000).ef(100), source)
            .unwrap()
            .into_vec();
        assert_sorted(&results, &case);
        assert_eq!((results.len(), results[0].id), (some as usize, some - 1), "{case}");
    }

    graph.insert_batch(some..1_500, good).unwrap_or_else(|error| panic!("{case}: {error}"));
    let exported = Exported::read(&graph.to_lance_hnsw_batch(None).unwrap());
    exported.check(good, &case);
    exported.assert_reported(&graph.health(), &case);
    let found = (0..1_500u32).filter(|&id| {
        let results =
            graph.search(rows.row(id as usize), &SearchParams::new(1).ef(64), good).unwrap().into_vec();
        ids(&results) == [id]
    });
    let found = found.count();
    assert!(found >= 1_485, "{case}: {found} of 1500 rows find themselves");
}

#[test]
fn a_search_that_panics_spoils_no_other_search() {
    let rows = clustered(1_000, 8, 64, 2).0;
    let good = Plain::new(&rows, DistanceType::L2);
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    graph.insert_batch(0..1_000, &good).unwrap();
    let search =
        |source: &dyn VectorSource| graph.search(rows.row(3), &SearchParams::new(10).ef(100), source);
    let before = search(&good).unwrap();
    for left in [0, 1, 5, 50, 90] {
        let bad = Panicking { plain: Plain::new(&rows, DistanceType::L2), left: AtomicI64::new(left) };
        let outcome = catch_unwind(AssertUnwindSafe(|| search(&bad)));
        assert!(!matches!(outcome, Ok(Ok(_))), "a panic after {left} vectors was not noticed");
        for _ in 0..300 {
            assert_eq!(search(&good).unwrap(), before, "after a panic at {left}");
        }
    }
}

/// Names the dimension `dim`, and gives vectors of another length.
struct WrongLength {
    plain: Plain,
    dim: usize,
}

impl VectorSource for WrongLength {
    fn len(&self) -> usize {
        self.plain.len()
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn distance_type(&self) -> DistanceType {
        self.plain.distance_type()
    }

    fn row_id(&self, id: u32) -> u64 {
        self.plain.row_id(id)
    }

    fn vector(&self, id: u32) -> &[f32] {
        self.plain.vector(id)
    }
}

/// Never a read past the end of a slice: an error, a panic, or distances of what both sides have.
#[test]
fn vectors_shorter_than_the_dimension_are_not_read_past_their_end() {
    let rows = uniform(200, 15, 3);
    for distance_type in [DistanceType::L2, DistanceType::Dot] {
        for dim in [16, 64, 1_000] {
            let query = uniform(1, dim, 4).values;
            let source = WrongLength { plain: Plain::new(&rows, distance_type), dim };
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
                graph.insert_batch(0..200, &source)?;
                graph.search(&query, &SearchParams::new(5).ef(50), &source)
            }));
            match outcome {
                Err(_) => println!("{distance_type}, dim {dim}: a panic"),
                Ok(Err(error)) => println!("{distance_type}, dim {dim}: {error}"),
                Ok(Ok(results)) => {
                    for result in results {
                        let common =
                            exact_distance(distance_type, &query[..15], rows.row(result.id as usize));
                        let off = (f64::from(result.distance) - common).abs();
                        assert!(
                            off <= 1e-4 * (1.0 + common.abs()),
                            "{distance_type}, dim {dim}: {result:?}, not {common}"
                        );
                    }
                }
            }
        }
    }
}

/// Both slices are read up to the end of the shorter.
#[test]
fn slices_of_different_lengths_have_a_distance() {
    let (query, row) = (uniform(1, 100, 8).values, uniform(1, 100, 9).values);
    for distance_type in [DistanceType::L2, DistanceType::Dot, DistanceType::L1, DistanceType::Hamming] {
        let distance = |a: &[f32], b: &[f32]| PreparedQuery::new(a, distance_type).distance(b);
        for len in [0, 1, 7, 16, 33, 64, 99] {
            let common = distance(&query[..len], &row[..len]);
            let cases = [distance(&query, &row[..len]), distance(&query[..len], &row)];
            assert_eq!(cases, [common; 2], "{distance_type}, {len} elements");
        }
    }
}

#[test]
fn elements_are_taken_as_bytes_under_hamming() {
    let values = [1.9, -3.0, 1.0e9, f32::NAN];
    let query = PreparedQuery::new(&values, DistanceType::Hamming);
    assert_eq!(query.distance(&[1.0, 0.0, 255.0, 0.0]), 0.0);
    assert_eq!(query.distance(&[0.5, 3.0, 254.0, 255.0]), 1.0 + 2.0 + 1.0 + 8.0);
}

/// A source whose length shrinks between two calls.
struct Shrinking {
    plain: Plain,
    len: AtomicU64,
}

impl VectorSource for Shrinking {
    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    fn dim(&self) -> usize {
        self.plain.dim()
    }

    fn distance_type(&self) -> DistanceType {
        self.plain.distance_type()
    }

    fn row_id(&self, id: u32) -> u64 {
        self.plain.row_id(id)
    }

    fn vector(&self, id: u32) -> &[f32] {
        self.plain.vector(id)
    }
}

#[test]
fn a_source_that_shrinks_is_answered_as_of_then() {
    let rows = uniform(300, 5, 5);
    let source = Shrinking { plain: Plain::new(&rows, DistanceType::L2), len: AtomicU64::new(300) };
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    graph.insert_batch(0..200, &source).unwrap();
    source.len.store(150, Ordering::Relaxed);
    let results = graph.search(rows.row(0), &SearchParams::new(200).ef(50), &source).unwrap().into_vec();
    assert_eq!(results.len(), 150);
    assert!(results.iter().all(|r| r.id < 150));
    let error = graph.insert_batch(200..300, &source).unwrap_err();
    assert!(matches!(error, Error::SourceTooShort { len: 150, needed: 300 }), "{error:?}");
    source.len.store(300, Ordering::Relaxed);
    graph.insert_batch(200..300, &source).unwrap();
    Exported::read(&graph.to_lance_hnsw_batch(None).unwrap()).check(&source, "after shrinking");
}

/// A store never holds NaN, but a source may. Such rows are refused or linked; the others stay findable.
#[test]
fn rows_that_are_not_numbers_strand_nobody() {
    for distance_type in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
        for bad_value in [f32::NAN, -f32::NAN, f32::INFINITY] {
            for every in [2, 10, 150] {
                let mut rows = Shape::Random.rows(900, 8, 6);
                for row in (0..900).step_by(every) {
                    rows.values[row * 8 + 3] = bad_value;
                }
                let case = format!("{distance_type}, {bad_value} in every {every}th row");
                let source = Plain::new(&rows, distance_type);
                let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
                if let Err(error) = graph.insert_batch(0..900, &source) {
                    println!("{case}: {error}");
                    assert_eq!((graph.len(), graph.health().nodes), (0, 0), "{case}");
                    continue;
                }
                let health = graph.health();
                assert_eq!((health.nodes, health.reachable), (900, 900), "{case}: {health}");
                let results =
                    graph.search(rows.row(1), &SearchParams::new(900).ef(900), &source).unwrap().into_vec();
                assert_eq!(results.len(), 900, "{case}");
                let numbers = results.iter().take_while(|r| !r.distance.is_nan()).count();
                assert!(
                    results[numbers..].iter().all(|r| r.distance.is_nan()),
                    "{case}: NaN before a number"
                );
                let again =
                    graph.search(rows.row(1), &SearchParams::new(900).ef(900), &source).unwrap().into_vec();
                assert_eq!(ids(&results), ids(&again), "{case}");
                let second = HnswGraph::try_new(BuildParams::default()).unwrap();
                second.insert_batch(0..900, &source).unwrap();
                let same = bytes(&graph.to_lance_hnsw_batch(None).unwrap())
                    == bytes(&second.to_lance_hnsw_batch(None).unwrap());
                assert!(same, "{case}: built twice, two graphs");
            }
        }
    }
}
