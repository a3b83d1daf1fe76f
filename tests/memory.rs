//! What an index costs, as a counting allocator sees it.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Arguments;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{FixedSizeListArray, Float32Array, UInt64Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, GraphView, HnswGraph, Index, SearchParams};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
/// The most that `BYTES` has been since it was reset.
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(bytes, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const DIM: usize = 8;

fn allocated() -> usize {
    BYTES.load(Ordering::Relaxed)
}

fn rows(rows: usize, seed: u64) -> FixedSizeListArray {
    let mut state = seed;
    let values: Vec<f32> = (0..rows * DIM)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        })
        .collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::try_new(item, DIM as i32, Arc::new(Float32Array::from(values)), None).unwrap()
}

/// Row ids all over `u64`, a different one for each row.
fn row_id(row: usize) -> u64 {
    (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Batches with their row ids: what belongs to the caller is made before anything is counted.
fn batches(count: usize, size: usize) -> Vec<(FixedSizeListArray, UInt64Array)> {
    let batch = |at: usize| {
        let row_ids = UInt64Array::from_iter_values((at * size..(at + 1) * size).map(row_id));
        (rows(size, at as u64), row_ids)
    };
    (0..count).map(batch).collect()
}

fn index(m: usize) -> Index {
    let params = BuildParams::default().num_edges(m).ef_construction(m.max(40));
    Index::hnsw(DIM, DistanceType::L2, params).unwrap()
}

fn search(index: &Index) {
    let _ = index.search(&[0.5; DIM], &SearchParams::new(10).ef(64)).unwrap();
}

/// The bytes that are not an index's.
struct Baseline(usize);

impl Baseline {
    /// To be called before the index is made.
    fn here() -> Self {
        Self(allocated())
    }

    /// What prints is captured in memory, which is not the index's.
    fn print(&mut self, line: Arguments<'_>) {
        let before = allocated();
        println!("{line}");
        self.0 += allocated() - before;
    }

    /// Compares what the index reports with what was allocated, which is returned.
    fn check(&mut self, index: &Index, case: Arguments<'_>) -> usize {
        let counted = allocated() - self.0;
        // The index itself is not on the heap here.
        let resident = index.resident_bytes() - size_of::<Index>();
        self.print(format_args!("{case}: {counted} bytes allocated, {resident} reported"));
        assert!(resident as f64 <= counted as f64 * 1.05, "{case}: {resident} reported, {counted} allocated");
        assert!(resident >= counted, "{case}: {resident} reported, {counted} allocated");
        counted
    }

    /// Compares what a graph of so many rows holds with what was announced.
    fn check_reserved(&mut self, graph: GraphView<'_>, rows: usize) {
        let reserved = HnswGraph::reserved_bytes(graph.params(), DIM, rows);
        let empty = HnswGraph::try_new(graph.params().clone()).unwrap().resident_bytes();
        let grown = graph.resident_bytes() - empty;
        // Beside the lists, each thread that walked left a stamp for each node, an eighth ahead, and its beam.
        let scratch = rayon::current_num_threads() * (rows + rows / 8 + (4 << 10));
        self.print(format_args!("  {reserved} reserved, {grown} grown, scratch of at most {scratch}"));
        // How many nodes are on upper levels is chance, and shows as a chunk more or less.
        let (least, most) = (reserved as f64 * 0.99, reserved as f64 * 1.01 + scratch as f64);
        assert!((least..=most).contains(&(grown as f64)), "{reserved} reserved, {grown} grown");
    }
}

fn one_append_and_deletes() {
    // What a thread keeps for all indexes that it reads is not of one of them.
    assert_eq!(index(8).len(), 0);
    for m in [8, 16, 32] {
        for count in [0, 1, 1_000, 100_000] {
            let vectors = rows(count, 7);
            let mut baseline = Baseline::here();
            let index = index(m);
            index.append(&vectors, 0).unwrap();
            search(&index);
            let counted = baseline.check(&index, format_args!("m {m}, {count} rows"));
            match count {
                0 => {
                    assert!(counted < 96 << 10, "{counted} bytes for an empty index");
                    continue;
                }
                1 => assert!(counted < 160 << 10, "{counted} bytes for one row"),
                _ => baseline.check_reserved(index.reader().graph().unwrap(), count),
            }
            if (m, count) == (16, 100_000) {
                let per_row = counted as f64 / count as f64;
                // Lists, and a code of 32 bytes.
                assert!(per_row <= 300.0 + 34.0, "{per_row} bytes per row beside the vectors");
            }

            index.delete(0).unwrap();
            search(&index);
            baseline.check(&index, format_args!("  one row deleted"));
            for row in (1..count).step_by(10) {
                index.delete(row as u64).unwrap();
            }
            search(&index);
            baseline.check(&index, format_args!("  {} rows deleted", index.tombstones()));
        }
    }
}

fn scattered_row_ids() {
    for size in [1, 100, 10_000] {
        let batches = batches(10, size);
        let mut baseline = Baseline::here();
        let index = index(16);
        for (vectors, row_ids) in &batches {
            index.append(vectors, row_ids).unwrap();
        }
        // The row ids of the last batch are entered when somebody asks.
        assert!(index.contains(row_id(10 * size - 1)));
        baseline.check(&index, format_args!("{} scattered row ids", 10 * size));
        for row in (0..10 * size).step_by(10) {
            index.delete(row_id(row)).unwrap();
        }
        search(&index);
        baseline.check(&index, format_args!("  {size} rows deleted"));
    }
}

fn single_rows() {
    let singles: Vec<FixedSizeListArray> = (0..2_000).map(|row| rows(1, row)).collect();
    let mut baseline = Baseline::here();
    let index = index(16);
    for (row_id, vector) in (0_u64..).zip(&singles) {
        index.append(vector, row_id).unwrap();
    }
    baseline.check(&index, format_args!("{} appends of one row", singles.len()));
}

fn updates_and_compaction() {
    let vectors = rows(20_000, 7);
    let (run, scattered) = (rows(2_000, 8), rows(2_000, 9));
    let row_ids = UInt64Array::from_iter_values((0..2_000).map(|row| row * 7 + 3));
    let singles: Vec<FixedSizeListArray> = (0..100).map(|row| rows(1, 10 + row)).collect();
    let mut baseline = Baseline::here();
    let index = index(16);
    index.append(&vectors, 0).unwrap();
    index.upsert(&run, 5_000).unwrap();
    baseline.check(&index, format_args!("a run of 2,000 rows of 20,000 replaced"));
    index.upsert(&scattered, &row_ids).unwrap();
    baseline.check(&index, format_args!("  2,000 other rows"));
    for vector in &singles {
        index.upsert(vector, 1).unwrap();
    }
    search(&index);
    baseline.check(&index, format_args!("  one row, 100 times"));
    assert_eq!((index.len(), index.tombstones()), (20_000, 4_100));

    index.compact().unwrap();
    search(&index);
    baseline.check(&index, format_args!("  compacted"));
}

/// A sub-batch of 512 nodes changes at most 17 lists for each of them on level 0, and takes less than 1 KiB per list
/// while they are planned. A second copy of the lists of 100,000 rows would be three times as much.
const BATCH_SCRATCH: usize = 512 * 17 * 1024;

/// Appends 100,000 rows in batches of 1,000, with a reader of the first 20,000 if asked for, who searches after each
/// batch. Returns the bytes held at most.
fn peak_of_growth(with_reader: bool) -> usize {
    let batches = batches(100, 1_000);
    let mut baseline = Baseline::here();
    let index = index(16);
    let (mut peak, mut highest_excess) = (0_usize, 0_usize);
    let mut reader = None;
    for (at, (vectors, row_ids)) in batches.iter().enumerate() {
        PEAK.store(allocated(), Ordering::Relaxed);
        index.append(vectors, row_ids).unwrap();
        let excess = PEAK.load(Ordering::Relaxed) - allocated();
        assert!(excess <= BATCH_SCRATCH, "append {at} took {excess} bytes more than it left behind");
        highest_excess = highest_excess.max(excess);

        if with_reader && at == 19 {
            reader = Some(index.reader());
        }
        if let Some(reader) = &reader {
            let hits = reader.search(&[0.5; DIM], &SearchParams::new(10).ef(64)).unwrap();
            assert_eq!(hits.len(), 10);
            assert!(hits.iter().all(|hit| hit.id < 20_000), "{hits:?}");
        }
        peak = peak.max(PEAK.load(Ordering::Relaxed) - baseline.0);
    }
    let case = if with_reader { "with a reader of the first 20,000" } else { "without a reader" };
    baseline.print(format_args!(
        "100,000 rows in 100 appends, {case}: {peak} bytes at most, {highest_excess} more than after the append"
    ));
    baseline.check(&index, format_args!("  at the end"));
    let graph = index.reader().graph().unwrap().resident_bytes();
    assert!(graph > 3 * BATCH_SCRATCH, "a copy of {graph} bytes would not show");
    peak
}

/// One test: the counter is the process's.
#[test]
fn an_index_reports_what_it_holds_and_grows_without_copies() {
    // Whatever is made once per process is made before anything is counted.
    index(16).append(&rows(600, 7), 0).unwrap();
    one_append_and_deletes();
    scattered_row_ids();
    single_rows();
    updates_and_compaction();

    let (without, with) = (peak_of_growth(false), peak_of_growth(true));
    let ratio = with as f64 / without as f64;
    println!("a reader of an old version: {ratio:.3} times the memory at most");
    assert!(ratio <= 1.1, "{with} bytes with a reader of an old version, {without} without");
}
