//! A dataset that grows: the second call indexes what is new, and nothing twice.

use lance::Dataset;
use lance::dataset::optimize::compact_files;
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{Quantizer, attach_index};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, params, reader, recall, rows, run,
    segments, statistics,
};

#[test]
fn new_fragments_become_a_segment_of_their_own() {
    let home = Home::new();
    run(async {
        let uri = home.uri("grown");
        let mut dataset = dataset(&uri, 2_000, 1_000).await;
        let params = params(DistanceType::Cosine).quantizer(Quantizer::Sq).partitions(4);
        let first = attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        let version = dataset.version().version;
        // Nothing new: nothing is built and nothing is committed.
        let again = attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        assert_eq!((again.uuid, dataset.version().version), (first.uuid, version));
        assert_eq!(index_dirs(&uri), 1);

        dataset.append(reader(vec![rows(2_000..2_600, |_| false)]), None).await.unwrap();
        // A fragment without a vector.
        dataset.append(reader(vec![rows(2_600..2_603, |_| true)]), None).await.unwrap();
        let second = attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        assert_ne!(second.uuid, first.uuid);
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2, 3]]);
        let found = dataset.load_indices_by_name(INDEX).await.unwrap();
        assert!(found.iter().any(|index| index.uuid == first.uuid), "the first segment is still there");

        dataset.append(reader(vec![rows(2_603..2_606, |_| false)]), None).await.unwrap();
        let third = attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2, 3], vec![4]]);
        let mut dataset = Dataset::open(&uri).await.unwrap();
        assert_used(&dataset).await;
        let statistics = statistics(&dataset).await;
        assert_eq!(statistics["num_unindexed_rows"], 0);
        // The centroids of the first, even where that leaves partitions empty.
        for segment in statistics["indices"].as_array().unwrap() {
            assert_eq!(segment["num_partitions"], 4, "{segment}");
        }
        assert_recall(recall(&dataset, DistanceType::Cosine).await, 0.93, "three segments");
        let newest = attach_index(&mut dataset.clone(), "vector", params).await.unwrap();
        assert_eq!(newest.uuid, third.uuid);

        // Which is why Lance can merge them.
        dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1, 2, 3, 4]]);
        assert_recall(recall(&dataset, DistanceType::Cosine).await, 0.93, "merged");
    });
}

#[test]
fn rows_without_a_vector_alone_are_no_segment() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("nulls"), 500, 500).await;
        let first = attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        dataset.append(reader(vec![rows(500..520, |_| true)]), None).await.unwrap();
        let version = dataset.version().version;
        let again = attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        assert_eq!((again.uuid, dataset.version().version), (first.uuid, version));
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "with a fragment of nulls");
    });
}

#[test]
fn a_segment_that_could_not_be_searched_with_the_others_is_refused() {
    let home = Home::new();
    run(async {
        let uri = home.uri("mixed");
        let mut dataset = dataset(&uri, 500, 500).await;
        attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        dataset.append(reader(vec![rows(500..600, |_| false)]), None).await.unwrap();
        let version = dataset.version().version;
        for other in [params(DistanceType::Dot), params(DistanceType::L2).quantizer(Quantizer::Sq)] {
            let error = attach_index(&mut dataset, "vector", other).await.unwrap_err();
            let says = "its index \"vector_idx\" is IVF_HNSW_FLAT with metric l2, not ";
            assert!(
                matches!(&error, Error::InvalidColumn { problem, .. } if problem.contains(says)),
                "{error}"
            );
        }
        assert_eq!((dataset.version().version, index_dirs(&uri)), (version, 1));
        // Under a name of its own it is an index of its own.
        let other = params(DistanceType::Dot).name("other");
        attach_index(&mut dataset, "vector", other).await.unwrap();
        assert_eq!(dataset.load_indices().await.unwrap().len(), 2);
    });
}

#[test]
fn lance_maintains_the_index_as_its_own() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("kept"), 2_000, 1_000).await;
        let params = params(DistanceType::L2).partitions(2);
        attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        dataset.append(reader(vec![rows(2_000..2_300, |_| false)]), None).await.unwrap();
        dataset.delete("id < 100").await.unwrap();
        dataset.optimize_indices(&Default::default()).await.unwrap();
        assert_eq!(statistics(&dataset).await["num_unindexed_rows"], 0);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "after optimize_indices");

        compact_files(&mut dataset, Default::default(), None).await.unwrap();
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "after compact_files");
        // What Lance made of it needs no segment of ours.
        let version = dataset.version().version;
        attach_index(&mut dataset, "vector", params).await.unwrap();
        assert_eq!(dataset.version().version, version);
        assert_eq!(dataset.count_rows(None).await.unwrap(), 2_200);
    });
}
