//! Which rows a search may return.

use arrow_buffer::BooleanBufferBuilder;
use pennon::{Reader, RowMask as Mask};
use pyo3::prelude::*;
use roaring::RoaringTreemap;

use crate::errors::{OrRaise, invalid_input};
use crate::input;

/// Rows that a search may return, made once and used by any number of searches.
///
/// `RowMask(rows)` takes
///
/// - row ids: integers in anything that `append` takes as row ids,
/// - `range(first, stop)`,
/// - booleans: element `i` admits row id `i`.
///
/// Masks combine with `&`, `|` and `~`.
///
/// >>> from pennon import RowMask
/// >>> RowMask([3, 5]) | RowMask(range(10, 20))
/// RowMask(Or([RowIds(2), Range(10..=19)]))
#[pyclass(frozen, module = "pennon", name = "RowMask")]
pub struct RowMask {
    pub mask: Mask,
}

#[pymethods]
impl RowMask {
    #[new]
    #[pyo3(signature = (rows, /))]
    fn new(rows: &Bound<'_, PyAny>) -> PyResult<Self> {
        mask_of(rows).map(|mask| Self { mask })
    }

    fn __and__(&self, other: &Self) -> Self {
        Self { mask: self.mask.clone().and(&other.mask) }
    }

    fn __or__(&self, other: &Self) -> Self {
        Self { mask: self.mask.clone().or(&other.mask) }
    }

    fn __invert__(&self) -> Self {
        Self { mask: self.mask.clone().not() }
    }

    fn __repr__(&self) -> String {
        format!("RowMask({:?})", self.mask)
    }
}

/// The mask of what a caller gives as one.
pub fn mask_of(rows: &Bound<'_, PyAny>) -> PyResult<Mask> {
    if let Ok(mask) = rows.cast::<RowMask>() {
        return Ok(mask.get().mask.clone());
    }
    if let Some(range) = input::range(rows)? {
        return Ok(Mask::row_id_range(range));
    }
    if let Some(admitted) = input::booleans(rows)? {
        let row_ids = (0_u64..).zip(admitted).filter(|row| row.1).map(|row| row.0);
        return Ok(Mask::from(row_ids.collect::<RoaringTreemap>()));
    }
    let row_ids = input::row_ids(rows)?;
    Ok(Mask::from(row_ids.values().iter().copied().collect::<RoaringTreemap>()))
}

/// The rows of a reader for which a function of all its row ids says true. It is of the vector ids of this reader.
pub fn mask_where(reader: &Reader, test: &Bound<'_, PyAny>) -> PyResult<Mask> {
    let py = test.py();
    let row_ids = py.detach(|| reader.live_row_ids());
    let bytes = pyo3::types::PyBytes::new(py, row_ids.values().inner().as_slice());
    let array = py.import("numpy")?.call_method1("frombuffer", (bytes, "uint64"))?;
    let admitted = test.call1((array,))?;
    let Some(admitted) = input::booleans(&admitted)? else {
        return Err(invalid_input("where must return booleans"));
    };
    if admitted.len() != row_ids.len() {
        let (expected, actual) = (row_ids.len(), admitted.len());
        return Err(invalid_input(format!("where must return {expected} booleans here, got {actual}")));
    }
    let live = reader.live_ids();
    let mut bits = BooleanBufferBuilder::new(live.len());
    bits.append_n(live.len(), false);
    live.set_indices().zip(admitted).for_each(|(id, admitted)| bits.set_bit(id, admitted));
    reader.mask(bits.finish()).or_raise()
}
