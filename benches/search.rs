//! How long does one search take?

mod support;

use divan::Bencher;
use pennon::{DistanceType, SearchParams};
use std::sync::LazyLock;

const ROWS: usize = 20_000;

fn main() {
    divan::main();
}

fn bench(bencher: Bencher<'_, '_>, index: &pennon::Index, ef: usize) {
    let queries = support::clustered(100, index.dim(), 2);
    let recall = support::recall(index, &queries, ef);
    assert!(recall > if ef < 64 { 0.8 } else { 0.97 }, "recall {recall} at ef {ef}");
    let mut queries = queries.chunks_exact(index.dim()).cycle();
    bencher.bench_local(|| queries.next().map(|query| index.search(query, &SearchParams::new(10).ef(ef))));
}

#[divan::bench(args = [16, 64, 256, 1024])]
fn l2_128(bencher: Bencher<'_, '_>, ef: usize) {
    static INDEX: LazyLock<pennon::Index> = LazyLock::new(|| support::index(ROWS, 128, DistanceType::L2));
    bench(bencher, &INDEX, ef);
}

#[divan::bench(args = [16, 64, 256, 1024])]
fn cosine_100(bencher: Bencher<'_, '_>, ef: usize) {
    static INDEX: LazyLock<pennon::Index> = LazyLock::new(|| support::index(ROWS, 100, DistanceType::Cosine));
    bench(bencher, &INDEX, ef);
}
