//! The functions `l2_distance`, `cosine_distance` and `inner_product`, exact and on any lists of numbers.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, Float32Array};
use arrow_schema::DataType;
use datafusion::arrow::compute::cast;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::distance::{DistanceType, PreparedQuery};

/// A function of two lists of numbers of the same length. Null if one of them is null or has a null in it.
///
/// | name | value |
/// |---|---|
/// | `l2_distance` | the squared Euclidean distance, as `_distance` has it |
/// | `cosine_distance` | 1 less the cosine |
/// | `inner_product` | the sum of products: 1 less the distance `dot` |
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Distance {
    metric: DistanceType,
    signature: Signature,
}

/// Adds the functions to a session.
pub(crate) fn register(context: &SessionContext) {
    for metric in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot] {
        let signature = Signature::any(2, Volatility::Immutable);
        context.register_udf(ScalarUDF::new_from_impl(Distance { metric, signature }));
    }
}

/// The metric of a function by its name.
pub(super) fn metric_of(name: &str) -> Option<DistanceType> {
    Some(match name {
        "l2_distance" => DistanceType::L2,
        "cosine_distance" => DistanceType::Cosine,
        "inner_product" => DistanceType::Dot,
        _ => return None,
    })
}

impl ScalarUDFImpl for Distance {
    fn name(&self) -> &str {
        match self.metric {
            DistanceType::Cosine => "cosine_distance",
            DistanceType::Dot => "inner_product",
            _ => "l2_distance",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(DataFusionError::Execution(format!("{} takes two lists", self.name())));
        };
        let rows = args.number_rows;
        let (left, right) = (left.to_array(rows)?, right.to_array(rows)?);
        let distances = (0..rows).map(|row| self.distance(list(&left, row)?, list(&right, row)?));
        let distances: Float32Array = distances.collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(distances)))
    }
}

impl Distance {
    fn distance(&self, left: Option<Vec<f32>>, right: Option<Vec<f32>>) -> Result<Option<f32>> {
        let Some((left, right)) = left.zip(right) else { return Ok(None) };
        if left.len() != right.len() {
            let (name, left, right) = (self.name(), left.len(), right.len());
            return Err(DataFusionError::Execution(format!("{name} of {left} and {right} elements")));
        }
        if self.metric == DistanceType::Dot {
            let products = left.iter().zip(&right).map(|(x, y)| f64::from(*x) * f64::from(*y));
            return Ok(Some(products.sum::<f64>() as f32));
        }
        Ok(Some(PreparedQuery::new(&right, self.metric).distance(&left)))
    }
}

/// The numbers of a row of lists.
fn list(lists: &ArrayRef, row: usize) -> Result<Option<Vec<f32>>> {
    if lists.is_null(row) {
        return Ok(None);
    }
    let values = match lists.data_type() {
        DataType::List(_) => lists.as_list::<i32>().value(row),
        DataType::LargeList(_) => lists.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => lists.as_fixed_size_list().value(row),
        other => return Err(DataFusionError::Execution(format!("a list of numbers is needed, got {other}"))),
    };
    let values = match values.data_type() {
        DataType::Float32 => values,
        _ => cast(&values, &DataType::Float32)?,
    };
    let has_nulls = values.null_count() > 0;
    Ok((!has_nulls).then(|| values.as_primitive::<Float32Type>().values().to_vec()))
}
