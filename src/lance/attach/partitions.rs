//! Which partition a row is in: k-means by Lance, of vectors as Lance compares them with centroids.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray, UInt8Array, UInt64Array};
use arrow_buffer::MutableBuffer;
use lance_index::vector::kmeans::{KMeansParams, compute_partitions_arrow_array, train_kmeans};
use lance_linalg::distance::{DistanceType as LanceDistanceType, Dot, L2, Normalize};

use crate::distance::DistanceType;
use crate::error::Result;
use crate::lance::attach::memory::row_bytes;
use crate::lance::attach::rows::Rows;
use crate::lance::columns::{lists, lists_of_bytes};
use crate::lance::unit_length::normalized;
use crate::vectors::VectorSource;
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, VectorStoreSnapshot, usable_rows};

// Lance's own defaults for IVF.
pub(super) const SAMPLE_ROWS_PER_PARTITION: usize = 256;
const MAX_ITERATIONS: u32 = 50;
const BALANCE_FACTOR: f32 = 1.0;

/// Rows that are assigned at a time.
const BATCH_ROWS: u32 = 8_192;

/// Divides rows, of which there is at least one, among the partitions of the centroids. A partition may be empty.
///
/// A single partition is the rows as they were read. Several have memory of their own, into which the batches of the
/// scan go one after the other, and each is freed then: the vectors are never held twice.
pub(super) fn divide(
    rows: Rows,
    centroids: &FixedSizeListArray,
) -> Result<Vec<Arc<ArrowFixedSizeListVectorStore>>> {
    if centroids.len() == 1 {
        return Ok(vec![rows.vectors]);
    }
    let partition_of = assign(&rows.vectors.snapshot(), centroids)?;
    let mut lengths = vec![0; centroids.len()];
    for &partition in &partition_of {
        lengths[partition as usize] += 1;
    }

    let Rows { vectors, batches, .. } = rows;
    let kind = Kind::of(&vectors.snapshot());
    // Now the batches are held here alone.
    drop(vectors);
    let mut parts: Vec<Part> =
        lengths.into_iter().map(|rows| Part::with_capacity(rows, kind.row_bytes())).collect();
    let mut partition_of = partition_of.into_iter();
    for (vectors, row_ids) in batches {
        scatter(&vectors, &row_ids, kind, &mut partition_of, &mut parts)?;
    }
    let stores = parts.iter_mut().map(|part| -> Result<_> {
        let store = kind.store()?;
        let (vectors, row_ids) = part.take(kind)?;
        store.append_batch_with_row_ids(Arc::new(vectors), &row_ids)?;
        Ok(Arc::new(store))
    });
    stores.collect()
}

/// What vectors are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub element_type: ElementType,
    pub dim: usize,
    pub distance_type: DistanceType,
}

impl Kind {
    fn of(rows: &VectorStoreSnapshot) -> Self {
        Self { element_type: rows.element_type(), dim: rows.dim(), distance_type: rows.distance_type() }
    }

    pub fn row_bytes(self) -> usize {
        row_bytes(self.element_type, self.dim)
    }

    /// A store for such vectors.
    pub fn store(self) -> Result<ArrowFixedSizeListVectorStore> {
        ArrowFixedSizeListVectorStore::try_with_elements(self.element_type, self.dim, self.distance_type)
    }
}

/// Gives the usable rows of a batch to their partitions.
pub(super) fn scatter(
    vectors: &FixedSizeListArray,
    row_ids: &UInt64Array,
    kind: Kind,
    partition_of: &mut impl Iterator<Item = u32>,
    parts: &mut [Part],
) -> Result<()> {
    let row_bytes = kind.row_bytes();
    let data = vectors.values().to_data();
    let bytes = data.buffers().first().map_or(&[] as &[u8], |buffer| buffer.as_slice());
    for (first, len) in usable_rows(vectors, kind.distance_type)? {
        let rows = first as usize..(first + len) as usize;
        for (row, partition) in rows.zip(partition_of.by_ref()) {
            let vector = &bytes[row * row_bytes..(row + 1) * row_bytes];
            parts[partition as usize].push(vector, row_ids.value(row));
        }
    }
    Ok(())
}

/// A partition while its rows arrive.
#[derive(Debug)]
pub(super) struct Part {
    /// From a line of the cache on, as Arrow allocates: rows of whole lines then touch no line more than they fill.
    vectors: MutableBuffer,
    row_ids: Vec<u64>,
}

impl Part {
    pub fn with_capacity(rows: usize, row_bytes: usize) -> Self {
        Self { vectors: MutableBuffer::with_capacity(rows * row_bytes), row_ids: Vec::with_capacity(rows) }
    }

    fn push(&mut self, vector: &[u8], row_id: u64) {
        self.vectors.extend_from_slice(vector);
        self.row_ids.push(row_id);
    }

    /// Its rows so far, which it has no longer then.
    pub fn take(&mut self, kind: Kind) -> Result<(FixedSizeListArray, UInt64Array)> {
        let bytes = std::mem::replace(&mut self.vectors, MutableBuffer::new(0));
        let vectors = lists_of_bytes(kind.element_type, kind.dim, bytes.into())?;
        Ok((vectors, UInt64Array::from(std::mem::take(&mut self.row_ids))))
    }

    pub fn is_empty(&self) -> bool {
        self.row_ids.is_empty()
    }
}

/// How Lance compares vectors with centroids: cosine is L2 of vectors of length 1.
fn centroid_metric(distance_type: DistanceType) -> LanceDistanceType {
    match distance_type {
        DistanceType::Dot => LanceDistanceType::Dot,
        DistanceType::Hamming => LanceDistanceType::Hamming,
        _ => LanceDistanceType::L2,
    }
}

fn comparable(vectors: FixedSizeListArray, distance_type: DistanceType) -> Result<FixedSizeListArray> {
    if distance_type == DistanceType::Cosine { normalized(&vectors) } else { Ok(vectors) }
}

/// Centroids for `partitions` partitions, or for as many as there are vectors if these are fewer. The same vectors and
/// seed give the same sample and the same first centroids.
pub(super) fn train(rows: &VectorStoreSnapshot, partitions: usize, seed: u64) -> Result<FixedSizeListArray> {
    let partitions = partitions.min(rows.len());
    let mut sample = Vec::new();
    for id in sample_of(rows.len(), partitions) {
        sample.extend_from_slice(&rows.widened(id as u32));
    }
    train_on(sample, Kind::of(rows), partitions, seed)
}

/// The rows that centroids are found from, ascending.
pub(super) fn sample_of(rows: usize, partitions: usize) -> impl Iterator<Item = usize> {
    let sampled = rows.min(partitions.saturating_mul(SAMPLE_ROWS_PER_PARTITION));
    (0..sampled).map(move |position| (position as u128 * rows as u128 / sampled as u128) as usize)
}

/// Centroids from a sample of vectors, of which there are no fewer than partitions.
pub(super) fn train_on(
    sample: Vec<f32>,
    Kind { element_type, dim, distance_type }: Kind,
    partitions: usize,
    seed: u64,
) -> Result<FixedSizeListArray> {
    let params = |metric| {
        KMeansParams::new(None, MAX_ITERATIONS, 1, metric).with_balance_factor(BALANCE_FACTOR).with_seed(seed)
    };
    let centroids: Vec<f32> = if element_type == ElementType::UInt8 {
        let sample = UInt8Array::from_iter_values(sample.into_iter().map(|x| x as u8));
        let centroids = means(&sample, params(centroid_metric(distance_type)), dim, partitions)?;
        centroids.into_iter().map(f32::from).collect()
    } else {
        // In f32 whatever the floats are: in f16 the sums would have too few digits.
        let sample = comparable(lists(ElementType::Float32, dim, sample)?, distance_type)?;
        // The centroid of a single partition is the mean: every query probes it, whatever the metric.
        let metric = if partitions == 1 { LanceDistanceType::L2 } else { centroid_metric(distance_type) };
        means(sample.values().as_primitive::<Float32Type>(), params(metric), dim, partitions)?
    };
    lists(element_type, dim, centroids)
}

/// The centroids of a sample, one after the other.
fn means<T: ArrowPrimitiveType>(
    sample: &PrimitiveArray<T>,
    params: KMeansParams,
    dim: usize,
    partitions: usize,
) -> Result<Vec<T::Native>>
where
    T::Native: Dot + L2 + Normalize,
    PrimitiveArray<T>: From<Vec<T::Native>>,
{
    let model = train_kmeans(sample, params, dim, partitions, SAMPLE_ROWS_PER_PARTITION)?;
    let centroids = model.centroids.as_primitive_opt::<T>();
    // Those that no vector is near may be null, which is as good as zero.
    let centroids = centroids.filter(|centroids| centroids.len() == partitions * dim);
    let none = || lance_core::Error::index("k-means has found no centroids");
    Ok(centroids.ok_or_else(none)?.values().to_vec())
}

/// The partition of each row.
pub(super) fn assign(rows: &VectorStoreSnapshot, centroids: &FixedSizeListArray) -> Result<Vec<u32>> {
    let mut partition_of = Vec::with_capacity(rows.len());
    let (end, distance_type) = (rows.len() as u32, rows.distance_type());
    for start in (0..end).step_by(BATCH_ROWS as usize) {
        let batch = rows.vectors_of(start..end.min(start.saturating_add(BATCH_ROWS)))?;
        let batch = comparable(batch, distance_type)?;
        let metric = centroid_metric(distance_type);
        let (nearest, _) = compute_partitions_arrow_array(centroids, &batch, metric)?;
        // None where all distances overflow: any partition is as good as another.
        partition_of.extend(nearest.into_iter().map(|partition| partition.unwrap_or(0)));
    }
    Ok(partition_of)
}

#[cfg(test)]
mod tests {
    use arrow_buffer::NullBuffer;

    use super::*;
    use crate::vectors::widened;

    /// Rows with row ids from 100 on, as a scan gives them in batches of 64 rows. Every 50th is null.
    fn rows(element_type: ElementType, distance_type: DistanceType, values: &[f32]) -> Rows {
        let vectors =
            ArrowFixedSizeListVectorStore::try_with_elements(element_type, 2, distance_type).unwrap();
        let mut batches = Vec::new();
        for (batch, values) in values.chunks(128).enumerate() {
            let list = lists(element_type, 2, values.to_vec()).unwrap();
            let rows = batch * 64..batch * 64 + list.len();
            let valid: NullBuffer = rows.clone().map(|row| row % 50 != 49).collect::<Vec<bool>>().into();
            let (item, values) = (element_type.item(), Arc::clone(list.values()));
            let list = FixedSizeListArray::try_new(item, 2, values, Some(valid)).unwrap();
            let row_ids = UInt64Array::from_iter_values(rows.map(|row| row as u64 + 100));
            vectors.append_batch_with_row_ids(Arc::new(list.clone()), &row_ids).unwrap();
            batches.push((list, row_ids));
        }
        let skipped = vectors.skipped().total();
        Rows { vectors: Arc::new(vectors), batches, skipped }
    }

    #[test]
    fn centroids_and_parts_are_of_the_column_s_elements() {
        // Two groups far from each other, in a row id order that alternates.
        let (near, far) = ([1.0_f32, 2.0], [250.0, 254.0]);
        let values: Vec<f32> = (0..400).flat_map(|i| if i % 2 == 0 { near } else { far }).collect();
        for (element_type, distance_type) in [
            (ElementType::Float16, DistanceType::L2),
            (ElementType::Float32, DistanceType::L2),
            (ElementType::Float64, DistanceType::L2),
            (ElementType::UInt8, DistanceType::Hamming),
        ] {
            let one = train(&rows(element_type, distance_type, &values).vectors.snapshot(), 1, 7).unwrap();
            assert_eq!((one.len(), one.data_type()), (1, &element_type.vectors(2)));
            let undivided = divide(rows(element_type, distance_type, &values), &one).unwrap();
            assert_eq!((undivided.len(), undivided[0].committed_len()), (1, 392));

            let two = lists(element_type, 2, vec![1.0, 2.0, 250.0, 254.0]).unwrap();
            let parts = divide(rows(element_type, distance_type, &values), &two).unwrap();
            assert_eq!(parts.len(), 2);
            // The nulls are all among the odd rows.
            for ((part, expected), odd) in parts.iter().zip([near, far]).zip([0, 1]) {
                let vectors = part.snapshot();
                let is_here = |row: &u64| row % 2 == odd && row % 50 != 49;
                let row_ids: Vec<u64> = (0..400).filter(is_here).map(|row| row + 100).collect();
                assert_eq!((vectors.len(), vectors.element_type()), (row_ids.len(), element_type));
                for (id, row_id) in (0..).zip(row_ids) {
                    assert_eq!((vectors.row_id(id), &vectors.widened(id)[..]), (row_id, &expected[..]));
                }
            }
        }
    }

    #[test]
    fn rows_of_any_length_are_assigned_by_their_direction() {
        let scales = [1e-30_f32, 1.0, 1e25, 1e-44];
        let values: Vec<f32> = (0..200)
            .flat_map(|row| {
                let direction = if row % 2 == 0 { [3.0_f32, 1.0] } else { [-1.0, 3.0] };
                direction.map(|x| x * scales[row / 2 % scales.len()])
            })
            .collect();
        for element_type in [ElementType::Float32, ElementType::Float64] {
            let rows = rows(element_type, DistanceType::Cosine, &values);
            let trained = train(&rows.vectors.snapshot(), 2, 7).unwrap();
            let trained = widened(trained.values(), element_type).unwrap();
            assert!(trained.iter().all(|x| x.is_finite()), "{trained:?}");

            let centroids = lists(element_type, 2, vec![0.95, 0.32, -0.32, 0.95]).unwrap();
            let parts = divide(rows, &centroids).unwrap();
            for (part, (len, parity)) in parts.iter().zip([(100, 0), (96, 1)]) {
                let vectors = part.snapshot();
                assert_eq!(vectors.len(), len);
                assert!((0..len as u32).all(|id| vectors.row_id(id) % 2 == parity));
            }
        }
    }

    #[test]
    fn a_partition_may_be_empty() {
        let rows = rows(ElementType::Float32, DistanceType::L2, &[1.0; 20]);
        let centroids = lists(ElementType::Float32, 2, vec![1.0, 1.0, 9.0, 9.0]).unwrap();
        let sizes: Vec<usize> =
            divide(rows, &centroids).unwrap().iter().map(|part| part.committed_len()).collect();
        assert_eq!(sizes, [10, 0]);
    }
}
