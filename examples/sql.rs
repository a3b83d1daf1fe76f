//! SQL over a collection: a search under a condition, joined and explained.
//!
//! ```sh
//! cargo run --release --features datafusion --example sql
//! ```

use std::error::Error;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, Int64Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use pennon::sql::{VectorOrderRule, register_collection};
use pennon::{BuildParams, Collection, DistanceType};

/// Asks for the points near a point.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let points = (0..1_000_i16).map(|id| Some([Some(f32::from(id % 40)), Some(f32::from(id / 40))]));
    let points: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let batch = RecordBatch::try_from_iter([("id", ids), ("point", points)])?;
    let collection = Collection::try_new(batch.schema(), "point", DistanceType::L2, BuildParams::default())?;
    collection.append(&batch)?;

    let rule = Arc::new(VectorOrderRule::new().ef(64));
    let state = SessionStateBuilder::new().with_default_features().with_physical_optimizer_rule(rule);
    let context = SessionContext::new_with_state(state.build());
    register_collection(&context, "points", Arc::new(collection))?;
    for sql in [
        "SELECT id, _distance FROM vector_search('points', [20.2, 11.1], 3) WHERE id % 2 = 1",
        "SELECT id FROM points ORDER BY l2_distance(point, [20.2, 11.1]) LIMIT 3",
        "EXPLAIN SELECT id, _distance FROM vector_search('points', [20.2, 11.1], 3, 'ef=32') WHERE id > 500",
    ] {
        let batches = context.sql(sql).await?.collect().await?;
        println!("{sql}\n{}", pretty_format_batches(&batches)?);
    }
    Ok(())
}
