//! A segment from the rows of a column: in memory, or partition by partition.

use std::sync::Arc;

use ::lance::Dataset;
use arrow_array::Array;
use lance_file::version::ConcreteFileVersion;
use lance_io::object_store::ObjectStore;
use roaring::RoaringBitmap;
use tracing::{debug, info};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::lance::Quantizer;
use crate::lance::attach::build_graph::{Progress, blocking, link_rows};
use crate::lance::attach::column::Column;
use crate::lance::attach::existing::Model;
use crate::lance::attach::memory::{default_partitions, partition_bytes};
use crate::lance::attach::params::AttachParams;
use crate::lance::attach::partitions::{Kind, divide, train};
use crate::lance::attach::rows::Rows;
use crate::lance::attach::segment::{SegmentDescriptor, Sizes};
use crate::lance::attach::spill::{Spilled, Streamed};
use crate::lance::index_files::{IndexFiles, Taken, details};
use crate::lance::segment_writer::SegmentWriter;
use crate::lance::sq_bounds::Spread;

/// Builds a segment of the rows of some fragments; none if no row has a usable vector.
pub(super) async fn build(
    dataset: &Dataset,
    column: &Column,
    fragments: &RoaringBitmap,
    params: &AttachParams,
    model: Model,
) -> Result<Option<SegmentDescriptor>> {
    let build = Build { dataset, column, fragments, params };
    let uuid = Uuid::new_v4();
    let store = dataset.object_store(None).await?;
    let files = IndexFiles {
        store: &store,
        dir: dataset.indices_dir().join(uuid.to_string()),
        version: file_version(dataset),
        quantizer: params.quantizer,
        distance_type: params.distance_type,
    };
    let sizes = match params.memory_limit {
        Some(limit) if build.most_bytes().await? > limit => build.spilled(&files, model, limit).await,
        _ => build.in_memory(&files, model).await,
    };
    let sizes = or_remove(&store, &files, sizes).await?;
    let (name, metric, kind) = (&column.name, params.distance_type, params.quantizer.index_type());
    match &sizes {
        Some(Sizes { partitions, rows, skipped }) => {
            info!(column = name, rows, skipped, partitions, %kind, %metric, %uuid, "built a segment");
        }
        None => info!(column = name, fragments = fragments.len(), "no row has a usable vector"),
    }
    let details = details(params.distance_type, params.quantizer, &params.build)?;
    Ok(sizes.map(|sizes| SegmentDescriptor::new(uuid, dataset, column, fragments, sizes, details)))
}

/// Passes an outcome on; if it is an error, what was written is removed as far as that can be done.
pub(super) async fn or_remove<T>(
    store: &ObjectStore,
    files: &IndexFiles<'_>,
    outcome: Result<T>,
) -> Result<T> {
    if let Err(error) = &outcome {
        info!(dir = %files.dir, %error, "the segment could not be written: its files are removed");
        let _ = store.remove_dir_all(files.dir.clone()).await;
    }
    outcome
}

/// Index files of datasets in the oldest format are in the next one, as Lance's own.
pub(super) fn file_version(dataset: &Dataset) -> ConcreteFileVersion {
    match dataset.manifest().data_storage_format.lance_file_format() {
        ConcreteFileVersion::V1 => ConcreteFileVersion::V2_0,
        version => version,
    }
}

struct Build<'a> {
    dataset: &'a Dataset,
    column: &'a Column,
    fragments: &'a RoaringBitmap,
    params: &'a AttachParams,
}

impl Build<'_> {
    /// What a build in memory takes at most: as if it were of a single partition.
    async fn most_bytes(&self) -> Result<u64> {
        let mut rows = 0;
        for fragment in self.dataset.get_fragments() {
            if u32::try_from(fragment.id()).is_ok_and(|id| self.fragments.contains(id)) {
                rows += fragment.count_rows(None).await? as u64;
            }
        }
        Ok(partition_bytes(self.column, self.params, rows))
    }

    fn partitions(&self, rows: u64) -> usize {
        self.params.partitions.unwrap_or_else(|| default_partitions(rows, self.params, self.column))
    }

    async fn in_memory(&self, files: &IndexFiles<'_>, model: Model) -> Result<Option<Sizes>> {
        let rows = Rows::read(self.dataset, self.column, self.fragments, files.distance_type).await?;
        if rows.vectors.is_empty() {
            return Ok(None);
        }
        let mut progress = Progress::new(self.params.progress.clone());
        let skipped = rows.skipped;
        progress.advance(skipped);
        let len = rows.vectors.committed_len() as u64;
        let (fragments, metric) = (self.fragments.len(), files.distance_type);
        debug!(column = self.column.name, fragments, rows = len, skipped, %metric, "linking a segment");
        let (partitions, seed) = (self.partitions(len), self.params.build.seed);
        let Model { centroids, bounds } = model;
        let divided = blocking(move || {
            let centroids = match centroids {
                Some(centroids) => centroids,
                None => train(&rows.vectors.snapshot(), partitions, seed)?,
            };
            Ok((divide(rows, &centroids)?, centroids))
        });
        let (shares, centroids) = divided.await?;
        let mut linked = Vec::with_capacity(shares.len());
        for share in shares {
            linked.push(link_rows(share.snapshot(), &self.params.build, &mut progress).await?);
        }
        files.write_with_bounds(&linked, &centroids, bounds).await?;
        Ok(Some(Sizes { partitions: linked.len(), rows: len, skipped }))
    }

    /// The rows go through a temporary file, and one partition after the other is built and written.
    async fn spilled(&self, files: &IndexFiles<'_>, model: Model, limit: u64) -> Result<Option<Sizes>> {
        let Self { dataset, column, fragments, params } = *self;
        let Column { element_type, dim, .. } = *column;
        let kind = Kind { element_type, dim, distance_type: files.distance_type };
        let rows = Streamed { dataset, column, fragments, kind, limit };
        let Model { centroids, bounds } = model;
        let centroids = match centroids {
            Some(centroids) => centroids,
            None => match rows.count().await? {
                0 => return Ok(None),
                len => rows.train(len, self.partitions(len), params.build.seed).await?,
            },
        };
        let spread = match (&bounds, files.quantizer) {
            (Taken::Always(_), _) | (_, Quantizer::Flat) => None,
            (Taken::IfFit(taken), _) => Some(Spread::new(Some(taken.clone()))),
            (Taken::None, _) => Some(Spread::new(None)),
        };
        let mut spilled = rows.divide(&centroids, spread).await?;
        self.check_lengths(&spilled, limit)?;
        let len: u64 = spilled.lengths().sum();
        if len == 0 {
            return Ok(None);
        }
        let bounds = files.bounds(bounds, |taken| {
            spilled.spread.as_ref().map_or_else(|| Spread::new(taken).bounds(), Spread::bounds)
        })?;
        let mut progress = Progress::new(params.progress.clone());
        let skipped = spilled.skipped;
        progress.advance(skipped);
        let mut writer = SegmentWriter::begin(files, &centroids, bounds).await?;
        for partition in 0..centroids.len() {
            let (store, returned) = blocking(move || {
                let store = spilled.read(partition)?;
                Ok((store, spilled))
            })
            .await?;
            spilled = returned;
            let vectors = Arc::new(store).snapshot();
            let built = link_rows(vectors, &params.build, &mut progress).await?;
            writer.push(&built, None).await?;
        }
        writer.finish().await?;
        Ok(Some(Sizes { partitions: centroids.len(), rows: len, skipped }))
    }

    /// # Errors
    /// [`Error::PartitionMemory`] if a partition alone takes more than the limit.
    fn check_lengths(&self, spilled: &Spilled, limit: u64) -> Result<()> {
        for (partition, rows) in spilled.lengths().enumerate() {
            let needed = partition_bytes(self.column, self.params, rows);
            if needed > limit {
                return Err(Error::PartitionMemory { partition, rows, needed, limit });
            }
        }
        Ok(())
    }
}
