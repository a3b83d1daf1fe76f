//! An index for the MemTables of Lance's MemWAL: rows are found from the put on, and a flush writes the graph that
//! they were found by.

mod flush;
mod mem_index;
mod params;

use std::fmt::Display;
use std::sync::Arc;

use ::lance::dataset::mem_wal::index::{
    MemIndex, MemIndexBuildContext, MemIndexPlugin, ResolveContext, ResolvedIndex,
};
use arrow_schema::DataType;
use lance_core::{Error as LanceError, Result as LanceResult};
use lance_index::IndexType;
use lance_index::scalar::registry::{TrainingCriteria, TrainingOrdering};

pub use mem_index::PennonMemIndex;
pub use params::PennonMemIndexParams;

use params::Resolved;

/// Indexes the vectors of MemTables with [`HnswIndex`](crate::HnswIndex), in the place of Lance's own HNSW.
///
/// One registry with the plugin in it goes to `initialize_mem_wal()` and to every writer; nothing about it is stored
/// in the table.
///
/// ```ignore
/// let mut registry = MemIndexRegistry::default();
/// registry.replace_plugin(Arc::new(PennonMemIndexPlugin))?;
/// dataset.initialize_mem_wal().mem_index_registry(registry.clone()).execute().await?;
/// let config = ShardWriterConfig::new(shard).with_mem_index_registry(registry);
/// let writer = dataset.mem_wal_writer(shard, config).await?;
/// ```
///
/// It maintains any vector index of the base table (IVF_PQ too: a MemTable only takes over its metric) on a
/// `FixedSizeList<Float32>` column, in L2, cosine or dot. A writer's settings are [`PennonMemIndexParams`], by
/// `with_index_override`, or Lance's own `HnswBuildParams`, by `with_hnsw_params`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PennonMemIndexPlugin;

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
        Ok(ResolvedIndex::with_params(ctx.columns.to_vec(), Resolved::of(ctx).await?))
    }

    fn validate(&self, ctx: &MemIndexBuildContext<'_>) -> LanceResult<()> {
        index_of(ctx).map(drop)
    }

    fn create(&self, ctx: &MemIndexBuildContext<'_>) -> LanceResult<Arc<dyn MemIndex>> {
        Ok(Arc::new(index_of(ctx)?))
    }
}

/// The index that is asked for, without memory yet.
fn index_of(ctx: &MemIndexBuildContext<'_>) -> LanceResult<PennonMemIndex> {
    ctx.check_top_level_columns()?;
    let (column, field_id) = ctx.single_column()?;
    let actual = ctx.schema.field(column).map(|field| field.data_type());
    let dim = match &actual {
        Some(DataType::FixedSizeList(item, dim)) if *item.data_type() == DataType::Float32 && *dim > 0 => {
            *dim as usize
        }
        Some(actual) => {
            let problem = format!("column '{column}' must be FixedSizeList<Float32>, got {actual}");
            return Err(refused(ctx.name, problem));
        }
        None => return Err(refused(ctx.name, format!("no column '{column}'"))),
    };
    let resolved = ctx.params::<Resolved>()?.clone();
    PennonMemIndex::of(column, field_id, dim, resolved)
        .map_err(|problem| refused(ctx.name, format!("column '{column}': {problem}")))
}

fn refused(index: &str, problem: impl Display) -> LanceError {
    LanceError::invalid_input(format!("index '{index}': {problem}"))
}
