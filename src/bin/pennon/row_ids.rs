//! The row ids of a batch: positions in the file, or an integer column.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, RecordBatch, UInt64Array};
use arrow_cast::cast;
use arrow_schema::DataType;

use crate::failure::{Context, Result, fail};
use crate::table::Table;

/// Fails unless the column exists and has an integer type.
pub fn check(table: &Table, column: &str) -> Result<()> {
    let data_type = table.field(column)?.data_type();
    if data_type.is_integer() {
        return Ok(());
    }
    fail(format!(
        "row id column '{column}' of {} is {data_type}, not an integer type",
        table.path().display()
    ))
}

/// The row ids of a batch whose first row is row `first_row` of the file.
pub fn of_batch(batch: &RecordBatch, column: Option<&str>, first_row: u64) -> Result<UInt64Array> {
    let rows = batch.num_rows() as u64;
    let Some(column) = column else {
        return Ok(UInt64Array::from_iter_values(first_row..first_row + rows));
    };
    let Some(array) = batch.column_by_name(column) else {
        return fail(format!("column '{column}' is missing from a batch"));
    };
    let name = || format!("row id column '{column}'");
    // A value that does not fit becomes null.
    let ids = cast(array, &DataType::UInt64).context(name)?;
    let ids = ids.as_primitive::<UInt64Type>().clone();
    let Some(row) = (0..ids.len()).find(|row| ids.is_null(*row)) else {
        return Ok(ids);
    };
    let problem = if array.is_null(row) { "is null" } else { "is negative" };
    fail(format!("{} {problem} at row {}", name(), first_row + row as u64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array};

    use super::*;

    fn batch(ids: Vec<Option<i32>>) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int32Array::from(ids));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap()
    }

    #[test]
    fn positions_count_on_over_batches() {
        let batch = batch(vec![Some(5), Some(7)]);
        let ids = of_batch(&batch, None, 100).unwrap();
        assert_eq!(ids.values(), &[100, 101]);
        let ids = of_batch(&batch, Some("id"), 100).unwrap();
        assert_eq!(ids.values(), &[5, 7]);
    }

    #[test]
    fn null_and_negative_ids_are_named_by_row() {
        let failure = |ids| of_batch(&batch(ids), Some("id"), 10).unwrap_err();
        assert_eq!(failure(vec![Some(1), None]).to_string(), "row id column 'id' is null at row 11");
        assert_eq!(failure(vec![Some(-1), None]).to_string(), "row id column 'id' is negative at row 10");
    }
}
