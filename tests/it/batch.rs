//! Many queries at once: the answers of as many single searches, in one record batch.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, UInt64Type};
use arrow_array::{Array, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, Error, Index, Reader, RowMask, SearchParams};

use crate::data::{METRICS, Rows, build, clustered, in_pool, list, uniform};

/// Query, row id and distance of each row of an answer.
type Answers = Vec<(i32, u64, f32)>;

/// Reads a batch, and checks its schema and its order.
fn read(batch: &RecordBatch) -> Answers {
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|f| (f.name().as_str(), f.data_type().clone(), f.is_nullable()));
    let expected = [
        ("query_index", DataType::Int32, false),
        ("_rowid", DataType::UInt64, false),
        ("_distance", DataType::Float32, false),
    ];
    assert_eq!(fields.collect::<Vec<_>>(), expected);
    let queries = batch["query_index"].as_primitive::<Int32Type>().values();
    let row_ids = batch["_rowid"].as_primitive::<UInt64Type>().values();
    let distances = batch["_distance"].as_primitive::<Float32Type>().values();
    let answers: Answers =
        (0..batch.num_rows()).map(|row| (queries[row], row_ids[row], distances[row])).collect();
    assert!(answers.is_sorted_by(|a, b| a.0 < b.0 || a.0 == b.0 && a.2 <= b.2), "out of order: {answers:?}");
    answers
}

fn search_batch(index: &Index, queries: &FixedSizeListArray, params: &SearchParams) -> Answers {
    search_reader(&index.reader(), queries, params)
}

fn search_reader(reader: &Reader, queries: &FixedSizeListArray, params: &SearchParams) -> Answers {
    let hits = reader.search_batch(queries, params).unwrap();
    assert_eq!((hits.len(), hits.complete()), (queries.len(), true));
    let answers = read(&hits.to_record_batch().unwrap());
    let by_query = (0..)
        .zip(&hits)
        .flat_map(|(query, hits)| hits.iter().map(move |hit| (query, hit.row_id, hit.distance)));
    assert!(by_query.eq(answers.iter().copied()), "the batch is not what the answers are");
    answers
}

/// The same by one search for each query that is not null.
fn one_by_one(index: &Index, queries: &FixedSizeListArray, params: &SearchParams) -> Answers {
    one_by_one_of(&index.reader(), queries, params)
}

fn one_by_one_of(index: &Reader, queries: &FixedSizeListArray, params: &SearchParams) -> Answers {
    let mut answers = Vec::new();
    for row in (0..queries.len()).filter(|&row| queries.is_valid(row)) {
        let query = queries.value(row);
        let query = query.as_primitive::<Float32Type>().values();
        let results = index.search(query, params).unwrap().into_vec();
        answers.extend(results.iter().map(|result| (row as i32, result.row_id, result.distance)));
    }
    answers
}

#[test]
fn a_batch_of_queries_is_one_search_for_each() {
    for distance_type in METRICS {
        let all = clustered(2_150, 12, 64, 51).0;
        let index = build(&all.part(0..2_000), distance_type, &BuildParams::default(), 500);
        let queries = all.part(2_000..2_150).array();
        for (k, params) in [
            (10, SearchParams::new(10)),
            (1, SearchParams::new(1).ef(1)),
            (40, SearchParams::new(40).ef(7)),
            (0, SearchParams::new(0).ef(50)),
            (300, SearchParams::new(300).ef(10)),
        ] {
            let expected = one_by_one(&index, &queries, &params);
            assert_eq!(expected.len(), 150 * k);
            for threads in [1, 2, 5] {
                let answers = in_pool(threads, || search_batch(&index, &queries, &params));
                assert!(answers == expected, "{distance_type}, {params:?}, {threads} threads");
            }
        }
    }
}

/// Vectors of queries in every place of an array: behind an offset, under a null, in a child with an offset.
#[test]
fn sliced_queries_and_null_queries() {
    let rows = uniform(500, 6, 52);
    let index = build(&rows, DistanceType::Cosine, &BuildParams::default(), 500);
    let params = SearchParams::new(5);
    let queries = uniform(40, 6, 53);
    let whole = queries.array();
    for (start, len) in [(0, 40), (0, 7), (13, 20), (39, 1), (40, 0)] {
        let answers = search_batch(&index, &whole.slice(start, len), &params);
        let copied = queries.part(start..start + len).array();
        assert_eq!(answers, one_by_one(&index, &copied, &params), "{start}..{}", start + len);
        assert_eq!(answers.len(), 5 * len);
    }

    // What lies under a null is not looked at.
    let mut values = vec![f32::NAN; 6];
    values.extend(&queries.values);
    for null in (1..40).step_by(3) {
        values[(null + 1) * 6..(null + 2) * 6].fill([f32::NAN, 0.0, f32::INFINITY][null / 3 % 3]);
    }
    let valid = NullBuffer::from((0..40).map(|row| row % 3 != 1).collect::<Vec<_>>());
    let child = Float32Array::from(values).slice(6, 240);
    let holes = list(child, 6, "element", true, Some(valid));
    for (start, len) in [(0, 40), (1, 39), (1, 1), (4, 11)] {
        let sliced = holes.slice(start, len);
        let answers = search_batch(&index, &sliced, &params);
        assert_eq!(answers, one_by_one(&index, &sliced, &params), "{start}..{}", start + len);
        assert_eq!(answers.len(), 5 * (len - sliced.null_count()));
        assert!(answers.iter().all(|answer| (start + answer.0 as usize) % 3 != 1), "a null got an answer");
    }
}

#[test]
fn every_option_of_a_search_is_one_of_a_batch() {
    let all = clustered(1_600, 8, 64, 54).0;
    let index = build(&all.part(0..1_000), DistanceType::L2, &BuildParams::default(), 250);
    (0..1_000).step_by(9).for_each(|row| index.delete(row).unwrap());
    let before_all = index.reader();
    let queries = all.part(1_540..1_600).array();
    let everything = SearchParams::new(usize::MAX);
    let before = search_batch(&index, &queries, &everything);
    assert_eq!(before.len(), 60 * index.len());

    index.append(&all.part(1_000..1_500).array(), 1_000).unwrap();
    index.upsert(&all.part(1_500..1_540).array(), 500).unwrap();
    (1..1_000).step_by(9).for_each(|row| index.delete(row).unwrap());
    assert_eq!(search_reader(&before_all, &queries, &everything), before);

    let bits = BooleanBuffer::collect_bool(before_all.version().vectors(), |id| id % 2 == 0);
    let even = before_all.mask(bits).unwrap();
    let third = RowMask::predicate(|row_id| row_id % 3 == 0);
    for (case, params) in [
        ("all", SearchParams::new(10)),
        ("version", SearchParams::new(10)),
        ("watermark", SearchParams::new(10).max_row_id(400)),
        ("predicate", SearchParams::new(10).mask(third.clone())),
        ("ids", SearchParams::new(10).mask(even.clone())),
        ("range", SearchParams::new(10).distance_range(0.5..2.5)),
        ("both", SearchParams::new(10).mask(third).max_row_id(1_200).distance_range(0.0..3.0)),
        ("distances", SearchParams::new(10).max_distances(1_000_000)),
    ] {
        let now = index.reader();
        let reader = if ["version", "ids"].contains(&case) { &before_all } else { &now };
        let answers = search_reader(reader, &queries, &params);
        assert_eq!(answers, one_by_one_of(reader, &queries, &params), "{case}");
        let admitted = |row_id: u64| match case {
            "version" => row_id < 1_000 && !row_id.is_multiple_of(9),
            "watermark" => row_id <= 400,
            "predicate" => row_id.is_multiple_of(3),
            "ids" => row_id < 1_000 && row_id.is_multiple_of(2),
            "both" => row_id <= 1_200 && row_id.is_multiple_of(3),
            _ => true,
        };
        assert!(answers.iter().all(|answer| admitted(answer.1)), "{case}: {answers:?}");
        println!("{case}: {} rows", answers.len());
        assert!(answers.len() == 600 || (case == "range" || case == "both") && answers.len() > 60, "{case}");
    }
    let short = SearchParams::new(10).mask(even);
    let error = index.search_batch(&queries, &short).err().unwrap();
    assert!(matches!(error, Error::MaskLength { expected: 1_540, actual: 1_000 }), "{error:?}");
}

#[test]
fn a_query_that_cannot_be_searched_for_is_named() {
    let rows = uniform(100, 4, 55);
    for distance_type in METRICS {
        let index = build(&rows, distance_type, &BuildParams::default(), 100);
        // The first one, on however many threads.
        let refused = |bad: [f32; 4], position: usize| {
            let mut queries = uniform(80, 4, 56);
            for row in [17, 20, 70] {
                queries.values[row * 4..row * 4 + 4].copy_from_slice(&bad);
            }
            for (array, at) in [(queries.array(), 17), (queries.array().slice(10, 20), 7)] {
                let error = index.search_batch(&array, &SearchParams::new(3)).err().unwrap();
                let Error::InvalidQuery { row, source } = &error else { panic!("{error:?}") };
                assert_eq!(*row, at, "{error}");
                let found = matches!(**source, Error::UnusableQuery { position: p, .. } if p == position);
                assert!(found, "{distance_type}, {bad:?}: {error:?}");
                assert_eq!(error.to_string(), format!("query {at} cannot be searched for"));
                let chained = std::error::Error::source(&error).map(ToString::to_string);
                assert_eq!(chained, Some(source.to_string()));
            }
            let others = queries.array().slice(21, 32);
            assert_eq!(search_batch(&index, &others, &SearchParams::new(3)).len(), 96);
        };
        refused([0.5, 0.5, f32::NAN, 0.5], 2);
        refused([f32::INFINITY, 0.5, 0.5, 0.5], 0);
        refused([0.5, 0.5, 0.5, f32::NEG_INFINITY], 3);
        if distance_type == DistanceType::Cosine {
            refused([0.0, -0.0, 0.0, 0.0], 0);
        }
    }
}

#[test]
fn queries_of_another_shape_are_refused() {
    let index = build(&uniform(100, 4, 57), DistanceType::L2, &BuildParams::default(), 100);
    for dim in [1, 3, 5] {
        let error = index.search_batch(&uniform(6, dim, 58).array(), &SearchParams::new(3)).err().unwrap();
        assert!(
            matches!(error, Error::DimensionMismatch { expected: 4, actual } if actual == dim),
            "{error:?}"
        );
    }
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let whole = FixedSizeListArray::new(field, 4, Arc::new(Int64Array::from(vec![1; 8])), None);
    let error = index.search_batch(&whole, &SearchParams::new(3)).err().unwrap();
    assert!(matches!(error, Error::UnsupportedType { .. }), "{error:?}");
    assert!(error.to_string().contains("Int64"), "{error}");
}

#[test]
fn without_queries_or_rows_the_batch_is_empty_and_has_its_schema() {
    let params = SearchParams::new(3);
    let rows = uniform(20, 4, 59);
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 20);
    let none = Rows { dim: 4, values: Vec::new() }.array();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = FixedSizeListArray::new_null(item, 4, 9);
    for queries in [none, rows.array().slice(5, 0), nulls] {
        assert!(search_batch(&index, &queries, &params).is_empty());
    }
    let empty = Index::hnsw(4, DistanceType::L2, BuildParams::default()).unwrap();
    assert!(search_batch(&empty, &rows.array(), &params).is_empty());
    (0..20).for_each(|row| index.delete(row).unwrap());
    assert!(search_batch(&index, &rows.array(), &params).is_empty());
}
