//! Pennon as a child of `compare.py`: builds an index, then answers `search EF` lines with one pass
//! over all queries, as one JSON line each.

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, HnswIndex, SearchParams};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const K: usize = 10;

fn read_words(path: &Path) -> Result<(usize, usize, Vec<u32>)> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    Ok((words[0] as usize, words[1] as usize, words[2..].to_vec()))
}

fn read_floats(path: &Path) -> Result<(usize, Vec<f32>)> {
    let (_, dim, words) = read_words(path)?;
    Ok((dim, words.into_iter().map(f32::from_bits).collect()))
}

fn vectors(dim: usize, values: Vec<f32>) -> Result<FixedSizeListArray> {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Ok(FixedSizeListArray::try_new(item, dim as i32, Arc::new(Float32Array::from(values)), None)?)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, data, m, ef_construction, threads] = &arguments[..] else {
        return Err("usage: pennon-peer DATA M EF_CONSTRUCTION THREADS".into());
    };
    let data = PathBuf::from(data);
    let metric = if data.to_string_lossy().ends_with("l2") { DistanceType::L2 } else { DistanceType::Cosine };
    let (dim, base) = read_floats(&data.join("base.fbin"))?;
    let (_, queries) = read_floats(&data.join("query.fbin"))?;
    let (_, truth_k, truth) = read_words(&data.join("gt.ibin"))?;

    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let params = BuildParams::default().num_edges(m.parse()?).ef_construction(ef_construction.parse()?);
    let index = HnswIndex::try_new(dim, metric, params)?;
    let array = vectors(dim, base)?;
    let start = Instant::now();
    index.append(&array, 0)?;
    let build_s = start.elapsed().as_secs_f64();
    println!("{}", json!({"build_s": build_s, "bytes_per_row": index.resident_bytes() as f64 / index.len() as f64}));

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(ef) = line.strip_prefix("search ") else { break };
        let ef: usize = ef.trim().parse()?;
        let (mut found, mut rows) = (0, Vec::with_capacity(truth.len() / truth_k));
        let start = Instant::now();
        for query in queries.chunks_exact(dim) {
            rows.push(index.search(query, SearchParams::new(K, ef))?);
        }
        let seconds = start.elapsed().as_secs_f64();
        for (rows, truth) in rows.iter().zip(truth.chunks_exact(truth_k)) {
            found += rows.iter().filter(|row| truth[..K].contains(&row.id)).count();
        }
        println!("{}", json!({"recall": found as f64 / (rows.len() * K) as f64, "seconds": seconds}));
    }
    Ok(())
}
