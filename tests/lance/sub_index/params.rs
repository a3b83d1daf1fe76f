//! Build parameters on both sides: the same ones are accepted, and they convert without a loss.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lance_index::vector::flat::storage::FlatFloatStorage;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType, Error, HnswGraph};

use crate::sub_index::data::{Built, Vectors, lance_storage_of};

/// Whether Lance builds with `params`. Its `validate` is private, so it has to build.
fn lance_accepts(storage: &FlatFloatStorage, params: &HnswBuildParams) -> bool {
    let build = || HNSW::index_vectors(storage, params.clone()).is_ok();
    catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|_| {
        println!("Lance panics, which counts as not accepted: {params:?}");
        false
    })
}

fn assert_agreement(storage: &FlatFloatStorage, ours: &BuildParams) {
    let lances = HnswBuildParams::default()
        .max_level(ours.max_level)
        .num_edges(ours.m)
        .ef_construction(ours.ef_construction);
    let accepted = lance_accepts(storage, &lances);
    assert_eq!(ours.validate().is_ok(), accepted, "validate {ours:?}");
    assert_eq!(HnswGraph::try_new(ours.clone()).is_ok(), accepted, "try_new {ours:?}");
    assert_eq!(BuildParams::try_from(&lances).is_ok(), accepted, "try_from {ours:?}");
}

#[test]
fn validate_accepts_what_lance_builds_with() {
    let storage = lance_storage_of(&Vectors::random(50, 8, 31), DistanceType::L2);
    for m in 0..=6_usize {
        for ef_construction in [0, m.saturating_sub(1), m, m + 1] {
            for max_level in 0..=2 {
                let params = BuildParams::default().num_edges(m).max_level(max_level);
                assert_agreement(&storage, &params.ef_construction(ef_construction));
            }
        }
    }
    // Twice this m does not fit in a usize. Lance says so; a build must not wrap or allocate.
    let huge = BuildParams::default().num_edges(usize::MAX).ef_construction(usize::MAX);
    assert_agreement(&storage, &huge);
}

#[test]
fn params_convert_both_ways() {
    let ours = BuildParams::default().max_level(5).num_edges(24).ef_construction(180);
    let lances = HnswBuildParams::from(&ours);
    assert_eq!((lances.max_level, lances.m, lances.ef_construction), (5, 24, 180));
    assert_eq!(BuildParams::try_from(&lances).unwrap(), ours);

    let defaults = HnswBuildParams::default();
    let ours = BuildParams::try_from(&defaults).unwrap();
    assert_eq!((ours.max_level, ours.m, ours.ef_construction), (7, 20, 150));
    assert_eq!(ours.seed, BuildParams::default().seed);
    let unhurried = HnswBuildParams { prefetch_distance: None, ..defaults };
    assert_eq!(BuildParams::try_from(&unhurried).unwrap(), ours);
}

#[test]
fn params_that_lance_would_refuse_do_not_convert() {
    for lances in [
        HnswBuildParams::default().num_edges(3),
        HnswBuildParams::default().num_edges(20).ef_construction(19),
        HnswBuildParams::default().max_level(0),
    ] {
        assert!(BuildParams::try_from(&lances).is_err(), "{lances:?}");
    }
}

#[test]
fn to_lance_hnsw_is_the_export_loaded() {
    let vectors = Vectors::clustered(500, 8, 32);
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    let built = Built::new(&vectors, DistanceType::L2, params.clone());
    for (limit, len) in [(None, 500), (Some(0), 0), (Some(200), 200), (Some(900), 500)] {
        let hnsw = built.graph.to_lance_hnsw(limit).unwrap();
        assert_eq!(hnsw.len(), len);
        assert_eq!(hnsw.is_empty(), len == 0);
        if len > 0 {
            let batch = built.graph.to_lance_hnsw_batch(limit).unwrap();
            assert_eq!(hnsw.to_batch().unwrap().columns(), batch.columns());
            assert_eq!(BuildParams::try_from(&hnsw.metadata().params).unwrap(), params);
        }
    }
}

/// Only a graph that was read from a batch does not know its metric.
#[test]
fn a_graph_of_l1_does_not_become_one_of_lances() {
    let assert_refused = |graph: &HnswGraph| {
        let errors =
            [graph.to_lance_hnsw(None).err().unwrap(), graph.to_lance_hnsw_batch(None).err().unwrap()];
        for error in errors {
            assert!(
                matches!(&error, Error::NotInLance { what: "distance type", actual } if actual == "l1"),
                "{error:?}"
            );
            assert_eq!(error.to_string(), "Lance has no distance type l1");
        }
    };
    let vectors = Vectors::clustered(300, 8, 33);
    let built = Built::new(&vectors, DistanceType::L1, BuildParams::default());
    assert_refused(&built.graph);

    // The batch of another metric's graph does not say which.
    let built = Built::new(&vectors, DistanceType::L2, BuildParams::default());
    let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
    let graph = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
    assert_eq!(graph.to_lance_hnsw(None).unwrap().len(), 300);
    let grown = Built::around(graph, &vectors, DistanceType::L1);
    grown.append(&Vectors::clustered(10, 8, 34));
    assert_refused(&grown.graph);
}
