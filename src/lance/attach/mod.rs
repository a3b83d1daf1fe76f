//! An index on a dataset: the rows of a column are read, linked, written as Lance's index files, and the manifest is
//! told.
//!
//! ```text
//! scan --> Rows --> divide (k-means) --> link, one graph per partition --> files --> commit
//! ```
//! Until the commit nothing refers to the files, and the commit is Lance's own: it happens or it does not.

mod build;
mod build_graph;
mod column;
mod existing;
mod fold;
mod memory;
mod model;
mod params;
mod partitions;
mod refold;
mod rows;
mod segment;
mod spill;

pub use fold::{Fold, FoldParams, optimize_index};
pub use model::IndexModel;
pub use params::AttachParams;
pub use segment::SegmentDescriptor;

use std::ops::Deref;

use ::lance::Dataset;
use ::lance::index::DatasetIndexExt;
use lance_table::format::IndexMetadata;
use tracing::{debug, info};
use uuid::Uuid;

use build::build;
use column::{Column, requested_fragments};
use existing::Existing;

use crate::error::Result;

/// What [`attach_index`] made, or found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttachedIndex {
    /// What the manifest says of the segment that was built, or of the newest one if none was.
    pub index: IndexMetadata,
    /// IVF partitions of the segment, each with a graph of its own.
    pub partitions: usize,
    /// Rows that were indexed; 0 if nothing was built.
    pub rows: u64,
    /// Rows that were read and have no usable vector.
    pub skipped: u64,
}

impl Deref for AttachedIndex {
    type Target = IndexMetadata;

    fn deref(&self) -> &IndexMetadata {
        &self.index
    }
}

/// Builds an index over a column of a dataset and commits it, so that `dataset.scan().nearest(..)` uses it.
///
/// If there is an index of that name, only the fragments that it does not cover are indexed, as a further segment of
/// it; if it covers all, nothing is built and nothing is committed. `dataset` is left at the version with the index.
/// Rows without a usable vector ([`append_batch`](crate::ArrowFixedSizeListVectorStore::append_batch) says which) are
/// not in the index, deleted rows neither.
///
/// The column is a `FixedSizeList` of `Float16`, `Float32` or `Float64` with L2, cosine or dot, or of `UInt8` with
/// Hamming: those that Lance 14.0.2 searches with an index, which keeps the column's own elements. Of other elements
/// Lance has none: it compares an `Int8` query with centroids of `Float32`, which is an error, and it does not take
/// bfloat16 for vectors.
///
/// Returns what the manifest says of the segment that was built, or of the newest one if none was, and how many
/// partitions and rows it has.
///
/// # An index that is there already
/// A further segment has the centroids of the segment before it, and the bounds of its scalar quantizer, so that
/// Lance's `OptimizeOptions::merge` makes one of the two. If more than 1 % of the new elements are outside of these
/// bounds, it has bounds of its own instead: Lance searches both segments, each by its own, and appends further ones,
/// but does not merge them. A quantized distance counts no more than the width of the bounds in each dimension, in
/// Lance's own segments too: where an older segment has narrow ones, its rows seem near to every query and come before
/// nearer rows of the other segments. Then replace the index.
///
/// An index is replaced by dropping it first, `dataset.drop_index(name)` of Lance's `DatasetIndexExt`, or by building
/// another one beside it under another [`name`](AttachParams::name()) and then dropping the old one. Metric and
/// quantizer of an index do not change otherwise; the parameters of the graph may be others in each segment.
///
/// # Memory
/// At the peak: the column's bytes in these fragments once, with 8 bytes for the row id of each row; the graph of the
/// largest partition, which takes [`HnswGraph::reserved_bytes`](crate::HnswGraph::reserved_bytes); and the graphs of
/// all partitions as they are written, at most about `16 * m + 24` bytes a row. With the default parameters and a
/// single partition the last two are 280 bytes a row each. Before there are graphs, and only if there are several
/// partitions, there is a sample of 256 rows for each, as `f32` and twice, and then one batch of the scan beside the
/// column. [`AttachParams::memory_limit`] makes it less.
///
/// # Cancellation
/// The vectors are linked on threads of their own, as many as rayon's current pool has. A future that is dropped stops
/// the build; the dataset is as it was. If files were being written, they stay in `_indices/<uuid>`, where nothing
/// refers to them, until Lance's `cleanup_old_versions` takes them for abandoned: after seven days, or at once with
/// `delete_unverified`.
///
/// # Errors
/// The dataset is as it was, and the files that were written are removed as far as that can be done, if
/// - the column is not a top-level one of such vectors, has no usable vector, or the index of that name is of another
///   column, metric or kind, whatever it covers ([`Error::InvalidColumn`]),
/// - a parameter is outside its range, or Lance has no such metric or no quantizer for it ([`Error::InvalidParams`],
///   [`Error::NotInLance`]),
/// - the model is not one for the column, or not that of the index ([`Error::DimensionMismatch`],
///   [`Error::ModelMismatch`]),
/// - there are too many rows for one segment ([`Error::TooManyVectors`], [`Error::ExportTooLarge`]), or a partition
///   takes more memory than it may ([`Error::PartitionMemory`]),
/// - Lance cannot read, write or commit ([`Error::LanceDataset`]). A commit conflicts with concurrent ones as that of
///   Lance's own `create_index` does: with appends and deletes it does not.
///
/// [`Error::InvalidColumn`]: crate::Error::InvalidColumn
/// [`Error::InvalidParams`]: crate::Error::InvalidParams
/// [`Error::NotInLance`]: crate::Error::NotInLance
/// [`Error::DimensionMismatch`]: crate::Error::DimensionMismatch
/// [`Error::ModelMismatch`]: crate::Error::ModelMismatch
/// [`Error::PartitionMemory`]: crate::Error::PartitionMemory
/// [`Error::TooManyVectors`]: crate::Error::TooManyVectors
/// [`Error::ExportTooLarge`]: crate::Error::ExportTooLarge
/// [`Error::LanceDataset`]: crate::Error::LanceDataset
pub async fn attach_index(
    dataset: &mut Dataset,
    column: &str,
    params: AttachParams,
) -> Result<AttachedIndex> {
    params.validate()?;
    let column = Column::find(dataset, column, params.distance_type)?;
    let requested = requested_fragments(dataset, &params)?;
    let existing = Existing::find(dataset, &column, &params).await?;
    // First of all: an index of another metric or kind is not what was asked for, even if it covers everything.
    let opened = existing.open(dataset, &column, &params).await?;
    let model = existing.model(&column, opened.as_deref(), params.model.as_deref())?;
    let missing = &requested - &existing.covered(dataset);
    let partitions = opened.as_ref().map_or(0, |index| index.ivf_model().num_partitions());
    let found = |index| AttachedIndex { index, partitions, rows: 0, skipped: 0 };
    if missing.is_empty()
        && let Some(newest) = existing.newest()
    {
        debug!(index = existing.name, column = column.name, "every fragment has its index: nothing to build");
        return Ok(found(newest));
    }
    let Some(segment) = build(dataset, &column, &missing, &params, model).await? else {
        let none = || column.invalid(format!("no row of {} fragments has a usable vector", missing.len()));
        return existing.newest().map(found).ok_or_else(none);
    };
    let (partitions, rows, skipped) = (segment.partitions(), segment.rows(), segment.skipped());
    let index = commit(dataset, &column, &existing.name, segment).await?;
    Ok(AttachedIndex { index, partitions, rows, skipped })
}

/// Commits a segment that was built just now.
async fn commit(
    dataset: &mut Dataset,
    column: &Column,
    name: &str,
    segment: SegmentDescriptor,
) -> Result<IndexMetadata> {
    let uuid = segment.uuid();
    let committed = dataset.commit_existing_index_segments(name, &column.name, vec![segment]).await;
    if let Err(error) = committed {
        info!(index = name, %uuid, %error, "Lance refused the segment: its files are removed");
        discard(dataset, uuid).await;
        return Err(error.into());
    }
    let version = dataset.manifest().version;
    info!(index = name, column = column.name, %uuid, version, "committed a segment");
    match dataset.load_index(&uuid).await? {
        Some(metadata) => Ok(metadata),
        None => Err(lance_core::Error::index_not_found(uuid.to_string()).into()),
    }
}

/// Builds a segment of an index and does not commit it: the half of [`attach_index`] that can be spread over
/// processes and machines that share the storage of the dataset.
///
/// Each worker (a Ray actor, a Spark task) opens the dataset, builds the segment of its own
/// [`fragments`](AttachParams::fragments()) and sends the [`SegmentDescriptor`] to one place, as JSON for example.
/// There, [`commit_segments`] makes one index of all of them, in one commit. Every worker has to use the same metric
/// and quantizer.
///
/// Give all workers one [`IndexModel`] ([`AttachParams::model`]), so that Lance merges their segments. Without it, a
/// segment takes over the centroids of the index of that [`name`](AttachParams::name()), if there is one, and else has
/// centroids of its own rows: such segments are searched together, but Lance's `optimize_indices` does not merge them.
///
/// Fragments that the index covers already are indexed again. Returns `None`, and writes nothing, if no row has a
/// usable vector. A segment that is never committed is left in `_indices` until Lance's `cleanup_old_versions` removes
/// it, after seven days at the earliest; commit within that time.
///
/// ```ignore
/// // The process that gives out the tasks, once.
/// let params = AttachParams::default().distance_type(DistanceType::Cosine).partitions(64);
/// let model = serde_json::to_string(&IndexModel::train(&dataset, "vector", &params).await?)?;
///
/// // A worker, which got `uri`, `version`, `model` and `fragments` with its task and returns a line of text.
/// let dataset = Dataset::open(&uri).await?.checkout_version(version).await?;
/// let model: IndexModel = serde_json::from_str(&model)?;
/// let params = AttachParams::default().distance_type(DistanceType::Cosine).model(model).fragments(fragments);
/// let segment = build_index_segment(&dataset, "vector", params).await?;
/// Ok(serde_json::to_string(&segment)?)
///
/// // The process that gave out the tasks, say one for each fragment, and now has a line of each.
/// let mut segments = Vec::new();
/// for line in lines {
///     segments.extend(serde_json::from_str::<Option<SegmentDescriptor>>(&line)?);
/// }
/// let mut dataset = Dataset::open(&uri).await?;
/// commit_segments(&mut dataset, "vector", "vector_idx", segments).await?;
/// ```
///
/// # Errors
/// As [`attach_index`].
pub async fn build_index_segment(
    dataset: &Dataset,
    column: &str,
    params: AttachParams,
) -> Result<Option<SegmentDescriptor>> {
    params.validate()?;
    let column = Column::find(dataset, column, params.distance_type)?;
    let fragments = requested_fragments(dataset, &params)?;
    let existing = Existing::find(dataset, &column, &params).await?;
    let opened = existing.open(dataset, &column, &params).await?;
    let model = existing.model(&column, opened.as_deref(), params.model.as_deref())?;
    build(dataset, &column, &fragments, &params, model).await
}

/// Commits segments of [`build_index_segment`] as one index, or as further segments of the index of that name. They
/// replace the segments of it whose fragments they cover.
///
/// Rows that were deleted since they were built are not found, rows that were appended are scanned. `dataset` has to be
/// at a version that is not older than the ones they were built from. These may be gone.
///
/// # Errors
/// The dataset is as it was, and so are the files of the segments: they can be committed again.
/// - [`Error::StaleSegment`](crate::Error::StaleSegment) if fragments of a segment were rewritten since it was built,
///   by a compaction, an update of the column or an overwrite: build the segment again,
/// - [`Error::LanceDataset`](crate::Error::LanceDataset) if Lance refuses the segments, because two of them cover the
///   same fragment for example, or the commit.
pub async fn commit_segments(
    dataset: &mut Dataset,
    column: &str,
    name: &str,
    segments: Vec<SegmentDescriptor>,
) -> Result<Vec<IndexMetadata>> {
    for segment in &segments {
        segment.check(dataset)?;
    }
    let uuids: Vec<Uuid> = segments.iter().map(SegmentDescriptor::uuid).collect();
    dataset.commit_existing_index_segments(name, column, segments).await?;
    let version = dataset.manifest().version;
    info!(index = name, column, segments = uuids.len(), version, "committed segments");
    let mut committed = dataset.load_indices_by_name(name).await?;
    committed.retain(|index| uuids.contains(&index.uuid));
    Ok(committed)
}

/// Removes the files of a segment that could not be committed. If it cannot be seen that the newest manifest does not
/// name it, they stay: a commit may have happened though it reported an error.
async fn discard(dataset: &Dataset, uuid: Uuid) {
    let mut newest = dataset.clone();
    if newest.checkout_latest().await.is_err() {
        return;
    }
    if let Ok(None) = newest.load_index(&uuid).await
        && let Ok(store) = newest.object_store(None).await
    {
        let _ = store.remove_dir_all(newest.indices_dir().join(uuid.to_string())).await;
    }
}
