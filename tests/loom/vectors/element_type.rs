//! The elements of the vectors of a model.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, Float32Array};

use crate::error::Result;

/// An element as Arrow stores it.
pub(crate) trait Stored: Copy {
    fn values(array: &dyn Array) -> Option<&[Self]>;

    fn array(values: Vec<Self>) -> Result<ArrayRef>;
}

impl Stored for f32 {
    fn values(array: &dyn Array) -> Option<&[f32]> {
        array.as_primitive_opt::<Float32Type>().map(|array| &array.values()[..])
    }

    fn array(values: Vec<f32>) -> Result<ArrayRef> {
        Ok(Arc::new(Float32Array::from(values)))
    }
}
