//! Reading the benchmark data.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_schema::{DataType, Field};

/// Whatever goes wrong ends the program.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Header and words of an fbin or ibin file.
pub fn read_words(path: &Path) -> Result<(usize, usize, Vec<u32>)> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let words: Vec<u32> =
        bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    Ok((words[0] as usize, words[1] as usize, words[2..].to_vec()))
}

/// Dimension and values of an fbin file.
pub fn read_floats(path: &Path) -> Result<(usize, Vec<f32>)> {
    let (_, dim, words) = read_words(path)?;
    Ok((dim, words.into_iter().map(f32::from_bits).collect()))
}

/// Values as an Arrow column.
pub fn vectors(dim: usize, values: Vec<f32>) -> Result<FixedSizeListArray> {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    Ok(FixedSizeListArray::try_new(item, dim as i32, Arc::new(Float32Array::from(values)), None)?)
}
