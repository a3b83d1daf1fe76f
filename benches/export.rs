//! How long do export and import of the `lance:hnsw` batch take?

mod support;

use std::sync::LazyLock;

use divan::Bencher;
use pennon::{DistanceType, HnswGraph, Index};

const ROWS: usize = 100_000;

fn main() {
    divan::main();
}

static INDEX: LazyLock<Index> = LazyLock::new(|| support::index(ROWS, 32, DistanceType::L2));

#[divan::bench(sample_count = 10, sample_size = 1)]
fn export_100_000(bencher: Bencher<'_, '_>) {
    LazyLock::force(&INDEX);
    let reader = INDEX.reader();
    let Some(graph) = reader.graph() else { unreachable!("an index with a graph") };
    bencher.bench_local(|| {
        let batch = graph.to_lance_hnsw_batch()?;
        assert!(batch.num_rows() > ROWS);
        Ok::<_, pennon::Error>(batch)
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn import_100_000(bencher: Bencher<'_, '_>) {
    let Some(Ok(batch)) = INDEX.reader().graph().map(|graph| graph.to_lance_hnsw_batch()) else {
        unreachable!("an export of 100,000 rows")
    };
    bencher.bench_local(|| {
        let graph = HnswGraph::from_lance_hnsw_batch(&batch)?;
        assert_eq!(graph.len(), ROWS);
        Ok::<_, pennon::Error>(graph)
    });
}
