//! Columns of the types that Lance indexes beside `Float32`, and of those that it does not.

use std::collections::HashMap;

use arrow_schema::DataType;
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{Quantizer, attach_index};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, K, assert_recall, assert_used, dataset_of, distances, index_dirs, params, ranked, reader, recall,
    recall_in, rows_of, run, segments, statistics, vectors,
};

const KINDS: [(Quantizer, &str, f64); 2] =
    [(Quantizer::Flat, "IVF_HNSW_FLAT", 0.97), (Quantizer::Sq, "IVF_HNSW_SQ", 0.93)];

/// An index on a new column of such vectors is used, and finds at least so much.
async fn check(home: &Home, data_type: &DataType, metric: DistanceType, kind: (Quantizer, &str, f64)) {
    let (quantizer, kind, least) = kind;
    let what = format!("{data_type}_{metric}_{kind}");
    let uri = home.uri(&what);
    let mut dataset = dataset_of(data_type, &uri, 1_500, 1_000).await;
    attach_index(&mut dataset, "vector", params(metric).quantizer(quantizer)).await.unwrap();

    // As another process sees it.
    let dataset = Dataset::open(&uri).await.unwrap();
    assert_used(&dataset).await;
    assert_recall(recall(&dataset, metric).await, least, &what);
    let statistics = statistics(&dataset).await;
    assert_eq!(statistics["index_type"], kind);
    assert_eq!(statistics["num_indexed_rows"], 1_500);
}

#[test]
fn every_type_metric_and_quantizer_is_used_and_finds_what_is_near() {
    let home = Home::new();
    run(async {
        for data_type in [DataType::Float16, DataType::Float64] {
            for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
                for kind in KINDS {
                    check(&home, &data_type, metric, kind).await;
                }
            }
        }
        check(&home, &DataType::UInt8, DistanceType::Hamming, KINDS[0]).await;
    });
}

#[test]
fn distances_are_those_of_the_column_s_own_elements() {
    let home = Home::new();
    run(async {
        for (data_type, metric, tolerance) in [
            (DataType::Float16, DistanceType::L2, 1e-4),
            // Vectors of length 1 are rounded once more.
            (DataType::Float16, DistanceType::Cosine, 5e-3),
            (DataType::Float64, DistanceType::Dot, 1e-4),
            (DataType::UInt8, DistanceType::Hamming, 0.0),
        ] {
            let what = format!("{data_type}_{metric}");
            let mut dataset = dataset_of(&data_type, &home.uri(&what), 500, 500).await;
            attach_index(&mut dataset, "vector", params(metric)).await.unwrap();
            let query = vectors(1, 99);
            let exact: HashMap<i64, f32> =
                ranked(&dataset, &query, metric, 500, None).await.into_iter().collect();
            let found = distances(&dataset, &query, metric).await;
            assert_eq!(found.len(), K);
            for (id, distance) in found {
                let expected = exact[&id];
                assert!((distance - expected).abs() <= tolerance, "{what}: {distance}, expected {expected}");
            }
        }
    });
}

#[test]
fn partitions_are_chosen_by_centroids_of_the_column_s_type() {
    let home = Home::new();
    run(async {
        for (data_type, metric) in [
            (DataType::Float16, DistanceType::L2),
            (DataType::Float16, DistanceType::Cosine),
            (DataType::Float16, DistanceType::Dot),
            (DataType::Float64, DistanceType::Cosine),
            (DataType::UInt8, DistanceType::Hamming),
        ] {
            let what = format!("{data_type}_{metric}");
            let mut dataset = dataset_of(&data_type, &home.uri(&what), 1_800, 900).await;
            attach_index(&mut dataset, "vector", params(metric).partitions(6)).await.unwrap();
            assert_used(&dataset).await;
            let statistics = statistics(&dataset).await;
            let sizes = statistics["indices"][0]["partitions"].as_array().unwrap();
            let sizes: Vec<u64> = sizes.iter().map(|partition| partition["size"].as_u64().unwrap()).collect();
            assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (6, 1_800), "{what}: {sizes:?}");
            assert_recall(recall(&dataset, metric).await, 0.9, &what);
            // A sixth of the rows has far more than a sixth of the answers.
            assert_recall(recall_in(&dataset, metric, 1).await, 0.3, &format!("{what}, nearest partition"));
        }
    });
}

#[test]
fn new_fragments_become_a_segment_with_the_same_centroids() {
    let home = Home::new();
    run(async {
        for (data_type, metric) in
            [(DataType::Float16, DistanceType::L2), (DataType::UInt8, DistanceType::Hamming)]
        {
            let what = format!("{data_type}_{metric}");
            let mut dataset = dataset_of(&data_type, &home.uri(&what), 1_200, 600).await;
            let params = params(metric).partitions(3);
            attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
            let fresh = rows_of(&data_type, 1_200..1_500, |id| id % 50 == 0);
            dataset.append(reader(vec![fresh]), None).await.unwrap();
            attach_index(&mut dataset, "vector", params).await.unwrap();

            assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2]]);
            assert_used(&dataset).await;
            let statistics = statistics(&dataset).await;
            assert_eq!(statistics["num_unindexed_rows"], 0);
            for segment in statistics["indices"].as_array().unwrap() {
                assert_eq!(segment["num_partitions"], 3, "{segment}");
            }
            assert_recall(recall(&dataset, metric).await, 0.9, &format!("{what}, two segments"));
        }
    });
}

/// What Lance makes of two segments of half precision is a third.
#[test]
fn lance_merges_segments_of_half_precision() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset_of(&DataType::Float16, &home.uri("merged"), 1_200, 600).await;
        let params = params(DistanceType::Cosine).quantizer(Quantizer::Sq).partitions(3);
        attach_index(&mut dataset, "vector", params.clone().fragments([0])).await.unwrap();
        attach_index(&mut dataset, "vector", params).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0], vec![1]]);
        dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1]]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::Cosine).await, 0.93, "merged");
    });
}

#[test]
fn what_lance_does_not_index_is_refused_by_name_and_changes_nothing() {
    let home = Home::new();
    run(async {
        for (data_type, metric, says) in [
            (DataType::Int8, DistanceType::L2, "it is FixedSizeList(16 x Int8), not FixedSizeList of"),
            (DataType::Int8, DistanceType::Hamming, "it is FixedSizeList(16 x Int8), not "),
            (DataType::UInt8, DistanceType::L2, "vectors of UInt8 with hamming, not with l2"),
            (DataType::UInt8, DistanceType::Cosine, "vectors of UInt8 with hamming, not with cosine"),
            (DataType::UInt8, DistanceType::Dot, "vectors of UInt8 with hamming, not with dot"),
            (DataType::Float16, DistanceType::Hamming, "Float16 with l2, cosine, dot, not with hamming"),
        ] {
            let uri = home.uri(&format!("{data_type}_{metric}"));
            let mut dataset = dataset_of(&data_type, &uri, 300, 300).await;
            let error = attach_index(&mut dataset, "vector", params(metric)).await.unwrap_err();
            assert!(
                matches!(&error, Error::InvalidColumn { column, problem }
                    if column == "vector" && problem.contains(says)),
                "{error}, not {says:?}"
            );
            assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 0));
            assert_eq!(Dataset::open(&uri).await.unwrap().version().version, 1);
        }

        let uri = home.uri("settings");
        let mut dataset = dataset_of(&DataType::UInt8, &uri, 300, 300).await;
        for (params, says) in [
            (
                params(DistanceType::Hamming).quantizer(Quantizer::Sq),
                "Lance has no IVF_HNSW_SQ index with distance type hamming",
            ),
            (params(DistanceType::L1), "Lance has no distance type l1"),
        ] {
            let error = attach_index(&mut dataset, "vector", params).await.unwrap_err();
            assert!(matches!(error, Error::NotInLance { .. }) && error.to_string() == says, "{error}");
        }
        assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 0));
    });
}
