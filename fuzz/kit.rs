//! What the targets share: how a process starts, and vectors.

use std::collections::BTreeSet;
use std::panic;
use std::sync::{Arc, Once};

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};
use pennon::{Hits, Index, SearchParams};

pub const DIM: usize = 4;

/// Once per process: no threads but this one, and panics that are caught are none of the fuzzer's business. It sees
/// those that are not, as each target is called under a guard that ends the process.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
        panic::set_hook(Box::new(|info| eprintln!("{info}")));
    });
}

pub fn list(values: Vec<f32>, dim: usize) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(values)) as ArrayRef, None)
}

/// Vectors of small whole numbers that depend on the row ids alone.
pub fn vectors(row_ids: impl Iterator<Item = u64>) -> Vec<f32> {
    row_ids
        .flat_map(|row_id| {
            let mixed = (row_id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (0..DIM).map(move |i| ((mixed >> (8 * i)) as u8 % 21) as f32 - 10.0)
        })
        .collect()
}

/// Answers come nearest first, none twice, and no more than were asked for.
pub fn check_order(hits: &Hits, k: usize) {
    assert!(hits.len() <= k, "{} of {k}", hits.len());
    assert!(hits.windows(2).all(|pair| pair[0].distance <= pair[1].distance), "not in order");
    let ids: BTreeSet<u32> = hits.iter().map(|hit| hit.id).collect();
    assert_eq!(ids.len(), hits.len(), "a row twice");
}

/// All rows of an index are found, by the walk and by the scan.
pub fn check_all_found(index: &Index, query: &[f32]) {
    let all = SearchParams::new(usize::MAX);
    for hits in [index.search(query, &all), index.search_exact(query, &all)] {
        let hits = hits.expect("a plain query");
        check_order(&hits, usize::MAX);
        assert_eq!(hits.len(), index.len(), "rows are missing");
    }
    let few = index.search(query, &SearchParams::new(3).ef(5)).expect("a plain query");
    assert_eq!(few.len(), index.len().min(3));
}
