//! An index that is folded: one segment again, which finds what a fresh build finds, without the rows that are gone.

use std::sync::{Arc, Mutex};

use arrow_array::Float32Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use lance::Dataset;
use lance::dataset::WriteParams;
use lance::dataset::optimize::{CompactionOptions, compact_files};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::ivf::IvfBuildParams;
use lance_index::vector::sq::builder::SQBuildParams;
use pennon::lance::{AttachParams, Fold, FoldParams, Quantizer, attach_index, optimize_index};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    DIM, Home, INDEX, K, assert_recall, assert_used, dataset, dataset_of, index_dirs, lance_metric, nearest,
    params, ranked, reader, recall, rows, rows_of, rows_with, run, segments, statistics, vectors,
};

async fn fold(dataset: &mut Dataset) -> Fold {
    optimize_index(dataset, INDEX, FoldParams::default()).await.unwrap()
}

/// The rows that the index finds if twice as many are compared by their true distances: what its graph leads to,
/// whatever quantization costs.
async fn refined(dataset: &Dataset, vector: &[f32], metric: DistanceType) -> Vec<i64> {
    let query = Float32Array::from(vector.to_vec());
    let mut scan = dataset.scan();
    scan.project(&["id"]).unwrap().nearest("vector", &query, K).unwrap();
    scan.distance_metric(lance_metric(metric)).nprobes(64).ef(64).refine(2);
    let found = scan.try_into_batch().await.unwrap();
    found["id"].as_primitive::<Int64Type>().values().to_vec()
}

/// The share of true neighbors that the index finds, by more queries than [`recall`] asks, so that half a point is
/// more than one of them.
async fn fine_recall(dataset: &Dataset, metric: DistanceType) -> f64 {
    let queries = vectors(100, 1_234);
    let mut hits = 0;
    for query in queries.chunks(DIM) {
        let found = refined(dataset, query, metric).await;
        assert_eq!(found.len(), K);
        let exact = ranked(dataset, query, metric, K, None).await;
        hits += found.iter().filter(|id| exact.iter().any(|other| other.0 == **id)).count();
    }
    hits as f64 / (K * 100) as f64
}

/// What a fresh index of the same rows finds, under another name for the time of the question.
async fn fresh_recall(dataset: &Dataset, uri: &str, params: AttachParams, metric: DistanceType) -> f64 {
    let mut scan = dataset.scan();
    let batch = scan.project(&["id", "vector"]).unwrap().try_into_batch().await.unwrap();
    let mut fresh = Dataset::write(reader(vec![batch]), uri, None).await.unwrap();
    attach_index(&mut fresh, "vector", params).await.unwrap();
    fine_recall(&fresh, metric).await
}

#[test]
fn new_fragments_deltas_and_deletes_are_folded_as_well_as_built() {
    let home = Home::new();
    run(async {
        for (metric, quantizer, partitions, stable) in [
            (DistanceType::L2, Quantizer::Flat, 1, false),
            (DistanceType::Cosine, Quantizer::Sq, 4, false),
            (DistanceType::Dot, Quantizer::Sq, 1, true),
            (DistanceType::Cosine, Quantizer::Flat, 3, true),
        ] {
            let what = format!("{metric} {quantizer:?}");
            let uri = home.uri(&what);
            let params = params(metric).quantizer(quantizer).partitions(partitions);
            let write =
                WriteParams { max_rows_per_file: 1_500, enable_stable_row_ids: stable, ..Default::default() };
            let batch = rows(0..3_000, |id| id % 100 == 7);
            let mut dataset = Dataset::write(reader(vec![batch]), &uri, Some(write)).await.unwrap();
            attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
            // A delta index, two fragments that no index covers, one of them with nulls, and deletes everywhere.
            dataset.append(reader(vec![rows(3_000..3_300, |_| false)]), None).await.unwrap();
            attach_index(&mut dataset, "vector", params.clone()).await.unwrap();
            dataset.append(reader(vec![rows(3_300..3_600, |_| false)]), None).await.unwrap();
            dataset.append(reader(vec![rows(3_600..3_900, |id| id % 3 == 0)]), None).await.unwrap();
            dataset.delete("id % 7 = 0").await.unwrap();
            assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2]]);

            let version = dataset.version().version;
            let reports = Arc::new(Mutex::new(Vec::new()));
            let told = Arc::clone(&reports);
            let fold_params = FoldParams::default().progress(move |done| told.lock().unwrap().push(done));
            let folded = optimize_index(&mut dataset, INDEX, fold_params).await.unwrap();
            let is_null = |id: &i64| if *id < 3_000 { id % 100 == 7 } else { *id >= 3_600 && id % 3 == 0 };
            let count = |ids: std::ops::Range<i64>, gone: bool| {
                ids.filter(|id| !is_null(id) && (id % 7 == 0) == gone).count() as u64
            };
            assert_eq!((folded.committed, folded.segments, folded.partitions), (true, 2, partitions));
            assert_eq!((folded.kept, folded.removed), (count(0..3_000, false), count(0..3_000, true)));
            assert_eq!((folded.added, folded.rebuilt), (count(3_000..3_900, false), 0));
            assert_eq!(folded.skipped, (3_600..3_900).filter(|id| id % 3 == 0 && id % 7 != 0).count() as u64);
            assert_eq!(folded.index.name, INDEX);
            let reports = reports.lock().unwrap().clone();
            assert!(reports.is_sorted(), "{reports:?}");
            let all = folded.kept + folded.removed + folded.added + folded.skipped;
            assert_eq!(reports.last(), Some(&all), "{reports:?}");

            assert_eq!(dataset.version().version, version + 1);
            let dataset_now = Dataset::open(&uri).await.unwrap();
            assert_eq!(segments(&dataset_now).await, [vec![0, 1, 2, 3, 4]]);
            assert_used(&dataset_now).await;
            let found = statistics(&dataset_now).await;
            assert_eq!(found["num_unindexed_rows"], 0);
            let sizes = found["indices"][0]["partitions"].as_array().unwrap();
            let sizes = sizes.iter().map(|partition| partition["size"].as_u64().unwrap());
            assert_eq!(sizes.sum::<u64>(), folded.kept + folded.added);

            let fresh =
                fresh_recall(&dataset, &home.uri(&format!("{what}_fresh")), params.clone(), metric).await;
            let ours = fine_recall(&dataset_now, metric).await;
            println!("{what}: fresh {fresh:.3}");
            // Kept rows of a quantized index are known by their codes alone.
            let less = if params.quantizer == Quantizer::Sq { 0.01 } else { 0.005 };
            assert_recall(ours, fresh - less, &what);
            for query in vectors(10, 77).chunks(DIM) {
                let found = nearest(&dataset_now, query, metric, true).await;
                assert!(!found.iter().any(|id| id % 7 == 0 || is_null(id)), "{found:?}");
            }

            // A second fold on top of the first.
            dataset.append(reader(vec![rows(3_900..4_100, |_| false)]), None).await.unwrap();
            dataset.delete("id % 11 = 3").await.unwrap();
            let again = optimize_index(&mut dataset, "vector", FoldParams::default()).await.unwrap();
            assert!(again.committed && again.removed > 0 && again.added > 0 && again.segments == 1);
            assert_eq!(segments(&dataset).await, [vec![0, 1, 2, 3, 4, 5]]);
            let fresh = fresh_recall(&dataset, &home.uri(&format!("{what}_again")), params, metric).await;
            println!("{what}, twice: fresh {fresh:.3}");
            assert_recall(fine_recall(&dataset, metric).await, fresh - less, &format!("{what}, twice"));

            // And nothing to do.
            let (version, dirs) = (dataset.version().version, index_dirs(&uri));
            let nothing = fold(&mut dataset).await;
            assert_eq!((nothing.committed, nothing.removed, nothing.added), (false, 0, 0));
            assert_eq!(nothing.kept, again.kept + again.added);
            assert_eq!(nothing.index, again.index);
            assert_eq!((dataset.version().version, index_dirs(&uri)), (version, dirs));
        }
    });
}

#[test]
fn a_fold_without_changes_keeps_what_the_files_hold() {
    let home = Home::new();
    run(async {
        let uri = home.uri("kept");
        let metric = DistanceType::Cosine;
        let mut dataset = dataset(&uri, 2_000, 1_000).await;
        let params = params(metric).quantizer(Quantizer::Sq).partitions(2);
        attach_index(&mut dataset, "vector", params).await.unwrap();
        let mut before = Vec::new();
        for query in vectors(20, 5).chunks(DIM) {
            before.push(ranked(&dataset, query, metric, K, Some(64)).await);
        }
        // A row that is far from all queries: the rest has the same codes, and answers the same distances.
        let far = rows_with(&DataType::Float32, 2_000..2_001, &[-1.0; DIM], |_| false);
        dataset.append(reader(vec![far]), None).await.unwrap();
        let folded = fold(&mut dataset).await;
        assert_eq!((folded.kept, folded.added, folded.removed), (2_000, 1, 0));
        for (query, before) in vectors(20, 5).chunks(DIM).zip(before) {
            let now = ranked(&dataset, query, metric, K, Some(64)).await;
            let distances = |found: &[(i64, f32)]| found.iter().map(|row| row.1).collect::<Vec<_>>();
            let same = now.iter().filter(|row| before.contains(row)).count();
            assert!(same >= K - 1, "{:?} and {:?}", distances(&now), distances(&before));
        }
    });
}

#[test]
fn indexes_that_lance_built_are_folded() {
    let home = Home::new();
    run(async {
        for is_flat in [true, false] {
            let metric = DistanceType::L2;
            let mut dataset = dataset(&home.uri(&format!("lance_{is_flat}")), 3_000, 1_500).await;
            let (ivf, hnsw) = (IvfBuildParams::new(2), HnswBuildParams::default());
            let params = if is_flat {
                VectorIndexParams::ivf_hnsw(lance_metric(metric), ivf, hnsw)
            } else {
                let sq = SQBuildParams::default();
                VectorIndexParams::with_ivf_hnsw_sq_params(lance_metric(metric), ivf, hnsw, sq)
            };
            let name = Some(INDEX.to_string());
            dataset.create_index(&["vector"], IndexType::Vector, name, &params, false).await.unwrap();
            dataset.append(reader(vec![rows(3_000..3_400, |_| false)]), None).await.unwrap();
            // A delta of Lance's own.
            dataset.optimize_indices(&Default::default()).await.unwrap();
            dataset.append(reader(vec![rows(3_400..3_700, |_| false)]), None).await.unwrap();
            dataset.delete("id % 5 = 0").await.unwrap();
            let before = recall(&dataset, metric).await;
            let folded = fold(&mut dataset).await;
            assert!(folded.committed && folded.rebuilt == 0, "{folded:?}");
            assert_eq!(folded.kept + folded.added, dataset.count_rows(None).await.unwrap() as u64);
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, metric).await, before - 0.02, "of Lance");
            // Lance goes on with what we made.
            dataset.append(reader(vec![rows(3_700..3_800, |_| false)]), None).await.unwrap();
            dataset.optimize_indices(&Default::default()).await.unwrap();
            compact_files(&mut dataset, Default::default(), None).await.unwrap();
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, metric).await, before - 0.02, "of Lance, maintained by Lance");
        }
    });
}

#[test]
fn elements_of_every_kind_are_folded() {
    let home = Home::new();
    run(async {
        for (data_type, metric, quantizer) in [
            (DataType::Float16, DistanceType::L2, Quantizer::Flat),
            (DataType::Float16, DistanceType::Cosine, Quantizer::Sq),
            (DataType::Float64, DistanceType::Dot, Quantizer::Sq),
            (DataType::UInt8, DistanceType::Hamming, Quantizer::Flat),
        ] {
            let what = format!("{data_type} {metric} {quantizer:?}");
            let mut dataset = dataset_of(&data_type, &home.uri(&what), 2_000, 1_000).await;
            let params = params(metric).quantizer(quantizer).partitions(2);
            attach_index(&mut dataset, "vector", params).await.unwrap();
            let before = recall(&dataset, metric).await;
            dataset.append(reader(vec![rows_of(&data_type, 2_000..2_300, |_| false)]), None).await.unwrap();
            dataset.delete("id % 9 = 1").await.unwrap();
            let folded = fold(&mut dataset).await;
            assert_eq!(folded.kept + folded.added, dataset.count_rows(None).await.unwrap() as u64, "{what}");
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, metric).await, before - 0.03, &what);
        }
    });
}

#[test]
fn where_little_is_left_graphs_are_built_anew() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("little"), 2_000, 500).await;
        let params = params(DistanceType::L2).partitions(3);
        attach_index(&mut dataset, "vector", params).await.unwrap();
        dataset.delete("id % 10 > 0").await.unwrap();
        let folded = fold(&mut dataset).await;
        assert_eq!((folded.kept, folded.removed, folded.added, folded.rebuilt), (200, 1_800, 0, 3));
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.99, "a tenth is left");

        // No fragment is left that the base covers, but its centroids are there.
        dataset.append(reader(vec![rows(2_000..2_800, |_| false)]), None).await.unwrap();
        dataset.delete("id < 1999").await.unwrap();
        let folded = fold(&mut dataset).await;
        assert_eq!((folded.kept, folded.added, folded.partitions), (0, 800, 3));
        assert_eq!(statistics(&dataset).await["num_unindexed_rows"], 0);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.99, "others are there");
    });
}

#[test]
fn rows_that_were_moved_or_compacted_are_found_once() {
    let home = Home::new();
    run(async {
        for (stable, defer_index_remap) in [(false, false), (true, false), (false, true)] {
            let what = format!("stable {stable}, deferred {defer_index_remap}");
            let uri = home.uri(&what);
            let write =
                WriteParams { max_rows_per_file: 500, enable_stable_row_ids: stable, ..Default::default() };
            let mut dataset =
                Dataset::write(reader(vec![rows(0..2_000, |_| false)]), &uri, Some(write)).await.unwrap();
            let sq = params(DistanceType::L2).quantizer(Quantizer::Sq);
            attach_index(&mut dataset, "vector", sq).await.unwrap();
            let update = lance::dataset::UpdateBuilder::new(Arc::new(dataset));
            let update = update.update_where("id < 150").unwrap().set("id", "id + 5000").unwrap();
            update.build().unwrap().execute().await.unwrap();
            let mut dataset = Dataset::open(&uri).await.unwrap();
            dataset.delete("id >= 400 and id < 600").await.unwrap();
            let options = CompactionOptions { defer_index_remap, ..Default::default() };
            compact_files(&mut dataset, options, None).await.unwrap();
            dataset.append(reader(vec![rows(2_000..2_100, |_| false)]), None).await.unwrap();

            let folded = fold(&mut dataset).await;
            assert!(folded.committed, "{what}");
            assert_eq!(folded.kept + folded.added, 1_900, "{what}: {folded:?}");
            assert_eq!(
                (folded.kept == 0, folded.rebuilt),
                (defer_index_remap, defer_index_remap.into()),
                "{what}"
            );
            let dataset = Dataset::open(&uri).await.unwrap();
            assert_used(&dataset).await;
            assert_recall(recall(&dataset, DistanceType::L2).await, 0.93, &what);
            for query in vectors(20, 31).chunks(DIM) {
                let mut found = nearest(&dataset, query, DistanceType::L2, true).await;
                found.sort_unstable();
                found.dedup();
                assert_eq!(found.len(), K, "{what}");
            }
        }
    });
}

#[test]
fn new_rows_that_are_farther_out_widen_the_bounds() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("wide"), 1_000, 1_000).await;
        let sq = params(DistanceType::L2).quantizer(Quantizer::Sq);
        attach_index(&mut dataset, "vector", sq).await.unwrap();
        let far: Vec<f32> = vectors(1_000, 3).iter().map(|x| x * 3.0).collect();
        let far = rows_with(&DataType::Float32, 1_000..2_000, &far, |_| false);
        dataset.append(reader(vec![far]), None).await.unwrap();
        let folded = fold(&mut dataset).await;
        assert_eq!((folded.kept, folded.added, folded.rebuilt), (1_000, 1_000, 0));
        assert_used(&dataset).await;
        // A step is three times as wide as it was.
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.85, "wider bounds");
    });
}

#[test]
fn what_cannot_be_folded_is_refused_and_changes_nothing() {
    let home = Home::new();
    run(async {
        let uri = home.uri("refused");
        let mut dataset = dataset(&uri, 600, 300).await;
        for (index, says) in
            [("nothing", "neither an index nor a column of the dataset"), ("vector", "it has no index")]
        {
            let error = optimize_index(&mut dataset, index, FoldParams::default()).await.unwrap_err();
            assert!(
                matches!(&error, Error::InvalidColumn { column, problem } if column == index && problem == says),
                "{error}"
            );
        }
        let pq = VectorIndexParams::ivf_pq(1, 8, 4, lance_metric(DistanceType::L2), 5);
        let name = Some("pq".to_string());
        dataset.create_index(&["vector"], IndexType::Vector, name, &pq, false).await.unwrap();
        attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        let version = dataset.version().version;
        for (index, says) in [("pq", "is IVF_PQ, which has no graphs"), ("vector", "it has several indexes")]
        {
            let error = optimize_index(&mut dataset, index, FoldParams::default()).await.unwrap_err();
            assert!(
                matches!(&error, Error::InvalidColumn { problem, .. } if problem.contains(says)),
                "{error}"
            );
        }
        assert_eq!((dataset.version().version, index_dirs(&uri)), (version, 2));
        dataset.drop_index("pq").await.unwrap();
        assert!(!fold(&mut dataset).await.committed);
    });
}
