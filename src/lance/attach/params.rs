//! What an index on a dataset is to be.

use std::fmt;
use std::sync::Arc;

use lance_linalg::distance::DistanceType as LanceDistanceType;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::BuildParams;
use crate::lance::Quantizer;
use crate::lance::attach::model::IndexModel;

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
    /// IVF partitions, each with a graph of its own; see [`partitions`](Self::partitions()).
    pub partitions: Option<usize>,
    /// Centroids and bounds that the segments of several processes share; see [`model`](Self::model()).
    pub model: Option<Arc<IndexModel>>,
    /// Bytes that a build may take; see [`memory_limit`](Self::memory_limit()).
    pub memory_limit: Option<u64>,
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
            partitions: None,
            model: None,
            memory_limit: None,
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

    /// Sets the number of IVF partitions. There are never more than rows, and a further segment of an index has those
    /// of the index.
    ///
    /// Without it there is one for each 1,048,576 rows that are indexed, or part of as many; with a
    /// [memory limit](Self::memory_limit()) so many more that a partition of average size takes half of it. A query
    /// probes as many partitions as `nprobes` says, which is 1 in Lance by default.
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Takes centroids, and the bounds of the scalar quantizer, from a model instead of finding them: segments of the
    /// same model can be merged by Lance. Metric, quantizer and partitions have to be those of the model.
    pub fn model(mut self, model: impl Into<Arc<IndexModel>>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Limits the memory of a build, in bytes. If the column and its graphs would take more, the rows are divided
    /// among the partitions in temporary files, in the directory for such files (`TMPDIR`), and one partition after
    /// the other is built. With the same model each partition has the same rows as without a limit.
    ///
    /// Without a [model](Self::model()), and where there is no index yet, the column is read three times: to count
    /// the rows that can be indexed, for the sample that centroids are found from, and to divide the rows. The sample
    /// (256 rows for each partition) and what Lance holds while it reads and writes come on top of the limit.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
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
        if self.partitions == Some(0) {
            let requirement = "at least 1".to_string();
            return Err(Error::InvalidParams { parameter: "partitions", value: 0, requirement });
        }
        if let Some(model) = &self.model {
            model.check_params(self)?;
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
            .field("model", &self.model)
            .field("memory_limit", &self.memory_limit)
            .field("fragments", &self.fragments)
            .finish_non_exhaustive()
    }
}
