//! Pennon as a child of `compare.py`: builds an index, then answers `search EF` lines with one pass
//! over all queries, as one JSON line each.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::Instant;

use pennon::{BuildParams, DistanceType, Index, SearchParams};
use pennon_peer::{Result, read_floats, read_words, vectors};
use serde_json::json;

const K: usize = 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, data, m, ef_construction, threads, codes] = &arguments[..] else {
        return Err("usage: pennon-peer DATA M EF_CONSTRUCTION THREADS auto|bytes|off".into());
    };
    let data = PathBuf::from(data);
    let metric = if data.to_string_lossy().ends_with("l2") { DistanceType::L2 } else { DistanceType::Cosine };
    let (dim, base) = read_floats(&data.join("base.fbin"))?;
    let (_, queries) = read_floats(&data.join("query.fbin"))?;
    let (_, truth_k, truth) = read_words(&data.join("gt.ibin"))?;

    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let params = BuildParams::default().num_edges(m.parse()?).ef_construction(ef_construction.parse()?);
    let params = params.codes(codes.parse()?);
    let index = Index::hnsw(dim, metric, params)?;
    let array = vectors(dim, base)?;
    let start = Instant::now();
    index.append(&array, 0)?;
    let build_s = start.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"build_s": build_s, "bytes_per_row": index.resident_bytes() as f64 / index.len() as f64})
    );

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(ef) = line.strip_prefix("search ") else { break };
        let ef: usize = ef.trim().parse()?;
        let (mut found, mut rows) = (0, Vec::with_capacity(truth.len() / truth_k));
        let params = SearchParams::new(K).ef(ef);
        let start = Instant::now();
        for query in queries.chunks_exact(dim) {
            rows.push(index.search(query, &params)?.into_vec());
        }
        let seconds = start.elapsed().as_secs_f64();
        for (rows, truth) in rows.iter().zip(truth.chunks_exact(truth_k)) {
            found += rows.iter().filter(|row| truth[..K].contains(&row.id)).count();
        }
        println!("{}", json!({"recall": found as f64 / (rows.len() * K) as f64, "seconds": seconds}));
    }
    Ok(())
}
