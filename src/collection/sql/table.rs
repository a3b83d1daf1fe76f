//! A collection as a table.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::collection::key::key_of;
use crate::collection::sql::condition::test;
use crate::collection::sql::exec::{CollectionExec, Condition, Search, with_distance};
use crate::collection::sql::function::{Call, Query, Searchable, plan, values_of};
use crate::collection::{Collection, Filter};
use crate::search::SearchParams;

/// Conditions whose bits are kept for further queries.
const CONDITIONS: usize = 16;

/// A collection as a table of DataFusion.
///
/// Conditions on columns that are not vectors are evaluated by the scan, each batch once: the last 16 conditions keep
/// their bits for later queries with the same condition.
pub struct CollectionTable {
    collection: Arc<Collection>,
    /// The last that was used is the last.
    conditions: Mutex<Vec<Condition>>,
}

impl CollectionTable {
    /// The table of a collection.
    pub fn new(collection: Arc<Collection>) -> Self {
        Self { collection, conditions: Mutex::default() }
    }

    /// The collection.
    pub fn collection(&self) -> &Arc<Collection> {
        &self.collection
    }

    /// Which conditions a scan evaluates itself: those on columns that are not vectors, whose value is the same each time.
    pub(super) fn pushdown(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        let others = &self.collection.shared.layout.others;
        let is_ours = |filter: &Expr| {
            let columns = filter.column_refs();
            !filter.is_volatile()
                && !columns.is_empty()
                && columns.iter().all(|column| others.field_with_name(&column.name).is_ok())
        };
        let of = |filter: &&Expr| match is_ours(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        filters.iter().map(of).collect()
    }

    /// The conditions, with the bits that are known of them.
    pub(super) fn conditions(&self, session: &dyn Session, filters: &[Expr]) -> Result<Vec<Condition>> {
        let schema = DFSchema::try_from(Arc::clone(&self.collection.shared.layout.others))?;
        let mut conditions = Vec::with_capacity(filters.len());
        for filter in filters {
            let mut known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
            let condition = match known.iter().position(|condition| &condition.expression == filter) {
                Some(at) => known.remove(at),
                None => {
                    let test = Filter::new(test(session.create_physical_expr(filter.clone(), &schema)?));
                    Condition { expression: filter.clone(), filter: test }
                }
            };
            if known.len() >= CONDITIONS {
                known.remove(0);
            }
            known.push(condition.clone());
            conditions.push(condition);
        }
        Ok(conditions)
    }
}

#[async_trait]
impl TableProvider for CollectionTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.collection.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(self.pushdown(filters))
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let conditions = self.conditions(session, filters)?;
        let scan = CollectionExec::scan(Arc::clone(&self.collection), projection, conditions, limit)?;
        Ok(Arc::new(scan))
    }
}

impl Searchable for CollectionTable {
    fn nearest(self: Arc<Self>, call: Call) -> Result<Arc<dyn TableProvider>> {
        let Call { query, k, options } = call;
        if options.nprobes.is_some() {
            return Err(plan("a collection has no partitions: nprobes is for Lance datasets"));
        }
        let names: Vec<&str> = self.collection.indexes().map(|(name, _)| name).collect();
        let column = options.column.as_deref().or(names.first().copied()).unwrap_or_default();
        let index = self.collection.indexes().find(|(name, _)| *name == column);
        let Some((_, index)) = index else {
            let problem = format!("{column:?} is not one of the columns of vectors: {}", names.join(", "));
            return Err(plan(problem));
        };
        let query = match query {
            Query::Vector(query) => query,
            Query::Key(key) => self.vector_of(&*key, column)?,
        };
        if index.dim() != query.len() {
            return Err(plan(format!("vectors have {} dimensions, got {}", index.dim(), query.len())));
        }
        let search = Search {
            query: query.into(),
            column: column.to_string(),
            k,
            ef: options.ef.unwrap_or(SearchParams::new(k).ef),
            exact: options.exact,
            nulls_first: None,
        };
        let schema = with_distance(self.collection.schema());
        Ok(Arc::new(Nearest { table: self, search, schema }))
    }
}

impl CollectionTable {
    /// The vector of the row of a key, which is the only value of an array.
    fn vector_of(&self, key: &dyn Array, column: &str) -> Result<Vec<f32>> {
        let key = key_of(key, 0).ok_or_else(|| plan("the key is null"))?;
        let row = self.collection.get(key.clone())?.ok_or_else(|| plan(format!("no row has key {key}")))?;
        let vectors = row.column_by_name(column).and_then(|vectors| vectors.as_fixed_size_list_opt());
        let vectors = vectors.filter(|vectors| vectors.is_valid(0));
        let vectors = vectors.ok_or_else(|| plan(format!("row {key} has no vector in {column:?}")))?;
        values_of(&vectors.value(0))
    }
}

/// The table that a call of `vector_search` gives.
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
        let (collection, search) = (Arc::clone(&self.table.collection), self.search.clone());
        Ok(Arc::new(CollectionExec::search(collection, projection, conditions, limit, search)?))
    }
}

impl fmt::Debug for CollectionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionTable").field("collection", &self.collection).finish_non_exhaustive()
    }
}
