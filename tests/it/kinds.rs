//! Every kind of index passes one suite: a model in plain loops says what is right.
//!
//! The graph is searched with an `ef` of more than all rows, so that it has nothing to approximate.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, UInt8Type, UInt64Type};
use arrow_array::{FixedSizeListArray, Float64Array, RecordBatch, UInt64Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field};
use pennon::{
    BuildParams, Coding, DistanceType, ElementType, Error, Hit, Index, LanceBatches, PreparedQuery, RowIds,
    RowMask, SearchParams, SearchPlan,
};
use roaring::RoaringTreemap;

use crate::data::{METRICS, Rows, Shape, clustered, uniform, with_stats};
use crate::export::bytes;

const DIM: usize = 12;
/// Above the number of rows of any test here.
const EF: usize = 1_000;

/// With a graph and without, with codes and without.
const KINDS: [&str; 4] = ["coded graph", "graph", "coded", "flat"];

fn kinds(distance_type: DistanceType) -> [(&'static str, Index); 4] {
    KINDS.map(|kind| {
        let codes = if kind.starts_with("coded") { Coding::Bytes } else { Coding::Off };
        let builder = Index::builder(DIM, distance_type).codes(codes);
        (kind, if kind.ends_with("graph") { builder } else { builder.flat() }.build().unwrap())
    })
}

/// All rows there ever were, by vector id, and whether they are alive.
#[derive(Clone)]
struct Model {
    distance_type: DistanceType,
    rows: Vec<(u64, Vec<f32>, bool)>,
}

impl Model {
    fn new(distance_type: DistanceType) -> Self {
        Self { distance_type, rows: Vec::new() }
    }

    fn delete(&mut self, row_id: u64) {
        self.rows.iter_mut().filter(|row| row.0 == row_id).for_each(|row| row.2 = false);
    }

    fn upsert(&mut self, row_id: u64, vector: &[f32]) {
        self.delete(row_id);
        self.rows.push((row_id, vector.to_vec(), true));
    }

    fn live(&self) -> usize {
        self.rows.iter().filter(|row| row.2).count()
    }

    /// The nearest of the live rows that qualify.
    fn nearest(&self, query: &[f32], k: usize, qualifies: impl Fn(&Hit) -> bool) -> Vec<Hit> {
        let prepared = PreparedQuery::new(query, self.distance_type);
        let live = (0..).zip(&self.rows).filter(|(_, row)| row.2);
        let results = live.map(|(id, (row_id, vector, _))| Hit {
            id,
            row_id: *row_id,
            distance: prepared.distance(vector) + 0.0,
        });
        let mut results: Vec<Hit> = results.filter(qualifies).collect();
        results.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
        results.truncate(k);
        results
    }

    fn check(&self, index: &Index, queries: &Rows, case: &str) {
        let live = self.live();
        assert_eq!((index.len(), index.is_empty()), (live, live == 0), "{case}");
        assert_eq!(index.version().vectors(), self.rows.len(), "{case}");
        let stats = index.stats();
        assert_eq!((stats.live, stats.tombstones), (live, self.rows.len() - live), "{case}");
        assert!(stats.to_string().contains(&live.to_string()), "{case}: {stats}");
        for (row_id, _, alive) in &self.rows {
            assert!(!alive || index.contains(*row_id), "{case}: row id {row_id}");
        }
        for query in queries.iter() {
            for k in [0, 1, 10, 100, usize::MAX] {
                let found = index.search(query, &SearchParams::new(k).ef(EF)).unwrap().into_vec();
                assert_eq!(found, self.nearest(query, k, |_| true), "{case}, k = {k}");
            }
        }
        let batch = index
            .search_batch(&queries.array(), &SearchParams::new(7).ef(EF))
            .unwrap()
            .to_record_batch()
            .unwrap();
        let expected = queries.iter().map(|query| self.nearest(query, 7, |_| true));
        let expected: Vec<(i32, u64, f32)> = (0..)
            .zip(expected)
            .flat_map(|(query, hits)| hits.into_iter().map(move |hit| (query, hit.row_id, hit.distance)))
            .collect();
        assert_eq!(read(&batch), expected, "{case}: a batch of queries");
    }
}

fn read(batch: &RecordBatch) -> Vec<(i32, u64, f32)> {
    let queries = batch["query_index"].as_primitive::<Int32Type>().values();
    let row_ids = batch["_rowid"].as_primitive::<UInt64Type>().values();
    let distances = batch["_distance"].as_primitive::<Float32Type>().values();
    (0..batch.num_rows()).map(|row| (queries[row], row_ids[row], distances[row])).collect()
}

#[test]
fn rows_come_change_and_go() {
    let metrics = [METRICS.to_vec(), vec![DistanceType::L1]].concat();
    for (distance_type, shape) in
        metrics.into_iter().zip([Shape::Grid, Shape::Clustered, Shape::Copies, Shape::Random])
    {
        // Away from zero, which has no direction.
        let mut rows = shape.rows(420, DIM, 1);
        rows.values.iter_mut().for_each(|x| *x += 0.25);
        let queries = Rows { dim: DIM, values: [uniform(4, DIM, 2).values, rows.part(7..9).values].concat() };
        for (kind, index) in kinds(distance_type) {
            let case = |step: &str| format!("{kind}, {distance_type}, {shape:?}: {step}");
            let mut model = Model::new(distance_type);
            assert_eq!((index.dim(), index.distance_type()), (DIM, distance_type));
            model.check(&index, &queries, &case("empty"));

            assert_eq!(index.append(&rows.part(0..200).array(), RowIds::StartingAt(0)).unwrap(), 0..200);
            (0..200).for_each(|row| model.upsert(row as u64, rows.row(row)));
            model.check(&index, &queries, &case("200 rows"));

            let row_ids: Vec<u64> = (1_000..1_100).rev().collect();
            let given = RowIds::from(UInt64Array::from(row_ids.clone()));
            assert_eq!(index.append(&rows.part(200..300).array(), given).unwrap(), 200..300);
            (200..300).zip(row_ids).for_each(|(row, row_id)| model.upsert(row_id, rows.row(row)));
            model.check(&index, &queries, &case("300 rows"));
            let (version, before) = (index.version(), model.clone());

            for row_id in (0..200).step_by(3).chain(1_050..1_060) {
                index.delete(row_id).unwrap();
                assert!(!index.contains(row_id));
                model.delete(row_id);
            }
            model.check(&index, &queries, &case("with deletes"));

            // New ones, dead ones, live ones, and one row id twice.
            let row_ids: Vec<u64> = (150..200).chain(5_000..5_049).chain([5_000]).collect();
            let given = RowIds::from(UInt64Array::from(row_ids.clone()));
            assert_eq!(index.upsert(&rows.part(300..400).array(), given).unwrap(), 300..400);
            (300..400).zip(row_ids).for_each(|(row, row_id)| model.upsert(row_id, rows.row(row)));
            model.check(&index, &queries, &case("with updates"));

            for query in queries.iter() {
                let found = index
                    .reader_at(version)
                    .unwrap()
                    .search(query, &SearchParams::new(50).ef(EF))
                    .unwrap()
                    .into_vec();
                assert_eq!(found, before.nearest(query, 50, |_| true), "{}", case("the version of before"));
            }
            let live: Vec<u64> = model.rows.iter().filter(|row| row.2).map(|row| row.0).collect();
            for row_id in live {
                index.delete(row_id).unwrap();
                model.delete(row_id);
            }
            model.check(&index, &queries, &case("all gone"));
        }
    }
}

#[test]
fn filters_are_those_of_the_model() {
    for distance_type in METRICS {
        let all = clustered(406, DIM, 64, 3).0;
        let (rows, queries) = (all.part(0..400), all.part(400..406));
        for (kind, index) in kinds(distance_type) {
            let mut model = Model::new(distance_type);
            for start in (0..400).step_by(100) {
                index
                    .append(&rows.part(start..start + 100).array(), RowIds::StartingAt(start as u64))
                    .unwrap();
            }
            (0..400).for_each(|row| model.upsert(row as u64, rows.row(row)));
            for row_id in (0..400).step_by(9) {
                index.delete(row_id).unwrap();
                model.delete(row_id);
            }
            for every in [1, 2, 7, 50, 399] {
                let bits: BooleanBuffer = (0..400).map(|id| id % every == 1).collect();
                let row_ids: RoaringTreemap = (0..400).filter(|row_id| row_id % every as u64 == 1).collect();
                let passes = move |row_id: u64| row_id % every as u64 == 1;
                for (form, mask) in [
                    ("bits", index.reader().mask(bits).unwrap()),
                    ("row ids", RowMask::from(row_ids)),
                    ("a predicate", RowMask::predicate(passes)),
                ] {
                    for (query, highest) in queries.iter().zip([399, u64::MAX, 200, 40, 0, 399]) {
                        for k in [1, 10, usize::MAX] {
                            let case = format!("{kind}, {distance_type}, {form} of one in {every}, k = {k}");
                            let params = SearchParams::new(k).ef(EF).mask(mask.clone()).max_row_id(highest);
                            let admits = |hit: &Hit| passes(hit.row_id) && hit.row_id <= highest;
                            let expected = model.nearest(query, k, admits);
                            assert_eq!(index.search(query, &params).unwrap().into_vec(), expected, "{case}");

                            let middle = model.nearest(query, usize::MAX, |_| true)[200].distance;
                            for (lower, upper) in
                                [(f32::NEG_INFINITY, middle), (middle, f32::INFINITY), (middle, middle)]
                            {
                                let within =
                                    |hit: &Hit| admits(hit) && lower <= hit.distance && hit.distance < upper;
                                let params = params.clone().distance_range(lower..upper);
                                let found = index.search(query, &params).unwrap().into_vec();
                                assert_eq!(
                                    found,
                                    model.nearest(query, k, within),
                                    "{case}, {lower}..{upper}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn errors_are_the_same_and_change_nothing() {
    let rows = uniform(200, DIM, 4);
    let queries = uniform(3, DIM, 5);
    let mut messages: Vec<Vec<String>> = Vec::new();
    for (kind, index) in kinds(DistanceType::L2) {
        let mut model = Model::new(DistanceType::L2);
        index.append(&rows.array(), RowIds::StartingAt(0)).unwrap();
        (0..200).for_each(|row| model.upsert(row as u64, rows.row(row)));
        index.delete(3).unwrap();
        model.delete(3);

        let three = uniform(3, DIM, 6).array();
        let ids = |row_ids: [Option<u64>; 3]| RowIds::from(UInt64Array::from(row_ids.to_vec()));
        let field = Arc::new(Field::new("item", DataType::Float64, true));
        let values = Float64Array::from(vec![0.5; DIM]);
        let doubles = FixedSizeListArray::new(field, DIM as i32, Arc::new(values), None);
        let query = queries.row(0);
        let mut with_nan = query.to_vec();
        with_nan[5] = f32::NAN;
        let nan_in_second = Rows { dim: DIM, values: [query, &with_nan[..]].concat() };
        let top = || SearchParams::new(3);
        let errors = [
            ("DimensionMismatch", index.append(&uniform(2, 3, 7).array(), RowIds::StartingAt(900)).err()),
            ("UnsupportedType", index.append(&doubles, RowIds::StartingAt(900)).err()),
            ("DuplicateRowId", index.append(&three, RowIds::StartingAt(198)).err()),
            ("DuplicateRowId", index.append(&three, ids([Some(900), Some(901), Some(900)])).err()),
            ("NullRowId", index.append(&three, ids([Some(900), None, Some(901)])).err()),
            ("RowIdCount", index.upsert(&three, RowIds::from(UInt64Array::from(vec![1_u64, 2]))).err()),
            ("RowIdOverflow", index.upsert(&three, RowIds::StartingAt(u64::MAX - 1)).err()),
            ("UnknownRowId", index.delete(3).err()),
            ("UnknownRowId", index.delete(900).err()),
            ("DimensionMismatch", index.search(&query[1..], &top()).err()),
            ("UnusableQuery", index.search(&with_nan, &top()).err()),
            ("MaskLength", index.reader().mask(BooleanBuffer::new_set(199)).err()),
            ("InvalidDistanceRange", index.search(query, &top().distance_range(2.0..1.0)).err()),
            ("InvalidQuery", index.search_batch(&nan_in_second.array(), &top()).err()),
            ("DimensionMismatch", index.search_batch(&uniform(2, 3, 7).array(), &top()).err()),
        ];
        let error_of = |(name, error): (&str, Option<Error>)| {
            let error = error.unwrap_or_else(|| panic!("{kind}: no {name}"));
            assert!(format!("{error:?}").starts_with(name), "{kind}: {error:?}, not {name}");
            error.to_string()
        };
        messages.push(errors.into_iter().map(error_of).collect());
        model.check(&index, &queries, kind);
    }
    assert!(messages.iter().all(|of_kind| *of_kind == messages[0]), "{messages:?}");
}

#[test]
fn an_export_is_the_live_rows_and_changes_nothing() {
    let rows = clustered(300, DIM, 64, 8).0;
    let queries = clustered(5, DIM, 64, 9).0;
    for distance_type in METRICS {
        for (kind, index) in kinds(distance_type) {
            let empty = index.to_lance_batches().unwrap();
            assert_eq!((empty.vectors.num_rows(), empty.graph.is_some()), (0, kind.ends_with("graph")));
            let mut model = Model::new(distance_type);
            index.append(&rows.array(), RowIds::StartingAt(500)).unwrap();
            (0..300).for_each(|row| model.upsert(500 + row as u64, rows.row(row)));
            for row_id in (500..800).step_by(4) {
                index.delete(row_id).unwrap();
                model.delete(row_id);
            }
            let batches = index.to_lance_batches().unwrap();
            let LanceBatches { vectors, graph } = &batches;
            assert_eq!((vectors.num_rows(), graph.is_some()), (225, kind.ends_with("graph")), "{kind}");
            model.check(&index, &queries, kind);

            let flat = LanceBatches::new(None, vectors.clone());
            model.rows.retain(|row| row.2);
            for batches in [&flat, &batches] {
                let loaded = Index::from_lance_batches(batches).unwrap();
                assert_eq!(loaded.params().is_some(), batches.graph.is_some());
                model.check(&loaded, &queries, &format!("{kind}, loaded"));
                assert!(
                    bytes(&loaded.to_lance_batches().unwrap().vectors) == bytes(vectors),
                    "{kind}: other rows"
                );
            }
        }
    }
    for (kind, index) in kinds(DistanceType::L1) {
        let error = index.to_lance_batches().unwrap_err();
        assert!(matches!(error, Error::NotInLance { .. }), "{kind}: {error:?}");
    }
}

#[test]
fn a_flat_index_is_a_scan() {
    let rows = uniform(3_000, DIM, 10);
    let query = uniform(1, DIM, 11).values;
    let mut model = Model::new(DistanceType::L2);
    (0..3_000).for_each(|row| model.upsert(row as u64, rows.row(row)));
    let index = Index::flat(DIM, DistanceType::L2).unwrap();
    index.append_unique(&rows.array(), 0).unwrap();
    {
        let (all, stats) = with_stats(index.search(&query, &SearchParams::new(20)).unwrap());
        assert_eq!(all, model.nearest(&query, 20, |_| true));
        assert_eq!((stats.plan, stats.compared(), stats.nodes), (SearchPlan::Scan, 3_000, 0));
        assert!(stats.complete);

        // Rows are scanned in the order of their ids.
        for limit in [0, 1, 300, 2_000, 2_999] {
            let params = SearchParams::new(20).max_distances(limit);
            let (found, stats) = with_stats(index.search(&query, &params).unwrap());
            assert!((limit..=limit + 256).contains(&stats.compared()), "{stats:?} for a limit of {limit}");
            assert_eq!(stats.complete, stats.compared() == 3_000, "{stats:?}");
            assert_eq!(found, model.nearest(&query, 20, |hit| u64::from(hit.id) < stats.compared()));
        }
        let params = SearchParams::new(20).deadline(Instant::now() - Duration::from_millis(1));
        let (found, stats) = with_stats(index.search(&query, &params).unwrap());
        assert!(!stats.complete && stats.compared() < 3_000, "{stats:?}");
        assert_eq!(found, model.nearest(&query, 20, |hit| u64::from(hit.id) < stats.compared()));
        let hour = Instant::now() + Duration::from_secs(3_600);
        let params = SearchParams::new(20).deadline(hour).max_distances(3_000);
        let (found, stats) = with_stats(index.search(&query, &params).unwrap());
        assert_eq!((found, stats.complete), (all, true));
    }

    for row_id in 0..1_000 {
        index.delete(row_id).unwrap();
        model.delete(row_id);
    }
    let live = index.reader().live_ids();
    assert_eq!((live.len(), live.count_set_bits()), (3_000, 2_000));
    let compaction = index.compact().unwrap();
    assert_eq!((compaction.kept, compaction.removed, compaction.followed), (2_000, 1_000, 0));
    assert_eq!((index.len(), index.tombstones()), (2_000, 0));
    model.rows.retain(|row| row.2);
    model.check(&index, &uniform(3, DIM, 12), "compacted");
}

#[test]
fn a_query_under_hamming_is_of_bytes() {
    let rows = (0..100_u8).map(|row| Some([Some(row), Some(7), Some(255)]));
    let rows = FixedSizeListArray::from_iter_primitive::<UInt8Type, _, _>(rows, 3);
    let (element_type, distance_type) = (ElementType::UInt8, DistanceType::Hamming);
    let flat = Index::builder(3, distance_type).element_type(element_type).flat().build().unwrap();
    let params = BuildParams::default();
    let graph = Index::builder(3, distance_type).element_type(element_type).params(params).build().unwrap();
    flat.append(&rows, 0).unwrap();
    graph.append(&rows, 0).unwrap();
    let top = || SearchParams::new(5);
    let good = [0.0_f32, 7.0, 255.0];
    for bad in [0.5, -1.0, 255.5, 256.0, 1.0e9] {
        for at in 0..3 {
            let mut query = good;
            query[at] = bad;
            let message =
                format!("the query cannot be searched for: a value that is not a byte at element {at}");
            let errors = [
                flat.search(&query, &top()).err(),
                graph.search(&query, &top()).err(),
                graph.search_exact(&query, &top()).err(),
                graph.cursor(&query, &top()).err(),
            ];
            for error in errors {
                let error = error.unwrap();
                assert!(
                    matches!(error, Error::UnusableQuery { position, .. } if position == at),
                    "{error:?}"
                );
                assert_eq!(error.to_string(), message);
            }
            let queries = Rows { dim: 3, values: [good, query].concat() }.array();
            for error in
                [flat.search_batch(&queries, &top()).err(), graph.search_batch(&queries, &top()).err()]
            {
                let error = error.unwrap();
                assert!(matches!(error, Error::InvalidQuery { row: 1, .. }), "{error:?}");
                assert_eq!(error.to_string(), "query 1 cannot be searched for");
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                assert_eq!(cause, Some(message.clone()));
            }
        }
    }
    for zero in [0.0, -0.0] {
        let query = [zero, 7.0, 255.0];
        for found in [
            flat.search(&query, &top()).unwrap().into_vec(),
            graph.search(&query, &top()).unwrap().into_vec(),
        ] {
            assert_eq!((found[0].row_id, found[0].distance), (0, 0.0));
        }
    }
}

#[test]
fn a_flat_index_takes_every_element() {
    let bytes = |rows: Range<u8>| {
        let rows = rows.map(|row| Some((0..4).map(move |at| Some(row.wrapping_mul(37).rotate_left(at)))));
        FixedSizeListArray::from_iter_primitive::<UInt8Type, _, _>(rows, 4)
    };
    for distance_type in [DistanceType::Hamming, DistanceType::L2, DistanceType::L1, DistanceType::Cosine] {
        let flat = Index::builder(4, distance_type).element_type(ElementType::UInt8).flat().build().unwrap();
        let params = BuildParams::default();
        let graph =
            Index::builder(4, distance_type).element_type(ElementType::UInt8).params(params).build().unwrap();
        assert_eq!(flat.append(&bytes(0..200), 7).unwrap(), graph.append(&bytes(0..200), 7).unwrap().ids());
        assert_eq!((flat.stats().bytes.codes, flat.element_type()), (0, ElementType::UInt8));
        assert_eq!(flat.skipped(), graph.skipped());
        let found =
            flat.search_batch(&bytes(1..9), &SearchParams::new(20)).unwrap().to_record_batch().unwrap();
        for (query, row) in (1..9_u8).enumerate() {
            let values = (0..4).map(|at| f32::from(row.wrapping_mul(37).rotate_left(at)));
            let exact =
                graph.search_exact(&values.collect::<Vec<_>>(), &SearchParams::new(20)).unwrap().into_vec();
            let exact: Vec<_> = exact.iter().map(|hit| (query as i32, hit.row_id, hit.distance)).collect();
            assert_eq!(read(&found.slice(query * 20, 20)), exact, "{distance_type}");
        }
    }
    let error = Index::flat(4, DistanceType::Hamming).err().unwrap();
    assert!(matches!(error, Error::UnsupportedElement { .. }), "{error:?}");
    let error = Index::flat(0, DistanceType::L2).err().unwrap();
    assert!(matches!(error, Error::InvalidParams { parameter: "dim", value: 0, .. }), "{error:?}");
}
