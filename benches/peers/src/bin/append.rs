//! `append DATA`: rows per second of small appends to an index of many, then export and import of the last.
//!
//! DATA is a folder with a `base.fbin` whose name ends in `-l2` or `-cosine`. m = 16, ef_construction = 200,
//! appends on one thread, medians of five rounds.

use std::path::PathBuf;
use std::time::Instant;

use pennon::{BuildParams, DistanceType, HnswGraph, Index};
use pennon_peer::{Result, read_floats, vectors};

const SIZES: [usize; 3] = [10_000, 100_000, 300_000];
/// Rows per append, and appends per round.
const BATCHES: [(usize, usize); 4] = [(1, 200), (10, 50), (100, 10), (1_000, 2)];
const ROUNDS: usize = 5;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let data = PathBuf::from(std::env::args().nth(1).ok_or("usage: append DATA")?);
    let metric = if data.to_string_lossy().ends_with("l2") { DistanceType::L2 } else { DistanceType::Cosine };
    let (dim, values) = read_floats(&data.join("base.fbin"))?;
    let rows = |start: usize, count: usize| vectors(dim, values[start * dim..(start + count) * dim].to_vec());
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;

    println!("| rows held | 1 per append | 10 | 100 | 1,000 |\n|---|---|---|---|---|");
    let mut largest = None;
    for size in SIZES {
        let index = Index::hnsw(dim, metric, BuildParams::default().ef_construction(200))?;
        index.append(&rows(0, size)?, 0)?;
        print!("| {size} |");
        for (count, appends) in BATCHES {
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let next = index.len();
                let batches =
                    (0..appends).map(|i| rows(next + i * count, count)).collect::<Result<Vec<_>>>()?;
                let start = Instant::now();
                one_thread
                    .install(|| batches.iter().try_for_each(|batch| index.append_unique(batch, 0).map(|_| ())))?;
                rates.push((count * appends) as f64 / start.elapsed().as_secs_f64());
            }
            print!(" {:.0} |", median(rates));
        }
        println!();
        largest = Some(index);
    }
    let Some(index) = largest else { return Ok(()) };
    let (mut exports, mut imports, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let batch = index.reader().graph().unwrap().to_lance_hnsw_batch()?;
        exports.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let graph = HnswGraph::from_lance_hnsw_batch(&batch)?;
        imports.push(start.elapsed().as_secs_f64());
        bytes = graph.resident_bytes();
    }
    println!(
        "\n{} rows: export {:.3} s, import {:.3} s and {bytes} bytes; {:.1} bytes per row beside the vectors",
        index.len(),
        median(exports),
        median(imports),
        index.resident_bytes() as f64 / index.len() as f64
    );
    Ok(())
}
