//! What an index costs, as a counting allocator sees it.
#![allow(clippy::unwrap_used, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, HnswIndex, SearchParams};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
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

fn rows(rows: usize) -> FixedSizeListArray {
    let mut state = 7_u64;
    let values: Vec<f32> = (0..rows * DIM)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32
        })
        .collect();
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::try_new(item, DIM as i32, Arc::new(Float32Array::from(values)), None).unwrap()
}

/// One test: the counter is the process's.
#[test]
fn resident_bytes_are_what_the_allocator_saw() {
    // Whatever is made once per process is made before anything is counted.
    HnswIndex::try_new(DIM, DistanceType::L2, BuildParams::default()).unwrap().append(&rows(600), 0).unwrap();
    for m in [8, 16, 32] {
        for count in [0, 1, 1_000, 100_000] {
            let vectors = rows(count);
            let before = BYTES.load(Ordering::Relaxed);
            let params = BuildParams::default().num_edges(m).ef_construction(m.max(40));
            let index = HnswIndex::try_new(DIM, DistanceType::L2, params).unwrap();
            index.append(&vectors, 0).unwrap();
            index.search(&[0.5; DIM], SearchParams::new(10, 64)).unwrap();
            let counted = BYTES.load(Ordering::Relaxed) - before;
            // The index itself is not on the heap here.
            let resident = index.resident_bytes() - size_of::<HnswIndex>();
            println!("m {m}, {count} rows: {counted} bytes allocated, {resident} reported");
            assert!(resident as f64 <= counted as f64 * 1.05, "{resident} reported, {counted} allocated");
            assert!(resident >= counted, "{resident} reported, {counted} allocated");
            match count {
                0 => assert!(counted < 64 << 10, "{counted} bytes for an empty index"),
                1 => assert!(counted < 128 << 10, "{counted} bytes for one row"),
                100_000 if m == 16 => {
                    let per_row = counted as f64 / count as f64;
                    assert!(per_row <= 300.0, "{per_row} bytes per row beside the vectors");
                }
                _ => {}
            }
        }
    }
}
