//! The column to index, and the fragments.

use ::lance::Dataset;
use arrow_schema::DataType;
use roaring::RoaringBitmap;

use super::params::AttachParams;
use crate::error::{Error, Result};

/// A column of vectors.
pub(super) struct Column {
    pub name: String,
    /// Lance's id of the field.
    pub field: i32,
    pub dim: usize,
}

impl Column {
    /// # Errors
    /// [`Error::InvalidColumn`] unless it is a top-level `FixedSizeList<Float32>`.
    pub fn find(dataset: &Dataset, name: &str) -> Result<Self> {
        let invalid = |problem: String| Err(Error::InvalidColumn { column: name.to_string(), problem });
        let Some(field) = dataset.schema().fields.iter().find(|field| field.name == name) else {
            return invalid("it is not a top-level column of the dataset".to_string());
        };
        let data_type = field.data_type();
        match &data_type {
            DataType::FixedSizeList(item, dim) if *item.data_type() == DataType::Float32 && *dim > 0 => {
                Ok(Self { name: name.to_string(), field: field.id, dim: dim.unsigned_abs() as usize })
            }
            _ => invalid(format!("it is {data_type}, not FixedSizeList<Float32>")),
        }
    }

    /// The error of a column, for whatever reason.
    pub fn invalid(&self, problem: String) -> Error {
        Error::InvalidColumn { column: self.name.clone(), problem }
    }
}

/// The fragments that were asked for.
///
/// # Errors
/// [`Error::InvalidParams`] if one is not in the dataset.
pub(super) fn requested_fragments(dataset: &Dataset, params: &AttachParams) -> Result<RoaringBitmap> {
    let all = dataset.fragment_bitmap().as_ref();
    let Some(fragments) = &params.fragments else {
        return Ok(all.clone());
    };
    match fragments.iter().find(|&&fragment| !all.contains(fragment)) {
        None => Ok(fragments.iter().copied().collect()),
        Some(&unknown) => Err(Error::InvalidParams {
            parameter: "fragments",
            value: u64::from(unknown),
            requirement: format!("ids of the {} fragments of the dataset", all.len()),
        }),
    }
}
