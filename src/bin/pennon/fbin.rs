//! The `fbin` and `ibin` files of the ANN benchmarks: vectors, and true neighbors of queries.
//!
//! `fbin`: `u32` rows, `u32` dimension, then the `f32` of each row.
//! `ibin`: `u32` queries, `u32` k, then `queries * k` row numbers as `u32`, nearest first, then
//! (optionally) as many `f32` distances. All numbers are little endian.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};

use crate::failure::{Context, Result, fail};
use crate::input_file;

/// Rows per batch.
const BATCH_ROWS: usize = 8192;

/// The name of the only column of an `fbin` file.
pub const FBIN_COLUMN: &str = "vector";

/// Whether the file's extension says that it is an `fbin` file (its bytes cannot).
pub fn is_fbin(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "fbin")
}

/// The schema and the rows of an `fbin` file, whose length must be what its header says.
pub fn read_header(path: &Path, file: &mut File, length: u64) -> Result<(SchemaRef, u64)> {
    let (rows, dim) = read_pair(path, file)?;
    check_length(path, length, &[rows, dim])?;
    let dim = i32::try_from(dim).context(|| format!("{}: dimension {dim}", path.display()))?;
    let vector = DataType::FixedSizeList(item(), dim);
    let schema = Schema::new(vec![Field::new(FBIN_COLUMN, vector, false)]);
    Ok((Arc::new(schema), u64::from(rows)))
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

/// The rows of an `fbin` file as record batches.
#[derive(Debug)]
pub struct FbinBatches {
    reader: BufReader<File>,
    schema: SchemaRef,
    dim: i32,
    rows_left: u64,
}

impl FbinBatches {
    /// `file` stands behind the header that gave `schema` and `rows`.
    pub fn new(file: File, schema: SchemaRef, rows: u64) -> Self {
        let dim = match schema.field(0).data_type() {
            DataType::FixedSizeList(_, dim) => *dim,
            _ => 0,
        };
        Self { reader: BufReader::new(file), schema, dim, rows_left: rows }
    }

    fn read(&mut self, rows: usize) -> std::result::Result<RecordBatch, ArrowError> {
        let dim = usize::try_from(self.dim).unwrap_or(0);
        let mut bytes = vec![0; rows * dim * size_of::<f32>()];
        self.reader.read_exact(&mut bytes)?;
        let values: Vec<f32> = numbers(&bytes).map(f32::from_bits).collect();
        let values = Arc::new(Float32Array::from(values));
        let vectors = FixedSizeListArray::try_new(item(), self.dim, values, None)?;
        RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(vectors)])
    }
}

impl Iterator for FbinBatches {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows_left.min(BATCH_ROWS as u64);
        self.rows_left -= rows;
        (rows > 0).then(|| self.read(rows as usize))
    }
}

/// The true neighbors of an `ibin` file.
#[derive(Debug)]
pub struct GroundTruth {
    pub queries: usize,
    pub k: usize,
    rows: Vec<u32>,
}

impl GroundTruth {
    pub fn read(path: &Path) -> Result<Self> {
        let (mut file, length) = input_file::open(path)?;
        let (queries, k) = read_pair(path, &mut file)?;
        if check_length(path, length, &[queries, k]).is_err() {
            check_length(path, length, &[queries, k, 2])?;
        }
        let (queries, k) = (queries as usize, k as usize);
        let mut bytes = vec![0; queries * k * size_of::<u32>()];
        file.read_exact(&mut bytes).context(|| format!("cannot read {}", path.display()))?;
        let rows = numbers(&bytes).collect();
        Ok(Self { queries, k, rows })
    }

    /// The rows nearest to a query, nearest first.
    pub fn rows(&self, query: usize) -> &[u32] {
        let start = query * self.k;
        self.rows.get(start..start + self.k).unwrap_or_default()
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

fn read_pair(path: &Path, file: &mut File) -> Result<(u32, u32)> {
    let mut header = [0; 8];
    file.read_exact(&mut header).context(|| format!("cannot read {}: its 8 byte header", path.display()))?;
    let mut pair = numbers(&header);
    Ok((pair.next().unwrap_or(0), pair.next().unwrap_or(0)))
}

/// Compares the length of a file with an 8 byte header and 4 bytes for each of the product.
fn check_length(path: &Path, length: u64, factors: &[u32]) -> Result<()> {
    let product = factors.iter().try_fold(4_u64, |product, factor| product.checked_mul(u64::from(*factor)));
    let expected = product.and_then(|product| product.checked_add(8));
    if expected == Some(length) {
        return Ok(());
    }
    let factors: Vec<String> = factors.iter().map(ToString::to_string).collect();
    fail(format!(
        "cannot read {}: it has {length} bytes, but its header asks for 8 + 4 * {}",
        path.display(),
        factors.join(" * ")
    ))
}
