//! Conditions in SQL, as tests of record batches.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::{ArrowError, DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::physical_expr::PhysicalExpr;

use crate::search::mask::bits_of;

/// A condition in SQL on the columns of a schema, such as `year >= 2008 AND word LIKE 'g%'`, as a test of its batches: for
/// [`Filter::new`](crate::Filter::new) and [`Metadata::mask`](crate::Metadata::mask). A row for which it is null fails.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow_array::{ArrayRef, Int32Array, RecordBatch};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let year: ArrayRef = Arc::new(Int32Array::from(vec![Some(2007), Some(2008), None]));
/// let batch = RecordBatch::try_from_iter([("year", year)])?;
/// let recent = pennon::sql::condition("year >= 2008", batch.schema_ref())?;
/// assert_eq!(recent(&batch)?.values().set_indices().collect::<Vec<_>>(), [1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What DataFusion says of the text, among it a column that is not there; and if it is no condition, or one whose value
/// is not the same each time.
pub fn condition(
    text: &str,
    schema: &Schema,
) -> Result<impl Fn(&RecordBatch) -> Result<BooleanArray, ArrowError> + Clone + Send + Sync + use<>> {
    let context = SessionContext::new();
    let expression = context.parse_sql_expr(text, &DFSchema::try_from(schema.clone())?)?;
    if expression.is_volatile() {
        return Err(DataFusionError::Plan(format!("{text:?} has another value each time")));
    }
    // A batch may have more columns, in another order.
    let mut names: Vec<String> = expression.column_refs().iter().map(|column| column.name.clone()).collect();
    names.sort_unstable();
    let fields =
        names.iter().map(|name| schema.field_with_name(name).cloned()).collect::<Result<Vec<_>, _>>()?;
    let used = DFSchema::try_from(Schema::new(fields))?;
    let expression = context.create_physical_expr(expression, &used)?;
    match expression.data_type(used.as_arrow())? {
        DataType::Boolean | DataType::Null => {}
        other => return Err(DataFusionError::Plan(format!("{text:?} is no condition: it is {other}"))),
    }
    let test = test(expression);
    Ok(move |batch: &RecordBatch| {
        let places = names.iter().map(|name| batch.schema_ref().index_of(name));
        test(&batch.project(&places.collect::<Result<Vec<_>, _>>()?)?)
    })
}

/// Whether rows meet a condition.
pub(super) fn test(
    condition: Arc<dyn PhysicalExpr>,
) -> impl Fn(&RecordBatch) -> Result<BooleanArray, ArrowError> + Clone + Send + Sync + 'static {
    move |batch| {
        let failed = |error| ArrowError::ExternalError(Box::new(error));
        let values = condition.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
        let values = values.map_err(failed)?;
        match values.data_type() {
            DataType::Boolean => Ok(bits_of(values.as_boolean()).into()),
            DataType::Null => Ok(BooleanArray::from(vec![false; batch.num_rows()])),
            other => Err(ArrowError::ComputeError(format!("a condition of type {other}"))),
        }
    }
}
