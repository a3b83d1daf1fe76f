//! Arrays of numpy, through the struct that `__array_struct__` gives: no version of numpy is linked.
#![allow(unsafe_code, reason = "elements are read where numpy keeps them")]

use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow_buffer::{Buffer, ScalarBuffer};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::{invalid_input, wrong_type};

/// `PyArrayInterface` of numpy's C interface.
#[repr(C)]
struct Interface {
    two: c_int,
    dimensions: c_int,
    kind: c_char,
    item_size: c_int,
    flags: c_int,
    shape: *const isize,
    strides: *const isize,
    data: *mut c_void,
    descriptor: *mut c_void,
}

const C_CONTIGUOUS: c_int = 0x1;
const ALIGNED: c_int = 0x100;
const NOT_SWAPPED: c_int = 0x200;
const WRITEABLE: c_int = 0x400;

/// Other threads of Python may run while so many bytes are copied.
const WORTH_A_RELEASE: usize = 1 << 20;

/// Keeps an object of Python from being freed; it may be dropped on any thread.
struct Owner(#[allow(dead_code, reason = "held, not read")] Py<PyAny>);

// Nothing of the object is looked at.
impl std::panic::RefUnwindSafe for Owner {}

/// A contiguous array of numpy.
pub struct Elements {
    /// The lengths of its dimensions.
    pub shape: Vec<usize>,
    /// Its elements as an array of Arrow.
    pub values: ArrayRef,
}

/// What numpy says of an array, with the capsule that keeps it.
struct Described<'py> {
    capsule: Bound<'py, PyCapsule>,
    kind: u8,
    item_size: usize,
    flags: c_int,
    shape: Vec<usize>,
    data: *mut c_void,
}

fn describe<'py>(array: &Bound<'py, PyAny>) -> PyResult<Option<Described<'py>>> {
    let Some(capsule) = array.getattr_opt("__array_struct__")? else { return Ok(None) };
    let capsule = capsule.cast_into::<PyCapsule>()?;
    let interface = capsule.pointer_checked(None)?.cast::<Interface>();
    // SAFETY: by numpy's protocol the capsule, which has no name, holds this struct.
    let interface = unsafe { interface.as_ref() };
    if interface.two != 2 {
        return Err(invalid_input("__array_struct__ is not that of numpy"));
    }
    let dimensions = usize::try_from(interface.dimensions).unwrap_or(0);
    let shape = match dimensions {
        0 => Vec::new(),
        // SAFETY: the struct has one length for each dimension.
        _ => unsafe { std::slice::from_raw_parts(interface.shape, dimensions) }.to_vec(),
    };
    let shape = shape.into_iter().map(|length| usize::try_from(length).unwrap_or(0)).collect();
    Ok(Some(Described {
        kind: interface.kind as u8,
        item_size: usize::try_from(interface.item_size).unwrap_or(0),
        flags: interface.flags,
        shape,
        data: interface.data,
        capsule,
    }))
}

/// The elements of an array, or of what numpy makes an array of. They are shared if `may_share` is set and nobody can
/// write to them through numpy; else they are copied.
pub fn elements(object: &Bound<'_, PyAny>, may_share: bool) -> PyResult<Option<Elements>> {
    let mut array = object.clone();
    let mut described = describe(&array)?;
    // What numpy makes of the arrays of Arrow has lost their nulls.
    let is_foreign = || -> PyResult<bool> {
        let has = |name: &str| Ok::<_, PyErr>(object.getattr_opt(name)?.is_some());
        Ok(has("__array__")? && !has("__arrow_c_array__")? && !has("__arrow_c_stream__")?)
    };
    if described.is_none() && is_foreign()? {
        array = object.py().import("numpy")?.call_method1("asarray", (object,))?;
        described = describe(&array)?;
    }
    let Some(mut found) = described else { return Ok(None) };
    let needed = C_CONTIGUOUS | ALIGNED | NOT_SWAPPED;
    let mut is_own = false;
    if found.flags & needed != needed {
        // A copy that nobody else has.
        let numpy = object.py().import("numpy")?;
        let native = array.getattr("dtype")?.call_method1("newbyteorder", ("=",))?;
        array = numpy.call_method1("require", (&array, native, ("C", "A")))?;
        found = describe(&array)?.ok_or_else(|| wrong_type("an array of numpy", object))?;
        is_own = array.getattr("base")?.is_none();
    }
    let share = is_own || (may_share && is_frozen(&array, &found)?);
    found.read(share).map(Some)
}

/// Whether nobody can write to an array through numpy: it and all arrays and buffers below it are read-only.
fn is_frozen(array: &Bound<'_, PyAny>, described: &Described<'_>) -> PyResult<bool> {
    if described.flags & WRITEABLE != 0 {
        return Ok(false);
    }
    let mut base = array.getattr_opt("base")?;
    while let Some(object) = base.filter(|base| !base.is_none()) {
        match describe(&object)? {
            Some(described) if described.flags & WRITEABLE != 0 => return Ok(false),
            Some(_) => base = object.getattr_opt("base")?,
            None => {
                let view = object.py().import("builtins")?.call_method1("memoryview", (&object,));
                return view.map_or(Ok(false), |view| view.getattr("readonly")?.extract());
            }
        }
    }
    Ok(true)
}

impl Described<'_> {
    fn read(self, share: bool) -> PyResult<Elements> {
        let count = self.shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(length));
        let bytes = count.and_then(|count| count.checked_mul(self.item_size));
        let (Some(count), Some(bytes)) = (count, bytes) else {
            return Err(invalid_input("the array is too large"));
        };
        let shape = self.shape.clone();
        let (kind, item_size) = (self.kind, self.item_size);
        let buffer = self.buffer(bytes, share);
        fn of<T: ArrowPrimitiveType>(buffer: Buffer, count: usize) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::new(buffer, 0, count), None))
        }
        let values = match (kind, item_size) {
            (b'f', 2) => of::<Float16Type>(buffer, count),
            (b'f', 4) => of::<Float32Type>(buffer, count),
            (b'f', 8) => of::<Float64Type>(buffer, count),
            (b'i', 1) => of::<Int8Type>(buffer, count),
            (b'i', 2) => of::<Int16Type>(buffer, count),
            (b'i', 4) => of::<Int32Type>(buffer, count),
            (b'i', 8) => of::<Int64Type>(buffer, count),
            (b'u', 1) => of::<UInt8Type>(buffer, count),
            (b'u', 2) => of::<UInt16Type>(buffer, count),
            (b'u', 4) => of::<UInt32Type>(buffer, count),
            (b'u', 8) => of::<UInt64Type>(buffer, count),
            (b'b', 1) => Arc::new(buffer.iter().map(|&byte| Some(byte != 0)).collect::<BooleanArray>()),
            (kind, size) => {
                let kind = char::from(kind);
                return Err(invalid_input(format!("numpy elements of kind {kind}{size} are not supported")));
            }
        };
        Ok(Elements { shape, values })
    }

    fn buffer(&self, bytes: usize, share: bool) -> Buffer {
        let Some(data) = NonNull::new(self.data.cast::<u8>()).filter(|_| bytes > 0) else {
            return Buffer::from(Vec::<u64>::new());
        };
        if share {
            let owner = Arc::new(Owner(self.capsule.clone().into_any().unbind()));
            // SAFETY: the array is contiguous and as long, the capsule keeps it alive, and it is either read-only
            // to all of numpy or a copy that only the capsule knows.
            return unsafe { Buffer::from_custom_allocation(data, bytes, owner) };
        }
        // SAFETY: the array is contiguous and as long. Another thread that writes to it meanwhile makes the same race
        // as under any copy that numpy makes.
        let elements = unsafe { std::slice::from_raw_parts(data.as_ptr(), bytes) };
        if bytes < WORTH_A_RELEASE {
            return Buffer::from(elements);
        }
        self.capsule.py().detach(|| Buffer::from(elements))
    }
}
