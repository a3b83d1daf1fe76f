//! Searches among the rows that meet a condition on another column, by Arrow's own kernels.
//!
//! 5,000 English words with their GloVe vectors and their ranks, the most frequent word first. What is like a word,
//! among all words, among the 500 most frequent, and among those that begin like it; with a graph, and with a scan.
//!
//! ```sh
//! cargo run --release --features cli --example metadata_filter
//! ```

use std::error::Error;
use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{BooleanArray, Int64Array, RecordBatch};
use arrow_ord::cmp::lt_eq;
use arrow_schema::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pennon::{BuildParams, DistanceType, Index, Metadata, RowMask, SearchParams};

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet");
const FREQUENT: i64 = 500;

/// Searches under three conditions, with a graph and with a scan.
pub fn main() -> Result<(), Box<dyn Error>> {
    let graph = Index::hnsw(100, DistanceType::Cosine, BuildParams::default())?;
    let flat = Index::flat(100, DistanceType::Cosine)?;
    for (kind, index) in [("graph", graph), ("scan", flat)] {
        let metadata = Metadata::new(&index.reader());
        // By row id, which is the row in the file.
        let mut words = Vec::new();
        let mut guitar = None;
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(WORDS)?)?.build()? {
            let batch = batch?;
            let vectors = batch["vector"].as_fixed_size_list();
            let appended = index.append(vectors, words.len() as u64)?;
            metadata.append(&appended, &batch)?;
            for (row, word) in batch["word"].as_string::<i32>().iter().enumerate() {
                let word = word.unwrap_or_default().to_owned();
                if word == "guitar" {
                    guitar = Some(vectors.value(row));
                }
                words.push(word);
            }
        }
        let guitar = guitar.ok_or("no guitar")?;
        let query = guitar.as_primitive::<Float32Type>().values();

        let reader = index.reader();
        let most_frequent = Int64Array::new_scalar(FREQUENT);
        let frequent = metadata.mask(&reader, |batch| lt_eq(&batch["rank"], &most_frequent))?;
        let alike = metadata.mask(&reader, begins_with_g)?;
        let masks: [(&str, Option<RowMask>); 3] =
            [("all words", None), ("500 most frequent", Some(frequent)), ("g...", Some(alike))];
        for (name, mask) in masks {
            let mut params = SearchParams::new(6);
            params.mask = mask;
            let hits = reader.search(query, &params)?;
            let found: Vec<&str> = hits.iter().map(|hit| words[hit.row_id as usize].as_str()).collect();
            assert!(name != "g..." || found.iter().all(|word| word.starts_with('g')), "{found:?}");
            assert!(name != "500 most frequent" || hits.iter().all(|hit| hit.row_id < 500), "{found:?}");
            println!("{kind:<6} {name:<18} {:<60} {} distances", found.join(" "), hits.stats().distances);
        }
    }
    Ok(())
}

/// Any function of a batch is a condition; this one needs no kernel.
fn begins_with_g(batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    Ok(BooleanArray::from_unary(batch["word"].as_string::<i32>(), |word| word.starts_with('g')))
}
