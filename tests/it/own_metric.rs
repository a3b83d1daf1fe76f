//! A metric of the caller's own: a graph over a `VectorSource` that overrides its distances.

use std::sync::atomic::{AtomicUsize, Ordering};

use pennon::{BuildParams, DistanceType, HnswGraph, SearchParams, VectorSource};

use crate::data::{Plain, Rows, Tally, assert_sorted, clustered, ids, in_pool};
use crate::export::{Exported, bytes};

/// The largest difference of any element.
struct Chebyshev {
    plain: Plain,
    asked: AtomicUsize,
}

impl Chebyshev {
    fn new(rows: &Rows) -> Self {
        // The label is not asked what it means: a graph only compares it from call to call.
        Self { plain: Plain::new(rows, DistanceType::L2), asked: AtomicUsize::new(0) }
    }
}

fn chebyshev(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

impl VectorSource for Chebyshev {
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
        self.plain.vector(id)
    }

    fn distance_to(&self, query: &[f32], id: u32) -> f32 {
        self.asked.fetch_add(1, Ordering::Relaxed);
        chebyshev(query, self.vector(id))
    }

    fn distance_between(&self, left: u32, right: u32) -> f32 {
        self.distance_to(self.vector(left), right)
    }
}

fn built(source: &Chebyshev, sizes: &[u32]) -> HnswGraph {
    let graph = HnswGraph::try_new(BuildParams::default()).unwrap();
    for &size in sizes {
        let start = graph.len() as u32;
        graph.insert_batch(start..start + size, source).unwrap();
    }
    graph
}

#[test]
fn a_graph_of_a_metric_of_ones_own() {
    let all = clustered(2_060, 10, 32, 81).0;
    let (rows, queries) = (all.part(0..2_000), all.part(2_000..2_060));
    let source = Chebyshev::new(&rows);
    let graph = built(&source, &[1_200, 1, 799]);
    assert!(source.asked.load(Ordering::Relaxed) > 0);
    assert!(graph.health().is_healthy(), "{}", graph.health());

    let mut tally = Tally::default();
    for query in queries.iter() {
        let found = graph.search(query, &SearchParams::new(10).ef(100), &source).unwrap().into_vec();
        assert_sorted(&found, "chebyshev");
        for result in &found {
            assert_eq!(result.distance, chebyshev(query, rows.row(result.id as usize)), "{result:?}");
            assert_eq!(result.row_id, source.row_id(result.id));
        }
        let distances: Vec<f64> = rows.iter().map(|row| f64::from(chebyshev(query, row))).collect();
        tally.count(&distances, 10, |_| true, ids(&found), "chebyshev");
    }
    println!("chebyshev: recall@10 {:.4}", tally.recall());
    assert!(tally.recall() >= 0.95, "recall {}", tally.recall());

    // With every row asked for, the answer is a scan's.
    let query = queries.row(0);
    let all = graph.search(query, &SearchParams::new(2_000).ef(2_000), &source).unwrap().into_vec();
    let mut expected: Vec<(f32, u32)> =
        (0..).zip(rows.iter()).map(|(id, row)| (chebyshev(query, row), id)).collect();
    expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    assert_eq!(all.iter().map(|result| (result.distance, result.id)).collect::<Vec<_>>(), expected);
}

/// Every edge is as long as the metric says, in the export too, and an import goes on with the same source.
#[test]
fn edges_are_of_the_metric_and_survive_an_export() {
    let rows = clustered(1_300, 10, 32, 82).0;
    let source = Chebyshev::new(&rows);
    let graph = built(&source, &[1_000]);
    let batch = graph.to_lance_hnsw_batch(None).unwrap();
    let exported = Exported::read(&batch);
    assert_eq!((exported.nodes(), exported.reachable()), (1_000, 1_000));
    for ((&id, neighbors), distances) in exported.ids.iter().zip(&exported.neighbors).zip(&exported.distances)
    {
        let expected: Vec<f32> =
            neighbors.iter().map(|&neighbor| source.distance_between(id, neighbor)).collect();
        assert_eq!(*distances, expected, "edges of {id}");
    }

    let back = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
    let answers = |graph: &HnswGraph, row| {
        graph.search(rows.row(row), &SearchParams::new(10), &source).unwrap().into_vec()
    };
    for row in 1_000..1_020 {
        assert_eq!(answers(&back, row), answers(&graph, row));
    }
    back.insert_batch(1_000..1_300, &source).unwrap();
    assert!(back.health().is_healthy(), "{}", back.health());
    for row in 1_000..1_300 {
        let found = answers(&back, row);
        assert_eq!((found[0].id as usize, found[0].distance), (row, 0.0));
    }
}

#[test]
fn the_graph_does_not_depend_on_threads() {
    let rows = clustered(1_500, 10, 32, 83).0;
    let graph = |threads| {
        let source = Chebyshev::new(&rows);
        in_pool(threads, || bytes(&built(&source, &[700, 800]).to_lance_hnsw_batch(None).unwrap()))
    };
    assert!(graph(1) == graph(4));
}
