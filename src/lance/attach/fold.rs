//! An index brought up to date without a build: what is new goes into the graphs that are there, what is gone goes
//! out of them.
//!
//! ```text
//! largest segment --> partition --> import, repair around dead rows --> link new rows --> files --> commit
//! fragments that it does not cover --> Rows --> divide by its centroids ----^
//! ```
//! Further segments are not read: their rows are read from the column again, as those of new fragments are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ::lance::Dataset;
use ::lance::index::{DatasetIndexExt, DatasetIndexInternalExt};
use arrow_array::{Array, FixedSizeListArray};
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::vector::VectorIndex;
use lance_table::format::IndexMetadata;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::lance::Quantizer;
use crate::lance::attach::build::{file_version, or_remove};
use crate::lance::attach::build_graph::{Progress, blocking};
use crate::lance::attach::column::Column;
use crate::lance::attach::commit;
use crate::lance::attach::existing::Existing;
use crate::lance::attach::params::AttachParams;
use crate::lance::attach::partitions::{Kind, divide};
use crate::lance::attach::refold::{Counts, Refold, as_f32};
use crate::lance::attach::rows::{Rows, live_rows};
use crate::lance::attach::segment::{SegmentDescriptor, Sizes};
use crate::lance::index_files::{IndexFiles, Taken, details};
use crate::lance::segment_reader::SegmentReader;
use crate::lance::segment_writer::SegmentWriter;
use crate::lance::sq_bounds as bounds;
use crate::vectors::ElementType;

/// Parameters of [`optimize_index`]. Cheap to clone.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct FoldParams {
    /// Is told how many rows are done; see [`progress`](Self::progress()).
    pub progress: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

impl FoldParams {
    /// Has the number of rows that are done reported: rows of the index, and rows that are linked.
    pub fn progress(mut self, progress: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }
}

impl fmt::Debug for FoldParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoldParams").finish_non_exhaustive()
    }
}

/// What [`optimize_index`] did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fold {
    /// What the manifest says of the index: of its one segment, or, if nothing was done, of the newest one.
    pub index: IndexMetadata,
    /// Whether a new segment was committed.
    pub committed: bool,
    /// Segments that the index had.
    pub segments: usize,
    /// IVF partitions, each with a graph of its own.
    pub partitions: usize,
    /// Partitions whose graph was built anew: less than a quarter of its rows were left, or it could not be taken over.
    pub rebuilt: usize,
    /// Rows that stayed in the graphs.
    pub kept: u64,
    /// Rows that were taken out of them: deleted, moved, or rewritten.
    pub removed: u64,
    /// Rows that were linked: of new fragments and of further segments.
    pub added: u64,
    /// Rows that were read and have no usable vector.
    pub skipped: u64,
}

/// Makes one segment of an index that covers every fragment and has no row that is gone: what Lance's
/// `optimize_indices` with `OptimizeOptions::merge` does, without building the graphs again.
///
/// The largest segment is the base. Its partitions are read one after the other, neighbors are repaired around rows
/// that are gone, and the rows of all other fragments are linked: new ones, and those of further segments. Centroids
/// stay. The files are written anew and committed as those of [`attach_index`](crate::lance::attach_index); `dataset`
/// is left at the version with the new segment. If there is nothing to do, nothing is written and nothing is committed.
///
/// `index` is the name of an index, or else that of a column with one index. It may be one that Lance built, if it is
/// `IVF_HNSW_FLAT` or `IVF_HNSW_SQ`; rows are linked with the parameters that the graphs carry.
///
/// # Quantized vectors
/// Of an `IVF_HNSW_SQ` index the codes of the rows that stay are written as they are, and graphs compare the values of
/// codes, as Lance's own builds do. If more than 1 % of the new elements are outside of the bounds, the bounds grow to
/// those of all elements, and the codes that are there are converted: they lose up to one more step of precision.
///
/// # Memory
/// The column's bytes in the fragments that the base does not cover, the largest partition of the base with its
/// graph, and 16 bytes for each row.
///
/// # When everything is linked anew
/// If the dataset has a fragment reuse index (a compaction that put the remapping off), or the base is a segment of
/// the dataset that this one was cloned from, or no fragment is left that the index covers, no graph is taken over: all
/// rows are read and linked, by the centroids that are there.
///
/// # Errors
/// The dataset is as it was, and the files that were written are removed as far as that can be done, if
/// - there is no such index, or it is of another kind, or never had rows ([`Error::InvalidColumn`]),
/// - its files are not what Lance writes ([`Error::InvalidBatch`]),
/// - there are too many rows for a partition ([`Error::TooManyVectors`], [`Error::ExportTooLarge`]),
/// - Lance cannot read, write or commit ([`Error::LanceDataset`]). A commit conflicts with concurrent ones as that of
///   Lance's own `optimize_indices` does.
pub async fn optimize_index(dataset: &mut Dataset, index: &str, params: FoldParams) -> Result<Fold> {
    let (name, column) = find(dataset, index).await?;
    let base = Base::find(dataset, &name, &column).await?;
    let Base { segments, distance_type, quantizer, .. } = &base;
    let (distance_type, quantizer) = (*distance_type, *quantizer);
    let column = Column::find(dataset, &column, distance_type)?;
    let request = AttachParams::default().name(&name).distance_type(distance_type).quantizer(quantizer);
    // Checks that all segments are of one metric and kind.
    let existing = Existing::find(dataset, &column, &request).await?;
    existing.open(dataset, &column, &request).await?;
    let model = existing.model(&column, Some(base.index.as_ref()), None)?;
    let centroids =
        model.centroids.ok_or_else(|| column.invalid(format!("its index {name:?} has no centroids")))?;

    let all = dataset.fragment_bitmap().as_ref().clone();
    let live = live_rows(dataset, &base.fragments).await?;
    let rows = Rows::read(dataset, &column, &(&all - &base.fragments), distance_type).await?;
    let store = dataset.object_store(None).await?;
    let dir = |uuid: Uuid| dataset.indices_dir().join(uuid.to_string());
    // Without fragments to take over, nothing of the files is.
    let files = match base.fragments.is_empty() {
        true => None,
        false => Some(SegmentReader::open(Arc::clone(&store), &dir(base.segment.uuid)).await?),
    };
    let (mut in_files, mut kept) = (0, 0);
    if let Some(files) = &files {
        let row_ids = files.row_ids().await?;
        in_files = row_ids.len() as u64;
        kept = row_ids.iter().filter(|&&row_id| live.contains(row_id)).count() as u64;
    }
    let skipped = rows.skipped;
    let added = rows.vectors.committed_len() as u64;
    let is_done = segments.len() == 1 && kept == in_files && added == 0 && files.is_some();
    if is_done || kept + added == 0 {
        let partitions = centroids.len();
        let (index, segments) = (base.segment.clone(), segments.len());
        return Ok(Fold {
            index,
            committed: false,
            segments,
            partitions,
            rebuilt: 0,
            kept,
            removed: 0,
            added,
            skipped,
        });
    }

    let taken = match model.bounds {
        Taken::IfFit(bounds) => Some(bounds),
        _ => None,
    };
    let uuid = Uuid::new_v4();
    let target = IndexFiles {
        store: &store,
        dir: dir(uuid),
        version: file_version(dataset),
        quantizer,
        distance_type,
    };
    let new = rows.vectors.snapshot();
    let bounds = widened(&target, taken.clone(), || {
        let batches = target.batches(&new, 0);
        bounds::of(batches.map(|batch| batch.map(|(_, vectors)| vectors)), taken.clone())
    })?;
    drop(new);
    let element_type = if quantizer == Quantizer::Sq { ElementType::Float32 } else { column.element_type };
    let refold = Arc::new(Refold {
        kind: Kind { element_type, dim: column.dim, distance_type },
        bounds: taken.clone(),
        keeps_stored: bounds == taken,
        live,
        params: files.as_ref().map_or_else(Default::default, SegmentReader::params),
    });
    let mut progress = Progress::new(params.progress.clone());
    progress.advance(skipped);
    let work = Work { files, refold, centroids, bounds };
    let counts = or_remove(&store, &target, work.write(&target, rows, &mut progress).await).await?;
    let sizes = Sizes { partitions: work.centroids.len(), rows: counts.kept + counts.added, skipped };
    let recorded = base.segment.index_details.as_deref().filter(|details| !details.value.is_empty());
    let details = match recorded {
        Some(recorded) => recorded.clone(),
        None => details(distance_type, quantizer, &work.refold.params)?,
    };
    let segment = SegmentDescriptor::new(uuid, dataset, &column, &all, sizes, details);
    let segments = base.segments.len();
    let index = commit(dataset, &column, &name, segment).await?;
    let Counts { kept, removed, added, rebuilt } = counts;
    let partitions = sizes.partitions;
    Ok(Fold { index, committed: true, segments, partitions, rebuilt, kept, removed, added, skipped })
}

/// The name of an index and of its column.
async fn find(dataset: &Dataset, index: &str) -> Result<(String, String)> {
    let invalid = |problem: String| Error::InvalidColumn { column: index.to_string(), problem };
    let indices = dataset.load_indices().await?;
    let by_name = indices.iter().find(|found| found.name == index);
    let found = match by_name {
        Some(found) => found,
        None => {
            let field = dataset.schema().fields.iter().find(|field| field.name == index);
            let none = || invalid("neither an index nor a column of the dataset".to_string());
            let field = field.ok_or_else(none)?.id;
            let of_column = || indices.iter().filter(|found| found.keyed_field() == Some(field));
            let first = of_column().next().ok_or_else(|| invalid("it has no index".to_string()))?;
            if let Some(other) = of_column().find(|found| found.name != first.name) {
                let (one, other) = (&first.name, &other.name);
                return Err(invalid(format!("it has several indexes, {one:?} and {other:?}: name one")));
            }
            first
        }
    };
    let field =
        found.keyed_field().and_then(|id| dataset.schema().fields.iter().find(|field| field.id == id));
    if !found.covering_fields.is_empty() {
        return Err(invalid(format!("its index {:?} carries other columns", found.name)));
    }
    let none = || invalid(format!("index {:?} is not of a top-level column", found.name));
    Ok((found.name.clone(), field.ok_or_else(none)?.name.clone()))
}

/// The segment whose graphs are taken over.
struct Base {
    segment: IndexMetadata,
    index: Arc<dyn VectorIndex>,
    /// The fragments whose rows it has as they are in the dataset; none if it cannot be taken over.
    fragments: RoaringBitmap,
    distance_type: DistanceType,
    quantizer: Quantizer,
    /// All segments of the index.
    segments: Vec<IndexMetadata>,
}

impl Base {
    async fn find(dataset: &Dataset, name: &str, column: &str) -> Result<Self> {
        let invalid = |problem: String| Error::InvalidColumn { column: column.to_string(), problem };
        let segments = dataset.load_indices_by_name(name).await?;
        let all = dataset.fragment_bitmap().as_ref();
        let mut base: Option<(IndexMetadata, Arc<dyn VectorIndex>, RoaringBitmap)> = None;
        for segment in &segments {
            let Some(fragments) = segment.effective_fragment_bitmap(all) else {
                return Err(invalid(format!("its index {name:?} does not say what it covers: replace it")));
            };
            let opened = dataset.open_vector_index(column, &segment.uuid, &NoOpMetricsCollector).await;
            let index = match opened {
                Ok(index) => index,
                // Without rows there need be no files either.
                Err(_) if fragments.is_empty() => continue,
                Err(error) => return Err(error.into()),
            };
            // Of those that cover nothing there are still the centroids.
            let size = (!fragments.is_empty(), index.num_rows());
            let is_larger = |(_, index, fragments): &(IndexMetadata, Arc<dyn VectorIndex>, RoaringBitmap)| {
                (!fragments.is_empty(), index.num_rows()) < size
            };
            if base.as_ref().is_none_or(is_larger) {
                base = Some((segment.clone(), index, fragments));
            }
        }
        let none = || invalid(format!("its index {name:?} has no rows yet: replace it"));
        let (segment, index, mut fragments) = base.ok_or_else(none)?;
        let kind = index.index_type().to_string();
        let known = [Quantizer::Flat, Quantizer::Sq].into_iter().find(|known| known.index_type() == kind);
        let unknown =
            || invalid(format!("its index {name:?} is {kind}, which has no graphs that can be gone on from"));
        let quantizer = known.ok_or_else(unknown)?;
        let distance_type = DistanceType::try_from(index.metric_type())?;
        // The row ids in its files are not those of the dataset, or the files are elsewhere.
        if dataset.frag_reuse_index_uuid().await.is_some() || segment.base_id.is_some() {
            fragments.clear();
        }
        // Values that were laid over those that were indexed.
        for fragment in dataset.fragments().iter().filter(|fragment| !fragment.overlays.is_empty()) {
            fragments.remove(u32::try_from(fragment.id).unwrap_or(u32::MAX));
        }
        Ok(Self { segment, index, fragments, distance_type, quantizer, segments })
    }
}

/// The bounds of a quantizer for codes that are there and for new rows.
fn widened(
    files: &IndexFiles<'_>,
    taken: Option<Range<f64>>,
    find: impl FnOnce() -> Result<Range<f64>>,
) -> Result<Option<Range<f64>>> {
    let Some(taken) = taken.filter(|_| files.quantizer == Quantizer::Sq) else { return Ok(None) };
    let found = match find() {
        // Nothing is new.
        Err(_) if taken.is_empty() => taken.clone(),
        found => found?,
    };
    let union = found.start.min(taken.start)..found.end.max(taken.end);
    Ok(Some(if found == taken { taken } else { union }))
}

/// What is to be written.
struct Work {
    files: Option<SegmentReader>,
    refold: Arc<Refold>,
    centroids: FixedSizeListArray,
    bounds: Option<Range<f64>>,
}

impl Work {
    async fn write(&self, target: &IndexFiles<'_>, rows: Rows, progress: &mut Progress) -> Result<Counts> {
        let Self { files, refold, centroids, bounds } = self;
        let wide = refold.bounds.is_some();
        let of_rows = centroids.clone();
        let shares = blocking(move || {
            let shares = divide(rows, &of_rows)?;
            if wide { shares.into_iter().map(as_f32).collect() } else { Ok(shares) }
        });
        let mut writer = SegmentWriter::begin(target, centroids, bounds.clone()).await?;
        let mut sum = Counts::default();
        for (partition, share) in shares.await?.into_iter().enumerate() {
            let old = match files {
                Some(files) => Some(files.read(partition).await?),
                None => None,
            };
            let folded = refold.partition(old, share, progress).await?;
            writer.push(&folded.partition, folded.stored.as_ref()).await?;
            let Counts { kept, removed, added, rebuilt } = folded.counts;
            sum.kept += kept;
            sum.removed += removed;
            sum.added += added;
            sum.rebuilt += rebuilt;
        }
        writer.finish().await?;
        Ok(sum)
    }
}
