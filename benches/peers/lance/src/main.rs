//! Appending a few rows to an index of many: Pennon beside the HNSW index of Lance's MemTable.
//!
//! `append-beside-lance DATA [M EF_CONSTRUCTION]`, DATA a folder with a `base.fbin` whose name ends in `-l2` or
//! `-cosine`. One thread. At each size both indexes hold the same rows; then the same next rows are
//! appended to each in batches, in turn, a few rounds, and the median rate of each is printed.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{FixedSizeListArray, Float32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use lance::dataset::mem_wal::index::{HnswMemIndex, MemIndex};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use pennon::{BuildParams, DistanceType, Index};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [usize; 3] = [10_000, 100_000, 300_000];
/// Rows per append, and appends per round.
const BATCHES: [(usize, usize); 4] = [(1, 20), (10, 10), (100, 4), (1_000, 1)];
const ROUNDS: usize = 3;

struct Data {
    dim: usize,
    values: Vec<f32>,
    cosine: bool,
}

impl Data {
    fn read(folder: &str) -> Result<Self> {
        let bytes = std::fs::read(format!("{folder}/base.fbin"))?;
        let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        let values = words[2..].iter().copied().map(f32::from_bits).collect();
        Ok(Self { dim: words[1] as usize, values, cosine: folder.ends_with("cosine") })
    }

    fn rows(&self, start: usize, count: usize) -> Result<FixedSizeListArray> {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Float32Array::from(self.values[start * self.dim..(start + count) * self.dim].to_vec());
        Ok(FixedSizeListArray::try_new(item, self.dim as i32, Arc::new(values), None)?)
    }

    fn batch(&self, start: usize, count: usize) -> Result<RecordBatch> {
        let rows = self.rows(start, count)?;
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let list = DataType::FixedSizeList(item, self.dim as i32);
        let schema = Arc::new(Schema::new(vec![Field::new("v", list, true)]));
        Ok(RecordBatch::try_new(schema, vec![Arc::new(rows)])?)
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = arguments.get(1).ok_or("usage: append-beside-lance DATA [M EF_CONSTRUCTION]")?;
    let m = arguments.get(2).map_or(Ok(16), |m| m.parse())?;
    let ef_construction = arguments.get(3).map_or(Ok(100), |ef| ef.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let data = Data::read(folder)?;
    let (ours, lances) = if data.cosine {
        (DistanceType::Cosine, lance_linalg::distance::DistanceType::Cosine)
    } else {
        (DistanceType::L2, lance_linalg::distance::DistanceType::L2)
    };
    println!("{folder}, m {m}, ef_construction {ef_construction}, one thread, median of {ROUNDS} rounds");
    println!("| rows held | rows per append | pennon rows/s | lance rows/s | ratio |\n|---|---|---|---|---|");
    for size in SIZES {
        let room = ROUNDS * BATCHES.iter().map(|(rows, appends)| rows * appends).sum::<usize>();
        if (size + room) * data.dim > data.values.len() {
            continue;
        }
        let pennon = Index::hnsw(
            data.dim,
            ours,
            BuildParams::default().num_edges(m).ef_construction(ef_construction),
        )?;
        pennon.append(&data.rows(0, size)?, 0)?;
        let params = HnswBuildParams::default().num_edges(m).ef_construction(ef_construction);
        let lance = HnswMemIndex::with_capacity(0, "v".into(), lances, params, size + room, 1 + room);
        lance.insert(&data.batch(0, size)?, 0)?;

        let mut next = size;
        for (rows, appends) in BATCHES {
            let (mut pennon_rates, mut lance_rates) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let starts: Vec<usize> = (0..appends).map(|i| next + i * rows).collect();
                let arrays = starts.iter().map(|&at| data.rows(at, rows)).collect::<Result<Vec<_>>>()?;
                let batches = starts.iter().map(|&at| data.batch(at, rows)).collect::<Result<Vec<_>>>()?;
                let start = Instant::now();
                for (array, &at) in arrays.iter().zip(&starts) {
                    pennon.append(array, at as u64)?;
                }
                pennon_rates.push((rows * appends) as f64 / start.elapsed().as_secs_f64());
                let start = Instant::now();
                for (batch, &at) in batches.iter().zip(&starts) {
                    lance.insert(batch, at as u64)?;
                }
                lance_rates.push((rows * appends) as f64 / start.elapsed().as_secs_f64());
                next += rows * appends;
            }
            let (pennon, lance) = (median(pennon_rates), median(lance_rates));
            println!("| {size} | {rows} | {pennon:.0} | {lance:.0} | {:.1} |", pennon / lance);
        }
        println!(
            "| {size} | | {} bytes | {} bytes | |",
            pennon.resident_bytes(),
            MemIndex::resident_bytes(&lance)
        );
    }
    Ok(())
}
