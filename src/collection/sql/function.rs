//! The table function `vector_search('table', query, k [, 'ef=64, column=vector, exact'])`.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Schema};
use datafusion::arrow::compute::cast;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::Expr;

use crate::collection::key::is_key_type;

const NAME: &str = "vector_search";

/// A table that [`VectorSearch`] searches.
pub(crate) trait Searchable: fmt::Debug + Send + Sync {
    /// The table of what a call finds.
    fn nearest(self: Arc<Self>, call: Call) -> Result<Arc<dyn TableProvider>>;
}

/// The arguments of a call.
#[derive(Debug)]
pub(crate) struct Call {
    pub query: Query,
    pub k: usize,
    pub options: Options,
}

/// What is searched for.
#[derive(Debug)]
pub(crate) enum Query {
    Vector(Vec<f32>),
    /// The vector of the row of this key, the only value of the array.
    Key(ArrayRef),
}

/// The options of a call.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub ef: Option<usize>,
    pub column: Option<String>,
    pub exact: bool,
    /// Of a Lance dataset.
    pub nprobes: Option<usize>,
}

/// The table function `vector_search('table', query, k [, options])`: the `k` rows of a table that are nearest to a list of
/// numbers, or to the vector of the row of a key, with their `_distance`, nearest first.
///
/// The table is a collection, or a Lance dataset (which has no keys). A condition on columns that are not vectors is
/// tested before the search: `k` rows of a collection come back if `k` qualify. Options, with commas between them:
///
/// | option | meaning |
/// |---|---|
/// | `ef=64` | candidates that the search keeps |
/// | `column=vector` | the column of vectors; the first one if it is left out |
/// | `exact` | compare all rows |
/// | `nprobes=8` | partitions of the index of a Lance dataset that are searched at least |
#[derive(Clone, Default)]
pub struct VectorSearch {
    tables: Arc<RwLock<HashMap<String, Weak<dyn Searchable>>>>,
}

impl VectorSearch {
    /// The function of a session, added to it if it is not there.
    pub(crate) fn of(context: &SessionContext) -> Self {
        let registered = context.table_function(NAME).ok();
        let registered = registered.and_then(|function| {
            let function: &dyn Any = &**function.function();
            function.downcast_ref::<Self>().cloned()
        });
        registered.unwrap_or_else(|| {
            let function = Self::default();
            context.register_udtf(NAME, Arc::new(function.clone()));
            function
        })
    }

    /// Lets a table be searched by name, for as long as it is registered.
    pub(crate) fn add(&self, name: &str, table: &Arc<impl Searchable + 'static>) {
        let table: Weak<dyn Searchable> = Arc::downgrade(table) as _;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, table| table.strong_count() > 0);
        tables.insert(name.to_string(), table);
    }

    fn table(&self, name: &str) -> Result<Arc<dyn Searchable>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let table = tables.get(name).and_then(Weak::upgrade);
        table.ok_or_else(|| plan(format!("no table to be searched is registered as {name:?}")))
    }
}

pub(crate) fn plan(problem: impl fmt::Display) -> DataFusionError {
    DataFusionError::Plan(format!("{NAME}: {problem}"))
}

/// The value of an argument.
fn value(session: &dyn Session, argument: &Expr) -> Result<ArrayRef> {
    let physical = session.create_physical_expr(argument.clone(), &DFSchema::empty())?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)?;
    physical.evaluate(&batch)?.into_array(1)
}

fn text(session: &dyn Session, argument: &Expr) -> Result<String> {
    if let Expr::Column(column) = argument {
        return Ok(column.name.clone());
    }
    let text = cast(&value(session, argument)?, &DataType::Utf8)?;
    Ok(text.as_string::<i32>().value(0).to_string())
}

/// The numbers of a list.
pub(super) fn numbers(list: &dyn Array) -> Result<Vec<f32>> {
    let values = match list.data_type() {
        _ if list.len() != 1 || list.is_null(0) => return Err(plan("the query must be a list of numbers")),
        DataType::List(_) => list.as_list::<i32>().value(0),
        DataType::LargeList(_) => list.as_list::<i64>().value(0),
        DataType::FixedSizeList(..) => list.as_fixed_size_list().value(0),
        other => return Err(plan(format!("the query must be a list of numbers, got {other}"))),
    };
    values_of(&values)
}

/// The numbers of an array.
pub(super) fn values_of(values: &dyn Array) -> Result<Vec<f32>> {
    let values = cast(values, &DataType::Float32)?;
    if values.null_count() > 0 {
        return Err(plan("the query has a null in it"));
    }
    Ok(values.as_primitive::<Float32Type>().values().to_vec())
}

impl TableFunctionImpl for VectorSearch {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (session, exprs) = (args.session(), args.exprs());
        let (table, query, k, options) = match exprs {
            [table, query, k] => (table, query, k, None),
            [table, query, k, options] => (table, query, k, Some(options)),
            _ => return Err(plan(format!("3 or 4 arguments are needed, got {}", exprs.len()))),
        };
        let table = self.table(&text(session, table)?)?;
        let query = value(session, query)?;
        let query = match is_key_type(query.data_type()) {
            true => Query::Key(query),
            false => Query::Vector(numbers(&query)?),
        };
        let k = match ScalarValue::try_from_array(&cast(&value(session, k)?, &DataType::UInt64)?, 0)? {
            ScalarValue::UInt64(Some(k)) => usize::try_from(k).unwrap_or(usize::MAX),
            other => return Err(plan(format!("k must be a count of rows, got {other}"))),
        };
        let options = options.map(|options| Options::parse(&text(session, options)?)).transpose()?;
        table.nearest(Call { query, k, options: options.unwrap_or_default() })
    }
}

impl Options {
    fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let (name, value) =
                option.split_once('=').map_or((option, ""), |(name, value)| (name.trim(), value.trim()));
            let count = || value.parse().map_err(|_| plan(format!("{name} must be a number, got {value:?}")));
            match name {
                "ef" => options.ef = Some(count()?),
                "nprobes" => options.nprobes = Some(count()?),
                "column" if !value.is_empty() => options.column = Some(value.to_string()),
                "exact" if option == name => options.exact = true,
                _ => {
                    let known = "ef=.., column=.., nprobes=.. and exact";
                    return Err(plan(format!("options are {known}, got {option:?}")));
                }
            }
        }
        Ok(options)
    }
}

impl fmt::Debug for VectorSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("VectorSearch").field("tables", &tables.keys()).finish()
    }
}
