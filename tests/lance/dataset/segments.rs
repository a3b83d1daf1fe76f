//! Segments that are built by other processes: two of them build, this one commits.

use std::process::{Child, Command};
use std::{env, fs};

use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{Quantizer, SegmentDescriptor, attach_index, build_index_segment, commit_segments};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, params, reader, recall, rows, run, segments,
};

/// Set for a process that is one of the builders: the dataset, its fragments, and where the descriptor goes.
const DATASET: &str = "PENNON_TEST_DATASET";
const FRAGMENTS: &str = "PENNON_TEST_FRAGMENTS";
const DESCRIPTOR: &str = "PENNON_TEST_DESCRIPTOR";

/// What a builder does. A test so that this program can run it; without the variables there is nothing to do.
#[test]
fn builder() {
    let (Ok(uri), Ok(fragments), Ok(descriptor)) =
        (env::var(DATASET), env::var(FRAGMENTS), env::var(DESCRIPTOR))
    else {
        return;
    };
    run(async {
        let dataset = Dataset::open(&uri).await.unwrap();
        let fragments = fragments.split(',').map(|id| id.parse::<u32>().unwrap());
        let params = params(DistanceType::L2).quantizer(Quantizer::Sq).partitions(2).fragments(fragments);
        let segment = build_index_segment(&dataset, "vector", params).await.unwrap().unwrap();
        fs::write(&descriptor, serde_json::to_string(&segment).unwrap()).unwrap();
    });
}

fn start_builder(uri: &str, fragments: &str, descriptor: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["dataset::segments::builder", "--exact"]);
    command.env(DATASET, uri).env(FRAGMENTS, fragments).env(DESCRIPTOR, descriptor);
    command.spawn().unwrap()
}

fn read_descriptor(path: &str) -> SegmentDescriptor {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn two_processes_build_and_a_third_commits() {
    let home = Home::new();
    let uri = home.uri("shared");
    run(dataset(&uri, 3_000, 750));
    let paths = [home.uri("left.json"), home.uri("right.json")];
    let children = [start_builder(&uri, "0,1", &paths[0]), start_builder(&uri, "2,3", &paths[1])];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let built: Vec<SegmentDescriptor> = paths.iter().map(|path| read_descriptor(path)).collect();
    assert_eq!((built[0].fragments(), built[1].fragments()), ([0, 1].as_slice(), [2, 3].as_slice()));
    run(async {
        // Nobody has committed anything so far.
        let mut dataset = Dataset::open(&uri).await.unwrap();
        assert_eq!((dataset.version().version, index_dirs(&uri)), (1, 2));
        let committed = commit_segments(&mut dataset, "vector", INDEX, built.clone()).await.unwrap();
        assert_eq!(committed.len(), 2);
        assert!(built.iter().all(|segment| committed.iter().any(|index| index.uuid == segment.uuid())));
        // Both in one commit.
        let dataset = Dataset::open(&uri).await.unwrap();
        assert_eq!(dataset.version().version, 2);
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2, 3]]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.93, "two processes");
    });
}

#[test]
fn what_changed_since_a_segment_was_built_is_taken_care_of() {
    let home = Home::new();
    run(async {
        let uri = home.uri("changed");
        let mut dataset = dataset(&uri, 2_000, 1_000).await;
        let segment =
            build_index_segment(&dataset, "vector", params(DistanceType::L2)).await.unwrap().unwrap();
        assert_eq!(dataset.version().version, 1);
        dataset.append(reader(vec![rows(2_000..2_200, |_| false)]), None).await.unwrap();
        dataset.delete("id % 4 = 0").await.unwrap();

        // Lance takes a descriptor as it is.
        dataset.commit_existing_index_segments(INDEX, "vector", vec![segment]).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1]]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "changed meanwhile");
        attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2]]);

        // A segment over all of it takes the place of both.
        let whole = build_index_segment(&dataset, "vector", params(DistanceType::L2)).await.unwrap().unwrap();
        commit_segments(&mut dataset, "vector", INDEX, vec![whole]).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1, 2]]);
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "rebuilt");
    });
}

#[test]
fn segments_take_over_the_centroids_of_an_index_that_is_there() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("shared"), 3_000, 1_000).await;
        let params = params(DistanceType::Dot).partitions(3).quantizer(Quantizer::Sq);
        attach_index(&mut dataset, "vector", params.clone().fragments([0])).await.unwrap();
        let mut built = Vec::new();
        for fragment in [1, 2] {
            let params = params.clone().partitions(1).fragments([fragment]);
            built.push(build_index_segment(&dataset, "vector", params).await.unwrap().unwrap());
        }
        commit_segments(&mut dataset, "vector", INDEX, built).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0], vec![1], vec![2]]);
        assert_recall(recall(&dataset, DistanceType::Dot).await, 0.93, "three segments");
        dataset.optimize_indices(&OptimizeOptions::merge(10)).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1, 2]]);
        assert_recall(recall(&dataset, DistanceType::Dot).await, 0.93, "merged");
    });
}

#[test]
fn segments_that_do_not_go_together_are_refused() {
    let home = Home::new();
    run(async {
        let uri = home.uri("refused");
        let mut dataset = dataset(&uri, 1_000, 500).await;
        let build = |params| build_index_segment(&dataset, "vector", params);
        let left = build(params(DistanceType::L2).fragments([0])).await.unwrap().unwrap();
        let whole = build(params(DistanceType::L2)).await.unwrap().unwrap();
        let cosine = build(params(DistanceType::Cosine).fragments([1])).await.unwrap().unwrap();
        for (segments, says) in [
            (vec![left.clone(), whole], "overlapping fragment coverage"),
            (vec![left.clone(), cosine], "metric"),
            (vec![left.clone(), left.clone()], "duplicate segment"),
            (vec![], "at least one index segment"),
        ] {
            let error = commit_segments(&mut dataset, "vector", INDEX, segments).await.unwrap_err();
            let Error::LanceDataset { source } = error else { panic!("{error}") };
            assert!(source.to_string().contains(says), "{source}");
        }
        assert_eq!(dataset.version().version, 1);
        // They can still be committed.
        commit_segments(&mut dataset, "vector", INDEX, vec![left]).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0]]);

        // Rows without a vector make no segment.
        dataset.append(reader(vec![rows(1_000..1_010, |_| true)]), None).await.unwrap();
        let nulls = params(DistanceType::L2).fragments([2]);
        assert_eq!(build_index_segment(&dataset, "vector", nulls).await.unwrap(), None);
    });
}
