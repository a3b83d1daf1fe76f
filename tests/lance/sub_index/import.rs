//! Graphs that Lance built are searched as Lance searches them, grow, and go back to Lance.

use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::OnlineHnswBuilder;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType, HnswGraph};

use crate::sub_index::data::{Built, EF, K, METRICS, Vectors, lance_ids, lance_storage_of, nearest, recall};
use crate::sub_index::layout::Layout;

const N: usize = 2_000;
const ADDED: usize = 500;

/// `hnsw` over the first rows of `vectors`: imported, searched, grown by the rest, exported.
fn assert_adopted(hnsw: &HNSW, vectors: &Vectors, metric: DistanceType) {
    let n = hnsw.len();
    let (first, added) = (vectors.slice(0..n), vectors.slice(n..vectors.len()));
    let queries = Vectors::clustered(200, vectors.dim, 49);
    let graph = HnswGraph::from_lance_hnsw_batch(&hnsw.to_batch().unwrap()).unwrap();
    assert_eq!(graph.len(), n);
    let stated = BuildParams::try_from(&hnsw.metadata().params).unwrap();
    assert_eq!(*graph.params(), stated);

    let built = Built::around(graph, &first, metric);
    let storage = lance_storage_of(&first, metric);
    let lances = recall(&first, metric, &queries, |query| lance_ids(hnsw, &storage, query));
    let ours = recall(&first, metric, &queries, |query| built.ids(query));
    println!("{metric} n {n}: recall@{K} at ef {EF}: Lance {lances:.4}, pennon {ours:.4}");
    assert!(ours >= lances - 0.01, "{metric}: Lance {lances}, pennon {ours}");

    let ids = built.append(&added);
    assert_eq!(ids, n as u32..vectors.len() as u32);
    assert_eq!(built.graph.len(), vectors.len());
    assert_found(&built, vectors, metric, n);
    let whole = recall(vectors, metric, &queries, |query| built.ids(query));
    println!("{metric} n {n} and {}: recall {whole:.4}", added.len());
    assert!(whole >= 0.97, "{metric}: {whole}");

    let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
    assert_eq!(Layout::decode(&batch).reachable(), vectors.len());
    let again = HNSW::load(batch).unwrap();
    assert_eq!(again.len(), vectors.len());
    let storage = built.lance_storage();
    let lances = recall(vectors, metric, &queries, |query| lance_ids(&again, &storage, query));
    println!("{metric} back in Lance: recall {lances:.4}");
    assert!(lances >= whole - 0.01, "{metric}: Lance {lances}, pennon {whole}");
}

/// Each row from `start` on, used as the query, is found where an exact scan finds it. Under `Dot`
/// longer rows may outrank a row at itself, and those that the scan does not return do not count.
fn assert_found(built: &Built, vectors: &Vectors, metric: DistanceType, start: usize) {
    let (mut findable, mut found) = (0, 0);
    for id in start..vectors.len() {
        let row = vectors.row(id);
        if nearest(vectors, metric, row).contains(&(id as u32)) {
            findable += 1;
            found += usize::from(built.ids(row).contains(&(id as u32)));
        }
    }
    println!("{metric}: {found} of {findable} appended rows found");
    if metric == DistanceType::Dot {
        assert!(found as f64 >= 0.98 * findable as f64, "{found} of {findable}");
    } else {
        assert_eq!((found, findable), (vectors.len() - start, vectors.len() - start));
    }
}

fn lance_built_graphs_are_adopted(metric: DistanceType) {
    let vectors = Vectors::clustered(N + ADDED, 16, 41);
    let storage = lance_storage_of(&vectors.slice(0..N), metric);
    let hnsw = HNSW::index_vectors(&storage, HnswBuildParams::default()).unwrap();
    assert_adopted(&hnsw, &vectors, metric);
}

#[test]
fn an_l2_graph_of_lance_is_adopted() {
    lance_built_graphs_are_adopted(DistanceType::L2);
}

#[test]
fn a_cosine_graph_of_lance_is_adopted() {
    lance_built_graphs_are_adopted(DistanceType::Cosine);
}

#[test]
fn a_dot_graph_of_lance_is_adopted() {
    lance_built_graphs_are_adopted(DistanceType::Dot);
}

#[test]
fn a_graph_of_lances_online_builder_is_adopted() {
    let vectors = Vectors::clustered(1_000 + ADDED, 16, 42);
    let storage = lance_storage_of(&vectors, DistanceType::L2);
    let params = HnswBuildParams::default().num_edges(16).ef_construction(100);
    let builder = OnlineHnswBuilder::try_with_capacity(vectors.len(), params).unwrap();
    for id in 0..1_000 {
        builder.insert(id, &storage);
    }
    assert_adopted(&builder.finalize(), &vectors, DistanceType::L2);
}

#[test]
fn small_graphs_of_lance_are_adopted() {
    for n in [1, 2, 17] {
        for metric in METRICS {
            let vectors = Vectors::clustered(n + 100, 16, 43);
            let storage = lance_storage_of(&vectors.slice(0..n), metric);
            let params = HnswBuildParams::default().num_edges(8).ef_construction(64);
            let hnsw = HNSW::index_vectors(&storage, params).unwrap();
            assert_adopted(&hnsw, &vectors, metric);
        }
    }
}

/// What Lance writes for no rows; `HNSW::load` answers it with an empty graph.
#[test]
fn an_empty_graph_of_lance_is_adopted() {
    let storage = lance_storage_of(&Vectors::random(0, 8, 44), DistanceType::L2);
    let hnsw = HNSW::index_vectors(&storage, HnswBuildParams::default()).unwrap();
    let graph = HnswGraph::from_lance_hnsw_batch(&hnsw.to_batch().unwrap()).unwrap();
    assert!(graph.is_empty());
    // Lance itself does not look at the metadata of a batch without rows.
    assert_eq!(graph.params().m, 20);

    let vectors = Vectors::random(300, 8, 45);
    let built = Built::around(graph, &vectors.slice(0..0), DistanceType::L2);
    assert!(built.ids(vectors.row(0)).is_empty());
    built.append(&vectors);
    assert_found(&built, &vectors, DistanceType::L2, 0);
}

/// Lance gives a node one edge more than `2m` when it links a stranded node to it, and copies of one
/// row strand each other. The edge that may be the only way to a node must not be the one cut off.
#[test]
fn no_node_is_lost_with_a_list_longer_than_the_cap() {
    let vectors = Vectors::random(200, 8, 46);
    let vectors = vectors.clone().then(&Vectors::repeated(vectors.row(3), 300));
    let storage = lance_storage_of(&vectors, DistanceType::L2);
    let params = HnswBuildParams::default().num_edges(4).ef_construction(16);
    let hnsw = HNSW::index_vectors(&storage, params).unwrap();
    let batch = hnsw.to_batch().unwrap();
    let longest = Layout::decode(&batch).levels[0].iter().map(|row| row.neighbors.len()).max();
    let graph = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
    println!("longest list {longest:?}, of which pennon reaches {}", graph.health().reachable);
    assert_eq!(graph.health().reachable, Layout::decode(&batch).reachable());
}

#[test]
fn lances_graph_survives_an_import_and_an_export() {
    let vectors = Vectors::clustered(1_000, 16, 47);
    for metric in METRICS {
        let storage = lance_storage_of(&vectors, metric);
        let hnsw = HNSW::index_vectors(&storage, HnswBuildParams::default()).unwrap();
        let batch = hnsw.to_batch().unwrap();
        let graph = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
        let back = Layout::decode(&graph.to_lance_hnsw_batch(None).unwrap());
        let lances = Layout::decode(&batch);
        assert_eq!(back.metadata.entry_point, lances.metadata.entry_point);
        assert_eq!(back.metadata.level_offsets, lances.metadata.level_offsets);
        let (mut kept, mut all) = (0, 0);
        for (ours, theirs) in back.levels.iter().flatten().zip(lances.levels.iter().flatten()) {
            assert_eq!(ours.id, theirs.id);
            all += theirs.neighbors.len();
            kept += theirs.neighbors.iter().filter(|id| ours.neighbors.contains(id)).count();
        }
        println!("{metric}: {kept} of {all} edges of Lance's graph come back");
        assert!(kept as f64 >= 0.99 * all as f64);
    }
}
