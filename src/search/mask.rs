//! Which rows a search may return, in the caller's words.

use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, BooleanArray};
use arrow_buffer::BooleanBuffer;
use roaring::{RoaringBitmap, RoaringTreemap};

/// The rows that a search may return: the others are walked through. Cheap to clone.
///
/// Any kind gives the same answers for the same set; what differs is the cost of finding the members when few of
/// them are left: the bits of [`Ids`](Self::Ids) and the members of [`RowIds`](Self::RowIds) are enumerated, a
/// [`Predicate`](Self::Predicate) has to be asked for every row.
#[derive(Clone)]
#[non_exhaustive]
pub enum RowMask {
    /// One bit for each vector id of the version that is searched.
    Ids(BooleanBuffer),
    /// A set of row ids.
    RowIds(Arc<RoaringTreemap>),
    /// A test of the row id. It may be called for any row, in any order, on the searching threads.
    Predicate(Arc<dyn Fn(u64) -> bool + Send + Sync>),
}

impl RowMask {
    /// The rows whose id passes a test.
    pub fn predicate(test: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        Self::Predicate(Arc::new(test))
    }
}

/// The bits of an array. Null counts as false.
pub(crate) fn bits_of(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        Some(valid) => array.values() & valid.inner(),
        None => array.values().clone(),
    }
}

impl From<BooleanBuffer> for RowMask {
    fn from(bits: BooleanBuffer) -> Self {
        Self::Ids(bits)
    }
}

/// Null counts as false.
impl From<&BooleanArray> for RowMask {
    fn from(array: &BooleanArray) -> Self {
        Self::Ids(bits_of(array))
    }
}

/// Null counts as false.
impl From<BooleanArray> for RowMask {
    fn from(array: BooleanArray) -> Self {
        Self::from(&array)
    }
}

impl From<RoaringTreemap> for RowMask {
    fn from(row_ids: RoaringTreemap) -> Self {
        Self::RowIds(Arc::new(row_ids))
    }
}

impl From<Arc<RoaringTreemap>> for RowMask {
    fn from(row_ids: Arc<RoaringTreemap>) -> Self {
        Self::RowIds(row_ids)
    }
}

impl From<RoaringBitmap> for RowMask {
    fn from(row_ids: RoaringBitmap) -> Self {
        Self::from(RoaringTreemap::from_bitmaps([(0, row_ids)]))
    }
}

impl fmt::Debug for RowMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(bits) => write!(f, "Ids({} of {})", bits.count_set_bits(), bits.len()),
            Self::RowIds(row_ids) => write!(f, "RowIds({})", row_ids.len()),
            Self::Predicate(_) => write!(f, "Predicate"),
        }
    }
}
