//! One model for segments of several processes: Lance merges them. Models and segments that do not fit are refused.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch};
use arrow_schema::DataType;
use lance::Dataset;
use lance::dataset::cleanup::CleanupPolicyBuilder;
use lance::dataset::optimize::compact_files;
use lance::dataset::{WriteMode, WriteParams};
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{
    AttachParams, IndexModel, Quantizer, SegmentDescriptor, attach_index, build_index_segment,
    commit_segments,
};
use pennon::{DistanceType, Error};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, dataset_of, index_dirs, params, reader, recall, rows,
    run, segments,
};

/// Set for a process that is one of the builders: the dataset, its fragments, and the files of the model and of the
/// descriptor.
const DATASET: &str = "PENNON_TEST_MODEL_DATASET";
const FRAGMENTS: &str = "PENNON_TEST_MODEL_FRAGMENTS";
const MODEL: &str = "PENNON_TEST_MODEL";
const DESCRIPTOR: &str = "PENNON_TEST_MODEL_DESCRIPTOR";

fn shared_params() -> AttachParams {
    params(DistanceType::Cosine).quantizer(Quantizer::Sq)
}

/// What a builder does. A test so that this program can run it; without the variables there is nothing to do.
#[test]
fn builder() {
    let Ok(uri) = env::var(DATASET) else { return };
    let [fragments, model, descriptor] = [FRAGMENTS, MODEL, DESCRIPTOR].map(|name| env::var(name).unwrap());
    run(async {
        let dataset = Dataset::open(&uri).await.unwrap().checkout_version(1).await.unwrap();
        let model: IndexModel = serde_json::from_str(&fs::read_to_string(model).unwrap()).unwrap();
        let fragments = fragments.split(',').map(|id| id.parse::<u32>().unwrap());
        let params = shared_params().model(model).fragments(fragments);
        let segment = build_index_segment(&dataset, "vector", params).await.unwrap().unwrap();
        // Whole or not at all.
        let unfinished = format!("{descriptor}.{}", std::process::id());
        fs::write(&unfinished, serde_json::to_string(&segment).unwrap()).unwrap();
        fs::rename(&unfinished, &descriptor).unwrap();
    });
}

/// Starts a builder again and again until one is through, and kills the first of them after some time. Returns how
/// many were killed at work.
fn build_with_kills(uri: &str, fragments: &str, model: &str, descriptor: &str, seed: u64) -> usize {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut killed = 0;
    for attempt in 0..10 {
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([&format!("{module}::builder"), "--exact"]);
        command.env(DATASET, uri).env(FRAGMENTS, fragments).env(MODEL, model).env(DESCRIPTOR, descriptor);
        let mut child = command.spawn().unwrap();
        if attempt < 3 {
            thread::sleep(Duration::from_millis(rng.random_range(0..400)));
            let is_done = child.try_wait().unwrap().is_some();
            killed += usize::from(!is_done);
            child.kill().unwrap();
        }
        let is_success = child.wait().unwrap().success();
        if is_success || fs::exists(descriptor).unwrap() {
            break;
        }
    }
    killed
}

#[test]
fn four_processes_that_are_killed_and_retried_build_one_index() {
    let home = Home::new();
    let uri = home.uri("shared");
    let model_file = home.uri("model.json");
    let train = async {
        let dataset = dataset(&uri, 4_000, 500).await;
        IndexModel::train(&dataset, "vector", &shared_params().partitions(4)).await.unwrap()
    };
    let model = run(train);
    assert_eq!((model.partitions(), model.dim(), model.quantizer()), (4, 16, Quantizer::Sq));
    fs::write(&model_file, serde_json::to_string(&model).unwrap()).unwrap();

    let groups = ["0,1", "2,3", "4,5", "6,7"];
    let paths = groups.map(|group| home.uri(&format!("{group}.json")));
    let killed: usize = thread::scope(|scope| {
        let workers: Vec<_> = (groups.iter().zip(&paths).zip(1..))
            .map(|((group, path), seed)| {
                let (uri, model_file) = (&uri, &model_file);
                scope.spawn(move || build_with_kills(uri, group, model_file, path, seed))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{killed} builders were killed");
    assert!(killed > 0);

    let built: Vec<SegmentDescriptor> =
        paths.iter().map(|path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect();
    let covered: Vec<u32> = built.iter().flat_map(|segment| segment.fragments()).copied().collect();
    assert_eq!(covered, (0..8).collect::<Vec<u32>>());
    assert_eq!(built.iter().map(SegmentDescriptor::rows).sum::<u64>(), 4_000);
    assert!(built.iter().all(|segment| segment.partitions() == 4 && segment.dataset_version() == 1));
    run(async {
        let mut alone = dataset(&home.uri("alone"), 4_000, 500).await;
        let one = attach_index(&mut alone, "vector", shared_params().partitions(4)).await.unwrap();
        assert_eq!((one.partitions, one.rows), (4, 4_000));
        let alone = recall(&alone, DistanceType::Cosine).await;

        let mut dataset = Dataset::open(&uri).await.unwrap();
        commit_segments(&mut dataset, "vector", INDEX, built).await.unwrap();
        assert_eq!(dataset.version().version, 2);
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2, 3], vec![4, 5], vec![6, 7]]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::Cosine).await, alone - 0.02, "four segments");

        // Lance makes one of the four, and commits it as it commits ours.
        let parts = dataset.load_indices_by_name(INDEX).await.unwrap();
        let merged = dataset.merge_existing_index_segments(parts).await.unwrap();
        dataset.commit_existing_index_segments(INDEX, "vector", vec![merged]).await.unwrap();
        assert_eq!(segments(&dataset).await, [(0..8).collect::<Vec<u32>>()]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::Cosine).await, alone - 0.02, "merged by Lance");

        // One more worker, with the model that all have, and Lance's other way.
        dataset.append(reader(vec![rows(4_000..4_400, |_| false)]), None).await.unwrap();
        attach_index(&mut dataset, "vector", shared_params().model(model)).await.unwrap();
        assert_eq!(segments(&dataset).await.len(), 2);
        dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap();
        assert_eq!(segments(&dataset).await, [(0..9).collect::<Vec<u32>>()]);
        assert_recall(recall(&dataset, DistanceType::Cosine).await, alone - 0.02, "optimized by Lance");
    });
}

#[test]
fn a_model_depends_on_the_rows_and_the_parameters_alone() {
    let home = Home::new();
    run(async {
        let batch = rows(0..2_000, |id| id % 3 == 0);
        let write = WriteParams { max_rows_per_file: 300, ..Default::default() };
        let mut dataset = Dataset::write(reader(vec![batch]), &home.uri("model"), Some(write)).await.unwrap();
        let params = shared_params().partitions(3);
        let model = IndexModel::train(&dataset, "vector", &params).await.unwrap();
        assert_eq!(model, IndexModel::train(&dataset, "vector", &params).await.unwrap());
        let bounds = model.bounds().unwrap();
        assert!(-1.0 <= bounds.start && bounds.start < 0.0 && 0.0 < bounds.end && bounds.end <= 1.0);
        let flat = IndexModel::train(&dataset, "vector", &params.clone().quantizer(Quantizer::Flat)).await;
        assert_eq!(flat.as_ref().unwrap().bounds(), None);
        assert_eq!(flat.unwrap().centroids(), model.centroids());
        // Of some fragments, and of rows that are not deleted.
        let part = IndexModel::train(&dataset, "vector", &params.clone().fragments([2, 5])).await.unwrap();
        assert_ne!(part.centroids(), model.centroids());
        dataset.delete("id < 600 or id >= 900 and id < 1500 or id >= 1800").await.unwrap();
        assert_eq!(part, IndexModel::train(&dataset, "vector", &params).await.unwrap());

        let nulls = rows(0..50, |_| true);
        let nulls = Dataset::write(reader(vec![nulls]), &home.uri("nulls"), None).await.unwrap();
        let error = IndexModel::train(&nulls, "vector", &params).await.unwrap_err();
        let says = "no row of a sample of 50 has a usable vector";
        assert!(matches!(&error, Error::InvalidColumn { problem, .. } if problem.contains(says)), "{error}");
    });
}

async fn of_other_dim(uri: &str) -> Dataset {
    let lists = (0..20).map(|row| Some((0..8).map(move |i| Some((row * i) as f32))));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(lists, 8));
    let batch = RecordBatch::try_from_iter([("vector", vectors)]).unwrap();
    Dataset::write(reader(vec![batch]), uri, None).await.unwrap()
}

#[test]
fn a_model_for_something_else_is_refused_with_what_differs() {
    let home = Home::new();
    run(async {
        let uri = home.uri("model");
        let mut dataset = dataset(&uri, 600, 300).await;
        let params = params(DistanceType::L2).partitions(2);
        let model = Arc::new(IndexModel::train(&dataset, "vector", &params).await.unwrap());
        let with = |params: AttachParams| params.model(Arc::clone(&model));

        let mut other_dim = of_other_dim(&home.uri("dim")).await;
        let error = attach_index(&mut other_dim, "vector", with(params.clone())).await.unwrap_err();
        assert!(matches!(error, Error::DimensionMismatch { expected: 16, actual: 8 }), "{error}");

        let mut wide = dataset_of(&DataType::Float64, &home.uri("wide"), 100, 100).await;
        let error = attach_index(&mut wide, "vector", with(params.clone())).await.unwrap_err();
        assert_eq!(error.to_string(), "the model has element type Float32, not Float64");
        for (other, says) in [
            (params.clone().distance_type(DistanceType::Dot), "the model has distance type l2, not dot"),
            (
                params.clone().quantizer(Quantizer::Sq),
                "the model has index type IVF_HNSW_FLAT, not IVF_HNSW_SQ",
            ),
            (params.clone().partitions(3), "the model has number of partitions 2, not 3"),
        ] {
            let error = attach_index(&mut dataset, "vector", with(other)).await.unwrap_err();
            assert!(matches!(error, Error::ModelMismatch { .. }), "{error}");
            assert_eq!(error.to_string(), says);
        }
        assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 0));

        // An index that is there has a model of its own, whose segments cannot be merged with those of another.
        attach_index(&mut dataset, "vector", params.clone().build(Default::default()).fragments([0]))
            .await
            .unwrap();
        let error = attach_index(&mut dataset, "vector", with(params.clone())).await.unwrap_err();
        assert!(matches!(error, Error::ModelMismatch { what: "centroids", .. }), "{error}");
        assert_eq!(index_dirs(&uri), 1);
    });
}

#[test]
fn a_segment_of_rows_that_have_changed_is_refused() {
    let home = Home::new();
    run(async {
        for change in ["compaction", "overwrite"] {
            let uri = home.uri(change);
            let mut dataset = dataset(&uri, 1_000, 250).await;
            let params = params(DistanceType::L2);
            let segment = build_index_segment(&dataset, "vector", params.clone()).await.unwrap().unwrap();
            dataset.delete("id = 3").await.unwrap();
            match change {
                "compaction" => drop(compact_files(&mut dataset, Default::default(), None).await.unwrap()),
                _ => {
                    let mode = WriteMode::Overwrite;
                    let write = WriteParams { mode, max_rows_per_file: 250, ..Default::default() };
                    let batch = rows(5_000..6_000, |_| false);
                    dataset = Dataset::write(reader(vec![batch]), &uri, Some(write)).await.unwrap();
                }
            }
            let version = dataset.version().version;
            let uuid = segment.uuid();
            let error = commit_segments(&mut dataset, "vector", INDEX, vec![segment]).await.unwrap_err();
            assert!(
                matches!(&error, Error::StaleSegment { uuid: stale, built: 1, current, fragments }
                    if *stale == uuid && *current == version && *fragments == [0, 1, 2, 3]),
                "{error}"
            );
            assert!(error.to_string().contains("[0, 1, 2, 3] are gone or changed in version"), "{error}");
            assert_eq!(Dataset::open(&uri).await.unwrap().version().version, version);
            assert!(dataset.load_indices().await.unwrap().is_empty());

            // Built again it is committed.
            let again = build_index_segment(&dataset, "vector", params).await.unwrap().unwrap();
            commit_segments(&mut dataset, "vector", INDEX, vec![again]).await.unwrap();
            assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, change);
        }
    });
}

#[test]
fn a_worker_whose_version_was_cleaned_up_fails() {
    let home = Home::new();
    run(async {
        let uri = home.uri("cleaned");
        let mut dataset = dataset(&uri, 1_000, 250).await;
        let early = Dataset::open(&uri).await.unwrap();
        let segment = build_index_segment(&early, "vector", params(DistanceType::L2)).await.unwrap().unwrap();
        compact_files(&mut dataset, Default::default(), None).await.unwrap();
        let mut policy = CleanupPolicyBuilder::default().delete_unverified(true).build();
        policy.before_version = Some(dataset.version().version);
        dataset.cleanup_with_policy(policy).await.unwrap();

        let error = build_index_segment(&early, "vector", params(DistanceType::L2)).await.unwrap_err();
        assert!(matches!(error, Error::LanceDataset { .. }), "{error}");
        let error = commit_segments(&mut dataset, "vector", INDEX, vec![segment]).await.unwrap_err();
        assert!(matches!(error, Error::StaleSegment { built: 1, .. }), "{error}");
    });
}
