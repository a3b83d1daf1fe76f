//! Data sets on disk: a folder with `base.fbin` and `query.fbin`, whose name says the metric.

use std::error::Error;
use std::path::Path;

use pennon::DistanceType;

/// The metric of a folder whose name ends in `-l2` or `-cosine`.
pub fn metric(folder: &str) -> Result<DistanceType, Box<dyn Error + Send + Sync>> {
    match folder.trim_end_matches('/').rsplit('-').next() {
        Some("l2") => Ok(DistanceType::L2),
        Some("cosine") => Ok(DistanceType::Cosine),
        _ => Err(format!("{folder}: the name ends in neither -l2 nor -cosine").into()),
    }
}

/// Dimension and values of a file; little endian: rows, elements per row, values.
pub fn read(path: &Path) -> Result<(usize, Vec<f32>), Box<dyn Error + Send + Sync>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut words = bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    let (rows, dim) = (words.next().unwrap_or(0) as usize, words.next().unwrap_or(0) as usize);
    let values: Vec<f32> = words.map(f32::from_bits).collect();
    if dim == 0 || values.len() != rows * dim {
        return Err(format!("{}: {} values are not {rows} x {dim}", path.display(), values.len()).into());
    }
    Ok((dim, values))
}
