//! What the segments of an index have in common, found once and given to every worker.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use ::lance::Dataset;
use ::lance::dataset::ProjectionRequest;
use arrow_array::cast::AsArray;
use arrow_array::{Array, FixedSizeListArray};
use arrow_buffer::Buffer;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::lance::Quantizer;
use crate::lance::attach::build_graph::blocking;
use crate::lance::attach::column::{Column, requested_fragments};
use crate::lance::attach::memory::{default_partitions, row_bytes};
use crate::lance::attach::params::AttachParams;
use crate::lance::attach::partitions::{self, SAMPLE_ROWS_PER_PARTITION};
use crate::lance::columns::lists_of_bytes;
use crate::lance::index_files::as_stored;
use crate::lance::sq_bounds as bounds;
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, VectorSource};

/// Rows that bounds are found from, at least, where there are as many.
const SAMPLE_ROWS: usize = 65_536;

/// Centroids, and the bounds of a scalar quantizer, for an index that is built in several segments: train it once and
/// give it to every worker, by [`AttachParams::model`]. Segments of one model are merged by Lance, others are only
/// searched together.
///
/// It is written and read by serde, in any format. Equal models have equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct IndexModel {
    distance_type: DistanceType,
    quantizer: Quantizer,
    element_type: ElementType,
    centroids: FixedSizeListArray,
    bounds: Option<Range<f64>>,
}

impl IndexModel {
    /// Finds a model for a column from a sample of its rows, or of those of the fragments that `params` names: 256
    /// for each partition, 65,536 at least, evenly spaced. Metric, quantizer, number of partitions and seed are those
    /// of `params`. The same version of a dataset gives the same model.
    ///
    /// Elements outside of the bounds of the sample are stored as if they were at the bound.
    ///
    /// # Errors
    /// - [`Error::InvalidColumn`] if the column cannot be indexed, or the sample has no usable vector,
    /// - [`Error::InvalidParams`] or [`Error::NotInLance`] if a parameter is outside its range,
    /// - [`Error::LanceDataset`] if the rows cannot be read.
    pub async fn train(dataset: &Dataset, column: &str, params: &AttachParams) -> Result<Self> {
        params.validate()?;
        let column = Column::find(dataset, column, params.distance_type)?;
        let fragments = requested_fragments(dataset, params)?;
        // Runs of rows, by their positions in the dataset.
        let mut runs = Vec::new();
        let mut position = 0;
        for fragment in dataset.get_fragments() {
            let rows = fragment.count_rows(None).await? as u64;
            if u32::try_from(fragment.id()).is_ok_and(|id| fragments.contains(id)) {
                runs.push(position..position + rows);
            }
            position += rows;
        }
        let rows: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let partitions = params.partitions.unwrap_or_else(|| default_partitions(rows, params, &column));
        let sampled = partitions.saturating_mul(SAMPLE_ROWS_PER_PARTITION).max(SAMPLE_ROWS) as u64;
        let positions = spaced(&runs, rows, sampled.min(rows));

        let Column { element_type, dim, .. } = column;
        let store =
            ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, params.distance_type)?;
        if !positions.is_empty() {
            let columns = ProjectionRequest::from_columns([column.name.as_str()], dataset.schema());
            let batch = dataset.take(&positions, columns).await?;
            let vectors = batch.column_by_name(&column.name).and_then(|array| array.as_fixed_size_list_opt());
            let none = || column.invalid("it was read without its vectors".to_string());
            store.append_batch(Arc::new(vectors.ok_or_else(none)?.clone()), 0)?;
        }
        if store.is_empty() {
            return Err(
                column.invalid(format!("no row of a sample of {} has a usable vector", positions.len()))
            );
        }
        let (distance_type, quantizer, seed) = (params.distance_type, params.quantizer, params.build.seed);
        blocking(move || {
            let rows = Arc::new(store).snapshot();
            let bounds = match quantizer {
                Quantizer::Flat => None,
                Quantizer::Sq => {
                    let vectors = as_stored(&rows.vectors_of(0..rows.len() as u32)?, distance_type);
                    Some(bounds::of(std::iter::once(vectors), None)?)
                }
            };
            let centroids = partitions::train(&rows, partitions, seed)?;
            Ok(Self { distance_type, quantizer, element_type, centroids, bounds })
        })
        .await
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.distance_type
    }

    /// How the vectors are stored.
    pub fn quantizer(&self) -> Quantizer {
        self.quantizer
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        usize::try_from(self.centroids.value_length()).unwrap_or(0)
    }

    /// IVF partitions.
    pub fn partitions(&self) -> usize {
        self.centroids.len()
    }

    /// The centroid of each partition.
    pub fn centroids(&self) -> &FixedSizeListArray {
        &self.centroids
    }

    /// The bounds of the scalar quantizer, if there is one.
    pub fn bounds(&self) -> Option<Range<f64>> {
        self.bounds.clone()
    }

    /// Checks that parameters are those of the model.
    ///
    /// # Errors
    /// [`Error::ModelMismatch`] if the metric, the quantizer or the number of partitions is another.
    pub(super) fn check_params(&self, params: &AttachParams) -> Result<()> {
        let partitions = params.partitions.unwrap_or(self.partitions());
        same("distance type", self.distance_type, params.distance_type)?;
        same("index type", self.quantizer.index_type(), params.quantizer.index_type())?;
        same("number of partitions", self.partitions(), partitions)
    }

    /// Checks that the vectors of a column are of the kind that the model is of.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] or [`Error::ModelMismatch`] if they are not.
    pub(super) fn check_column(&self, column: &Column) -> Result<()> {
        if self.dim() != column.dim {
            return Err(Error::DimensionMismatch { expected: self.dim(), actual: column.dim });
        }
        same("element type", self.element_type, column.element_type)
    }
}

fn same<T: PartialEq + ToString>(what: &'static str, model: T, actual: T) -> Result<()> {
    if model == actual {
        return Ok(());
    }
    Err(Error::ModelMismatch { what, model: model.to_string(), actual: actual.to_string() })
}

/// So many positions out of runs of rows, evenly spaced and ascending.
fn spaced(runs: &[Range<u64>], rows: u64, sampled: u64) -> Vec<u64> {
    let mut positions = Vec::with_capacity(sampled as usize);
    let mut runs = runs.iter();
    let mut run = 0..0;
    // Rows before the run.
    let mut before = 0;
    for sample in 0..sampled {
        let wanted = (u128::from(sample) * u128::from(rows) / u128::from(sampled)) as u64;
        while wanted - before >= run.end - run.start {
            before += run.end - run.start;
            let Some(next) = runs.next() else { return positions };
            run = next.clone();
        }
        positions.push(run.start + wanted - before);
    }
    positions
}

/// A model in serde's terms.
#[derive(Serialize, Deserialize)]
#[serde(rename = "IndexModel")]
struct Written {
    distance_type: DistanceType,
    quantizer: Quantizer,
    element_type: ElementType,
    dim: usize,
    bounds: Option<Range<f64>>,
    centroids: Hex,
}

/// The bytes of centroids, one after the other, as Arrow has them: a text in which no digit is lost.
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2);
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes
            .map(Self)
            .ok_or_else(|| D::Error::custom("centroids are not hexadecimal digits, two for each byte"))
    }
}

impl From<IndexModel> for Written {
    fn from(model: IndexModel) -> Self {
        let data = model.centroids.values().to_data();
        let bytes = data.len() * data.data_type().primitive_width().unwrap_or(0);
        let start = data.offset() * data.data_type().primitive_width().unwrap_or(0);
        let buffer = data.buffers().first().and_then(|buffer| buffer.get(start..start + bytes));
        Self {
            distance_type: model.distance_type,
            quantizer: model.quantizer,
            element_type: model.element_type,
            dim: model.dim(),
            bounds: model.bounds,
            centroids: Hex(buffer.unwrap_or_default().to_vec()),
        }
    }
}

impl TryFrom<Written> for IndexModel {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let Written { distance_type, quantizer, element_type, dim, bounds, centroids: Hex(bytes) } = written;
        let invalid = |problem: String| Error::InvalidBatch { kind: "model", problem };
        element_type.check_indexed("model", distance_type)?;
        quantizer.check(distance_type)?;
        let row = row_bytes(element_type, dim);
        if dim == 0 || i32::try_from(dim).is_err() || bytes.is_empty() || !bytes.len().is_multiple_of(row) {
            return Err(invalid(format!("{} bytes of centroids of {dim} elements", bytes.len())));
        }
        let is_good =
            |bounds: &Range<f64>| bounds.start.is_finite() && bounds.end.is_finite() && !bounds.is_empty();
        if bounds.is_some() != (quantizer == Quantizer::Sq) || !bounds.iter().all(is_good) {
            return Err(invalid(format!("{} with bounds {bounds:?}", quantizer.index_type())));
        }
        // Aligned for their type, which a vector of bytes need not be.
        let centroids = lists_of_bytes(element_type, dim, Buffer::from_slice_ref(&bytes))?;
        Ok(Self { distance_type, quantizer, element_type, centroids, bounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lance::columns::lists;

    fn model(quantizer: Quantizer) -> IndexModel {
        let values = vec![0.1, -2.0, 3.5e-9, 1e20, 7.0, 0.0];
        let bounds = (quantizer == Quantizer::Sq).then_some(-1.25..3.000_000_1);
        IndexModel {
            distance_type: DistanceType::L2,
            quantizer,
            element_type: ElementType::Float32,
            centroids: lists(ElementType::Float32, 3, values).unwrap(),
            bounds,
        }
    }

    #[test]
    fn json_brings_back_every_bit() {
        for quantizer in [Quantizer::Flat, Quantizer::Sq] {
            let model = model(quantizer);
            let text = serde_json::to_string(&model).unwrap();
            let back: IndexModel = serde_json::from_str(&text).unwrap();
            assert_eq!(back, model);
            assert_eq!((back.partitions(), back.dim(), back.bounds()), (2, 3, model.bounds()));
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let text = serde_json::to_string(&model(Quantizer::Sq)).unwrap();
        for (good, bad) in [
            ("\"dim\":3", "\"dim\":0"),
            ("\"dim\":3", "\"dim\":5"),
            ("\"dim\":3", "\"dim\":4000000000"),
            ("l2", "l3"),
            ("l2", "hamming"),
            ("Sq", "Flat"),
            ("-1.25", "9.5"),
            ("\"centroids\":\"", "\"centroids\":\"x"),
            ("\"centroids\":\"", "\"centroids\":\"0"),
            ("\"element_type\":\"", "\"element_type\":\"u"),
        ] {
            assert!(text.contains(good), "{text}");
            let result = serde_json::from_str::<IndexModel>(&text.replacen(good, bad, 1));
            assert!(result.is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sample_is_evenly_spaced_over_runs() {
        assert_eq!(spaced(&[0..3, 10..13], 6, 6), [0, 1, 2, 10, 11, 12]);
        assert_eq!(spaced(&[4..4, 5..9, 20..24], 8, 4), [5, 7, 20, 22]);
        assert_eq!(spaced(&[], 0, 0), [0_u64; 0]);
    }
}
