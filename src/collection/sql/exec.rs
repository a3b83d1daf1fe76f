//! The plan that reads a collection: a scan, or the rows nearest to a query.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, SortOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{TryStreamExt, stream};

use crate::collection::{Collection, CollectionReader, CollectionSearch, Filter};
use crate::search::{DISTANCE_COLUMN, SearchPlan, SearchStats};

/// A condition of a query, and what is known of it.
#[derive(Clone)]
pub(super) struct Condition {
    pub expression: Expr,
    pub filter: Filter,
}

/// A search of a plan.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub query: Arc<[f32]>,
    pub column: String,
    pub k: usize,
    pub ef: usize,
    pub exact: bool,
    /// What the search stands in for is a sort of all rows: rows without a vector come last (`Some(false)`) or first.
    pub nulls_first: Option<bool>,
}

/// Reads a collection: the rows that meet the conditions, or those of them that are nearest to a query, nearest first.
///
/// The version that is read is the one that is current when the plan is executed. Metrics of a search are its distances,
/// estimates and nodes, whether it was complete, and the way it went.
#[derive(Clone)]
pub struct CollectionExec {
    collection: Arc<Collection>,
    /// The columns of the output.
    columns: Vec<String>,
    conditions: Vec<Condition>,
    limit: Option<usize>,
    search: Option<Search>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The columns of a search: those of the collection, and the distance.
pub(super) fn with_distance(schema: &Schema) -> SchemaRef {
    let distance: FieldRef = Arc::new(Field::new(DISTANCE_COLUMN, DataType::Float32, false));
    let fields: Vec<FieldRef> = schema.fields().iter().cloned().chain([distance]).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

impl CollectionExec {
    pub(super) fn scan(
        collection: Arc<Collection>,
        projection: Option<&Vec<usize>>,
        conditions: Vec<Condition>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let schema = Arc::clone(collection.schema());
        Self::of(collection, &schema, projection, conditions, limit, None)
    }

    pub(super) fn search(
        collection: Arc<Collection>,
        projection: Option<&Vec<usize>>,
        conditions: Vec<Condition>,
        limit: Option<usize>,
        search: Search,
    ) -> Result<Self> {
        let schema = with_distance(collection.schema());
        Self::of(collection, &schema, projection, conditions, limit, Some(search))
    }

    fn of(
        collection: Arc<Collection>,
        schema: &SchemaRef,
        projection: Option<&Vec<usize>>,
        conditions: Vec<Condition>,
        limit: Option<usize>,
        search: Option<Search>,
    ) -> Result<Self> {
        let schema = match projection {
            Some(projection) => Arc::new(schema.project(projection)?),
            None => Arc::clone(schema),
        };
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        if let Some(at) = columns.iter().position(|column| column == DISTANCE_COLUMN) {
            let distance = Arc::new(Column::new(DISTANCE_COLUMN, at));
            let options = SortOptions { descending: false, nulls_first: false };
            equivalences.add_orderings([[PhysicalSortExpr::new(distance, options)]]);
        }
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Ok(Self { collection, columns, conditions, limit, search, properties, metrics })
    }

    pub(super) fn collection(&self) -> &Arc<Collection> {
        &self.collection
    }

    /// This scan, if it is one of all rows, with a search that finds those that a sort would keep.
    pub(super) fn searched(&self, search: Search) -> Option<Self> {
        if self.search.is_some() || self.limit.is_some() {
            return None;
        }
        Some(Self {
            collection: Arc::clone(&self.collection),
            columns: self.columns.clone(),
            conditions: self.conditions.clone(),
            limit: None,
            search: Some(search),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn filters(&self) -> Vec<Filter> {
        self.conditions.iter().map(|condition| condition.filter.clone()).collect()
    }

    /// The output.
    fn batches(&self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
        let schema = self.schema();
        let rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let reader = self.collection.reader();
        let searched = match &self.search {
            Some(search) => self.run(&reader, search)?,
            None => None,
        };
        if let Some(batch) = searched {
            rows.add(batch.num_rows());
            return Ok(Box::new(std::iter::once(Ok(batch.with_schema(schema)?))));
        }
        let mut left = self.limit.unwrap_or(usize::MAX);
        let batches = reader.scan(Some(&self.columns), &self.filters())?.map_while(move |batch| {
            if left == 0 {
                return None;
            }
            let batch = batch.map_err(DataFusionError::from).and_then(|batch| {
                let batch = batch.slice(0, batch.num_rows().min(left));
                left -= batch.num_rows();
                rows.add(batch.num_rows());
                Ok(batch.with_schema(Arc::clone(&schema))?)
            });
            Some(batch)
        });
        Ok(Box::new(batches))
    }

    /// The rows that a search found; none if it cannot stand in for a sort.
    fn run(&self, reader: &CollectionReader, search: &Search) -> Result<Option<RecordBatch>> {
        let k = self.limit.map_or(search.k, |limit| search.k.min(limit));
        let columns = self.columns.iter().filter(|column| *column != DISTANCE_COLUMN).cloned();
        let mut of = CollectionSearch::new(k).ef(search.ef).vector_column(&search.column).columns(columns);
        of.exact = search.exact;
        of.filters = self.filters();
        let hits = reader.search(&search.query, &of)?;
        self.record(hits.stats());
        if let Some(nulls_first) = search.nulls_first {
            let all_have_vectors = reader.index(&search.column)?.len() == reader.len();
            let few = hits.num_rows() < k;
            if !all_have_vectors && (nulls_first || few) {
                return Ok(None);
            }
        }
        let places = self.columns.iter().map(|column| hits.schema_ref().index_of(column));
        let places = places.collect::<Result<Vec<usize>, _>>()?;
        let batch = hits.into_batch().project(&places)?;
        Ok(Some(batch))
    }

    fn record(&self, stats: &[SearchStats]) {
        let count = |name: &'static str, value: u64| {
            MetricBuilder::new(&self.metrics)
                .counter(name, 0)
                .add(usize::try_from(value).unwrap_or(usize::MAX));
        };
        for stats in stats {
            count("distances", stats.distances);
            count("estimates", stats.estimates);
            count("nodes", stats.nodes);
            count("incomplete", u64::from(!stats.complete));
            let plan = match stats.plan {
                SearchPlan::Graph => "plan_graph",
                SearchPlan::FilteredGraph => "plan_filtered_graph",
                SearchPlan::Scan => "plan_scan",
            };
            count(plan, 1);
        }
    }
}

impl ExecutionPlan for CollectionExec {
    fn name(&self) -> &str {
        match self.search {
            Some(_) => "VectorSearchExec",
            None => "CollectionScanExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            return Ok(self);
        }
        Err(DataFusionError::Internal(format!("{} has no children, got {}", self.name(), children.len())))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("partition {partition} of 1")));
        }
        let (schema, run) = (self.schema(), self.clone());
        // The version is taken and searched when the first batch is asked for.
        let batches = stream::once(async move { run.batches().map(stream::iter) }).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for CollectionExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: columns=[{}]", self.name(), self.columns.join(", "))?;
        if let Some(Search { column, k, ef, exact, .. }) = &self.search {
            let index = self.collection.indexes().find(|(name, _)| name == column).map(|(_, index)| index);
            let metric = index.map_or_else(String::new, |index| index.distance_type().to_string());
            let has_graph = index.is_some_and(|index| index.params().is_some());
            write!(f, ", vectors={column}, metric={metric}, k={k}")?;
            match has_graph && !exact {
                true => write!(f, ", index=hnsw, ef={ef}")?,
                false => write!(f, ", index=none")?,
            }
        }
        if !self.conditions.is_empty() {
            let conditions = self.conditions.iter().map(|condition| condition.expression.to_string());
            write!(f, ", filter=[{}]", conditions.collect::<Vec<_>>().join(" AND "))?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CollectionExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Verbose, f)
    }
}
