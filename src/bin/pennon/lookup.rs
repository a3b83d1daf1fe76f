//! Finds rows of the file that an index was built from, by value and by row id.

use std::collections::{HashMap, HashSet};

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use serde_json::Value;

use crate::failure::{Context, Result, fail};
use crate::row_ids;
use crate::table::Table;

/// One value of a row, for people and for machines.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub text: String,
    pub value: Value,
}

/// The rows of a file with their row ids.
#[derive(Debug)]
pub struct Lookup<'a> {
    table: &'a Table,
    row_id: Option<&'a str>,
}

impl<'a> Lookup<'a> {
    /// Fails unless the row id column exists and holds integers.
    pub fn check(table: &'a Table, row_id: Option<&'a str>) -> Result<Self> {
        if let Some(column) = row_id {
            row_ids::check(table, column)?;
        }
        Ok(Self { table, row_id })
    }

    /// The row id of the first row whose column prints as `value`.
    pub fn find(&self, column: &str, value: &str) -> Result<u64> {
        let mut first_row = 0;
        for batch in self.table.batches(&self.with_row_id(&[column]))? {
            let batch = batch?;
            let array = array_of(&batch, column)?;
            let options = FormatOptions::default();
            let formatter = formatter(array, column, &options)?;
            let matches = |row: &usize| array.is_valid(*row) && formatter.value(*row).to_string() == value;
            if let Some(row) = (0..batch.num_rows()).find(matches) {
                let row_ids = row_ids::of_batch(&batch, self.row_id, first_row)?;
                return Ok(row_ids.value(row));
            }
            first_row += batch.num_rows() as u64;
        }
        let path = self.table.path().display();
        fail(format!("no row of {path} has {column}={value}"))
    }

    /// The values of some columns of some rows, by row id.
    pub fn fetch(&self, columns: &[String], wanted: &[u64]) -> Result<HashMap<u64, Vec<Cell>>> {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut missing: HashSet<u64> = wanted.iter().copied().collect();
        let mut found = HashMap::new();
        let mut first_row = 0;
        for batch in self.table.batches(&self.with_row_id(&columns))? {
            if missing.is_empty() {
                break;
            }
            let batch = batch?;
            let row_ids = row_ids::of_batch(&batch, self.row_id, first_row)?;
            for (row, row_id) in row_ids.values().iter().enumerate() {
                if missing.remove(row_id) {
                    found.insert(*row_id, cells(&batch, &columns, row)?);
                }
            }
            first_row += batch.num_rows() as u64;
        }
        match missing.iter().min() {
            None => Ok(found),
            Some(row_id) => fail(format!(
                "{} has no row with row id {row_id}: is it the file the index was built from?",
                self.table.path().display()
            )),
        }
    }

    fn with_row_id<'b>(&'b self, columns: &[&'b str]) -> Vec<&'b str> {
        columns.iter().copied().chain(self.row_id).collect()
    }
}

fn cells(batch: &RecordBatch, columns: &[&str], row: usize) -> Result<Vec<Cell>> {
    let cell = |column: &&str| -> Result<Cell> {
        let array = array_of(batch, column)?;
        if array.is_null(row) {
            return Ok(Cell { text: String::new(), value: Value::Null });
        }
        let options = FormatOptions::default();
        let text = formatter(array, column, &options)?.value(row).to_string();
        let value = json_value(array.data_type(), &text);
        Ok(Cell { text, value })
    };
    columns.iter().map(cell).collect()
}

/// A number or a boolean as such, everything else as its text.
fn json_value(data_type: &DataType, text: &str) -> Value {
    let typed = data_type.is_numeric() || *data_type == DataType::Boolean;
    let parsed = typed.then(|| serde_json::from_str(text).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn array_of<'a>(batch: &'a RecordBatch, column: &str) -> Result<&'a dyn Array> {
    match batch.column_by_name(column) {
        Some(array) => Ok(array.as_ref()),
        None => fail(format!("column '{column}' is missing from a batch")),
    }
}

fn formatter<'a>(
    array: &'a dyn Array,
    column: &str,
    options: &FormatOptions<'a>,
) -> Result<ArrayFormatter<'a>> {
    ArrayFormatter::try_new(array, options).context(|| format!("cannot print column '{column}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_numbers_in_json() {
        let number = json_value(&DataType::Int64, "-7");
        assert_eq!(number, Value::from(-7));
        assert_eq!(json_value(&DataType::Boolean, "true"), Value::from(true));
        assert_eq!(json_value(&DataType::Utf8, "7"), Value::from("7"));
        assert_eq!(json_value(&DataType::Float32, "NaN"), Value::from("NaN"));
    }
}
