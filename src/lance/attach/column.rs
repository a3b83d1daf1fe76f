//! The column to index, and the fragments.

use ::lance::Dataset;
use roaring::RoaringBitmap;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::lance::attach::params::AttachParams;
use crate::lance::columns::INDEXED;
use crate::vectors::ElementType;

/// A column of vectors.
pub(super) struct Column {
    pub name: String,
    /// Lance's id of the field.
    pub field: i32,
    pub element_type: ElementType,
    pub dim: usize,
}

impl Column {
    /// # Errors
    /// [`Error::InvalidColumn`] unless it is a top-level column of vectors that Lance indexes with that distance type.
    pub fn find(dataset: &Dataset, name: &str, distance_type: DistanceType) -> Result<Self> {
        let invalid = |problem: String| Error::InvalidColumn { column: name.to_string(), problem };
        let field = dataset.schema().fields.iter().find(|field| field.name == name);
        let not_there = || invalid("it is not a top-level column of the dataset".to_string());
        let field = field.ok_or_else(not_there)?;
        let data_type = field.data_type();
        let other = || invalid(format!("it is {data_type}, not {INDEXED}"));
        let (element_type, dim) = ElementType::of_indexed(&data_type).ok_or_else(other)?;
        element_type.check_indexed(name, distance_type)?;
        Ok(Self { name: name.to_string(), field: field.id, element_type, dim })
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
