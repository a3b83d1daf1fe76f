//! IVF: several graphs in one index, and which of them a query probes.

use arrow_array::Float32Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use lance::Dataset;
use pennon::DistanceType;
use pennon::lance::{Quantizer, attach_index};

use crate::data::{
    DIM, Home, K, assert_recall, assert_used, dataset, lance_metric, nearest, params, recall, run,
    statistics, vectors,
};

/// How many of the nearest rows are found when only the nearest partition is probed.
async fn nearest_partition(dataset: &Dataset, query: &[f32], metric: DistanceType) -> usize {
    let truth = nearest(dataset, query, metric, false).await;
    let query = Float32Array::from(query.to_vec());
    let mut scan = dataset.scan();
    let scan = scan.project(&["id"]).unwrap().nearest("vector", &query, K).unwrap();
    let found = scan.distance_metric(lance_metric(metric)).nprobes(1).ef(64).try_into_batch().await.unwrap();
    let ids = found["id"].as_primitive::<Int64Type>();
    ids.values().iter().filter(|id| truth.contains(id)).count()
}

#[test]
fn partitions_hold_rows_that_are_near_each_other() {
    let home = Home::new();
    run(async {
        for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
            let what = metric.to_string();
            let mut dataset = dataset(&home.uri(&what), 3_000, 2_000).await;
            let params = params(metric).partitions(8);
            let index = attach_index(&mut dataset, "vector", params).await.unwrap();
            assert_eq!(index.fragment_bitmap.unwrap().len(), 2);
            assert_used(&dataset).await;
            let statistics = statistics(&dataset).await;
            let sizes = statistics["indices"][0]["partitions"].as_array().unwrap();
            let sizes: Vec<u64> = sizes.iter().map(|partition| partition["size"].as_u64().unwrap()).collect();
            assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (8, 3_000), "{sizes:?}");
            assert_recall(recall(&dataset, metric).await, 0.97, &what);

            // An eighth of the rows has far more than an eighth of the answers.
            let queries = vectors(20, 99);
            let mut hits = 0;
            for query in queries.chunks(DIM) {
                hits += nearest_partition(&dataset, query, metric).await;
            }
            assert_recall(hits as f64 / (K * 20) as f64, 0.3, &format!("{what}, nearest partition"));
        }
    });
}

#[test]
fn there_are_no_more_partitions_than_rows_and_one_quantizer_for_all() {
    let home = Home::new();
    run(async {
        let mut few = dataset(&home.uri("few"), 5, 5).await;
        let many = params(DistanceType::L2).partitions(50);
        attach_index(&mut few, "vector", many).await.unwrap();
        let partitions = statistics(&few).await["indices"][0]["num_partitions"].as_u64().unwrap();
        assert!((1..=5).contains(&partitions), "{partitions}");
        assert_eq!(nearest(&few, &vectors(1, 1), DistanceType::L2, true).await[0], 0);

        let mut dataset = dataset(&home.uri("sq"), 2_000, 2_000).await;
        let params = params(DistanceType::Cosine).partitions(4).quantizer(Quantizer::Sq);
        attach_index(&mut dataset, "vector", params).await.unwrap();
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::Cosine).await, 0.88, "SQ in 4 partitions");
    });
}
