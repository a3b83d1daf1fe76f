//! Which partition a row is in: k-means by Lance, of vectors as Lance compares them with centroids.

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray, UInt64Array};
use lance_index::vector::kmeans::{KMeansParams, compute_partitions_arrow_array, train_kmeans};
use lance_linalg::distance::DistanceType as LanceDistanceType;
use lance_linalg::kernels::normalize_fsl;

use super::rows::{Rows, fixed_size};
use crate::distance::DistanceType;
use crate::error::Result;

// Lance's own defaults for IVF.
const SAMPLE_ROWS_PER_PARTITION: usize = 256;
const MAX_ITERATIONS: u32 = 50;
const BALANCE_FACTOR: f32 = 1.0;

/// Rows that are assigned at a time.
const BATCH_ROWS: usize = 8_192;

/// The rows of one partition.
pub(super) struct Share {
    pub vectors: FixedSizeListArray,
    pub row_ids: UInt64Array,
    pub centroid: Vec<f32>,
}

/// Divides rows, of which there is at least one, among the partitions of the centroids. A partition may be empty.
pub(super) fn divide(
    rows: Rows,
    centroids: &FixedSizeListArray,
    distance_type: DistanceType,
) -> Result<Vec<Share>> {
    let dim = centroids.value_length() as usize;
    let values = centroids.values().as_primitive::<Float32Type>().values();
    let mut centroid_of = values.chunks_exact(dim).map(<[f32]>::to_vec);
    if centroids.len() == 1 {
        let centroid = centroid_of.next().unwrap_or_default();
        return Ok(vec![Share { vectors: rows.vectors, row_ids: rows.row_ids, centroid }]);
    }
    let members = assign(&rows.vectors, centroids, distance_type)?;
    let share = |(members, centroid): (Vec<usize>, Vec<f32>)| -> Result<Share> {
        let values = rows.vectors.values().as_primitive::<Float32Type>().values();
        let mut vectors = Vec::with_capacity(members.len() * dim);
        members.iter().for_each(|row| vectors.extend_from_slice(&values[row * dim..(row + 1) * dim]));
        let row_ids: Vec<u64> = members.iter().map(|&row| rows.row_ids.value(row)).collect();
        Ok(Share { vectors: fixed_size(vectors, dim)?, row_ids: row_ids.into(), centroid })
    };
    members.into_iter().zip(centroid_of).map(share).collect()
}

/// How Lance compares vectors with centroids: cosine is L2 of vectors of length 1.
fn centroid_metric(distance_type: DistanceType) -> LanceDistanceType {
    if distance_type == DistanceType::Dot { LanceDistanceType::Dot } else { LanceDistanceType::L2 }
}

fn comparable(vectors: FixedSizeListArray, distance_type: DistanceType) -> Result<FixedSizeListArray> {
    Ok(if distance_type == DistanceType::Cosine { normalize_fsl(&vectors)? } else { vectors })
}

/// Centroids for `partitions` partitions, or for as many as there are vectors if these are fewer. The same vectors and
/// seed give the same sample and the same first centroids.
pub(super) fn train(
    vectors: &FixedSizeListArray,
    partitions: usize,
    distance_type: DistanceType,
    seed: u64,
) -> Result<FixedSizeListArray> {
    let partitions = partitions.min(vectors.len());
    let dim = vectors.value_length() as usize;
    let values = vectors.values().as_primitive::<Float32Type>().values();
    let rows = vectors.len().min(partitions.saturating_mul(SAMPLE_ROWS_PER_PARTITION));
    let mut sample = Vec::with_capacity(rows * dim);
    for row in (0..rows).map(|position| position * vectors.len() / rows) {
        sample.extend_from_slice(&values[row * dim..(row + 1) * dim]);
    }
    let sample = comparable(fixed_size(sample, dim)?, distance_type)?;
    // The centroid of a single partition is the mean: every query probes it, whatever the metric.
    let metric = if partitions == 1 { LanceDistanceType::L2 } else { centroid_metric(distance_type) };
    let params = KMeansParams::new(None, MAX_ITERATIONS, 1, metric)
        .with_balance_factor(BALANCE_FACTOR)
        .with_seed(seed);
    let sample = sample.values().as_primitive::<Float32Type>();
    let model = train_kmeans::<Float32Type>(sample, params, dim, partitions, SAMPLE_ROWS_PER_PARTITION)?;
    fixed_size(model.centroids.as_primitive::<Float32Type>().values().to_vec(), dim)
}

/// The rows of each partition, ascending.
fn assign(
    vectors: &FixedSizeListArray,
    centroids: &FixedSizeListArray,
    distance_type: DistanceType,
) -> Result<Vec<Vec<usize>>> {
    let mut members = vec![Vec::new(); centroids.len()];
    for start in (0..vectors.len()).step_by(BATCH_ROWS) {
        let batch = vectors.slice(start, BATCH_ROWS.min(vectors.len() - start));
        let batch = comparable(batch, distance_type)?;
        let metric = centroid_metric(distance_type);
        let (nearest, _) = compute_partitions_arrow_array(centroids, &batch, metric)?;
        for (row, partition) in (start..).zip(nearest) {
            // None where all distances overflow: any partition is as good as another.
            members[partition.map_or(0, |partition| partition as usize)].push(row);
        }
    }
    Ok(members)
}
