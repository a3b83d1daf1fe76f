//! A directory of format 1 in `fixtures/`, which version 0.1 wrote: it has to load for good.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use pennon::{BuildParams, ElementType, Hit, Index, PruneStrategy, SearchParams, VectorSource};

use super::forged::manifest_of;
use super::{both_of, file_name, files_of, labels};
use crate::data::{Rows, graph_of, load, load_labels};
use crate::deletes::{L2, array_of};

const APPENDED: usize = 190;
/// Appended rows that are replaced by one more each: every 19th.
const REPLACED: usize = 10;
const IDS: usize = APPENDED + REPLACED;
const DIM: usize = 8;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/saved-1")
}

/// Vectors of all ids, of integers up to 63: distances are exact, in whatever order they are summed.
fn vectors() -> Rows {
    let values = (0..IDS * DIM).map(|at| ((at as u32).wrapping_mul(0x9e37_79b1) >> 26) as f32).collect();
    Rows { dim: DIM, values }
}

fn row_id(id: usize) -> usize {
    let appended = if id < APPENDED { id } else { (id - APPENDED) * 19 };
    appended * 7_919 % 100_003
}

fn is_deleted(id: usize) -> bool {
    id < APPENDED && id % 20 == 3
}

fn is_dead(id: usize) -> bool {
    is_deleted(id) || (id < APPENDED && id.is_multiple_of(19))
}

/// Parameters other than the defaults.
fn params() -> BuildParams {
    BuildParams::default()
        .num_edges(6)
        .m0(14)
        .ef_construction(40)
        .max_level(5)
        .seed(11)
        .keep_pruned(true)
        .prune(PruneStrategy::Nearest)
}

fn built() -> (Index, RecordBatch) {
    let (index, rows) = (Index::hnsw(DIM, L2, params()).unwrap(), vectors());
    index.append(&rows.part(0..APPENDED).array(), array_of((0..APPENDED).map(row_id))).unwrap();
    index.upsert(&rows.part(APPENDED..IDS).array(), array_of((APPENDED..IDS).map(row_id))).unwrap();
    (0..IDS).filter(|&id| is_deleted(id)).for_each(|id| index.delete(row_id(id) as u64).unwrap());
    (index, labels(IDS))
}

/// The ten nearest live rows, by the definition of the distance.
fn nearest(query: &[f32]) -> Vec<Hit> {
    let rows = vectors();
    let hit = |id: usize| {
        let distance = rows.row(id).iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum();
        Hit { id: id as u32, row_id: row_id(id) as u64, distance }
    };
    let mut hits: Vec<Hit> = (0..IDS).filter(|&id| !is_dead(id)).map(hit).collect();
    hits.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
    hits.truncate(10);
    hits
}

fn check(index: &Index) {
    let rows = vectors();
    assert_eq!((index.version().vectors(), index.len(), index.tombstones()), (IDS, 180, 20));
    assert_eq!((index.element_type(), index.dim()), (ElementType::Float32, DIM));
    assert_eq!((index.distance_type(), index.params()), (L2, Some(&params())));
    let (live, snapshot) = (index.reader().live_ids(), index.reader().snapshot());
    let graph = graph_of(index);
    for id in 0..IDS {
        assert_eq!(live.value(id), !is_dead(id), "vector id {id}");
        assert_eq!(snapshot.row_id(id as u32), row_id(id) as u64, "vector id {id}");
        assert_eq!(snapshot.vector(id as u32), rows.row(id), "vector id {id}");
        // A row that was replaced is there under another vector id.
        assert_eq!(index.contains(row_id(id) as u64), !is_deleted(id), "vector id {id}");
    }
    for start in 0..40 {
        let query: Vec<f32> = (0..DIM).map(|at| ((start * 5 + at * 7) % 64) as f32 + 0.5).collect();
        let expected = nearest(&query);
        assert_eq!(index.search_exact(&query, &SearchParams::new(10)).unwrap().into_vec(), expected);
        assert_eq!(index.search(&query, &SearchParams::new(10).ef(IDS)).unwrap().into_vec(), expected);
        // Through the graph, dead rows and all: each node has to be met.
        let nodes = graph.search(&query, &SearchParams::new(IDS).ef(IDS), &snapshot).unwrap().into_vec();
        let walked: Vec<Hit> = nodes.into_iter().filter(|hit| !is_dead(hit.id as usize)).take(10).collect();
        assert_eq!(walked, expected);
    }
    let health = index.health().unwrap();
    assert!(health.is_healthy(), "{health}");
    assert_eq!((health.nodes, health.unreachable()), (IDS, 0));
}

#[test]
fn a_directory_of_format_1_loads() {
    let dir = dir();
    let files = files_of(&dir);
    assert!(files.contains_key(&file_name("labels", 1)), "{:?}", files.keys());
    assert_eq!((files.len(), manifest_of(&dir)["format"].as_u64()), (5, Some(1)));

    // First what was saved, as it is built today. How it is linked may change, so graphs are not compared.
    let (index, labels) = built();
    check(&index);
    let [loaded, mapped] = both_of(&dir);
    check(&loaded);
    check(&mapped);
    assert_eq!(load_labels(&dir).unwrap(), Some(labels));

    // Rows can be added, and what is saved then is another directory.
    let home = tempfile::tempdir().unwrap();
    for index in [loaded, mapped.reader().compacted().unwrap()] {
        index.append(&vectors().part(3..4).array(), 3u64).unwrap();
        index.save(home.path()).unwrap();
        assert_eq!(load(home.path()).unwrap().len(), 181);
    }
    assert!(files_of(&dir) == files, "loading changed the files");
    assert!(!dir.join("pennon.lock").exists());
}
