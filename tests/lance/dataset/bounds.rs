//! Scalar quantization of fragments that differ: what a further segment does about the bounds of the one before.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Float32Array, RecordBatch};
use arrow_schema::DataType;
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::DistanceType;
use pennon::lance::{Quantizer, attach_index};

use crate::dataset::data::{
    DIM, Home, K, assert_recall, assert_used, lance_metric, params, ranked, reader, recall, rows, rows_with,
    run, segments, vectors,
};

const FIRST: i64 = 300;
const ALL: i64 = 1_500;

/// A dataset whose first fragment has these vectors, and whose second has ordinary ones; with an index of both.
async fn indexed(uri: &str, first: &[f32], metric: DistanceType) -> Dataset {
    let narrow = rows_with(&DataType::Float32, 0..FIRST, first, |_| false);
    let mut dataset = Dataset::write(reader(vec![narrow]), uri, None).await.unwrap();
    let params = params(metric).quantizer(Quantizer::Sq);
    attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
    assert_used(&dataset).await;
    dataset.append(reader(vec![rows(FIRST..ALL, |_| false)]), None).await.unwrap();
    attach_index(&mut dataset, "vector", params).await.unwrap();
    assert_eq!(segments(&dataset).await, [vec![0], vec![1]]);
    assert_used(&dataset).await;
    dataset
}

/// The ids of the nearest rows of the second fragment.
async fn second(dataset: &Dataset, query: &[f32], metric: DistanceType, use_index: bool) -> Vec<i64> {
    let query = Float32Array::from(query.to_vec());
    let mut scan = dataset.scan();
    scan.project(&["id", "_distance"]).unwrap().filter(&format!("id >= {FIRST}")).unwrap().prefilter(true);
    scan.nearest("vector", &query, K).unwrap();
    scan.distance_metric(lance_metric(metric)).use_index(use_index).ef(64);
    let found: RecordBatch = scan.try_into_batch().await.unwrap();
    found["id"].as_primitive::<Int64Type>().values().to_vec()
}

async fn recall_of_second(dataset: &Dataset, metric: DistanceType) -> f64 {
    let queries = vectors(20, 99);
    let mut hits = 0;
    for query in queries.chunks(DIM) {
        let exact = second(dataset, query, metric, false).await;
        let found = second(dataset, query, metric, true).await;
        assert_eq!((exact.len(), found.len()), (K, K));
        hits += found.iter().filter(|id| exact.contains(id)).count();
    }
    hits as f64 / (K * 20) as f64
}

#[test]
fn a_segment_whose_rows_do_not_fit_has_bounds_of_its_own() {
    let home = Home::new();
    run(async {
        for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
            let what = format!("narrow_{metric}");
            let narrow: Vec<f32> = vectors(FIRST as usize, 7).iter().map(|x| 0.25 + x * 0.01).collect();
            let mut dataset = indexed(&home.uri(&what), &narrow, metric).await;
            assert_recall(recall_of_second(&dataset, metric).await, 0.9, &what);

            let error = dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap_err();
            assert!(error.to_string().contains("do not share quantizer metadata"), "{error}");
        }
    });
}

/// Between bounds that are equal all distances are 0: every query would find these rows and no others.
#[test]
fn rows_that_are_all_the_same_do_not_come_before_nearer_ones() {
    let home = Home::new();
    run(async {
        let constant = vec![0.25; FIRST as usize * DIM];
        let dataset = indexed(&home.uri("constant"), &constant, DistanceType::L2).await;
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.9, "one value, then others");

        // One vector again and again has bounds: those of its elements.
        let same: Vec<f32> = vectors(1, 7).repeat(FIRST as usize);
        let dataset = indexed(&home.uri("same"), &same, DistanceType::L2).await;
        assert_recall(recall_of_second(&dataset, DistanceType::L2).await, 0.9, "one vector, then others");
    });
}

#[test]
fn an_index_of_nothing_but_one_value_is_searched() {
    let home = Home::new();
    run(async {
        for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
            for value in [0.0_f32, -3.5, 1e-30] {
                if value == 0.0 && metric == DistanceType::Cosine {
                    continue;
                }
                let uri = home.uri(&format!("{metric}_{value}"));
                let batch = rows_with(&DataType::Float32, 0..40, &vec![value; 40 * DIM], |_| false);
                let mut dataset = Dataset::write(reader(vec![batch]), &uri, None).await.unwrap();
                let params = params(metric).quantizer(Quantizer::Sq);
                attach_index(&mut dataset, "vector", params).await.unwrap();
                let dataset = Dataset::open(&uri).await.unwrap();
                assert_used(&dataset).await;
                let found = ranked(&dataset, &vectors(1, 99), metric, K, Some(1)).await;
                assert_eq!(found.len(), K);
                assert!(found.iter().all(|row| row.1.is_finite()), "{metric} {value}: {found:?}");
            }
        }
    });
}
