//! An index that is brought up to date: Pennon's `optimize_index`, which folds new rows into the graphs that are there,
//! beside Lance's `optimize_indices` with `OptimizeOptions::merge`, which builds the graphs again.
//!
//! Both work on copies of one dataset with one index, to which 1 % and then 10 % new rows were appended. Each result
//! is searched with the same queries.
//!
//! `cargo bench --features lance --bench fold -- [FOLDER [ROWS]]`: a folder as in `support/measured.rs`, or without
//! one 100,000 clustered rows of 128 elements. `PENNON_FOLD_PARTITIONS` is the number of partitions (1),
//! `PENNON_FOLD_SQ=1` quantizes, `PENNON_FOLD_SHARES=1,10` are the new rows in percent. Without `--bench` among the
//! arguments there are 4,000 rows.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, Float32Array, RecordBatch, RecordBatchIterator};
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance_index::optimize::OptimizeOptions;
use pennon::lance::{AttachParams, FoldParams, Quantizer, attach_index, optimize_index};
use support::measured::{Data, Result};

const INDEX: &str = "vector_idx";
const K: usize = 10;
const EF: usize = 64;

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_string())
}

/// Some rows as a batch.
fn batch(data: &Data, rows: std::ops::Range<usize>) -> Result<RecordBatch> {
    let values = data.values[rows.start * data.dim..rows.end * data.dim].to_vec();
    let vectors: ArrayRef = Arc::new(support::array(values, data.dim));
    Ok(RecordBatch::try_from_iter([("vector", vectors)])?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

/// The row ids that a query finds.
async fn found(dataset: &Dataset, data: &Data, query: &[f32], partitions: Option<usize>) -> Result<Vec<u64>> {
    let query = Float32Array::from(query.to_vec());
    let mut scan = dataset.scan();
    scan.project::<&str>(&[])?.with_row_id().nearest("vector", &query, K)?;
    scan.distance_metric(data.distance_type.try_into()?).use_index(partitions.is_some());
    scan.nprobes(partitions.unwrap_or(1)).ef(EF);
    let batch = scan.try_into_batch().await?;
    Ok(batch["_rowid"].as_primitive::<UInt64Type>().values().to_vec())
}

/// Recall and milliseconds of a query.
async fn searched(dataset: &Dataset, data: &Data, partitions: usize) -> Result<(f64, f64)> {
    let (mut hits, mut wanted, mut seconds) = (0, 0, 0.0);
    for query in data.queries() {
        let exact = found(dataset, data, query, None).await?;
        let started = Instant::now();
        let rows = found(dataset, data, query, Some(partitions)).await?;
        seconds += started.elapsed().as_secs_f64();
        hits += rows.iter().filter(|row| exact.contains(row)).count();
        wanted += exact.len();
    }
    Ok((hits as f64 / wanted as f64, 1e3 * seconds / data.queries().count() as f64))
}

async fn measure() -> Result<()> {
    let rows = if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 4_000 };
    let data = Data::load(rows, 128, 50)?;
    let partitions: usize = setting("PENNON_FOLD_PARTITIONS", "1").parse()?;
    let quantizer = if setting("PENNON_FOLD_SQ", "0") == "1" { Quantizer::Sq } else { Quantizer::Flat };
    let home = tempfile::tempdir()?;
    println!("{}: {} rows of {}, {partitions} partitions, {quantizer:?}", data.name, data.rows(), data.dim);
    println!("| new rows | who | seconds | rows a second | recall | ms a query |");
    println!("|---|---|---|---|---|---|");
    for share in setting("PENNON_FOLD_SHARES", "1,10").split(',') {
        let percent: f64 = share.trim().parse()?;
        let new = (data.rows() as f64 * percent / (100.0 + percent)).ceil() as usize;
        let old = data.rows() - new;
        let base = home.path().join(format!("base{share}"));
        let uri = base.display().to_string();
        let first = batch(&data, 0..old)?;
        let schema = first.schema();
        let mut dataset =
            Dataset::write(RecordBatchIterator::new([Ok(first)], schema.clone()), &uri, None).await?;
        let params = AttachParams::default().distance_type(data.distance_type).quantizer(quantizer);
        attach_index(&mut dataset, "vector", params.partitions(partitions)).await?;
        let more = batch(&data, old..data.rows())?;
        dataset.append(RecordBatchIterator::new([Ok(more)], schema), None).await?;
        for who in ["pennon", "lance"] {
            let place = home.path().join(format!("{who}{share}"));
            copy(&base, &place)?;
            let mut dataset = Dataset::open(&place.display().to_string()).await?;
            let started = Instant::now();
            if who == "pennon" {
                let fold = optimize_index(&mut dataset, INDEX, FoldParams::default()).await?;
                assert_eq!((fold.kept, fold.added), (old as u64, new as u64));
            } else {
                dataset.optimize_indices(&OptimizeOptions::merge(10)).await?;
            }
            let seconds = started.elapsed().as_secs_f64();
            assert_eq!(dataset.load_indices_by_name(INDEX).await?.len(), 1);
            let (recall, query) = searched(&dataset, &data, partitions).await?;
            let rate = data.rows() as f64 / seconds;
            println!("| {new} ({percent} %) | {who} | {seconds:.2} | {rate:.0} | {recall:.4} | {query:.2} |");
            assert!(recall > 0.5, "{who}: recall {recall}");
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}
