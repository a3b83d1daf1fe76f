//! An index of that name that is not the one asked for: it is never taken for it, and how it is replaced.

use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::{AttachParams, Quantizer, attach_index, build_index_segment};
use pennon::{DistanceType, Error};

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, params, recall, run, statistics,
};

/// Asserts that neither an index nor a segment of it is made, and that the dataset stays as it is.
async fn assert_refused(dataset: &mut Dataset, uri: &str, params: AttachParams, says: &str) {
    let before = (dataset.version().version, dataset.load_indices().await.unwrap().to_vec(), index_dirs(uri));
    let segment = build_index_segment(dataset, "vector", params.clone()).await.unwrap_err();
    for error in [attach_index(dataset, "vector", params).await.unwrap_err(), segment] {
        assert!(
            matches!(&error, Error::InvalidColumn { column, problem }
                if column == "vector" && problem.contains(says)),
            "{error}, not {says:?}"
        );
    }
    let after = (dataset.version().version, dataset.load_indices().await.unwrap().to_vec(), index_dirs(uri));
    assert_eq!(after, before);
    assert_eq!(Dataset::open(uri).await.unwrap().version().version, before.0);
}

#[test]
fn an_index_that_covers_everything_is_refused_if_it_is_another() {
    let home = Home::new();
    run(async {
        let cosine = || params(DistanceType::Cosine);
        let flat = || params(DistanceType::L2);
        let sq = || params(DistanceType::L2).quantizer(Quantizer::Sq);
        for (what, there, asked, says) in [
            (
                "metric",
                flat(),
                cosine(),
                "IVF_HNSW_FLAT with metric l2, not IVF_HNSW_FLAT with metric cosine",
            ),
            ("quantized", flat(), sq(), "IVF_HNSW_FLAT with metric l2, not IVF_HNSW_SQ with metric l2"),
            ("plain", sq(), flat(), "IVF_HNSW_SQ with metric l2, not IVF_HNSW_FLAT with metric l2"),
        ] {
            let uri = home.uri(what);
            let mut dataset = dataset(&uri, 600, 300).await;
            attach_index(&mut dataset, "vector", there.clone()).await.unwrap();
            assert_refused(&mut dataset, &uri, asked.clone(), says).await;
            // Nor is it taken for the index of some of the fragments.
            assert_refused(&mut dataset, &uri, asked.fragments([1]), says).await;
            let version = dataset.version().version;
            attach_index(&mut dataset, "vector", there).await.unwrap();
            assert_eq!(dataset.version().version, version);
        }
    });
}

#[test]
fn an_index_of_lance_is_refused_until_it_is_dropped() {
    let home = Home::new();
    run(async {
        let uri = home.uri("lance");
        let mut dataset = dataset(&uri, 1_000, 500).await;
        let pq = VectorIndexParams::ivf_pq(1, 8, 4, LanceMetric::L2, 5);
        let name = Some(INDEX.to_string());
        dataset.create_index(&["vector"], IndexType::Vector, name, &pq, false).await.unwrap();
        let says = "its index \"vector_idx\" is IVF_PQ with metric l2, not IVF_HNSW_FLAT with metric l2";
        assert_refused(&mut dataset, &uri, params(DistanceType::L2), says).await;

        // Beside it under another name, or in its place.
        let beside = params(DistanceType::L2).name("beside");
        assert_eq!(attach_index(&mut dataset, "vector", beside).await.unwrap().name, "beside");
        dataset.drop_index("beside").await.unwrap();
        dataset.drop_index(INDEX).await.unwrap();
        attach_index(&mut dataset, "vector", params(DistanceType::L2)).await.unwrap();
        assert_used(&dataset).await;
        assert_eq!(statistics(&dataset).await["index_type"], "IVF_HNSW_FLAT");
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "in the place of an IVF_PQ");
    });
}

/// Lance keeps the definition of an index that it could not train yet: without files, but with a kind.
#[test]
fn an_index_without_rows_is_refused_by_what_the_manifest_says() {
    let home = Home::new();
    run(async {
        let uri = home.uri("untrained");
        let mut dataset = dataset(&uri, 300, 300).await;
        let pq = VectorIndexParams::ivf_pq(1, 8, 4, LanceMetric::Dot, 5);
        let builder = dataset.create_index_builder(&["vector"], IndexType::Vector, &pq);
        builder.name(INDEX.to_string()).train(false).await.unwrap();
        let says = "IVF_PQ with metric dot, not IVF_HNSW_FLAT with metric l2";
        assert_refused(&mut dataset, &uri, params(DistanceType::L2), says).await;
        assert_refused(&mut dataset, &uri, params(DistanceType::L2).fragments([]), says).await;
    });
}
