//! Every metric and every way of storing vectors is searched by Lance as its own index would be.

use lance::Dataset;
use lance::dataset::WriteParams;
use lance::index::DatasetIndexExt;
use lance_file::version::LanceFileVersion;
use pennon::lance::{Quantizer, attach_index};
use pennon::{BuildParams, DistanceType};
use serde_json::Value;

use crate::dataset::data::{
    DIM, Home, INDEX, K, METRICS, assert_recall, assert_used, dataset, distances, lance_metric, params,
    reader, recall, recall_of_lance_s_own, rows, run, statistics, vectors,
};

const KINDS: [(Quantizer, &str); 2] = [(Quantizer::Flat, "IVF_HNSW_FLAT"), (Quantizer::Sq, "IVF_HNSW_SQ")];

#[test]
fn every_metric_and_quantizer_is_used_and_finds_what_is_near() {
    let home = Home::new();
    run(async {
        for (metric, (quantizer, kind)) in METRICS.into_iter().flat_map(|m| KINDS.map(|kind| (m, kind))) {
            let what = format!("{kind}_{metric}");
            let mut dataset = dataset(&home.uri(&what), 2_000, 1_000).await;
            let build = BuildParams::default().num_edges(12).ef_construction(80);
            let params = params(metric).quantizer(quantizer).build(build.clone());
            let index = attach_index(&mut dataset, "vector", params).await.unwrap();
            assert_eq!(index.name, INDEX);
            assert_eq!(index.dataset_version + 1, dataset.version().version);

            // As another process sees it.
            let dataset = Dataset::open(&home.uri(&what)).await.unwrap();
            assert_used(&dataset).await;
            let least = match quantizer {
                Quantizer::Sq => {
                    // What quantization costs, it costs Lance's own index, too.
                    let mut theirs = self::dataset(&home.uri(&format!("{what}_theirs")), 2_000, 1_000).await;
                    let theirs = recall_of_lance_s_own(&mut theirs, metric, 1, &build).await;
                    println!("{what}: recall {theirs:.3} of Lance's own");
                    theirs - 0.02
                }
                _ => 0.97,
            };
            assert_recall(recall(&dataset, metric).await, least, &what);
            let statistics = statistics(&dataset).await;
            assert_eq!(statistics["index_type"], kind);
            assert_eq!(statistics["num_indexed_rows"], 2_000);
            // What Lance rebuilds from.
            let indices = dataset.describe_indices(None).await.unwrap();
            let details: Value = serde_json::from_str(&indices[0].details().unwrap()).unwrap();
            assert_eq!(details["metric_type"], metric.to_string().to_uppercase());
            assert_eq!(details["hnsw"]["max_connections"], 12);
            assert_eq!(details["hnsw"]["construction_ef"], 80);
        }
    });
}

#[test]
fn distances_are_those_of_the_metric() {
    let home = Home::new();
    run(async {
        for metric in METRICS {
            let mut dataset = dataset(&home.uri(&metric.to_string()), 500, 500).await;
            attach_index(&mut dataset, "vector", params(metric)).await.unwrap();
            let (all, query) = (vectors(500, 1), vectors(1, 99));
            let exact = lance_metric(metric).func::<f32>();
            let found = distances(&dataset, &query, metric).await;
            assert_eq!(found.len(), K);
            for (id, distance) in found {
                let row = &all[id as usize * DIM..(id as usize + 1) * DIM];
                let expected = exact(&query, row);
                assert!((distance - expected).abs() < 1e-4, "{metric}: {distance}, expected {expected}");
            }
        }
    });
}

#[test]
fn every_file_version_is_read_back() {
    let home = Home::new();
    run(async {
        for version in [LanceFileVersion::V2_0, LanceFileVersion::V2_1, LanceFileVersion::V2_2] {
            let uri = home.uri(&version.to_string());
            let write = WriteParams { data_storage_version: Some(version), ..Default::default() };
            let batches = reader(vec![rows(0..600, |_| false)]);
            let mut dataset = Dataset::write(batches, &uri, Some(write)).await.unwrap();
            let params = params(DistanceType::L2).partitions(3);
            attach_index(&mut dataset, "vector", params).await.unwrap();
            assert_used(&dataset).await;
            let recall = recall(&dataset, DistanceType::L2).await;
            assert_recall(recall, 0.97, &version.to_string());
        }
    });
}
