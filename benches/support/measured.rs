//! Rows and queries of a data folder, for the benchmarks that take one.
#![allow(dead_code)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_buffer::{MutableBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};
use pennon::DistanceType;

use crate::support;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of a cache line.
const LINE: usize = 64;

pub struct Data {
    pub name: String,
    pub dim: usize,
    pub distance_type: DistanceType,
    pub values: Vec<f32>,
    pub queries: Vec<f32>,
}

impl Data {
    /// The folder of the first argument, which has `base.fbin` and `query.fbin` and whose name ends in `-l2` or
    /// `-cosine`, or else so many clustered rows of so many elements. A second argument is the number of rows to
    /// take at most.
    pub fn load(rows: usize, dim: usize, queries: usize) -> Result<Self> {
        // Cargo passes options of its own.
        let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
        let Some(folder) = arguments.next() else {
            let (values, queries) = (support::clustered(rows, dim, 1), support::clustered(queries, dim, 2));
            let name = format!("clustered-{dim}-l2");
            return Ok(Self { name, dim, distance_type: DistanceType::L2, values, queries });
        };
        let name = folder.trim_end_matches('/');
        let distance_type = support::fbin::metric(name)?;
        let (dim, mut values) = support::fbin::read(&Path::new(name).join("base.fbin"))?;
        let (query_dim, mut wanted) = support::fbin::read(&Path::new(name).join("query.fbin"))?;
        if query_dim != dim {
            return Err(format!("{name}: rows have {dim} elements, queries {query_dim}").into());
        }
        if let Some(rows) = arguments.next() {
            values.truncate(rows.parse::<usize>()? * dim);
        }
        wanted.truncate(queries * dim);
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, dim, distance_type, values, queries: wanted })
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn queries(&self) -> impl Iterator<Item = &[f32]> + Clone {
        self.queries.chunks_exact(self.dim)
    }

    /// The rows, `past` bytes past the start of a cache line.
    pub fn array(&self, past: usize) -> Result<FixedSizeListArray> {
        let floats = past / size_of::<f32>();
        let mut buffer = MutableBuffer::with_capacity((self.values.len() + floats) * size_of::<f32>());
        assert_eq!(buffer.as_ptr() as usize % LINE, 0, "Arrow allocates whole lines");
        buffer.extend_from_slice(&vec![0.0_f32; floats]);
        buffer.extend_from_slice(&self.values);
        let values = ScalarBuffer::new(buffer.into(), floats, self.values.len());
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Arc::new(Float32Array::new(values, None));
        Ok(FixedSizeListArray::try_new(item, self.dim as i32, values, None)?)
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
