//! Which rows get into an index: nulls, deleted rows, fragments, row ids; and columns that cannot.

use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, FixedSizeListArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use lance::Dataset;
use lance::dataset::WriteParams;
use pennon::lance::attach_index;
use pennon::{BuildParams, DistanceType, Error};

use crate::dataset::data::{
    DIM, Home, K, assert_recall, assert_used, dataset, index_dirs, nearest, params, reader, recall, rows,
    run, statistics, vectors,
};

#[test]
fn nulls_deleted_rows_and_several_fragments() {
    let home = Home::new();
    run(async {
        for stable in [false, true] {
            let what = if stable { "stable row ids" } else { "row addresses" };
            let uri = home.uri(if stable { "stable" } else { "address" });
            let batch = rows(0..3_000, |id| id % 10 == 3);
            // Slices, as a reader of other files may give them.
            let batches = vec![batch.slice(5, 1_495), batch.slice(1_500, 1_500)];
            let write =
                WriteParams { max_rows_per_file: 700, enable_stable_row_ids: stable, ..Default::default() };
            let mut dataset = Dataset::write(reader(batches), &uri, Some(write)).await.unwrap();
            dataset.delete("id % 7 = 0").await.unwrap();

            let reports = Arc::new(Mutex::new(Vec::new()));
            let progress = Arc::clone(&reports);
            let params = params(DistanceType::L2).partitions(2);
            let params = params.progress(move |done| progress.lock().unwrap().push(done));
            attach_index(&mut dataset, "vector", params).await.unwrap();
            let alive = dataset.count_rows(None).await.unwrap() as u64;
            let reports = reports.lock().unwrap().clone();
            assert!(reports.is_sorted(), "{reports:?}");
            assert_eq!(reports.last(), Some(&alive), "{reports:?}");
            let usable = (5..3_000).filter(|id| id % 7 != 0 && id % 10 != 3).count();
            let statistics = statistics(&dataset).await;
            let sizes = statistics["indices"][0]["partitions"].as_array().unwrap();
            let sizes = sizes.iter().map(|partition| partition["size"].as_u64().unwrap());
            assert_eq!(sizes.sum::<u64>(), usable as u64);

            // Rows that go later are not found either.
            dataset.delete("id % 5 = 1").await.unwrap();
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, what);
            for query in vectors(10, 77).chunks(DIM) {
                let found = nearest(&dataset, query, DistanceType::L2, true).await;
                assert_eq!(found.len(), K);
                let is_gone = |id: &i64| id % 7 == 0 || id % 5 == 1 || id % 10 == 3 || *id < 5;
                assert!(!found.iter().any(is_gone), "{found:?}");
            }
        }
    });
}

#[test]
fn some_fragments_are_indexed_and_the_rest_is_scanned() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("some"), 2_000, 500).await;
        let params = params(DistanceType::L2).fragments([1, 3]).name("some");
        let index = attach_index(&mut dataset, "vector", params).await.unwrap();
        assert_eq!(index.name, "some");
        assert_eq!(index.fragment_bitmap.clone().unwrap().iter().collect::<Vec<_>>(), [1, 3]);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "half indexed, half scanned");
    });
}

fn other_columns() -> RecordBatch {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let signed = Arc::new(Int8Array::from(vec![1; 8]));
    let signed = FixedSizeListArray::try_new(item(DataType::Int8), 2, signed, None).unwrap();
    let signed: ArrayRef = Arc::new(signed);
    let nulls: ArrayRef = Arc::new(FixedSizeListArray::new_null(item(DataType::Float32), 2, 4));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a"; 4]));
    let columns =
        [("id", ids, false), ("text", text, true), ("signed", signed, true), ("nulls", nulls, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn what_cannot_be_indexed_is_refused_and_changes_nothing() {
    let home = Home::new();
    run(async {
        let uri = home.uri("others");
        let mut dataset = Dataset::write(reader(vec![other_columns()]), &uri, None).await.unwrap();
        for (column, says) in [
            ("vector", "not a top-level column"),
            ("id", "Int64"),
            ("text", "Utf8"),
            ("signed", "Int8"),
            ("nulls", "no row of 1 fragments has a usable vector"),
        ] {
            let error = attach_index(&mut dataset, column, params(DistanceType::L2)).await.unwrap_err();
            assert!(
                matches!(&error, Error::InvalidColumn { problem, .. } if problem.contains(says)),
                "{error}"
            );
            assert!(error.to_string().contains(column), "{error}");
        }
        let good = params(DistanceType::L2);
        for (bad, parameter) in [
            (good.clone().partitions(0), "partitions"),
            (good.clone().fragments([0, 7]), "fragments"),
            (good.clone().build(BuildParams::default().num_edges(3)), "m"),
        ] {
            let error = attach_index(&mut dataset, "nulls", bad).await.unwrap_err();
            assert!(matches!(error, Error::InvalidParams { parameter: p, .. } if p == parameter), "{error}");
        }
        assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 0));
        assert_eq!(Dataset::open(&uri).await.unwrap().version().version, 1);
    });
}
