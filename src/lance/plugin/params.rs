//! What a writer may ask of a MemTable's index, and what that comes to for one index of the base table.

use ::lance::dataset::mem_wal::index::ResolveContext;
use ::lance::index::DatasetIndexInternalExt;
use lance_core::Result as LanceResult;
use lance_index::metrics::NoOpMetricsCollector;
use lance_index::pb::vector_index_details::Compression;
use lance_index::pb::{VectorIndexDetails, VectorMetricType};
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::DistanceType as LanceMetric;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::BuildParams;
use crate::graph::HnswGraph;
use crate::lance::index_files::Quantizer;
use crate::lance::plugin::refused;

/// A writer's settings for one maintained vector index: `ShardWriterConfig::with_index_override(name, params)`.
///
/// The defaults are those of Lance's MemTables: `m` = 16 and `ef_construction` = 100. A search has an `ef` of 80
/// or `k`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PennonMemIndexParams {
    /// How the graph is built, in memory and, because it is the same, in the flushed generation.
    pub build: BuildParams,
    /// Candidates of a search that does not say: Lance's `LsmScanner` never does.
    pub ef: Option<usize>,
    /// How a flushed generation stores its vectors. Not given: as they are if the base index stores them so and the
    /// metric is not cosine, or under Hamming; else scalar quantized, as Lance's own MemTables do.
    pub quantizer: Option<Quantizer>,
}

impl PennonMemIndexParams {
    /// Sets the parameters of the build.
    pub fn build(mut self, build: BuildParams) -> Self {
        self.build = build;
        self
    }

    /// Sets the number of candidates of a search that does not say.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = Some(ef);
        self
    }

    /// Sets how a flushed generation stores its vectors.
    pub fn quantizer(mut self, quantizer: Quantizer) -> Self {
        self.quantizer = Some(quantizer);
        self
    }

    /// The settings of a writer, ours or Lance's own for an HNSW; `otherwise` where it has none.
    fn of_writer(ctx: &ResolveContext<'_>, otherwise: &Self) -> LanceResult<Self> {
        match ctx.overrides::<HnswBuildParams>() {
            Ok(None) => Ok(otherwise.clone()),
            Ok(Some(params)) => match BuildParams::try_from(params) {
                Ok(build) => Ok(otherwise.clone().build(build)),
                Err(problem) => Err(refused(ctx.name, problem)),
            },
            // Settings of a third type are refused with the name of ours.
            Err(_) => Ok(ctx.overrides::<Self>()?.unwrap_or(otherwise).clone()),
        }
    }
}

/// Settings as they apply to one index of the base table. Lance compares them to tell whether an index changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    /// Of the base index; possibly one that cannot be served.
    pub metric: LanceMetric,
    pub build: BuildParams,
    pub ef: Option<usize>,
    pub quantizer: Quantizer,
}

impl Resolved {
    /// Reads the base index's own metric: distances are merged across the tiers, so it is never guessed.
    pub async fn of(ctx: &ResolveContext<'_>, otherwise: &PennonMemIndexParams) -> LanceResult<Self> {
        let [column] = ctx.columns else {
            return Err(refused(ctx.name, format!("{} columns, must be 1", ctx.columns.len())));
        };
        // Empty details say nothing: those of an old index, or of a generation that Lance flushed.
        let details = ctx.index_meta.index_details.as_deref().filter(|details| !details.value.is_empty());
        let details = details.and_then(|details| details.to_msg::<VectorIndexDetails>().ok());
        let recorded = details.as_ref().and_then(|d| VectorMetricType::try_from(d.metric_type).ok());
        let metric = match recorded {
            Some(metric) => LanceMetric::from(metric),
            None => {
                let uuid = &ctx.index_meta.uuid;
                let index = ctx.dataset.open_vector_index(column, uuid, &NoOpMetricsCollector).await?;
                index.metric_type()
            }
        };
        let base_is_flat = details.is_some_and(|d| matches!(d.compression, Some(Compression::Flat(_))));
        let params = PennonMemIndexParams::of_writer(ctx, otherwise)?;
        Self::try_new(column, metric, params, base_is_flat).map_err(|problem| refused(ctx.name, problem))
    }

    /// # Errors
    /// As [`HnswGraph::try_new`], [`Error::InvalidColumn`] if a cosine index is to be flushed as it is, and
    /// [`Error::NotInLance`] if one under Hamming is to be quantized.
    pub fn try_new(
        column: &str,
        metric: LanceMetric,
        params: PennonMemIndexParams,
        base_is_flat: bool,
    ) -> Result<Self> {
        let PennonMemIndexParams { build, ef, quantizer } = params;
        HnswGraph::try_new(build.clone())?;
        // Lance's planner halves the distances of every flushed cosine generation, because those of SQ over
        // normalized vectors are doubled. Those of an IVF_HNSW_FLAT are not, and would come out as half of theirs.
        let is_cosine = metric == LanceMetric::Cosine;
        let quantizer = match quantizer {
            Some(Quantizer::Flat) if is_cosine => {
                let problem = "in cosine a MemTable is flushed as IVF_HNSW_SQ, not as IVF_HNSW_FLAT";
                return Err(Error::InvalidColumn { column: column.into(), problem: problem.into() });
            }
            Some(quantizer) => quantizer,
            None if metric == LanceMetric::Hamming => Quantizer::Flat,
            // Whoever keeps the base table's vectors as they are pays for exact distances there.
            None if base_is_flat && !is_cosine => Quantizer::Flat,
            None => Quantizer::Sq,
        };
        quantizer.check(DistanceType::try_from(metric)?)?;
        Ok(Self { metric, build, ef, quantizer })
    }
}
