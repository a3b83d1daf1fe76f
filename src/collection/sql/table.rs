//! A collection as a table.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::BooleanArray;
use arrow_array::cast::AsArray;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::collection::sql::exec::{CollectionExec, Condition};
use crate::collection::{Collection, Filter};

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
                    let physical = session.create_physical_expr(filter.clone(), &schema)?;
                    let test = Filter::new(move |batch| {
                        let failed = |error| ArrowError::ExternalError(Box::new(error));
                        let values = physical.evaluate(batch).and_then(|x| x.into_array(batch.num_rows()));
                        let values = values.map_err(failed)?;
                        match values.data_type() {
                            DataType::Boolean => Ok(values.as_boolean().clone()),
                            DataType::Null => Ok(BooleanArray::from(vec![false; batch.num_rows()])),
                            other => Err(ArrowError::ComputeError(format!("a condition of type {other}"))),
                        }
                    });
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

impl fmt::Debug for CollectionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionTable").field("collection", &self.collection).finish_non_exhaustive()
    }
}
