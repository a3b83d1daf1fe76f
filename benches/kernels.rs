//! Are the distance kernels faster than lance-linalg's? Rows of a block that the cache holds, and rows
//! picked at random from 200 MB.

mod support;

use divan::Bencher;
use divan::counter::ItemsCount;
use lance_linalg::distance::{dot_distance, l2_f32};
use pennon::{DistanceType, PreparedQuery};

const DIMS: [usize; 5] = [100, 128, 384, 784, 1536];
const BATCH: usize = 32;

fn main() {
    divan::main();
}

/// Values of `bytes` in all, and the starts of `BATCH` rows per call.
fn rows(bytes: usize, dim: usize) -> (Vec<f32>, impl FnMut() -> [usize; BATCH]) {
    let values = support::clustered(bytes / (4 * dim), dim, 3);
    let count = values.len() / dim;
    let mut state = 1_u64;
    let next = move || {
        std::array::from_fn(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % count * dim
        })
    };
    (values, next)
}

fn ours(bencher: Bencher<'_, '_>, metric: DistanceType, bytes: usize, dim: usize) {
    let (values, mut next) = rows(bytes, dim);
    let query = PreparedQuery::new(&values[..dim], metric);
    let mut out = [0.0; BATCH];
    query.distances(|i| &values[i * dim..][..dim], &mut out[..2]);
    let expected =
        if metric == DistanceType::L2 { 0.0 } else { dot_distance(&values[..dim], &values[..dim]) };
    assert!((out[0] - expected).abs() < 1e-3);
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(&mut next).bench_local_values(|starts| {
        query.distances(|i| &values[starts[i]..starts[i] + dim], &mut out);
        out
    });
}

fn lance(bencher: Bencher<'_, '_>, metric: DistanceType, bytes: usize, dim: usize) {
    let (values, mut next) = rows(bytes, dim);
    let query = &values[..dim];
    let kernel = if metric == DistanceType::L2 { l2_f32 } else { dot_distance::<f32> };
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(&mut next)
        .bench_local_values(|starts| starts.map(|at| kernel(query, &values[at..at + dim])));
}

macro_rules! kernels {
    ($($name:ident, $function:ident, $metric:ident, $bytes:expr;)*) => {
        $(#[divan::bench(args = DIMS)]
        fn $name(bencher: Bencher<'_, '_>, dim: usize) {
            $function(bencher, DistanceType::$metric, $bytes, dim);
        })*
    };
}

kernels! {
    l2_cached_pennon, ours, L2, 1 << 15;
    l2_cached_lance, lance, L2, 1 << 15;
    dot_cached_pennon, ours, Dot, 1 << 15;
    dot_cached_lance, lance, Dot, 1 << 15;
    l2_random_pennon, ours, L2, 200 << 20;
    l2_random_lance, lance, L2, 200 << 20;
}
