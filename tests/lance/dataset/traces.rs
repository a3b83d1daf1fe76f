//! What `attach_index` and its halves say through `tracing`.

use lance::Dataset;
use pennon::DistanceType;
use pennon::lance::{attach_index, build_index_segment, commit_segments};
use tokio::runtime::Builder;

use crate::collected::{assert_one, during};
use crate::dataset::data::{Home, INDEX, dataset, params, reader, rows};

#[test]
fn a_build_says_what_was_built_and_committed() {
    let home = Home::new();
    let uri = home.uri("traced");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut dataset = runtime.block_on(dataset(&uri, 500, 250));
    let params = params(DistanceType::L2);

    let attach = |dataset: &mut Dataset| {
        let (attached, lines) =
            during(|| runtime.block_on(attach_index(dataset, "vector", params.clone())).unwrap());
        (attached.uuid.to_string(), lines)
    };
    let (uuid, lines) = attach(&mut dataset);
    assert_one(&lines, &["DEBUG", "linking a segment", "fragments=2", "rows=500", "metric=l2"]);
    assert_one(&lines, &["INFO", "built a segment", "rows=500", "skipped=0", "IVF_HNSW_FLAT", &uuid]);
    assert_one(&lines, &["INFO", "committed a segment", INDEX, "column=\"vector\"", &uuid]);

    let (_, lines) = attach(&mut dataset);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_one(&lines, &["DEBUG", "nothing to build", INDEX]);

    runtime.block_on(dataset.append(reader(vec![rows(500..520, |_| true)]), None)).unwrap();
    let (_, lines) = attach(&mut dataset);
    assert_one(&lines, &["INFO", "no row has a usable vector", "fragments=1"]);

    let (_, lines) = during(|| {
        runtime.block_on(async {
            let segment =
                build_index_segment(&dataset, "vector", params.clone().fragments([0])).await.unwrap();
            commit_segments(&mut dataset, "vector", "other", vec![segment.unwrap()]).await.unwrap();
        });
    });
    assert_one(&lines, &["INFO", "built a segment", "rows=250"]);
    assert_one(&lines, &["INFO", "committed segments", "other", "segments=1"]);
}
