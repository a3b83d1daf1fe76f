//! Lance loads what was reordered, and finds the same rows at the same distances in it.

use lance_index::vector::hnsw::HNSW;
use lance_index::vector::storage::VectorStore;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType, Index};

use crate::kit::pair;
use crate::sub_index::data::{METRICS, Vectors, lance_search, lance_storage};
use crate::sub_index::laws::assert_lawful;

const DIM: usize = 24;

fn params() -> BuildParams {
    BuildParams::default().num_edges(16).ef_construction(100)
}

fn index(vectors: &Vectors, metric: DistanceType, params: BuildParams) -> Index {
    let index = Index::hnsw(DIM, metric, params).unwrap();
    index.append(&*vectors.array(), 70_000).unwrap();
    index
}

/// What Lance finds for each query: row ids and distances, as bits, rows at the same distance by row id.
fn lances_answers(index: &Index, queries: &Vectors, reordered: bool) -> Vec<Vec<(u32, u64)>> {
    let reordered = reordered.then(|| index.reordered().unwrap());
    let (graph, flat) = reordered.as_ref().unwrap_or(index).to_lance_batches().map(pair).unwrap();
    let hnsw = HNSW::load(graph).unwrap();
    let storage = lance_storage(flat, DIM, index.distance_type());
    let answer = |query| {
        let hits = lance_search(&hnsw, &storage, query);
        let mut hits: Vec<(u32, u64)> =
            hits.iter().map(|hit| (hit.dist.0.to_bits(), storage.row_id(hit.id))).collect();
        hits.sort_unstable();
        hits
    };
    queries.rows().map(answer).collect()
}

#[test]
fn lance_finds_the_same_in_another_order() {
    let vectors = Vectors::clustered(5_000, DIM, 61);
    let queries = Vectors::clustered(250, DIM, 62);
    for metric in METRICS {
        let index = index(&vectors, metric, params());
        let before = lances_answers(&index, &queries, false);
        let after = lances_answers(&index, &queries, true);
        let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
        println!("{metric}: {same} of 250 answers of Lance are the same");
        assert_eq!(same, 250, "{metric}");
    }
}

#[test]
fn a_reordered_batch_obeys_the_laws_of_every_export() {
    let vectors = Vectors::clustered(2_000, DIM, 63);
    for metric in METRICS {
        let index = index(&vectors, metric, params());
        (70_000..70_300).for_each(|row_id| index.delete(row_id).unwrap());
        let (graph, flat) = index.reordered().unwrap().to_lance_batches().map(pair).unwrap();
        let hnsw = assert_lawful(&graph, &Vectors::of_storage(&flat), metric, &params());
        assert_eq!(hnsw.len(), 1_700);
    }
}

/// Lance reads lists that are longer than its own, and passes over the parameter that says how long.
#[test]
fn lance_loads_lists_of_any_cap() {
    let vectors = Vectors::clustered(2_000, DIM, 64);
    for m0 in [8, 12, 40] {
        let params = BuildParams::default().num_edges(8).m0(m0).ef_construction(64).keep_pruned(true);
        let index = index(&vectors, DistanceType::L2, params);
        let (graph, _) = index.to_lance_batches().map(pair).unwrap();
        let hnsw = HNSW::load(graph).unwrap();
        assert_eq!((hnsw.len(), hnsw.metadata().params.m), (2_000, 8));
        let answers = lances_answers(&index, &vectors.slice(0..200), false);
        let found = (70_000..).zip(&answers).filter(|(row_id, hits)| hits[0] == (0, *row_id)).count();
        println!("m0 {m0}: Lance finds {found} of 200 rows themselves");
        assert!(found >= 190, "m0 {m0}: {found}");
    }
}
