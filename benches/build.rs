//! How long does a build take, by number of threads?

mod support;

use divan::Bencher;
use pennon::{BuildParams, DistanceType, Index};

const ROWS: usize = 10_000;
const DIM: usize = 128;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2], sample_count = 3, sample_size = 1)]
fn rows_10_000(bencher: Bencher<'_, '_>, threads: usize) {
    let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(threads).build() else { return };
    let vectors = support::array(support::clustered(ROWS, DIM, 1), DIM);
    let params = BuildParams::default().ef_construction(200);
    bencher.bench_local(|| {
        let index = Index::hnsw(DIM, DistanceType::L2, params.clone())?;
        pool.install(|| index.append(&vectors, 0))?;
        assert!(index.health().is_some_and(|health| health.is_healthy()));
        Ok::<_, pennon::Error>(index)
    });
}
