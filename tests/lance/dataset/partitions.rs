//! IVF: several graphs in one index, and which of them a query probes.

use pennon::DistanceType;
use pennon::lance::{Quantizer, attach_index};

use crate::dataset::data::{
    Home, assert_recall, assert_used, dataset, nearest, params, recall, recall_in, recall_of_lance_s_own,
    run, statistics, vectors,
};

#[test]
fn partitions_hold_rows_that_are_near_each_other() {
    let home = Home::new();
    run(async {
        for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
            let what = metric.to_string();
            let mut dataset = dataset(&home.uri(&what), 3_000, 2_000).await;
            let params = params(metric).partitions(8);
            let index = attach_index(&mut dataset, "vector", params).await.unwrap();
            assert_eq!(index.fragment_bitmap.clone().unwrap().len(), 2);
            assert_used(&dataset).await;
            let statistics = statistics(&dataset).await;
            let sizes = statistics["indices"][0]["partitions"].as_array().unwrap();
            let sizes: Vec<u64> = sizes.iter().map(|partition| partition["size"].as_u64().unwrap()).collect();
            assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (8, 3_000), "{sizes:?}");
            assert_recall(recall(&dataset, metric).await, 0.97, &what);

            // An eighth of the rows has far more than an eighth of the answers.
            assert_recall(recall_in(&dataset, metric, 1).await, 0.3, &format!("{what}, nearest partition"));
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

        let mut theirs = dataset(&home.uri("theirs"), 2_000, 2_000).await;
        let mut dataset = dataset(&home.uri("sq"), 2_000, 2_000).await;
        let params = params(DistanceType::Cosine).partitions(4).quantizer(Quantizer::Sq);
        let theirs = recall_of_lance_s_own(&mut theirs, DistanceType::Cosine, 4, &params.build).await;
        attach_index(&mut dataset, "vector", params).await.unwrap();
        assert_used(&dataset).await;
        println!("SQ in 4 partitions: recall {theirs:.3} of Lance's own");
        let recall = recall(&dataset, DistanceType::Cosine).await;
        assert_recall(recall, theirs - 0.02, "SQ in 4 partitions");
    });
}
