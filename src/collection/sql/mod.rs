//! Collections as tables of DataFusion: what `pennon::sql` has.

mod condition;
mod distances;
mod exec;
mod function;
mod rule;
mod table;

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;

use crate::Error;
use crate::collection::Collection;

pub use condition::condition;
pub use exec::CollectionExec;
pub use function::VectorSearch;
pub use rule::VectorOrderRule;
pub use table::CollectionTable;
#[cfg(feature = "lance")]
pub(crate) use {
    distances::register as register_distances,
    function::{Call, Options, Query, Searchable, plan},
};

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Arrow(error) => Self::ArrowError(Box::new(error), None),
            other => Self::External(Box::new(other)),
        }
    }
}

/// Makes a collection a table of a session, also for the table function `vector_search`, and adds that and the functions
/// `l2_distance`, `cosine_distance` and `inner_product` to the session. A table of the same name is replaced.
///
/// # Errors
/// What DataFusion says of the name.
pub fn register_collection(
    context: &SessionContext,
    name: &str,
    collection: Arc<Collection>,
) -> Result<Arc<CollectionTable>> {
    let table = Arc::new(CollectionTable::new(collection));
    let _ = context.deregister_table(name)?;
    context.register_table(name, Arc::clone(&table) as _)?;
    distances::register(context);
    VectorSearch::of(context).add(name, &table);
    Ok(table)
}
