//! A frozen copy gives the answers of its index, in an order that suits searches, and lives on as any other.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray, UInt8Array, UInt64Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, ElementType, Error, Hit, Index, SearchParams, VectorSource};

use crate::data::{METRICS, Rows, Shape, assert_sorted, build, clustered, import, in_pool, pair, uniform};
use crate::deletes::{array_of, contents};
use crate::export::{Exported, bytes};

const L2: DistanceType = DistanceType::L2;

fn params() -> BuildParams {
    BuildParams::default().ef_construction(60)
}

/// Rows that came in three batches, under row ids that do not ascend.
fn index_of(rows: &Rows, distance_type: DistanceType) -> Index {
    let index = Index::hnsw(rows.dim, distance_type, params()).unwrap();
    for (start, array) in rows.batches(rows.len().div_ceil(3).max(1)) {
        let row_ids = (0..array.len()).map(|row| 1_000_000 - (start as usize + row) * 7);
        index.append(&array, array_of(row_ids)).unwrap();
    }
    index
}

/// Everything that an export shows.
fn exported(index: &Index) -> Vec<u8> {
    let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
    let mut all = bytes(&graph);
    all.extend(bytes(&vectors));
    all
}

/// The rows found, those at the same distance in the order of their row ids.
fn answer(results: &[Hit]) -> Vec<(u32, u64)> {
    let mut answer: Vec<_> =
        results.iter().map(|result| (result.distance.to_bits(), result.row_id)).collect();
    answer.sort_unstable();
    answer
}

/// The same rows at the same distances, to the bit.
fn assert_same_answers(one: &Index, other: &Index, queries: &Rows, case: &str) {
    for (number, query) in queries.iter().enumerate() {
        for (k, ef) in [(1, 1), (10, 10), (10, 64), (50, 600)] {
            let search = |index: &Index| {
                let results = index.search(query, &SearchParams::new(k).ef(ef)).unwrap().into_vec();
                assert_sorted(&results, case);
                answer(&results)
            };
            assert_eq!(search(one), search(other), "{case}: query {number}, k = {k}, ef = {ef}");
        }
        let exact =
            |index: &Index| answer(&index.search_exact(query, &SearchParams::new(20)).unwrap().into_vec());
        assert_eq!(exact(one), exact(other), "{case}: query {number}, exact");
        let until = SearchParams::new(20).max_row_id(990_000);
        let below = |index: &Index| answer(&index.search_exact(query, &until).unwrap().into_vec());
        assert_eq!(below(one), below(other), "{case}: query {number}, exact, row ids to 990,000");
    }
}

/// The same graph under other ids, every node of it reachable, and the vectors one after the other.
fn assert_frozen(frozen: &Index, index: &Index, case: &str) {
    assert_eq!((frozen.len(), frozen.tombstones()), (index.len(), 0), "{case}");
    assert_eq!((frozen.params(), frozen.dim()), (index.params(), index.dim()), "{case}");
    assert_eq!(frozen.distance_type(), index.distance_type(), "{case}");
    let (ours, theirs) = (frozen.health().unwrap(), index.health().unwrap());
    assert!(ours.is_healthy() && ours.unreachable() == 0, "{case}: {ours}");
    assert_eq!(
        (ours.edges, &ours.level_nodes, &ours.degree_histogram, &ours.max_degree),
        (theirs.edges, &theirs.level_nodes, &theirs.degree_histogram, &theirs.max_degree),
        "{case}"
    );
    let snapshot = frozen.reader().snapshot();
    let address = |id: u32| snapshot.vector(id).as_ptr() as usize;
    let first = address(0);
    assert_eq!(first % 64, 0, "{case}");
    for id in 0..frozen.len() as u32 {
        assert_eq!(address(id), first + id as usize * frozen.dim() * size_of::<f32>(), "{case}: id {id}");
    }
    let copied = frozen.len() * (frozen.dim() * size_of::<f32>() + size_of::<u64>());
    assert!(frozen.resident_bytes() > copied, "{case}: {} bytes", frozen.resident_bytes());
    Exported::read(&frozen.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()).check(&snapshot, case);
}

#[test]
fn answers_are_those_of_the_index() {
    for shape in [Shape::Random, Shape::Clustered, Shape::Sorted] {
        for distance_type in METRICS {
            let rows = shape.rows(2_000, 16, 51);
            let queries = uniform(40, 16, 52);
            let index = index_of(&rows, distance_type);
            let before = exported(&index);
            let case = format!("{shape:?}, {distance_type}");
            let frozen = index.reordered().unwrap();
            assert_frozen(&frozen, &index, &case);
            assert_same_answers(&index, &frozen, &queries, &case);
            assert!(contents(&frozen) == contents(&index), "{case}: other rows");
            assert!(exported(&index) == before, "{shape:?}, {distance_type}: the index changed");
        }
    }
}

/// Where distances are tied, the ids decide, and these are others: the distances are the same.
#[test]
fn ties_change_places_at_most() {
    for shape in [Shape::AllEqual, Shape::Copies, Shape::Grid] {
        let rows = shape.rows(1_500, 8, 53);
        let index = index_of(&rows, L2);
        let case = format!("{shape:?}");
        let frozen = index.reordered().unwrap();
        assert_frozen(&frozen, &index, &case);
        for query in uniform(20, 8, 54).iter() {
            let distances = |index: &Index| -> Vec<u32> {
                let results = index.search_exact(query, &SearchParams::new(100)).unwrap().into_vec();
                results.iter().map(|result| result.distance.to_bits()).collect()
            };
            assert_eq!(distances(&frozen), distances(&index), "{case}");
        }
        assert!(contents(&frozen) == contents(&index), "{case}: other rows");
    }
}

/// Breadth first from the entry point, nearest neighbors first: which an export shows.
#[test]
fn ids_are_the_order_of_a_walk() {
    let rows = clustered(2_000, 12, 64, 55).0;
    let frozen = index_of(&rows, L2).reordered().unwrap();
    let graph = Exported::read(&frozen.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    assert_eq!((graph.entry_point, frozen.health().unwrap().entry_point), (0, Some(0)));
    let (mut met, mut next) = (1_u32, 0_u32);
    while next < met {
        for &neighbor in &graph.neighbors[next as usize] {
            assert!(neighbor <= met, "{next} leads to {neighbor}, and {met} were met");
            met = met.max(neighbor + 1);
        }
        next += 1;
    }
    assert_eq!(met, 2_000);

    assert!(exported(&frozen.reordered().unwrap()) == exported(&frozen), "frozen twice");
}

/// How far ids of neighbors are from each other is what an order is about.
#[test]
fn neighbors_lie_nearer_together() {
    let rows = clustered(5_000, 12, 64, 56).0;
    let index = index_of(&rows, L2);
    let mean_gap = |index: &Index| {
        let graph = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
        let gaps = graph.neighbors[..5_000]
            .iter()
            .enumerate()
            .flat_map(|(id, list)| list.iter().map(move |&neighbor| id.abs_diff(neighbor as usize)));
        let (count, sum) = gaps.fold((0, 0), |(count, sum), gap| (count + 1, sum + gap));
        sum as f64 / count as f64
    };
    let before = mean_gap(&index);
    let after = mean_gap(&index.reordered().unwrap());
    println!("neighbors are {after:.0} ids apart, {before:.0} before");
    assert!(after < before, "{after}, {before} before");
}

#[test]
fn a_frozen_index_lives_on() {
    let rows = clustered(2_500, 16, 64, 57).0;
    let index = index_of(&rows.part(0..2_000), L2);
    let frozen = index.reordered().unwrap();
    let case = "the copy";
    let new = rows.part(2_000..2_500);
    let error = frozen.append(&new.part(0..1).array(), 1_000_000u64).unwrap_err();
    assert!(matches!(error, Error::DuplicateRowId { row_id: 1_000_000, row: 0 }), "{case}: {error}");
    frozen.append(&new.array(), 2_000_000u64).unwrap();
    frozen.delete(1_000_000).unwrap();
    frozen.upsert(&new.part(0..1).array(), 1_000_000u64 - 7).unwrap();
    assert_eq!((frozen.len(), frozen.tombstones()), (2_499, 2), "{case}");
    let health = frozen.health().unwrap();
    assert!(health.is_healthy() && health.nodes == 2_501, "{case}: {health}");
    // The first is there twice.
    let is_found = |(row, query): &(usize, &[f32])| {
        let found = frozen.search(query, &SearchParams::new(1).ef(100)).unwrap().into_vec();
        (found[0].row_id, found[0].distance) == (2_000_000 + *row as u64, 0.0)
    };
    let found = new.iter().enumerate().skip(1).filter(is_found).count();
    assert!(found >= 495, "{case}: {found} of 499 new rows find themselves");
    let masked =
        frozen.search(new.row(1), &SearchParams::new(10).ef(64).max_row_id(1_000_000)).unwrap().into_vec();
    assert!(masked.len() == 10 && masked.iter().all(|hit| hit.row_id < 1_000_000), "{case}: {masked:?}");
    let compacted = frozen.reader().compacted().unwrap();
    assert!(compacted.health().unwrap().is_healthy() && contents(&compacted) == contents(&frozen), "{case}");
    assert_eq!((index.len(), index.tombstones()), (2_000, 0), "{case}: the index itself");
}

#[test]
fn dead_rows_are_left_out() {
    let rows = clustered(2_000, 16, 64, 58).0;
    let queries = uniform(40, 16, 59);
    for percent in [1, 40, 90] {
        let index = build(&rows, L2, &params(), 500);
        (0..2_000).filter(|row| row * 37 % 100 < percent).for_each(|row| index.delete(row).unwrap());
        let compacted = index.reader().compacted().unwrap();
        let case = format!("{percent} % dead");
        let frozen = index.reordered().unwrap();
        assert_eq!(frozen.len(), 2_000 - 20 * percent as usize, "{case}");
        assert_frozen(&frozen, &compacted, &case);
        assert_same_answers(&compacted, &frozen, &queries, &case);
        assert!(contents(&frozen) == contents(&index), "{case}: other rows");
        assert_eq!(index.tombstones(), 20 * percent as usize, "{case}: the index itself");
    }
}

#[test]
fn exports_come_in_that_order() {
    let rows = clustered(2_000, 16, 64, 60).0;
    let queries = uniform(40, 16, 61);
    let index = index_of(&rows, DistanceType::Cosine);
    index.delete(1_000_000).unwrap();
    let case = "the copy";
    let (graph, vectors) = index.reordered().unwrap().to_lance_batches().map(pair).unwrap();
    let frozen = index.reordered().unwrap();
    assert!(
        bytes(&graph) == bytes(&frozen.reader().graph().unwrap().to_lance_hnsw_batch().unwrap()),
        "{case}"
    );
    assert!(bytes(&vectors) == bytes(&frozen.reader().snapshot().to_record_batch().unwrap()), "{case}");
    let back = import(&graph, &vectors).unwrap();
    Exported::read(&graph).check(&back.reader().snapshot(), case);
    assert_same_answers(&frozen, &back, &queries, case);
    // An imported index, whose lists lie in a batch, is frozen as any other.
    let again = back.reordered().unwrap();
    assert_frozen(&again, &back, case);
    assert_same_answers(&again, &back, &queries, case);
}

#[test]
fn few_rows_or_none_are_frozen_too() {
    let empty = Index::hnsw(4, L2, params()).unwrap().reordered().unwrap();
    assert!(
        empty.is_empty() && empty.search(&[0.0; 4], &SearchParams::new(3)).unwrap().into_vec().is_empty()
    );
    assert_eq!(empty.reordered().unwrap().to_lance_batches().map(pair).unwrap().1.num_rows(), 0);
    empty.append(&uniform(10, 4, 62).array(), 5u64).unwrap();
    for n in 1..=10 {
        let rows = uniform(n, 4, 62);
        let index = index_of(&rows, L2);
        let frozen = index.reordered().unwrap();
        assert_frozen(&frozen, &index, &format!("{n} rows"));
        assert_same_answers(&index, &frozen, &uniform(3, 4, 63), &format!("{n} rows"));
    }
    let all_dead = build(&uniform(10, 4, 62), L2, &params(), 10);
    (0..10).for_each(|row_id| all_dead.delete(row_id).unwrap());
    assert!(all_dead.reordered().unwrap().is_empty());
}

#[test]
fn the_number_of_threads_does_not_show() {
    let rows = clustered(2_000, 16, 64, 64).0;
    let index = index_of(&rows, L2);
    index.delete(1_000_000).unwrap();
    let one = in_pool(1, || exported(&index.reordered().unwrap()));
    let eight = in_pool(8, || exported(&index.reordered().unwrap()));
    assert!(one == eight);
}

/// Elements are copied as they are.
#[test]
fn bytes_stay_bytes() {
    let (n, dim) = (1_000, 24);
    let values = uniform(n, dim, 65).values.iter().map(|x| ((x + 1.0) * 127.0) as u8).collect::<Vec<_>>();
    let item = Arc::new(Field::new("item", DataType::UInt8, true));
    let values = Arc::new(UInt8Array::from(values));
    let array = FixedSizeListArray::try_new(item, dim as i32, values, None).unwrap();
    for distance_type in [L2, DistanceType::Hamming] {
        let index = Index::builder(dim, distance_type)
            .element_type(ElementType::UInt8)
            .params(params())
            .build()
            .unwrap();
        index.append(&array, UInt64Array::from_iter_values((0..n as u64).rev())).unwrap();
        let case = format!("{distance_type}");
        let frozen = index.reordered().unwrap();
        assert_eq!(frozen.element_type(), ElementType::UInt8, "{case}");
        assert!(frozen.health().unwrap().is_healthy(), "{case}");
        let snapshots = (index.reader().snapshot(), frozen.reader().snapshot());
        for id in 0..n as u32 {
            let old = (n - 1) as u32 - snapshots.1.row_id(id) as u32;
            assert_eq!(snapshots.1.widened(id), snapshots.0.widened(old), "{case}: id {id}");
        }
        let query = snapshots.0.widened(17).into_owned();
        let distances = |index: &Index| -> Vec<f32> {
            let results = index.search_exact(&query, &SearchParams::new(50)).unwrap().into_vec();
            results.iter().map(|result| result.distance).collect()
        };
        assert_eq!(distances(&frozen), distances(&index), "{case}");
    }
}
