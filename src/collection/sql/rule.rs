//! `ORDER BY distance(vector, query) LIMIT k`, answered by the index.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use crate::collection::sql::distances::metric_of;
use crate::collection::sql::exec::{CollectionExec, Search};
use crate::collection::sql::function::numbers;
use crate::distance::DistanceType;

/// A rule that answers `ORDER BY cosine_distance(vector, [..]) LIMIT k` over a collection by its index, with the sort kept
/// above; `l2_distance` and, descending, `inner_product` too, each for an index of that metric. The answer is that of a
/// search then, which may miss a row that a scan finds; so the rule is not there unless it is asked for:
/// `SessionStateBuilder::with_physical_optimizer_rule(Arc::new(VectorOrderRule::new()))`.
///
/// The scan stays as it is if there is a condition that it cannot evaluate itself. Rows without a vector have no distance;
/// if the sort would keep one of them, all rows are scanned.
#[derive(Clone, Debug)]
pub struct VectorOrderRule {
    ef: usize,
}

impl Default for VectorOrderRule {
    fn default() -> Self {
        Self { ef: 100 }
    }
}

impl VectorOrderRule {
    /// A rule whose searches keep 100 candidates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of candidates that the searches keep.
    pub fn ef(mut self, ef: usize) -> Self {
        self.ef = ef;
        self
    }

    /// A sort with a search in the place of the scan below it.
    fn searched(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(None) };
        let Some(k) = sort.fetch() else { return Ok(None) };
        let [key] = &sort.expr()[..] else { return Ok(None) };
        let mut wanted = Wanted {
            key: Arc::clone(&key.expr),
            descending: key.options.descending,
            nulls_first: key.options.nulls_first,
            k,
            ef: self.ef,
        };
        let Some(input) = wanted.replace(sort.input())? else { return Ok(None) };
        Arc::clone(plan).with_new_children(vec![input]).map(Some)
    }
}

/// What a sort keeps.
struct Wanted {
    key: Arc<dyn PhysicalExpr>,
    descending: bool,
    nulls_first: bool,
    k: usize,
    ef: usize,
}

impl Wanted {
    /// A plan whose leaf is a search.
    fn replace(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(scan) = plan.downcast_ref::<CollectionExec>() {
            let searched = self.search(scan)?.and_then(|search| scan.searched(search));
            return Ok(searched.map(|searched| Arc::new(searched) as Arc<dyn ExecutionPlan>));
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            // The key in terms of what the projection reads.
            let key = Arc::clone(&self.key).transform_up(|expression| {
                let column = expression.downcast_ref::<Column>().map(Column::index);
                Ok(match column.and_then(|column| projection.expr().get(column)) {
                    Some(of) => Transformed::yes(Arc::clone(&of.expr)),
                    None => Transformed::no(expression),
                })
            });
            self.key = key.data()?;
        } else if !(plan.is::<RepartitionExec>()
            || plan.is::<CoalescePartitionsExec>()
            || plan.is::<CooperativeExec>())
        {
            return Ok(None);
        }
        let [child] = plan.children()[..] else { return Ok(None) };
        let Some(child) = self.replace(child)? else { return Ok(None) };
        Arc::clone(plan).with_new_children(vec![child]).map(Some)
    }

    /// The search that finds what the sort keeps.
    fn search(&self, scan: &CollectionExec) -> Result<Option<Search>> {
        let Some(function) = self.key.downcast_ref::<ScalarFunctionExpr>() else { return Ok(None) };
        let Some(metric) = metric_of(function.name()) else { return Ok(None) };
        if self.descending != (metric == DistanceType::Dot) {
            return Ok(None);
        }
        let (column, query) = match function.args() {
            [a, b] => match (a.downcast_ref::<Column>(), b.downcast_ref::<Literal>()) {
                (Some(column), Some(query)) => (column, query),
                _ => match (a.downcast_ref::<Literal>(), b.downcast_ref::<Column>()) {
                    (Some(query), Some(column)) => (column, query),
                    _ => return Ok(None),
                },
            },
            _ => return Ok(None),
        };
        let index = scan.collection().indexes().find(|(name, _)| *name == column.name());
        let Some((name, index)) = index.filter(|(_, index)| index.distance_type() == metric) else {
            return Ok(None);
        };
        // What cannot be searched for is left to the function, which says so.
        let query = query.value().to_array()?;
        let Some(query) = numbers(&query).ok().filter(|query| query.len() == index.dim()) else {
            return Ok(None);
        };
        let is_usable = query.iter().all(|x| x.is_finite())
            && (metric != DistanceType::Cosine || query.iter().any(|x| *x != 0.0));
        Ok(is_usable.then(|| Search {
            query: query.into(),
            column: name.to_string(),
            k: self.k,
            ef: self.ef,
            exact: false,
            nulls_first: Some(self.nulls_first),
        }))
    }
}

impl PhysicalOptimizerRule for VectorOrderRule {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            Ok(match self.searched(&plan)? {
                Some(searched) => Transformed::yes(searched),
                None => Transformed::no(plan),
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "vector_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
