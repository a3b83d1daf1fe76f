//! An index for the MemTables of Lance's MemWAL: rows are found from the put on, and a flush writes the graph that
//! they were found by.

mod flush;
mod live;
mod mem_index;
mod params;
mod query;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use ::lance::dataset::mem_wal::index::{
    MemIndex, MemIndexBuildContext, MemIndexPlugin, MemIndexRegistry, ResolveContext, ResolvedIndex,
};
use lance_core::{Error as LanceError, Result as LanceResult};
use lance_index::IndexType;
use lance_index::scalar::registry::{TrainingCriteria, TrainingOrdering};
use tracing::{debug, warn};

pub use live::{live_index, live_indexes};
pub use mem_index::PennonMemIndex;
pub use params::PennonMemIndexParams;

use live::Made;
use params::Resolved;

use crate::error::Result;
use crate::lance::columns::INDEXED;
use crate::vectors::ElementType;

/// Indexes the vectors of MemTables with an [`Index`](crate::Index), in the place of Lance's own HNSW.
///
/// One registry with the plugin in it ([`registry`]) goes to `initialize_mem_wal().mem_index_registry(..)` and to every
/// writer's `ShardWriterConfig::with_mem_index_registry(..)`; nothing about it is stored in the table.
/// `examples/memtable.rs` shows all of it.
///
/// It maintains any vector index of the base table (IVF_PQ too: a MemTable only takes over its metric) on a
/// `FixedSizeList` of `Float16`, `Float32` or `Float64` in L2, cosine or dot, or of `UInt8` in Hamming distance. These
/// are the columns that Lance searches with an index; Lance's own MemTables take `Float32` alone.
///
/// # Settings
/// A writer's settings for an index, by the name that it has in the base table, are [`PennonMemIndexParams`]; Lance's
/// own `HnswBuildParams` do too, by `with_hnsw_params`. Without any, they are those of the plugin
/// ([`with_defaults`](Self::with_defaults), [`index`](Self::index)), and else those of Lance's MemTables.
///
/// ```
/// use pennon::BuildParams;
/// use pennon::lance::{PennonMemIndexParams, Quantizer};
/// # use lance::dataset::mem_wal::ShardWriterConfig;
/// # let config = ShardWriterConfig::default();
///
/// let build = BuildParams::default().num_edges(24).ef_construction(200);
/// let settings = PennonMemIndexParams::default().build(build).ef(100).quantizer(Quantizer::Sq);
/// let config = config.with_index_override("vec_idx", settings);
/// ```
///
/// # When Lance asks the index
/// - `LsmScanner` searches in L2 unless it is told otherwise: over an index in cosine or dot, call
///   `.distance_metric(..)` after `.nearest(..)`. Without it this index declines, and Lance compares all rows of the
///   MemTable, in L2.
/// - Once a key is written twice within a MemTable, or deleted after it was written there, Lance compares all rows of
///   this MemTable until it is flushed. Keys of the base table or of older generations may be rewritten at will.
/// - A search with a filter, or with a lower bound of the distance, is compared with all rows, too.
///
/// Lance's own index of MemTables is asked in the same cases.
///
/// # Queries
/// A query of such a table should be of the column's own elements. `LsmScanner::nearest` takes it as a
/// `FixedSizeListArray` of one row; an array without the list has to be `Float32`, and Lance cannot compare that with
/// the rows of a MemTable of other elements where it does without an index, as after a key was written twice.
#[derive(Clone, Debug, Default)]
pub struct PennonMemIndexPlugin {
    defaults: PennonMemIndexParams,
    by_index: BTreeMap<String, PennonMemIndexParams>,
    made: Made,
}

impl PennonMemIndexPlugin {
    /// A plugin whose indexes have these settings where a writer gives none: for clients such as LanceDB, which hand no
    /// settings of a writer through.
    pub fn with_defaults(params: PennonMemIndexParams) -> Self {
        Self { defaults: params, ..Self::default() }
    }

    /// Sets what the index of that name has where a writer gives no settings.
    pub fn index(mut self, name: impl Into<String>, params: PennonMemIndexParams) -> Self {
        self.by_index.insert(name.into(), params);
        self
    }

    /// The indexes that this plugin and its clones made for MemTables that are in memory, oldest first, with their
    /// names: for whoever has no writer to ask by [`live_index`], as in LanceDB. Keep a clone of the plugin that goes
    /// into [`registry_with`].
    pub fn live_indexes(&self) -> Vec<(String, Arc<PennonMemIndex>)> {
        self.made.live()
    }

    fn settings(&self, index: &str) -> &PennonMemIndexParams {
        self.by_index.get(index).unwrap_or(&self.defaults)
    }
}

/// Lance's registry of MemTable indexes with Pennon in the place of the built-in HNSW, at default settings:
/// `table.as_native().set_mem_index_registry(registry()?)` in LanceDB, `mem_index_registry(registry()?)` in Lance.
///
/// # Errors
/// [`Error::LanceDataset`](crate::Error::LanceDataset) if Lance refuses the plugin.
pub fn registry() -> Result<MemIndexRegistry> {
    registry_with(PennonMemIndexPlugin::default())
}

/// [`registry`] with settings of the caller's.
///
/// # Errors
/// As [`registry`].
pub fn registry_with(plugin: PennonMemIndexPlugin) -> Result<MemIndexRegistry> {
    let mut registry = MemIndexRegistry::default();
    registry.replace_plugin(Arc::new(plugin)).map_err(Box::new)?;
    Ok(registry)
}

#[async_trait::async_trait]
impl MemIndexPlugin for PennonMemIndexPlugin {
    fn name(&self) -> &str {
        "Pennon"
    }

    fn details_message(&self) -> &str {
        "VectorIndexDetails"
    }

    /// Of no consequence: the index writes its own files.
    fn flush_index_type(&self) -> IndexType {
        IndexType::IvfHnswSq
    }

    /// Of no consequence: no rows are handed back at a flush.
    fn training_criteria(&self) -> TrainingCriteria {
        TrainingCriteria::new(TrainingOrdering::None)
    }

    /// Refuses settings that cannot be met. What the table's own column or metric rules out is left to
    /// [`validate`](MemIndexPlugin::validate), whose refusal a table that maintains all of its indexes survives.
    async fn resolve(&self, ctx: &ResolveContext<'_>) -> LanceResult<ResolvedIndex> {
        Ok(ResolvedIndex::with_params(
            ctx.columns.to_vec(),
            Resolved::of(ctx, self.settings(ctx.name)).await?,
        ))
    }

    fn validate(&self, ctx: &MemIndexBuildContext<'_>) -> LanceResult<()> {
        let checked = index_of(ctx).map(drop);
        checked.inspect_err(|error| warn!(index = ctx.name, %error, "Pennon does not index these MemTables"))
    }

    fn create(&self, ctx: &MemIndexBuildContext<'_>) -> LanceResult<Arc<dyn MemIndex>> {
        let index = Arc::new(index_of(ctx)?);
        debug!(index = ctx.name, settings = ?index.settings, "made an index for a MemTable");
        self.made.add(ctx.name, &index);
        Ok(index)
    }
}

/// The index that is asked for, without memory yet.
fn index_of(ctx: &MemIndexBuildContext<'_>) -> LanceResult<PennonMemIndex> {
    ctx.check_top_level_columns()?;
    let (column, field_id) = ctx.single_column()?;
    let Some(field) = ctx.schema.field(column) else {
        return Err(refused(ctx.name, format!("no column '{column}'")));
    };
    let actual = field.data_type();
    let Some((element_type, dim)) = ElementType::of_indexed(&actual) else {
        return Err(refused(ctx.name, format!("column '{column}' must be {INDEXED}, got {actual}")));
    };
    let resolved = ctx.params::<Resolved>()?.clone();
    PennonMemIndex::of(element_type, column, field_id, dim, resolved)
        .map_err(|problem| refused(ctx.name, problem))
}

fn refused(index: &str, problem: impl Display) -> LanceError {
    LanceError::invalid_input(format!("index '{index}': {problem}"))
}
