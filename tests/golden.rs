//! Digests of distances, of a graph's exported bytes and of answers: the constants are those of every CPU.
//!
//! A program without a harness that starts no thread, so that it also runs under emulators that cannot start any
//! (`tools/cpu-check.sh`). It prints the digests, and fails if one differs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::ExitCode;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int8Array, RecordBatch, UInt8Array,
};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, FieldRef};
use half::f16;
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, ElementType, Index, SearchParams, VectorSource,
    VectorStoreSnapshot,
};

const DISTANCES: u64 = 0x311f_dc42_bd56_8ba9;
const GRAPHS: u64 = 0xf46e_fe44_da4d_6c50;
const ANSWERS: u64 = 0x6607_f07f_a537_111a;

/// Metrics for all elements; [`DistanceType::Hamming`] is for bytes alone.
const METRICS: [DistanceType; 4] =
    [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot, DistanceType::L1];

fn main() -> ExitCode {
    let threads_at_first = threads();
    // This thread is the whole pool, for those who ask how many threads there are.
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
    let (graphs, answers) = graphs();
    let mut same = true;
    for (what, found, expected) in
        [("distances", distances(), DISTANCES), ("graphs", graphs, GRAPHS), ("answers", answers, ANSWERS)]
    {
        let verdict = if found == expected { "as everywhere" } else { "DIFFERS" };
        println!("{what} {found:#018x} {verdict}");
        same &= found == expected;
    }
    let started = threads() - threads_at_first;
    println!("threads started: {started}");
    if same && started == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Threads of this process, an emulator's own among them; 1 where the system does not say.
fn threads() -> i32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.and_then(|threads| threads.trim().parse().ok()).unwrap_or(1)
}

/// Distances of all elements under all metrics, on lengths with every kind of tail.
fn distances() -> u64 {
    let mut digest = Digest::new();
    for dim in [1, 7, 24, 32, 45, 100, 384, 700] {
        let mut numbers = Numbers(dim as u64);
        for vectors in columns(&mut numbers, 11 * dim) {
            let is_bytes = vectors.data_type() == &DataType::UInt8;
            let metrics = METRICS.into_iter().chain(is_bytes.then_some(DistanceType::Hamming));
            for distance_type in metrics {
                let rows = stored(vectors.clone(), dim, distance_type);
                let fractions: Vec<f32> = (0..dim).map(|_| numbers.float()).collect();
                for query in [fractions, rows.widened(3).into_owned()] {
                    let ids: Vec<u32> = (0..rows.len() as u32).collect();
                    let mut found = vec![0.0; ids.len()];
                    rows.distances_to(&rows.prepare(&query), &ids, &mut found);
                    found.into_iter().for_each(|distance| digest.float(distance));
                }
            }
        }
    }
    digest.0
}

/// Graphs of 2,000 vectors, as exported, and the answers of searches in them.
fn graphs() -> (u64, u64) {
    let (n, dim) = (2_000, 24);
    let (mut graphs, mut answers) = (Digest::new(), Digest::new());
    for distance_type in METRICS {
        let mut numbers = Numbers(42);
        let values: Vec<f32> = (0..n * dim).map(|_| numbers.float()).collect();
        let values: ArrayRef = Arc::new(Float32Array::from(values));
        let vectors = list(values, dim);
        let index = Index::hnsw(dim, distance_type, BuildParams::default()).unwrap();
        index.append(&vectors, 0).unwrap();
        // Lance has no L1.
        if distance_type != DistanceType::L1 {
            graphs.batch(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
        }
        for _ in 0..20 {
            let query: Vec<f32> = (0..dim).map(|_| numbers.float()).collect();
            for hit in index.search(&query, &SearchParams::new(10).ef(40)).unwrap() {
                answers.bytes(&hit.id.to_le_bytes());
                answers.float(hit.distance);
            }
        }
    }
    (graphs.0, answers.0)
}

/// FNV-1a.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn float(&mut self, x: f32) {
        // NaN, of a row of zeros under cosine, has no bits of its own.
        let bits = if x.is_nan() { u32::MAX } else { x.to_bits() };
        self.bytes(&bits.to_le_bytes());
    }

    /// A `lance:hnsw` batch: ids, lists of neighbors, their distances.
    fn batch(&mut self, batch: &RecordBatch) {
        let ids = batch.column(0).as_primitive::<UInt32Type>();
        ids.values().iter().for_each(|id| self.bytes(&id.to_le_bytes()));
        let neighbors = batch.column(1).as_list::<i32>();
        neighbors.value_offsets().iter().for_each(|offset| self.bytes(&offset.to_le_bytes()));
        let ids = neighbors.values().as_primitive::<UInt32Type>();
        ids.values().iter().for_each(|id| self.bytes(&id.to_le_bytes()));
        let distances = batch.column(2).as_list::<i32>().values().as_primitive::<Float32Type>();
        distances.values().iter().for_each(|&distance| self.float(distance));
        self.bytes(batch.schema_ref().metadata()["lance:hnsw"].as_bytes());
    }
}

/// Numbers made of integers, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -8 to 8, in steps of `2^-20`.
    fn float(&mut self) -> f32 {
        ((self.next() >> 40) as i32 - (1 << 23)) as f32 / (1 << 20) as f32
    }
}

/// As many values of every element type.
fn columns(numbers: &mut Numbers, len: usize) -> Vec<ArrayRef> {
    let mut bits = || (0..len).map(|_| numbers.next()).collect::<Vec<u64>>();
    let float = |bits: &u64| ((bits >> 40) as i32 - (1 << 23)) as f32 / (1 << 20) as f32;
    let bfloats: Vec<u8> =
        bits().iter().flat_map(|bits| ((float(bits).to_bits() >> 16) as u16).to_le_bytes()).collect();
    vec![
        Arc::new(Float32Array::from_iter_values(bits().iter().map(float))),
        Arc::new(Float64Array::from_iter_values(
            bits().iter().map(|&bits| (bits as i64 >> 11) as f64 / (1_u64 << 49) as f64),
        )),
        // Below 2.
        Arc::new(Float16Array::from_iter_values(
            bits().iter().map(|&bits| f16::from_bits(bits as u16 & 0xbfff)),
        )),
        Arc::new(FixedSizeBinaryArray::new(2, Buffer::from_vec(bfloats), None)),
        Arc::new(Int8Array::from_iter_values(bits().iter().map(|&bits| (bits >> 56) as i8))),
        Arc::new(UInt8Array::from_iter_values(bits().iter().map(|&bits| (bits >> 56) as u8))),
    ]
}

fn list(values: ArrayRef, dim: usize) -> FixedSizeListArray {
    let mut item = Field::new_list_field(values.data_type().clone(), true);
    if values.data_type() == &DataType::FixedSizeBinary(2) {
        item =
            item.with_metadata([("ARROW:extension:name".to_string(), "lance.bfloat16".to_string())].into());
    }
    FixedSizeListArray::new(FieldRef::new(item), dim as i32, values, None)
}

fn stored(values: ArrayRef, dim: usize, distance_type: DistanceType) -> VectorStoreSnapshot {
    let vectors = list(values, dim);
    let (elements, _) = ElementType::of_vectors(vectors.data_type()).unwrap();
    let store = ArrowFixedSizeListVectorStore::try_with_elements(elements, dim, distance_type).unwrap();
    store.append_batch(Arc::new(vectors), 0).unwrap();
    Arc::new(store).snapshot()
}
