//! `to_lance_hnsw_batch(None)` -> `HNSW::load`: the same graph, edge for edge.

use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType};

use crate::sub_index::data::{Built, METRICS, Vectors, lance_storage};
use crate::sub_index::draft::Draft;
use crate::sub_index::laws::assert_lawful;
use crate::sub_index::layout::Layout;
use crate::sub_index::probe::{bytes_beside, scored_by_lance, without_edges};

const SIZES: [usize; 6] = [0, 1, 2, 17, 1_000, 50_000];
/// Nodes of a large graph that are entered one by one; a small graph is entered at each of its own.
const ENTERED: usize = 64;

fn assert_exports(vectors: &Vectors, metric: DistanceType, params: &BuildParams) {
    let built = Built::new(vectors, metric, params.clone());
    let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
    let hnsw = assert_lawful(&batch, vectors, metric, params);
    assert_rebuildable(&hnsw, vectors, metric);

    let layout = Layout::decode(&batch);
    let step = if vectors.len() <= 1_000 { 1 } else { vectors.len() / ENTERED };
    for node in (0..vectors.len() as u32).step_by(step) {
        assert_eq!(scored_by_lance(&batch, node), layout.scored_from(node), "entered at {node}");
    }
    let edges: usize = layout.levels.iter().flatten().map(|row| row.neighbors.len()).sum();
    let (n, m, height) = (vectors.len(), params.m, layout.height());
    println!("{metric} n {n} m {m}: {} rows, {edges} edges, height {height}", layout.rows);
}

/// Lance rebuilds an index from the params in its metadata, so they have to be ones that it takes.
fn assert_rebuildable(hnsw: &HNSW, vectors: &Vectors, metric: DistanceType) {
    if hnsw.is_empty() {
        return;
    }
    let few = vectors.slice(0..vectors.len().min(100));
    let storage = Built::new(&few, metric, BuildParams::default()).lance_storage();
    let rebuilt = HNSW::index_vectors(&storage, hnsw.metadata().params).unwrap();
    assert_eq!(rebuilt.len(), few.len());
}

fn assert_exports_at_every_size(m: usize) {
    let params = BuildParams::default().num_edges(m).ef_construction(m.max(64));
    for n in SIZES {
        let metrics = if n > 1_000 { 1 } else { METRICS.len() };
        for metric in METRICS.into_iter().take(metrics) {
            assert_exports(&Vectors::clustered(n, 16, n as u64 + 1), metric, &params);
        }
    }
}

#[test]
fn lance_loads_every_edge_at_m_4() {
    assert_exports_at_every_size(4);
}

#[test]
fn lance_loads_every_edge_at_m_16() {
    assert_exports_at_every_size(16);
}

#[test]
fn lance_loads_every_edge_at_m_48() {
    assert_exports_at_every_size(48);
}

#[test]
fn any_max_level_is_padded_to_its_count_of_offsets() {
    let vectors = Vectors::random(1_000, 8, 5);
    for max_level in [1, 2, 3, 16] {
        let params = BuildParams::default().max_level(max_level).num_edges(4).ef_construction(64);
        assert_exports(&vectors, DistanceType::L2, &params);
    }
}

#[test]
fn copies_of_one_vector_export_reachable_and_within_the_caps() {
    let vectors = Vectors::random(500, 8, 6);
    let vectors = vectors.clone().then(&Vectors::repeated(vectors.row(7), 1_000));
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    for metric in METRICS {
        assert_exports(&vectors, metric, &params);
    }
}

#[test]
fn rows_added_one_by_one_export_like_a_batch() {
    let vectors = Vectors::clustered(300, 8, 7);
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    let built = Built::new(&vectors.slice(0..1), DistanceType::L2, params.clone());
    for row in 1..vectors.len() {
        built.append(&vectors.slice(row..row + 1));
        if row % 50 == 0 {
            let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
            assert_lawful(&batch, &vectors.slice(0..row + 1), DistanceType::L2, &params);
        }
    }
}

/// The two measurements that the tests above rest on do see an edge that Lance drops.
#[test]
fn the_probe_sees_what_lance_drops() {
    let vectors = Vectors::clustered(200, 8, 8);
    let params = BuildParams::default().num_edges(8).ef_construction(64);
    let built = Built::new(&vectors, DistanceType::L2, params);
    let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
    let node = Draft::of(&batch).bottom_node();
    let damaged = Draft::of(&batch).edit(|draft| draft.neighbors_of(node as usize)[0] = Some(200));

    let mut kept = Layout::decode(&batch).scored_from(node);
    kept.remove(1);
    assert_eq!(scored_by_lance(&damaged, node), kept);
    assert!(bytes_beside(&damaged) > bytes_beside(&without_edges(&damaged)));
}

#[test]
fn the_storage_batch_is_lances_flat_storage() {
    for metric in METRICS {
        let vectors = Vectors::random(50, 8, 9);
        let built = Built::new(&vectors, metric, BuildParams::default());
        let batch = built.store.snapshot().to_record_batch().unwrap();
        let fields = batch.schema_ref().fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, [pennon::lance::ROW_ID_COLUMN, pennon::lance::FLAT_COLUMN]);
        let stated = &batch.schema_ref().metadata()[pennon::lance::DISTANCE_TYPE_KEY];
        assert_eq!(*stated, metric.to_string());

        let storage = lance_storage(batch, 8, metric);
        let hnsw = HNSW::index_vectors(&storage, HnswBuildParams::default()).unwrap();
        assert_eq!(hnsw.len(), 50);
    }
}
