//! The table function `vector_search('table', query, k [, 'ef=64, column=vector, exact'])`.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::arrow::compute::cast;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::collection::sql::exec::{CollectionExec, Search, with_distance};
use crate::collection::sql::table::CollectionTable;
use crate::search::SearchParams;

const NAME: &str = "vector_search";

/// The table function `vector_search('table', query, k [, options])`: the `k` rows of a collection that are nearest to a
/// list of numbers, with their `_distance`, nearest first.
///
/// A condition on columns that are not vectors is tested before the search: `k` rows come back if `k` qualify. Options are
/// `ef=64`, `column=vector` (the first column of vectors if it is left out) and `exact`, with commas between them.
#[derive(Clone, Default)]
pub struct VectorSearch {
    tables: Arc<RwLock<HashMap<String, Weak<CollectionTable>>>>,
}

impl VectorSearch {
    /// The function of a session, added to it if it is not there.
    pub(super) fn of(context: &SessionContext) -> Self {
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
    pub(super) fn add(&self, name: &str, table: &Arc<CollectionTable>) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, table| table.strong_count() > 0);
        tables.insert(name.to_string(), Arc::downgrade(table));
    }

    fn table(&self, name: &str) -> Result<Arc<CollectionTable>> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let table = tables.get(name).and_then(Weak::upgrade);
        table.ok_or_else(|| plan(format!("no collection is registered as {name:?}")))
    }
}

fn plan(problem: impl fmt::Display) -> DataFusionError {
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
    let values = cast(&values, &DataType::Float32)?;
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
        let query = numbers(&value(session, query)?)?;
        let k = match ScalarValue::try_from_array(&cast(&value(session, k)?, &DataType::UInt64)?, 0)? {
            ScalarValue::UInt64(Some(k)) => usize::try_from(k).unwrap_or(usize::MAX),
            other => return Err(plan(format!("k must be a count of rows, got {other}"))),
        };
        let names: Vec<&str> = table.collection().indexes().map(|(name, _)| name).collect();
        let mut search = Search {
            query: query.into(),
            column: names.first().map_or_else(String::new, |name| (*name).to_string()),
            k,
            ef: SearchParams::new(k).ef,
            exact: false,
            nulls_first: None,
        };
        if let Some(options) = options {
            parse(&text(session, options)?, &mut search)?;
        }
        let index = table.collection().indexes().find(|(name, _)| *name == search.column);
        let Some((_, index)) = index else {
            let problem =
                format!("{:?} is not one of the columns of vectors: {}", search.column, names.join(", "));
            return Err(plan(problem));
        };
        if index.dim() != search.query.len() {
            return Err(plan(format!("vectors have {} dimensions, got {}", index.dim(), search.query.len())));
        }
        let schema = with_distance(table.collection().schema());
        Ok(Arc::new(Nearest { table, search, schema }))
    }
}

fn parse(options: &str, search: &mut Search) -> Result<()> {
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        match option.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("ef", ef)) => {
                search.ef = ef.parse().map_err(|_| plan(format!("ef must be a number, got {ef:?}")))?;
            }
            Some(("column", column)) => search.column = column.to_string(),
            None if option == "exact" => search.exact = true,
            _ => return Err(plan(format!("options are ef=.., column=.. and exact, got {option:?}"))),
        }
    }
    Ok(())
}

/// The table that a call gives.
#[derive(Debug)]
struct Nearest {
    table: Arc<CollectionTable>,
    search: Search,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Nearest {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(self.table.pushdown(filters))
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let conditions = self.table.conditions(session, filters)?;
        let (collection, search) = (Arc::clone(self.table.collection()), self.search.clone());
        Ok(Arc::new(CollectionExec::search(collection, projection, conditions, limit, search)?))
    }
}

impl fmt::Debug for VectorSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("VectorSearch").field("tables", &tables.keys()).finish()
    }
}
