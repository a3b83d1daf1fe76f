//! A limit of memory: another way to the same index.

use arrow_schema::DataType;
use lance::Dataset;
use lance::dataset::WriteParams;
use pennon::lance::{
    AttachParams, FoldParams, IndexModel, Quantizer, attach_index, build_index_segment, optimize_index,
};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, params, reader, recall, rows_of, run,
    segments, statistics,
};

/// Rows with nulls and deletions, in fragments that batches of a scan do not divide.
async fn with_gaps(data_type: &DataType, uri: &str) -> Dataset {
    let batch = rows_of(data_type, 0..5_000, |id| id % 11 == 4);
    let write = WriteParams { max_rows_per_file: 1_300, ..Default::default() };
    let mut dataset = Dataset::write(reader(vec![batch]), uri, Some(write)).await.unwrap();
    dataset.delete("id % 17 = 2").await.unwrap();
    dataset
}

async fn built(data_type: &DataType, uri: &str, params: AttachParams) {
    let mut dataset = with_gaps(data_type, uri).await;
    let built = attach_index(&mut dataset, "vector", params).await.unwrap();
    let usable = (0..5_000).filter(|id| id % 17 != 2 && id % 11 != 4).count() as u64;
    let alive = dataset.count_rows(None).await.unwrap() as u64;
    assert_eq!((built.partitions, built.rows, built.skipped), (6, usable, alive - usable));
    assert_eq!(built.name, INDEX);
}

#[test]
fn with_a_limit_partitions_have_the_same_rows() {
    let home = Home::new();
    run(async {
        for (number, (data_type, metric, quantizer)) in [
            (DataType::Float32, DistanceType::L2, Quantizer::Flat),
            (DataType::Float32, DistanceType::Cosine, Quantizer::Sq),
            (DataType::Float16, DistanceType::Dot, Quantizer::Sq),
            (DataType::UInt8, DistanceType::Hamming, Quantizer::Flat),
        ]
        .into_iter()
        .enumerate()
        {
            let params = params(metric).quantizer(quantizer).partitions(6);
            let what = format!("{data_type} {metric} {quantizer:?}");
            // About two fifths of what a build of one partition would take.
            let (little, enough) = (1_500_000, 1 << 30);
            let uri = home.uri(&format!("{number}_trained"));
            built(&data_type, &uri, params.clone().memory_limit(little)).await;
            let limited = Dataset::open(&uri).await.unwrap();
            assert_used(&limited).await;
            assert_recall(recall(&limited, metric).await, 0.9, &what);

            // With one model, partitions have the same rows with and without a limit, and answers are as good.
            let model = IndexModel::train(&limited, "vector", &params).await.unwrap();
            let params = params.model(model);
            let whole_uri = home.uri(&format!("{number}_whole"));
            built(&data_type, &whole_uri, params.clone()).await;
            let whole = Dataset::open(&whole_uri).await.unwrap();
            let sizes = statistics(&whole).await["indices"][0]["partitions"].clone();
            let expected = recall(&whole, metric).await - 0.01;
            for limit in [little, enough] {
                let uri = home.uri(&format!("{number}_{limit}"));
                built(&data_type, &uri, params.clone().memory_limit(limit)).await;
                let limited = Dataset::open(&uri).await.unwrap();
                assert_eq!(statistics(&limited).await["indices"][0]["partitions"], sizes, "{what}");
                assert_recall(recall(&limited, metric).await, expected, &format!("{what}, {limit} bytes"));
            }
        }
    });
}

#[test]
fn a_further_segment_and_rows_without_vectors_keep_to_the_limit() {
    let home = Home::new();
    run(async {
        let params = params(DistanceType::L2).quantizer(Quantizer::Sq).partitions(4).memory_limit(1_000_000);
        let mut dataset = dataset(&home.uri("further"), 3_000, 3_000).await;
        attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        dataset
            .append(reader(vec![rows_of(&DataType::Float32, 3_000..6_000, |_| false)]), None)
            .await
            .unwrap();
        let further = attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
        assert_eq!((further.partitions, further.rows), (4, 3_000));
        assert_eq!(segments(&dataset).await, [vec![0], vec![1]]);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.9, "two segments");

        let nulls = rows_of(&DataType::Float32, 0..3_000, |_| true);
        let mut nulls = Dataset::write(reader(vec![nulls]), &home.uri("nulls"), None).await.unwrap();
        let error = attach_index(&mut nulls, "vector", params).await.unwrap_err();
        assert!(matches!(error, Error::InvalidColumn { .. }), "{error}");
    });
}

#[test]
fn a_partition_that_takes_more_than_the_limit_is_an_error_with_numbers() {
    let home = Home::new();
    run(async {
        let uri = home.uri("small");
        let mut dataset = dataset(&uri, 3_000, 1_000).await;
        let small = params(DistanceType::L2).partitions(2).memory_limit(300_000);
        let error = attach_index(&mut dataset, "vector", small).await.unwrap_err();
        let Error::PartitionMemory { partition, rows, needed, limit } = error else { panic!("{error}") };
        assert!(partition < 2 && (600..=3_000).contains(&rows), "partition {partition} of {rows} rows");
        // A vector takes 64 bytes, and its list of 32 neighbors at least 256.
        assert!(needed > limit && needed > rows * 320, "{needed} bytes");
        assert_eq!(limit, 300_000);
        let says = format!("has {rows} rows and takes {needed} bytes to build, the limit is 300000");
        assert!(error.to_string().contains(&says), "{error}");
        assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 0));
    });
}

#[test]
fn without_a_number_there_are_as_many_partitions_as_fit() {
    let home = Home::new();
    run(async {
        let mut few = dataset(&home.uri("few"), 3_000, 1_000).await;
        assert_eq!(attach_index(&mut few, "vector", params(DistanceType::L2)).await.unwrap().partitions, 1);
        let mut dataset = dataset(&home.uri("limited"), 3_000, 1_000).await;
        let limited = params(DistanceType::L2).memory_limit(800_000);
        let built = attach_index(&mut dataset, "vector", limited).await.unwrap();
        assert!((3..=20).contains(&built.partitions), "{} partitions", built.partitions);
        println!("{} partitions", built.partitions);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "as many as fit");
        // Said of an index that is there, too.
        let again = attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        assert_eq!((again.partitions, again.rows), (built.partitions, 0));
    });
}

/// What a program gives to a runtime of several threads.
#[test]
fn builds_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("spawned"), 300, 300).await;
        let params = params(DistanceType::L2);
        let model = IndexModel::train(&dataset, "vector", &params);
        is_send(&model);
        drop(model);
        let segment = build_index_segment(&dataset, "vector", params.clone());
        is_send(&segment);
        drop(segment);
        let attached = attach_index(&mut dataset, "vector", params);
        is_send(&attached);
        attached.await.unwrap();
        let folded = optimize_index(&mut dataset, INDEX, FoldParams::default());
        is_send(&folded);
        assert!(!folded.await.unwrap().committed);
    });
}
