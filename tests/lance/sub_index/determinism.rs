//! The same rows give the same bytes at any thread count, and bytes survive a round trip.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ListArray, RecordBatch};
use pennon::lance::{DISTANCE_COLUMN, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};
use pennon::{BuildParams, DistanceType, HnswGraph};
use rayon::ThreadPoolBuilder;

use crate::sub_index::data::{Built, METRICS, Vectors};

/// Every buffer of a batch, and its metadata to the letter.
struct Bytes {
    metadata: String,
    ids: Vec<u32>,
    neighbor_offsets: Vec<i32>,
    neighbors: Vec<u32>,
    distance_offsets: Vec<i32>,
    distances: Vec<u32>,
}

impl Bytes {
    fn of(batch: &RecordBatch) -> Self {
        let ids = batch[VECTOR_ID_COLUMN].as_primitive::<UInt32Type>();
        let neighbors: &ListArray = batch[NEIGHBORS_COLUMN].as_list();
        let distances: &ListArray = batch[DISTANCE_COLUMN].as_list();
        for column in batch.columns() {
            assert!(column.nulls().is_none(), "a validity buffer, of which the writer has none");
        }
        let floats = distances.values().as_primitive::<Float32Type>().values();
        Self {
            metadata: batch.schema_ref().metadata()[HNSW_METADATA_KEY].clone(),
            ids: ids.values().to_vec(),
            neighbor_offsets: neighbors.value_offsets().to_vec(),
            neighbors: neighbors.values().as_primitive::<UInt32Type>().values().to_vec(),
            distance_offsets: distances.value_offsets().to_vec(),
            distances: floats.iter().map(|distance| distance.to_bits()).collect(),
        }
    }

    /// Says which buffer differs, not with what: they are long.
    fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.metadata, other.metadata, "{what}");
        assert!(self.ids == other.ids, "{what}: ids");
        assert!(self.neighbor_offsets == other.neighbor_offsets, "{what}: offsets of neighbors");
        assert!(self.neighbors == other.neighbors, "{what}: neighbors");
        assert!(self.distance_offsets == other.distance_offsets, "{what}: offsets of distances");
        assert!(self.distances == other.distances, "{what}: distances");
    }
}

/// The exports of a graph built on `threads` threads, from batches of very different sizes.
fn exports(threads: usize, vectors: &Vectors, metric: DistanceType) -> Vec<Bytes> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let params = BuildParams::default().num_edges(12).ef_construction(80);
        let built = Built::new(&vectors.slice(0..1), metric, params);
        let mut start = 1;
        for size in [1, 2, 61, 700, 1, 1_500, 256].into_iter().cycle() {
            let end = vectors.len().min(start + size);
            built.append(&vectors.slice(start..end));
            start = end;
            if start == vectors.len() {
                break;
            }
        }
        [None, Some(1), Some(vectors.len() / 2)]
            .map(|limit| Bytes::of(&built.graph.to_lance_hnsw_batch(limit).unwrap()))
            .into()
    })
}

#[test]
fn exported_bytes_do_not_depend_on_threads() {
    let vectors = Vectors::clustered(6_000, 16, 61);
    let with_copies = vectors.slice(0..2_000).then(&Vectors::repeated(vectors.row(9), 500));
    for metric in METRICS {
        for rows in [&vectors, &with_copies] {
            let one = exports(1, rows, metric);
            for threads in [2, 8] {
                let many = exports(threads, rows, metric);
                for (left, right) in one.iter().zip(&many) {
                    left.assert_same(right, &format!("{metric}, {threads} threads"));
                }
            }
        }
    }
}

#[test]
fn exporting_twice_gives_the_same_bytes() {
    let vectors = Vectors::clustered(1_000, 16, 62);
    let built = Built::new(&vectors, DistanceType::L2, BuildParams::default());
    let first = Bytes::of(&built.graph.to_lance_hnsw_batch(None).unwrap());
    built.ids(vectors.row(1));
    Bytes::of(&built.graph.to_lance_hnsw_batch(None).unwrap()).assert_same(&first, "again");
}

#[test]
fn export_import_export_is_the_identity() {
    for n in [0, 1, 2, 17, 3_000] {
        for metric in METRICS {
            let vectors = Vectors::clustered(n, 16, 63);
            let params = BuildParams::default().max_level(5).num_edges(10).ef_construction(90);
            let built = Built::new(&vectors, metric, params.clone());
            let batch = built.graph.to_lance_hnsw_batch(None).unwrap();
            let graph = HnswGraph::from_lance_hnsw_batch(&batch).unwrap();
            assert_eq!(graph.len(), n);
            assert_eq!(*graph.params(), params);
            let again = graph.to_lance_hnsw_batch(None).unwrap();
            assert_eq!(again.schema(), batch.schema());
            Bytes::of(&again).assert_same(&Bytes::of(&batch), &format!("{metric} n {n}"));
            assert_eq!(graph.health(), built.graph.health(), "{metric} n {n}");
        }
    }
}
