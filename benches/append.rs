//! What does it cost to append a few rows to an index of many?
//!
//! Linking a row costs what a search costs, whatever the size of the graph: the two sizes should differ by
//! the length of the walk and the caches, not by a factor of ten.

mod support;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::Array;
use divan::Bencher;
use divan::counter::ItemsCount;
use pennon::{DistanceType, Index};

const DIM: usize = 100;

fn main() {
    divan::main();
}

fn bench(bencher: Bencher<'_, '_>, index: &Index, rows: usize) {
    static SEED: AtomicU64 = AtomicU64::new(100);
    let len = index.len();
    let appended = AtomicU64::new(0);
    bencher
        .counter(ItemsCount::new(rows))
        .with_inputs(|| {
            let seed = SEED.fetch_add(1, Ordering::Relaxed);
            support::array(support::clustered(rows, DIM, seed), DIM)
        })
        .bench_local_values(|batch| {
            appended.fetch_add(batch.len() as u64, Ordering::Relaxed);
            index.append_unique(&batch, 0)
        });
    assert_eq!(index.len() as u64, len as u64 + appended.into_inner());
}

#[divan::bench(args = [1, 10, 100, 1000], sample_count = 20, sample_size = 1)]
fn to_10_000(bencher: Bencher<'_, '_>, rows: usize) {
    static INDEX: LazyLock<Index> = LazyLock::new(|| support::index(10_000, DIM, DistanceType::Cosine));
    bench(bencher, &INDEX, rows);
}

#[divan::bench(args = [1, 10, 100, 1000], sample_count = 20, sample_size = 1)]
fn to_100_000(bencher: Bencher<'_, '_>, rows: usize) {
    static INDEX: LazyLock<Index> = LazyLock::new(|| support::index(100_000, DIM, DistanceType::Cosine));
    bench(bencher, &INDEX, rows);
}
