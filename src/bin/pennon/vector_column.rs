//! A vector column of a file: its dimension, and its batches as `FixedSizeList<Float32>`.
//!
//! Most Parquet writers keep vectors as `List<Float32>`. Such a column is a vector column if all
//! its non-null rows have one length, which is the length of the first of them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, GenericListArray, OffsetSizeTrait, RecordBatch,
};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType, Field};

use crate::failure::{Context, Result, fail};
use crate::table::Table;

/// A column whose rows are vectors of one dimension.
#[derive(Clone, Debug)]
pub struct VectorColumn {
    name: String,
    dim: usize,
    /// The row that sets the dimension, if no type does.
    dim_row: u64,
}

impl VectorColumn {
    /// Finds the dimension of a column; fails if its type is not one of vectors.
    pub fn open(table: &Table, name: &str) -> Result<Self> {
        let field = table.field(name)?;
        let (dim, dim_row) = match field.data_type() {
            DataType::FixedSizeList(item, dim) if is_f32(item) => (usize::try_from(*dim).unwrap_or(0), 0),
            DataType::List(item) | DataType::LargeList(item) if is_f32(item) => first_length(table, name)?,
            other => {
                return fail(format!(
                    "column '{name}' of {} is {other}; a vector column is FixedSizeList, List or \
                     LargeList of Float32",
                    table.path().display()
                ));
            }
        };
        if dim == 0 {
            let path = table.path().display();
            return fail(format!("column '{name}' of {path} has dimension 0"));
        }
        Ok(Self { name: name.to_owned(), dim, dim_row })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The vectors of a batch whose first row is row `first_row` of the file.
    pub fn vectors(&self, batch: &RecordBatch, first_row: u64) -> Result<FixedSizeListArray> {
        let Some(column) = batch.column_by_name(&self.name) else {
            return fail(format!("column '{}' is missing from a batch", self.name));
        };
        match column.data_type() {
            DataType::List(_) => self.of_lists(column.as_list::<i32>(), first_row),
            DataType::LargeList(_) => self.of_lists(column.as_list::<i64>(), first_row),
            _ => Ok(column.as_fixed_size_list().clone()),
        }
    }

    fn of_lists<O: OffsetSizeTrait>(
        &self,
        lists: &GenericListArray<O>,
        first_row: u64,
    ) -> Result<FixedSizeListArray> {
        if let Some((row, length)) = lengths(lists).find(|(_, length)| *length != self.dim) {
            return fail(format!(
                "column '{}' is ragged: row {} has {} values, row {} has {length}",
                self.name,
                self.dim_row,
                self.dim,
                first_row + row as u64
            ));
        }
        fixed_size(lists, self.dim).context(|| format!("column '{}'", self.name))
    }
}

fn is_f32(item: &Field) -> bool {
    *item.data_type() == DataType::Float32
}

/// The length of the first list that is not null, and its row.
fn first_length(table: &Table, name: &str) -> Result<(usize, u64)> {
    let mut first_row = 0;
    for batch in table.batches(&[name])? {
        let batch = batch?;
        let found = match batch.column_by_name(name) {
            Some(column) if matches!(column.data_type(), DataType::List(_)) => {
                lengths(column.as_list::<i32>()).next()
            }
            Some(column) => lengths(column.as_list::<i64>()).next(),
            None => None,
        };
        if let Some((row, length)) = found {
            return Ok((length, first_row + row as u64));
        }
        first_row += batch.num_rows() as u64;
    }
    fail(match first_row {
        0 => format!("{} has no rows", table.path().display()),
        rows => format!(
            "column '{name}' of {} has no usable vector: all {rows} rows are null",
            table.path().display()
        ),
    })
}

/// The rows that are not null, with the lengths of their lists.
fn lengths<O: OffsetSizeTrait>(lists: &GenericListArray<O>) -> impl Iterator<Item = (usize, usize)> {
    let lengths = lists.value_offsets().windows(2);
    let lengths = lengths.map(|ends| ends[1].as_usize() - ends[0].as_usize());
    lengths.enumerate().filter(move |(row, _)| lists.is_valid(*row))
}

/// Lists of which every non-null one has `dim` values, as fixed size lists.
///
/// The values are shared if they lie in a row without gaps, which they do unless null rows
/// are shorter or longer than `dim`; otherwise they are copied.
fn fixed_size<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    dim: usize,
) -> std::result::Result<FixedSizeListArray, ArrowError> {
    let offsets = lists.value_offsets();
    let shared = offsets.windows(2).all(|ends| ends[1].as_usize() - ends[0].as_usize() == dim);
    let values: ArrayRef = if shared {
        let start = offsets.first().map_or(0, |start| start.as_usize());
        lists.values().slice(start, lists.len() * dim)
    } else {
        Arc::new(gathered(lists, dim))
    };
    let size = i32::try_from(dim).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    FixedSizeListArray::try_new(item, size, values, lists.nulls().cloned())
}

/// The values of all rows in a row; a null row becomes `dim` zeros.
fn gathered<O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> Float32Array {
    let values = lists.values().as_primitive::<Float32Type>();
    let offsets = lists.value_offsets();
    let mut gathered = Vec::with_capacity(lists.len() * dim);
    let mut nulls = NullBufferBuilder::new(lists.len() * dim);
    for (row, start) in offsets.iter().take(lists.len()).enumerate() {
        if lists.is_null(row) {
            gathered.resize(gathered.len() + dim, 0.0);
            nulls.append_n_non_nulls(dim);
            continue;
        }
        let row = values.slice(start.as_usize(), dim);
        gathered.extend_from_slice(row.values());
        match row.nulls() {
            Some(row_nulls) => nulls.append_buffer(row_nulls),
            None => nulls.append_n_non_nulls(dim),
        }
    }
    Float32Array::new(gathered.into(), nulls.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow_array::{LargeListArray, ListArray};

    use super::*;

    type Row = Option<Vec<Option<f32>>>;

    fn rows() -> Vec<Row> {
        vec![
            Some(vec![Some(1.0), Some(2.0)]),
            None,
            Some(vec![Some(3.0), None]),
            Some(vec![Some(5.0), Some(6.0)]),
        ]
    }

    fn column() -> VectorColumn {
        VectorColumn { name: "vector".to_owned(), dim: 2, dim_row: 0 }
    }

    fn read_back(vectors: &FixedSizeListArray) -> Vec<Row> {
        let rows = vectors.iter();
        rows.map(|row| row.map(|row| row.as_primitive::<Float32Type>().iter().collect())).collect()
    }

    #[test]
    fn every_slice_of_lists_gives_its_own_rows() {
        let small = ListArray::from_iter_primitive::<Float32Type, _, _>(rows());
        let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>(rows());
        for start in 0..=4 {
            for length in 0..=4 - start {
                let expected = &rows()[start..start + length];
                let vectors = column().of_lists(&small.slice(start, length), 0).unwrap();
                assert_eq!(read_back(&vectors), expected);
                let vectors = column().of_lists(&large.slice(start, length), 0).unwrap();
                assert_eq!(read_back(&vectors), expected);
            }
        }
    }

    #[test]
    fn values_without_gaps_are_shared() {
        let rows = (0..4).map(|row| Some(vec![Some(row as f32), Some(0.5)]));
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(rows).slice(1, 2);
        let vectors = column().of_lists(&lists, 0).unwrap();
        let shared = vectors.values().as_primitive::<Float32Type>().values();
        let original = lists.values().as_primitive::<Float32Type>().values();
        assert_eq!(shared.as_ptr(), original[2..].as_ptr());
        assert_eq!(vectors.len(), 2);
    }

    #[test]
    fn ragged_lists_are_named_by_row_and_length() {
        let rows: Vec<Row> = vec![Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(3.0)])];
        let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(rows);
        let failure = column().of_lists(&lists, 100).unwrap_err();
        assert_eq!(failure.to_string(), "column 'vector' is ragged: row 0 has 2 values, row 102 has 1");
    }
}
