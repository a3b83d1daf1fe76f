//! What the index says of its memory, beside what an allocator sees: Lance budgets its flushes by it.

use arrow_schema::DataType;
use lance::dataset::mem_wal::index::{HnswMemIndex, MemIndex};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams};
use pennon::{BuildParams, DistanceType, ElementType};

use crate::memwal::data::{DIM, METRICS, batch, index, list_of, rows, vectors, vectors_of};

/// Counts what a thread allocates and does not free, so that the tests beside this one do not show.
#[allow(unsafe_code)]
mod counting {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<isize> = const { Cell::new(0) };
    }

    /// Bytes held by this thread. What another one frees is not taken off.
    pub fn held() -> isize {
        HELD.get()
    }

    struct Counting;

    fn count(bytes: isize) {
        // A thread that is ending counts no more.
        let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(bytes)));
    }

    // SAFETY: every call is passed on to the system's allocator with the same arguments. Counting does not allocate:
    // the counter is made at compile time and has nothing to drop.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(layout.size() as isize);
            // SAFETY: as the caller promises.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            count(layout.size() as isize);
            // SAFETY: as the caller promises.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            count(new_size as isize - layout.size() as isize);
            // SAFETY: as the caller promises.
            unsafe { System.realloc(pointer, layout, new_size) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count(-(layout.size() as isize));
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static COUNTING: Counting = Counting;
}

const ROWS: usize = 4_000;

#[test]
fn memory_is_charged_up_front_and_then_by_the_row() {
    let all = vectors(ROWS, 1);
    let filled = |rows_in: usize| {
        let index = index(DistanceType::L2);
        index.insert(&rows(&all[..rows_in]), 0).unwrap();
        index.resident_bytes()
    };
    let untouched = index(DistanceType::L2).resident_bytes();
    let (one, half, full) = (filled(1), filled(ROWS / 2), filled(ROWS));
    println!("bytes before the first row {untouched}, with it {one}, half full {half}, full {full}");

    // What the first row allocates is charged before it is there, and no more.
    assert!(untouched >= one, "{untouched} bytes before the first row, {one} after it");
    assert!(untouched - one <= one / 100, "{untouched} bytes before the first row, {one} after it");
    assert!(one < half && half < full, "{one}, {half}, {full}");
    assert!(full > one * 3, "{full} bytes for {ROWS} rows, {one} for the first");
    // 32 neighbors with their distances are 256 bytes; the rest of a row are its share of everything else.
    let per_row = (full - half) / (ROWS / 2);
    assert!((256..1_024).contains(&per_row), "{per_row} bytes a row");
}

#[test]
fn an_index_that_is_made_holds_next_to_nothing_and_reports_what_its_first_row_will() {
    let first = rows(&vectors(1, 3));
    let builds = [
        BuildParams::default(),
        BuildParams::default().num_edges(4).ef_construction(20).max_level(1),
        BuildParams::default().num_edges(48).m0(60).max_level(12).seed(3),
    ];
    for (metric, build) in METRICS.into_iter().flat_map(|metric| builds.clone().map(|build| (metric, build)))
    {
        let made = || {
            let params = PennonMemIndexParams::default().build(build.clone());
            PennonMemIndex::try_new("vec", 1, DIM, metric, params).unwrap()
        };
        // Whatever is made once per process or thread is made before anything is counted.
        made().insert(&first, 0).unwrap();

        let before = counting::held();
        let index = made();
        let empty = counting::held() - before;
        let untouched = index.resident_bytes();
        let asked = counting::held() - before;
        index.insert(&first, 0).unwrap();
        let one = counting::held() - before;
        let reported = index.resident_bytes();
        println!("{metric}, m {}: {empty} bytes held when made, {one} with a row", build.m);
        println!("  reported: {untouched} when made, {reported} with a row");
        assert!(empty < 1_024, "{empty} bytes for an index without rows");
        assert_eq!(asked, empty, "asking for the size left something behind");
        assert!(one <= reported as isize, "{one} bytes held, {reported} reported");
        assert!(untouched >= reported, "{untouched} bytes before the first row, {reported} after it");
    }
}

#[test]
fn the_charge_before_the_first_row_is_that_of_the_column_s_elements() {
    for (element_type, data_type, metric) in [
        (ElementType::Float16, DataType::Float16, DistanceType::Cosine),
        (ElementType::Float64, DataType::Float64, DistanceType::L2),
        (ElementType::UInt8, DataType::UInt8, DistanceType::Hamming),
    ] {
        let params = PennonMemIndexParams::default();
        let index = PennonMemIndex::try_with_elements(element_type, "vec", 1, DIM, metric, params).unwrap();
        let untouched = index.resident_bytes();
        let row = list_of(&data_type, &vectors_of(&data_type, 1, 3));
        index.insert(&batch(0, row), 0).unwrap();
        assert!(untouched >= index.resident_bytes(), "{element_type}: {untouched}");
    }
}

#[test]
fn the_capacity_of_the_memtable_costs_nothing() {
    let params = HnswBuildParams::default().num_edges(16).ef_construction(100);
    let theirs = HnswMemIndex::with_capacity(1, "vec".into(), LanceMetric::L2, params, 100_000, 8_000);
    let (ours, theirs) = (index(DistanceType::L2).resident_bytes(), MemIndex::resident_bytes(&theirs));
    println!("before the first row: {ours} bytes, Lance's own reserves {theirs} for 100,000 rows");
    assert!(ours < 256 << 10, "{ours}");
    assert!(ours < theirs);
}

#[test]
fn the_charge_follows_every_put_and_never_falls() {
    let all = vectors(1_000, 2);
    let index = index(DistanceType::Cosine);
    let mut before = 0;
    for (put, part) in all.chunks(50).enumerate() {
        index.insert(&rows(part), put as u64 * 50).unwrap();
        let after = index.resident_bytes();
        assert!(after >= before, "{after} after {before}");
        assert_eq!(after, index.resident_bytes());
        before = after;
    }
    // The vectors are the MemTable's: 64 bytes a row of them are not here.
    let links = 1_000 * (32 + 32) * size_of::<f32>();
    assert!(before > links, "{before} bytes do not hold the links of 1,000 rows, {links}");
}
