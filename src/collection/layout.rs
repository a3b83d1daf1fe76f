//! Which columns a collection has, and what each is for.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::collection::SCORE_COLUMN;
use crate::collection::key::is_key_type;
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::search::{DISTANCE_COLUMN, ROW_ID_COLUMN};
use crate::vectors::{ElementType, fixed_size_lists};

/// Names that answers give to columns of their own.
const RESERVED: [&str; 3] = [ROW_ID_COLUMN, DISTANCE_COLUMN, SCORE_COLUMN];

/// One column of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Number of the index that holds the vectors.
    Vector(usize),
    /// Position in the batches of the other columns.
    Other(usize),
    /// The row ids, which every collection has besides its schema.
    RowId,
}

/// A column of vectors.
#[derive(Clone, Debug)]
pub(super) struct VectorColumn {
    pub name: String,
    pub element_type: ElementType,
    pub dim: usize,
}

/// The columns of a collection.
#[derive(Debug)]
pub(super) struct Layout {
    /// All columns. Vectors are lists of a fixed size and may be null.
    pub schema: SchemaRef,
    /// The columns without the vectors.
    pub others: SchemaRef,
    /// What each column of the schema is.
    columns: Vec<Column>,
    pub vectors: Vec<VectorColumn>,
    /// Position of the key among the other columns.
    pub key: Option<usize>,
}

pub(super) fn invalid(column: &str, problem: impl Into<String>) -> Error {
    Error::InvalidColumn { column: column.to_string(), problem: problem.into() }
}

impl Layout {
    /// The layout of a schema, of which some columns are vectors and one may be the key.
    pub fn try_new(schema: &Schema, vectors: &[(&str, DistanceType)], key: Option<&str>) -> Result<Self> {
        let mut names = BTreeSet::new();
        for field in schema.fields() {
            if RESERVED.contains(&field.name().as_str()) {
                return Err(invalid(field.name(), "the name is reserved for answers"));
            }
            if !names.insert(field.name()) {
                return Err(invalid(field.name(), "there are two of that name"));
            }
        }
        let mut of_vectors = Vec::with_capacity(vectors.len());
        for &(name, _) in vectors {
            let field = schema.field_with_name(name).map_err(|_| missing(name, schema.fields()))?;
            let (element_type, dim) = ElementType::of_vectors(field.data_type())?;
            if of_vectors.iter().any(|column: &VectorColumn| column.name == name) {
                return Err(invalid(name, "it is named twice as a column of vectors"));
            }
            of_vectors.push(VectorColumn { name: name.to_string(), element_type, dim });
        }
        let (mut all, mut others, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for field in schema.fields() {
            match of_vectors.iter().position(|column| &column.name == field.name()) {
                Some(number) => {
                    let VectorColumn { element_type, dim, .. } = of_vectors[number];
                    let lists = Field::new(field.name(), element_type.vectors(dim), true);
                    all.push(Arc::new(lists.with_metadata(field.metadata().clone())));
                    columns.push(Column::Vector(number));
                }
                None => {
                    columns.push(Column::Other(others.len()));
                    all.push(Arc::clone(field));
                    others.push(Arc::clone(field));
                }
            }
        }
        let key = key.map(|name| key_column(name, &others)).transpose()?;
        let of =
            |fields: Vec<FieldRef>| Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { schema: of(all), others: of(others), columns, vectors: of_vectors, key })
    }

    /// The name of the key column.
    pub fn key_name(&self) -> Option<&str> {
        self.key.map(|key| self.others.field(key).name().as_str())
    }

    /// The number of a column of vectors; the first if none is named.
    pub fn vector(&self, name: Option<&str>) -> Result<usize> {
        let Some(name) = name else { return Ok(0) };
        let named = self.vectors.iter().position(|column| column.name == name);
        named.ok_or_else(|| {
            let names: Vec<&str> = self.vectors.iter().map(|column| column.name.as_str()).collect();
            invalid(name, format!("it is not one of the columns of vectors: {}", names.join(", ")))
        })
    }

    /// The fields and kinds of some columns, in their order; all if none are named.
    pub fn chosen(&self, names: Option<&[String]>) -> Result<Vec<(FieldRef, Column)>> {
        let all = || self.schema.fields().iter().cloned().zip(self.columns.iter().copied());
        let Some(names) = names else { return Ok(all().collect()) };
        let mut chosen: Vec<(FieldRef, Column)> = Vec::with_capacity(names.len());
        for name in names {
            if chosen.iter().any(|(field, _)| field.name() == name) {
                return Err(invalid(name, "it is asked for twice"));
            }
            if name == ROW_ID_COLUMN {
                chosen.push((Arc::new(Field::new(ROW_ID_COLUMN, DataType::UInt64, false)), Column::RowId));
                continue;
            }
            let column = all().find(|(field, _)| field.name() == name);
            chosen.push(column.ok_or_else(|| missing(name, self.schema.fields()))?);
        }
        Ok(chosen)
    }

    /// The vectors of each index and the other columns of a batch. Its columns may be in any order.
    pub fn split(&self, batch: &RecordBatch) -> Result<(Vec<FixedSizeListArray>, RecordBatch)> {
        if let Some(field) = batch
            .schema_ref()
            .fields()
            .iter()
            .find(|field| self.schema.field_with_name(field.name()).is_err())
        {
            return Err(invalid(field.name(), "the collection has no such column"));
        }
        if batch.num_columns() > self.columns.len() {
            return Err(Error::InvalidBatch {
                kind: "collection",
                problem: format!("{} columns for {}", batch.num_columns(), self.columns.len()),
            });
        }
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name, batch.schema_ref().fields()));
        let mut others: Vec<ArrayRef> = Vec::with_capacity(self.others.fields().len());
        for field in self.others.fields() {
            let array = column(field.name())?;
            if array.data_type() != field.data_type() {
                let problem = format!("it must be {}, got {}", field.data_type(), array.data_type());
                return Err(invalid(field.name(), problem));
            }
            others.push(Arc::clone(array));
        }
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for VectorColumn { name, element_type, dim } in &self.vectors {
            let lists = fixed_size_lists(column(name)?, *dim)?.into_owned();
            let (actual_type, actual) = ElementType::of_vectors(lists.data_type())?;
            if actual_type != *element_type {
                return Err(invalid(name, format!("its elements must be {element_type}, got {actual_type}")));
            }
            if actual != *dim {
                return Err(Error::DimensionMismatch { expected: *dim, actual });
            }
            vectors.push(lists);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok((vectors, RecordBatch::try_new_with_options(Arc::clone(&self.others), others, &rows)?))
    }
}

fn missing<'a>(name: &str, fields: impl IntoIterator<Item = &'a FieldRef>) -> Error {
    let names: Vec<&str> = fields.into_iter().map(|field| field.name().as_str()).collect();
    invalid(name, format!("there is none of that name; there are {}", names.join(", ")))
}

fn key_column(name: &str, others: &[FieldRef]) -> Result<usize> {
    let at = others.iter().position(|field| field.name() == name).ok_or_else(|| missing(name, others))?;
    let data_type = others[at].data_type();
    if is_key_type(data_type) {
        return Ok(at);
    }
    Err(invalid(name, format!("a key is a column of integers or strings, got {data_type}")))
}
