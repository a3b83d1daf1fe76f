//! DataFusion's physical expressions as conditions of masks: the same answers as those of a condition in Rust.

use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use lance::deps::datafusion::common::DFSchema;
use lance::deps::datafusion::prelude::{SessionContext, col, lit};
use pennon::{BuildParams, DistanceType, Index, Metadata, RowMask, SearchParams};

const ROWS: usize = 600;

fn columns() -> RecordBatch {
    let years: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|n| 1990 + n % 30)));
    let names = (0..ROWS).map(|n| (n % 7 != 0).then_some(if n % 2 == 0 { "even" } else { "odd" }));
    let names: ArrayRef = Arc::new(names.collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([("year", years, false), ("name", names, true)]).unwrap()
}

#[test]
fn a_physical_expression_of_datafusion_is_a_mask() {
    let points = (0..ROWS).map(|n| Some([Some(n as f32), Some(1.0)]));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2);
    let index = Index::hnsw(2, DistanceType::L2, BuildParams::default()).unwrap();
    let metadata = Metadata::new(&index.reader());
    for (start, rows) in [(0, 250), (250, 350)] {
        let vectors = vectors.slice(start, rows);
        let appended = index.append(&vectors, start as u64).unwrap();
        metadata.append(&appended, &columns().slice(start, rows)).unwrap();
    }

    // An integer of another width, and nulls: DataFusion's coercion and three-valued logic.
    let condition = col("year").gt_eq(lit(2010_i32)).and(col("name").eq(lit("odd")));
    let schema = DFSchema::try_from(columns().schema()).unwrap();
    let expression = SessionContext::new().create_physical_expr(condition, &schema).unwrap();
    let reader = index.reader();
    let mask = metadata.mask(&reader, |batch| {
        let values = expression.evaluate(batch)?.into_array(batch.num_rows())?;
        values
            .as_any()
            .downcast_ref::<BooleanArray>()
            .cloned()
            .ok_or_else(|| ArrowError::CastError(format!("{} is not Boolean", values.data_type())))
    });

    let expected: Vec<u64> =
        (0..ROWS).filter(|n| 1990 + n % 30 >= 2010 && n % 7 != 0 && n % 2 == 1).map(|n| n as u64).collect();
    assert!(!expected.is_empty());
    let search = |mask: RowMask| {
        let params = SearchParams::new(ROWS).mask(mask);
        let mut row_ids: Vec<u64> =
            reader.search(&[0.0, 1.0], &params).unwrap().into_vec().iter().map(|hit| hit.row_id).collect();
        row_ids.sort_unstable();
        row_ids
    };
    assert_eq!(search(mask.unwrap()), expected);
}
