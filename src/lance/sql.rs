//! Lance datasets as tables of DataFusion, searched by Lance's own scanner.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::arrow::compute::cast;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, utils::conjunction};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use lance::Dataset;
use lance::datafusion::LanceTableProvider;

use crate::collection::sql::{Call, Options, Query, Searchable, VectorSearch, plan, register_distances};
use crate::search::{DISTANCE_COLUMN, ROW_ID_COLUMN};
use crate::vectors::ElementType;

/// Makes a Lance dataset a table of a session, also for the table function [`vector_search`](crate::sql::VectorSearch),
/// and adds that and the functions `l2_distance`, `cosine_distance` and `inner_product` to the session. A table of the
/// same name is replaced. The columns are those of the dataset and `_rowid`; queries read the version that is given.
///
/// `vector_search` is answered by Lance's scanner: through the index of the column, by `attach_index` or by Lance, if it
/// has one, and by comparing all rows otherwise. A condition is pushed down to Lance and evaluated before the search. The
/// distance is that of the index, or L2.
///
/// # Errors
/// What DataFusion says of the name.
pub fn register_dataset(
    context: &SessionContext,
    name: &str,
    dataset: Arc<Dataset>,
) -> Result<Arc<DatasetTable>> {
    let table = Arc::new(DatasetTable { rows: LanceTableProvider::new(dataset, true, false) });
    let _ = context.deregister_table(name)?;
    context.register_table(name, Arc::clone(&table) as _)?;
    register_distances(context);
    VectorSearch::of(context).add(name, &table);
    Ok(table)
}

/// A Lance dataset as a table of DataFusion: what [`register_dataset`] registers.
pub struct DatasetTable {
    rows: LanceTableProvider,
}

impl DatasetTable {
    /// The dataset.
    pub fn dataset(&self) -> Arc<Dataset> {
        self.rows.dataset()
    }
}

#[async_trait]
impl TableProvider for DatasetTable {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.rows.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(session, projection, filters, limit).await
    }
}

impl Searchable for DatasetTable {
    fn nearest(self: Arc<Self>, call: Call) -> Result<Arc<dyn TableProvider>> {
        let Call { query, k, options } = call;
        let Query::Vector(query) = query else {
            return Err(plan("a Lance dataset has no keys: the query must be a list of numbers"));
        };
        let schema = self.schema();
        let of_vectors = |field: &&Arc<Field>| ElementType::of_vectors(field.data_type()).is_ok();
        let names: Vec<&str> =
            schema.fields().iter().filter(of_vectors).map(|field| field.name().as_str()).collect();
        let column = options.column.as_deref().or(names.first().copied()).unwrap_or_default();
        if !names.contains(&column) {
            let problem = format!("{column:?} is not one of the columns of vectors: {}", names.join(", "));
            return Err(plan(problem));
        }
        let field = schema.field_with_name(column)?;
        let (DataType::FixedSizeList(item, _), (_, dim)) =
            (field.data_type(), ElementType::of_vectors(field.data_type())?)
        else {
            return Err(plan(format!("{column:?} has lists of any length")));
        };
        if query.len() != dim {
            return Err(plan(format!("vectors have {dim} dimensions, got {}", query.len())));
        }
        if k == 0 {
            return Err(plan("k must not be 0 for a Lance dataset"));
        }
        let query: ArrayRef = Arc::new(Float32Array::from(query));
        // Lance makes floats of another width of the query itself.
        let query = if item.data_type().is_integer() { cast(&query, item.data_type())? } else { query };
        let distance = Arc::new(Field::new(DISTANCE_COLUMN, DataType::Float32, true));
        let fields: Vec<_> = schema.fields().iter().cloned().chain([distance]).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let column = column.to_string();
        Ok(Arc::new(Nearest { dataset: self.dataset(), schema, column, query, k, options }))
    }
}

/// The table that a call of `vector_search` gives.
#[derive(Debug)]
struct Nearest {
    dataset: Arc<Dataset>,
    schema: SchemaRef,
    column: String,
    query: ArrayRef,
    k: usize,
    options: Options,
}

#[async_trait]
impl TableProvider for Nearest {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// Conditions on the distance are for what was found.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let before = |filter: &&Expr| {
            let columns = filter.column_refs();
            let is_of_rows = columns.iter().all(|column| column.name != DISTANCE_COLUMN);
            is_of_rows && !columns.is_empty() && !filter.is_volatile()
        };
        let of = |filter: &&Expr| match before(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => self.schema.project(projection)?,
            None => Schema::clone(&self.schema),
        };
        let wanted: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut scan = self.dataset.scan();
        // Lance adds the distance, and row ids last.
        let own = wanted.iter().filter(|name| ![DISTANCE_COLUMN, ROW_ID_COLUMN].contains(name));
        scan.project(&own.collect::<Vec<_>>())?.with_row_id();
        let k = limit.map_or(self.k, |limit| self.k.min(limit.max(1)));
        scan.nearest(&self.column, &*self.query, k)?.prefilter(true).use_index(!self.options.exact);
        if let Some(ef) = self.options.ef {
            scan.ef(ef.max(k));
        }
        if let Some(nprobes) = self.options.nprobes {
            scan.minimum_nprobes(nprobes);
        }
        if let Some(condition) = conjunction(filters.to_vec()) {
            scan.filter_expr(condition);
        }
        let found = scan.create_plan().await?;
        let places = wanted.iter().map(|&name| -> Result<_> {
            let column = Column::new_with_schema(name, &found.schema())?;
            Ok((Arc::new(column) as _, name.to_string()))
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(places, found)?))
    }
}

impl fmt::Debug for DatasetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatasetTable").field("uri", &self.dataset().uri()).finish_non_exhaustive()
    }
}
