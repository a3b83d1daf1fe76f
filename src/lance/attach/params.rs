//! What an index on a dataset is to be.

use std::fmt;
use std::sync::Arc;

use lance_linalg::distance::DistanceType as LanceDistanceType;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::BuildParams;
use crate::lance::Quantizer;

/// Parameters of [`attach_index`](crate::lance::attach::attach_index) and [`build_index_segment`](crate::lance::attach::build_index_segment).
/// Cheap to clone.
#[derive(Clone)]
#[non_exhaustive]
pub struct AttachParams {
    /// Name of the index; `<column>_idx` if not given, as Lance names it.
    pub name: Option<String>,
    /// The metric: one of L2, cosine and dot for floats, Hamming for `UInt8`; squared L2 by default.
    pub distance_type: DistanceType,
    /// How the graphs are built.
    pub build: BuildParams,
    /// How the vectors are stored in the index; as they are by default. With Hamming there is no other way.
    pub quantizer: Quantizer,
    /// IVF partitions, each with a graph of its own; 1 by default. There are never more than rows, and a further
    /// segment of an index has those of the index.
    pub partitions: usize,
    /// Ids of the fragments to index; all of the dataset if not given.
    pub fragments: Option<Vec<u32>>,
    /// Told how many rows are done; see [`progress`](Self::progress()).
    pub progress: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl Default for AttachParams {
    fn default() -> Self {
        Self {
            name: None,
            distance_type: DistanceType::L2,
            build: BuildParams::default(),
            quantizer: Quantizer::Flat,
            partitions: 1,
            fragments: None,
            progress: None,
        }
    }
}

impl AttachParams {
    /// Sets the name of the index.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the metric.
    pub fn distance_type(mut self, distance_type: DistanceType) -> Self {
        self.distance_type = distance_type;
        self
    }

    /// Sets how the graphs are built.
    pub fn build(mut self, build: BuildParams) -> Self {
        self.build = build;
        self
    }

    /// Sets how the vectors are stored in the index.
    pub fn quantizer(mut self, quantizer: Quantizer) -> Self {
        self.quantizer = quantizer;
        self
    }

    /// Sets the number of IVF partitions.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions;
        self
    }

    /// Limits the index to some fragments.
    pub fn fragments(mut self, fragments: impl IntoIterator<Item = u32>) -> Self {
        self.fragments = Some(fragments.into_iter().collect());
        self
    }

    /// Has the number of rows that are done reported while the index is built. Rows without a usable vector count
    /// from the start; the last report is the number of rows that were read.
    pub fn progress(mut self, progress: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Checks what can be checked without a dataset.
    pub(super) fn validate(&self) -> Result<()> {
        self.build.validate()?;
        if self.partitions == 0 {
            let requirement = "at least 1".to_string();
            return Err(Error::InvalidParams { parameter: "partitions", value: 0, requirement });
        }
        // Lance has no L1.
        LanceDistanceType::try_from(self.distance_type)?;
        self.quantizer.check(self.distance_type)
    }
}

impl fmt::Debug for AttachParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachParams")
            .field("name", &self.name)
            .field("distance_type", &self.distance_type)
            .field("build", &self.build)
            .field("quantizer", &self.quantizer)
            .field("partitions", &self.partitions)
            .field("fragments", &self.fragments)
            .finish_non_exhaustive()
    }
}
