//! Are searches faster where rows that are met together lie together?
//!
//! `cargo bench --bench reorder --features lance-index [-- DATA [ROWS]]`: DATA is a folder with `base.fbin` and
//! `query.fbin` whose name ends in `-l2` or `-cosine`; without it the rows are clustered ones, 100 MB of them. What is
//! compared is searched in turn, all queries of each; one thread; medians of the rounds. m = 16, ef_construction = 200.
//! With the feature, Lance's own search over the exported batches is measured as well.

mod support;

use std::time::Instant;

use arrow_array::FixedSizeListArray;
use pennon::{BuildParams, Index, SearchParams};
use support::measured::{Data, Result, median};

const K: usize = 10;
const EFS: [usize; 4] = [16, 64, 128, 256];
const QUERIES: usize = 1_000;
const ROUNDS: usize = 11;

fn main() -> Result<()> {
    let data = Data::load(200_000, 128, QUERIES)?;
    let megabytes = data.values.len() * size_of::<f32>() / 1_000_000;
    println!("{}: {} rows x {}, {megabytes} MB of vectors", data.name, data.rows(), data.dim);

    // As `malloc` places large arrays, and with rows at the start of a cache line if they are whole lines long.
    let mut variants = vec![
        ("as appended", build(&data, &data.array(16)?)?),
        ("as appended, aligned", build(&data, &data.array(0)?)?),
    ];
    let start = Instant::now();
    let reordered = variants[1].1.reordered()?;
    println!("{:.2} s to reorder", start.elapsed().as_secs_f64());
    variants.push(("breadth first", reordered));
    let first = &variants[0].1;
    let some = &data.queries[..data.queries.len().min(100 * data.dim)];
    println!("recall@{K} at ef = 64: {:.4}\n", support::recall(first, some, 64));
    header("Pennon");
    for ef in EFS {
        let searches: Vec<Search<'_>> = variants
            .iter()
            .map(|(name, index)| -> Search<'_> {
                let search = move |query: &[f32]| -> Result<Vec<f32>> {
                    let hits = index.search(query, &SearchParams::new(K).ef(ef))?.into_vec();
                    Ok(hits.iter().map(|hit| hit.distance).collect())
                };
                (*name, Box::new(search))
            })
            .collect();
        compare(&data, ef, &searches)?;
    }
    #[cfg(feature = "lance-index")]
    lance::measure(&data, &variants[1].1)?;
    Ok(())
}

fn build(data: &Data, vectors: &FixedSizeListArray) -> Result<Index> {
    let params = BuildParams::default().num_edges(16).ef_construction(200);
    let index = Index::hnsw(data.dim, data.distance_type, params)?;
    index.append_unique(vectors, 0)?;
    Ok(index)
}

/// What is searched, and a search that gives the distances found.
type Search<'a> = (&'static str, Box<dyn Fn(&[f32]) -> Result<Vec<f32>> + 'a>);

fn header(who: &str) {
    println!("| {who} | ef | us per query | against the first |\n|---|---|---|---|");
}

/// Searches for all queries in each, in turn; all have to find the same, but where rows are at the same distance.
fn compare(data: &Data, ef: usize, searches: &[Search<'_>]) -> Result<()> {
    let (_, first) = &searches[0];
    for (name, search) in searches {
        let mut others = 0;
        for query in data.queries() {
            others += usize::from(search(query)? != first(query)?);
        }
        assert!(others * 100 <= data.queries().count(), "{name}, ef = {ef}: {others} other answers");
    }
    let queries = data.queries().count() as f64;
    let mut measured = vec![Vec::with_capacity(ROUNDS); searches.len()];
    for _ in 0..ROUNDS {
        for ((_, search), measured) in searches.iter().zip(&mut measured) {
            let start = Instant::now();
            for query in data.queries() {
                std::hint::black_box(search(query)?);
            }
            measured.push(start.elapsed().as_secs_f64() * 1e6 / queries);
        }
    }
    let mut first = None;
    for ((name, _), measured) in searches.iter().zip(measured) {
        let micros = median(measured);
        let first = *first.get_or_insert(micros);
        println!("| {name} | {ef} | {micros:.1} | {:.3} |", micros / first);
    }
    Ok(())
}

#[cfg(feature = "lance-index")]
mod lance {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float32Array};
    use lance_index::vector::flat::index::FlatMetadata;
    use lance_index::vector::flat::storage::FlatFloatStorage;
    use lance_index::vector::hnsw::HNSW;
    use lance_index::vector::hnsw::builder::HnswQueryParams;
    use lance_index::vector::quantizer::QuantizerStorage;
    use lance_index::vector::v3::subindex::IvfSubIndex;
    use pennon::{Index, LanceBatches};

    use super::{Data, EFS, K, Result, Search, compare, header};

    /// An exported index as Lance has it in memory.
    struct Loaded {
        hnsw: HNSW,
        storage: FlatFloatStorage,
    }

    impl Loaded {
        fn search(&self, query: &[f32], ef: usize) -> Result<Vec<f32>> {
            let params =
                HnswQueryParams { ef, lower_bound: None, upper_bound: None, dist_q_c: 0.0, use_acorn: false };
            let query: ArrayRef = Arc::new(Float32Array::from(query.to_vec()));
            let hits = self.hnsw.search_basic(query, K, &params, None, &self.storage)?;
            Ok(hits.iter().map(|hit| hit.dist.0).collect())
        }
    }

    /// Lance's search over the export of an index, and over its export in another order.
    pub fn measure(data: &Data, index: &Index) -> Result<()> {
        let batches = [
            ("as appended", index.to_lance_batches()?),
            ("breadth first", index.reordered()?.to_lance_batches()?),
        ];
        let mut loaded = Vec::new();
        for (name, LanceBatches { graph, vectors }) in batches {
            let graph = graph.ok_or("the index has a graph")?;
            let metadata = FlatMetadata { dim: data.dim };
            let metric = lance_linalg::distance::DistanceType::try_from(data.distance_type)?;
            let storage = FlatFloatStorage::try_from_batch(vectors, &metadata, metric, None)?;
            loaded.push((name, Loaded { hnsw: HNSW::load(graph)?, storage }));
        }
        println!();
        header("Lance");
        for ef in EFS {
            let searches: Vec<Search<'_>> = loaded
                .iter()
                .map(|(name, loaded)| -> Search<'_> {
                    (*name, Box::new(move |query: &[f32]| loaded.search(query, ef)))
                })
                .collect();
            compare(data, ef, &searches)?;
        }
        Ok(())
    }
}
