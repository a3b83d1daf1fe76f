//! The elements of vectors, in Arrow's terms.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, PrimitiveArray};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, FieldRef};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::distance::element::Element;
use crate::error::{Error, Result};

const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";
/// The extension type under which Lance stores bfloat16, as `FixedSizeBinary(2)`.
const BFLOAT16: &str = "lance.bfloat16";

/// What a vector is made of. Distances are computed in `f32` whatever it is, and queries are `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE half precision.
    Float16,
    /// The upper half of an `f32`: `FixedSizeBinary(2)` with the extension name `lance.bfloat16`.
    BFloat16,
    /// Single precision.
    #[default]
    Float32,
    /// Double precision.
    Float64,
    /// Signed bytes.
    Int8,
    /// Unsigned bytes; under [`DistanceType::Hamming`] eight bits each.
    UInt8,
}

impl ElementType {
    const ALL: [Self; 6] =
        [Self::Float16, Self::BFloat16, Self::Float32, Self::Float64, Self::Int8, Self::UInt8];

    /// The elements and the dimension of a column of vectors.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] if it is not a `FixedSizeList` of one of these.
    pub fn of_vectors(column: &DataType) -> Result<(Self, usize)> {
        let unsupported = || Error::UnsupportedType {
            expected: "FixedSizeList of Float16, BFloat16, Float32, Float64, Int8 or UInt8",
            actual: column.to_string(),
        };
        let DataType::FixedSizeList(item, dim) = column else { return Err(unsupported()) };
        let element_type = Self::of_item(item).ok_or_else(unsupported)?;
        Ok((element_type, usize::try_from(*dim).unwrap_or(0)))
    }

    pub(crate) fn of_item(item: &Field) -> Option<Self> {
        Some(match item.data_type() {
            DataType::Float16 => Self::Float16,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Int8 => Self::Int8,
            DataType::UInt8 => Self::UInt8,
            DataType::FixedSizeBinary(2)
                if item.metadata().get(EXTENSION_NAME).is_some_and(|name| name == BFLOAT16) =>
            {
                Self::BFloat16
            }
            _ => return None,
        })
    }

    /// The item field of a list of such elements.
    pub(crate) fn item(self) -> FieldRef {
        let item = |data_type| Field::new_list_field(data_type, true);
        Arc::new(match self {
            Self::Float16 => item(DataType::Float16),
            Self::Float32 => item(DataType::Float32),
            Self::Float64 => item(DataType::Float64),
            Self::Int8 => item(DataType::Int8),
            Self::UInt8 => item(DataType::UInt8),
            Self::BFloat16 => item(DataType::FixedSizeBinary(2)).with_metadata(HashMap::from([
                (EXTENSION_NAME.to_string(), BFLOAT16.to_string()),
                (EXTENSION_METADATA.to_string(), String::new()),
            ])),
        })
    }

    /// The list type of vectors of such elements.
    pub(crate) fn vectors(self, dim: usize) -> DataType {
        DataType::FixedSizeList(self.item(), dim as i32)
    }

    pub(crate) fn check(self, distance_type: DistanceType) -> Result<()> {
        if distance_type == DistanceType::Hamming && self != Self::UInt8 {
            return Err(Error::UnsupportedElement { distance_type, requirement: "UInt8", actual: self });
        }
        Ok(())
    }
}

impl FromStr for ElementType {
    type Err = Error;

    /// The name that [`Display`](fmt::Display) prints, in upper or lower case.
    fn from_str(name: &str) -> Result<Self> {
        let named = |element_type: &Self| element_type.to_string().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(named).ok_or_else(|| Error::UnsupportedType {
            expected: "of Float16, BFloat16, Float32, Float64, Int8 or UInt8",
            actual: name.to_string(),
        })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An element as Arrow stores it.
pub(crate) trait Stored: Element + Default {
    /// The values of an array of such elements.
    fn values(array: &dyn Array) -> Option<&[Self]>;

    /// An array of such elements.
    fn array(values: Vec<Self>) -> Result<ArrayRef>;
}

macro_rules! stored {
    ($($native:ty => $arrow:ty;)*) => {$(
        impl Stored for $native {
            fn values(array: &dyn Array) -> Option<&[Self]> {
                array.as_primitive_opt::<$arrow>().map(|array| &array.values()[..])
            }

            fn array(values: Vec<Self>) -> Result<ArrayRef> {
                Ok(Arc::new(PrimitiveArray::<$arrow>::new(values.into(), None)))
            }
        }
    )*};
}

stored! {
    f16 => Float16Type;
    f32 => Float32Type;
    f64 => Float64Type;
    i8 => Int8Type;
    u8 => UInt8Type;
}

/// bfloat16, little endian.
impl Stored for [u8; 2] {
    fn values(array: &dyn Array) -> Option<&[Self]> {
        Some(array.as_any().downcast_ref::<FixedSizeBinaryArray>()?.value_data().as_chunks().0)
    }

    fn array(values: Vec<Self>) -> Result<ArrayRef> {
        let bytes = Buffer::from_vec(values.into_flattened());
        Ok(Arc::new(FixedSizeBinaryArray::try_new(2, bytes, None)?))
    }
}

/// The values of an array, as `f32`.
pub(crate) fn widened(array: &dyn Array, element_type: ElementType) -> Option<Cow<'_, [f32]>> {
    fn each<T: Stored>(array: &dyn Array) -> Option<Cow<'_, [f32]>> {
        Some(Cow::Owned(T::values(array)?.iter().map(|x| x.widen()).collect()))
    }
    match element_type {
        ElementType::Float32 => f32::values(array).map(Cow::Borrowed),
        ElementType::Float16 => each::<f16>(array),
        ElementType::BFloat16 => each::<[u8; 2]>(array),
        ElementType::Float64 => each::<f64>(array),
        ElementType::Int8 => each::<i8>(array),
        ElementType::UInt8 => each::<u8>(array),
    }
}
