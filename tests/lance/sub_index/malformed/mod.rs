//! An imported batch is untrusted: it is refused by name, or it becomes a graph that works.
//!
//! A case says which of the two it wants, and where Lance accepts what a stricter reader may refuse,
//! either will do. What no case may do is panic, return an id that is no node, or return one twice.

mod columns;
mod edges;
mod ids;
mod metadata;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use arrow_array::RecordBatch;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType, Error, HnswGraph};

use crate::sub_index::data::{Built, K, Vectors, recall};
use crate::sub_index::draft::Draft;

pub const N: usize = 600;
pub const ADDED: usize = 50;

pub struct Fixture {
    /// The rows of the graph and, after them, `ADDED` rows to append to it.
    pub vectors: Vectors,
    queries: Vectors,
    /// A well-formed batch over the first `N` rows, of at least three levels.
    pub good: Draft,
}

pub fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let vectors = Vectors::clustered(N + ADDED, 8, 71);
        let params = BuildParams::default().num_edges(8).ef_construction(64);
        let built = Built::new(&vectors.slice(0..N), DistanceType::L2, params);
        let good = Draft::of(&built.graph.to_lance_hnsw_batch(None).unwrap());
        let offsets = good.level_offsets();
        assert!(offsets[2] - offsets[1] > 2 && offsets[3] > offsets[2], "{offsets:?}");
        Fixture { vectors, queries: Vectors::clustered(50, 8, 72), good }
    })
}

#[derive(Clone, Copy)]
pub enum Expected {
    Refused,
    /// Read, and searched with at least this recall.
    Works(f64),
    /// Refused, or else as `Works`.
    Either(f64),
}

pub struct Case {
    name: &'static str,
    batch: RecordBatch,
    expected: Expected,
}

fn refused(name: &'static str, batch: RecordBatch) -> Case {
    Case { name, batch, expected: Expected::Refused }
}

fn works(name: &'static str, batch: RecordBatch) -> Case {
    Case { name, batch, expected: Expected::Works(0.9) }
}

fn either(name: &'static str, batch: RecordBatch) -> Case {
    Case { name, batch, expected: Expected::Either(0.9) }
}

/// For batches that name too few edges to be searched well.
fn either_at(least: f64, name: &'static str, batch: RecordBatch) -> Case {
    Case { name, batch, expected: Expected::Either(least) }
}

pub struct Report {
    pub recall: f64,
    /// Appended rows that a search for themselves returns.
    pub found: usize,
}

/// Searches an imported graph, appends to it, and gives the result to Lance if it can be exported.
/// Panics where the graph breaks a law that holds for any graph.
pub fn exercise(graph: HnswGraph, fixture: &Fixture) -> Report {
    let n = graph.len();
    assert!(n <= N, "{n} nodes from a batch of {N}");
    let known = fixture.vectors.slice(0..n);
    let built = Built::around(graph, &known, DistanceType::L2);
    let recall = recall(&known, DistanceType::L2, &fixture.queries, |query| checked_ids(&built, query, n));

    let added = fixture.vectors.slice(N..N + ADDED);
    let ids = built.append(&added);
    assert_eq!(ids, n as u32..(n + ADDED) as u32);
    let found =
        added.rows().zip(ids).filter(|(row, id)| checked_ids(&built, row, n + ADDED).contains(id)).count();
    if let Ok(batch) = built.graph.to_lance_hnsw_batch(None) {
        assert_eq!(HNSW::load(batch).unwrap().len(), n + ADDED);
    }
    Report { recall, found }
}

fn checked_ids(built: &Built, query: &[f32], n: usize) -> Vec<u32> {
    let hits = built.search(query);
    assert!(hits.len() <= K);
    assert!(hits.is_sorted_by(|left, right| left.distance <= right.distance), "{hits:?}");
    let ids: Vec<u32> = hits.iter().map(|hit| hit.id).collect();
    assert!(ids.iter().all(|id| (*id as usize) < n), "{ids:?} of {n} nodes");
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
    ids
}

fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_string(),
    }
}

/// What became of `case`: `Err` if that is not what it expects.
fn outcome(case: &Case) -> Result<String, String> {
    let import = || HnswGraph::from_lance_hnsw_batch(&case.batch);
    let imported = catch_unwind(AssertUnwindSafe(import))
        .map_err(|panic| format!("the import panicked: {}", message(panic)))?;
    let graph = match imported {
        Ok(graph) => graph,
        Err(Error::InvalidBatch { problem, .. }) => {
            return match case.expected {
                Expected::Works(_) => Err(format!("refused: {problem}")),
                _ => Ok(format!("refused: {problem}")),
            };
        }
        Err(error) => return Err(format!("not InvalidBatch: {error:?}")),
    };
    let Report { recall, found } = catch_unwind(AssertUnwindSafe(|| exercise(graph, fixture())))
        .map_err(|panic| format!("read, and then it panicked: {}", message(panic)))?;
    let seen = format!("read: recall {recall:.3}, {found} of {ADDED} appended rows found");
    match case.expected {
        Expected::Works(least) | Expected::Either(least) if recall >= least && found == ADDED => Ok(seen),
        _ => Err(seen),
    }
}

/// Runs all cases before it fails, so that one run shows every surprise.
fn run(cases: &[Case]) {
    let mut surprises = Vec::new();
    for case in cases {
        let name = case.name;
        match outcome(case) {
            Ok(seen) => println!("{name}: {seen}"),
            Err(seen) => surprises.push(format!("{name}: {seen}")),
        }
    }
    assert!(surprises.is_empty(), "{} cases:\n{}", surprises.len(), surprises.join("\n"));
}

#[test]
fn a_well_formed_batch_is_read() {
    run(&[Case { name: "unchanged", batch: fixture().good.batch(), expected: Expected::Works(0.95) }]);
}

#[test]
fn malformed_metadata_is_refused_or_harmless() {
    run(&metadata::cases(fixture()));
}

#[test]
fn malformed_level_offsets_are_refused_or_harmless() {
    run(&metadata::level_offsets(fixture()));
}

#[test]
fn malformed_columns_are_refused_or_harmless() {
    run(&columns::cases(fixture()));
}

#[test]
fn sliced_batches_are_read_or_refused() {
    run(&columns::sliced(fixture()));
}

#[test]
fn malformed_ids_are_refused_or_harmless() {
    run(&ids::cases(fixture()));
}

#[test]
fn malformed_neighbors_are_refused_or_harmless() {
    run(&edges::neighbors(fixture()));
}

#[test]
fn malformed_distances_are_refused_or_harmless() {
    run(&edges::distances(fixture()));
}
