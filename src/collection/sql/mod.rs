//! SQL over collections, by DataFusion.
//!
//! ```sql
//! SELECT id, year FROM words WHERE year >= 2008;
//! -- the ten nearest among the rows that qualify: the condition is tested before the search
//! SELECT id, _distance FROM vector_search('words', [0.1, 0.2], 10, 'ef=64') WHERE year >= 2008;
//! -- answered by the index, if VectorOrderRule is among the optimizer rules
//! SELECT id FROM words ORDER BY cosine_distance(vector, [0.1, 0.2]) LIMIT 10;
//! ```
//! [`register_collection`] makes a collection a table and adds the functions. A query reads the version that is current
//! when it is executed.

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

pub use exec::CollectionExec;
pub use function::VectorSearch;
pub use rule::VectorOrderRule;
pub use table::CollectionTable;

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
