//! The files of the ANN benchmarks: vectors (`fbin`, `u8bin`, `i8bin`), and true neighbors of queries (`ibin`).
//!
//! Vectors: `u32` rows, `u32` dimension, then the `f32`, `u8` or `i8` of each row. `ibin`: `u32` queries, `u32` k, then
//! `queries * k` row ids as `u32`, nearest first, then maybe as many `f32` distances. All numbers are little endian.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int8Array, RecordBatch, UInt8Array};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

/// Rows per batch.
const BATCH_ROWS: usize = 8192;

/// The name of the only column.
pub const COLUMN: &str = "vector";

/// The elements that a file's extension names, if it is one of these files: their bytes cannot tell.
pub fn elements_of(path: &Path) -> Option<DataType> {
    match path.extension()?.to_str()? {
        "fbin" => Some(DataType::Float32),
        "u8bin" => Some(DataType::UInt8),
        "i8bin" => Some(DataType::Int8),
        _ => None,
    }
}

/// The rows of a file as record batches.
pub struct Rows {
    reader: BufReader<File>,
    pub schema: SchemaRef,
    pub rows: u64,
    elements: DataType,
    dim: i32,
    left: u64,
}

impl Rows {
    /// Reads the header, which must say how long the file is.
    pub fn open(path: &Path, elements: DataType) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path)?);
        let (rows, dim) = read_pair(&mut reader)?;
        let width = elements.primitive_width().unwrap_or(0) as u64;
        check_length(&reader, &[rows, dim], width)?;
        let dim = i32::try_from(dim).with_context(|| format!("its dimension is {dim}"))?;
        let item = Arc::new(Field::new_list_field(elements.clone(), true));
        let column = Field::new(COLUMN, DataType::FixedSizeList(item, dim), false);
        let (schema, rows) = (Arc::new(Schema::new(vec![column])), u64::from(rows));
        Ok(Self { reader, schema, rows, elements, dim, left: rows })
    }

    fn read(&mut self, rows: usize) -> Result<RecordBatch> {
        let values = rows * usize::try_from(self.dim)?;
        let mut bytes = vec![0; values * self.elements.primitive_width().unwrap_or(0)];
        self.reader.read_exact(&mut bytes)?;
        let values: ArrayRef = match self.elements {
            DataType::UInt8 => Arc::new(UInt8Array::from(bytes)),
            DataType::Int8 => {
                Arc::new(Int8Array::new(ScalarBuffer::new(Buffer::from_vec(bytes), 0, values), None))
            }
            _ => Arc::new(Float32Array::from_iter_values(numbers(&bytes).map(f32::from_bits))),
        };
        let item = Arc::new(Field::new_list_field(self.elements.clone(), true));
        let vectors = FixedSizeListArray::try_new(item, self.dim, values, None)?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(vectors)])?)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.left.min(BATCH_ROWS as u64);
        self.left -= rows;
        (rows > 0).then(|| self.read(rows as usize))
    }
}

/// The true neighbors of an `ibin` file.
pub struct GroundTruth {
    pub queries: usize,
    pub k: usize,
    row_ids: Vec<u32>,
}

impl GroundTruth {
    pub fn read(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let mut reader = BufReader::new(File::open(path)?);
            let (queries, k) = read_pair(&mut reader)?;
            check_length(&reader, &[queries, k], 4)
                .or_else(|_| check_length(&reader, &[queries, k, 2], 4))?;
            let (queries, k) = (queries as usize, k as usize);
            let mut bytes = vec![0; queries * k * size_of::<u32>()];
            reader.read_exact(&mut bytes)?;
            Ok(Self { queries, k, row_ids: numbers(&bytes).collect() })
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    /// The row ids nearest to a query, nearest first.
    pub fn nearest(&self, query: usize, k: usize) -> Vec<u64> {
        let row_ids = self.row_ids.iter().skip(query * self.k).take(k.min(self.k));
        row_ids.copied().map(u64::from).collect()
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

fn read_pair(reader: &mut impl Read) -> Result<(u32, u32)> {
    let mut header = [0; 8];
    reader.read_exact(&mut header).context("its header of 8 bytes")?;
    let mut pair = numbers(&header);
    Ok((pair.next().unwrap_or(0), pair.next().unwrap_or(0)))
}

/// Compares the length of a file with its header and `width` bytes for each of the product.
fn check_length(reader: &BufReader<File>, factors: &[u32], width: u64) -> Result<()> {
    let length = reader.get_ref().metadata()?.len();
    let product = factors.iter().try_fold(width, |product, &factor| product.checked_mul(u64::from(factor)));
    if product.and_then(|product| product.checked_add(8)) == Some(length) {
        return Ok(());
    }
    let factors: Vec<String> = factors.iter().map(u32::to_string).collect();
    bail!("it has {length} bytes, but its header asks for 8 + {width} * {}", factors.join(" * "))
}
