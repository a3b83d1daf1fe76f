//! The vector store: the caller's Arrow batches, kept where they are, and an id for each usable row.

/// Evaluates an expression on the directory, whatever its elements are.
macro_rules! of_elements {
    ($elements:expr, $directory:ident => $result:expr) => {
        match &$elements {
            Elements::Float16($directory) => $result,
            Elements::BFloat16($directory) => $result,
            Elements::Float32($directory) => $result,
            Elements::Float64($directory) => $result,
            Elements::Int8($directory) => $result,
            Elements::UInt8($directory) => $result,
        }
    };
}

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, ArrayRef, FixedSizeListArray, UInt64Array};
use half::f16;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::vectors::MAX_VECTORS;
use crate::vectors::admit::{self, SkippedRows};
use crate::vectors::blocks::{Batch, Directory};
use crate::vectors::element_type::{ElementType, Stored};
use crate::vectors::row_ids::RowIds;
use crate::vectors::snapshot::VectorStoreSnapshot;

/// Append-only store of vectors in Arrow `FixedSizeList` batches.
///
/// Batches stay in the caller's buffers (slices too, and batches with null rows); what is added is
/// a directory from id to address. One writer at a time, any number of readers.
pub struct ArrowFixedSizeListVectorStore {
    pub(crate) dim: usize,
    pub(crate) distance_type: DistanceType,
    pub(crate) element_type: ElementType,
    pub(crate) directory: Elements,
    writer: Mutex<SkippedRows>,
}

/// A directory for each type of elements.
pub(crate) enum Elements {
    Float16(Directory<f16>),
    BFloat16(Directory<[u8; 2]>),
    Float32(Directory<f32>),
    Float64(Directory<f64>),
    Int8(Directory<i8>),
    UInt8(Directory<u8>),
}

impl Elements {
    fn new(element_type: ElementType, dim: usize) -> Self {
        match element_type {
            ElementType::Float16 => Self::Float16(Directory::new(dim)),
            ElementType::BFloat16 => Self::BFloat16(Directory::new(dim)),
            ElementType::Float32 => Self::Float32(Directory::new(dim)),
            ElementType::Float64 => Self::Float64(Directory::new(dim)),
            ElementType::Int8 => Self::Int8(Directory::new(dim)),
            ElementType::UInt8 => Self::UInt8(Directory::new(dim)),
        }
    }

    /// Appends vectors of another directory, over the same buffers. Those of other elements are none.
    fn extend_from(&self, other: &Self, ids: &[u32]) {
        match (self, other) {
            (Self::Float16(directory), Self::Float16(other)) => directory.extend_from(other, ids),
            (Self::BFloat16(directory), Self::BFloat16(other)) => directory.extend_from(other, ids),
            (Self::Float32(directory), Self::Float32(other)) => directory.extend_from(other, ids),
            (Self::Float64(directory), Self::Float64(other)) => directory.extend_from(other, ids),
            (Self::Int8(directory), Self::Int8(other)) => directory.extend_from(other, ids),
            (Self::UInt8(directory), Self::UInt8(other)) => directory.extend_from(other, ids),
            _ => {}
        }
    }

    fn copied(&self, ids: &[u32]) -> Result<Self> {
        Ok(match self {
            Self::Float16(directory) => Self::Float16(directory.copied(ids)?),
            Self::BFloat16(directory) => Self::BFloat16(directory.copied(ids)?),
            Self::Float32(directory) => Self::Float32(directory.copied(ids)?),
            Self::Float64(directory) => Self::Float64(directory.copied(ids)?),
            Self::Int8(directory) => Self::Int8(directory.copied(ids)?),
            Self::UInt8(directory) => Self::UInt8(directory.copied(ids)?),
        })
    }
}

impl fmt::Debug for ArrowFixedSizeListVectorStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dim, distance_type, element_type, .. } = self;
        let mut debug = f.debug_struct("ArrowFixedSizeListVectorStore");
        debug.field("len", &self.committed_len()).field("dim", dim).field("distance_type", distance_type);
        debug.field("element_type", element_type).finish_non_exhaustive()
    }
}

impl<S: Deref<Target = ArrowFixedSizeListVectorStore>> fmt::Debug for VectorStoreSnapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorStoreSnapshot").field("len", &self.len).field("of", &*self.store).finish()
    }
}

impl ArrowFixedSizeListVectorStore {
    /// A store without vectors, for elements of `f32`.
    ///
    /// # Errors
    /// As [`try_with_elements`](Self::try_with_elements).
    pub fn try_new(dim: usize, distance_type: DistanceType) -> Result<Self> {
        Self::try_with_elements(ElementType::Float32, dim, distance_type)
    }

    /// A store without vectors.
    ///
    /// # Errors
    /// - [`Error::InvalidParams`] if `dim` is 0 or above `i32::MAX`, Arrow's limit,
    /// - [`Error::UnsupportedElement`] if the distance type has no meaning for such elements.
    pub fn try_with_elements(
        element_type: ElementType,
        dim: usize,
        distance_type: DistanceType,
    ) -> Result<Self> {
        if dim == 0 || i32::try_from(dim).is_err() {
            let requirement = format!("from 1 to {}", i32::MAX);
            return Err(Error::InvalidParams { parameter: "dim", value: dim as u64, requirement });
        }
        element_type.check(distance_type)?;
        let directory = Elements::new(element_type, dim);
        Ok(Self { dim, distance_type, element_type, directory, writer: Mutex::default() })
    }

    /// Appends the usable rows of a batch and returns their ids. Row `i` of the array has row id
    /// `row_id_start + i`, whether or not the rows before it are usable.
    ///
    /// A row is skipped, and counted in [`skipped`](Self::skipped), if it is null, if an element is
    /// null, NaN or infinite, or, under cosine, if all elements are zero.
    ///
    /// # Errors
    /// Nothing is appended if
    /// - the elements are of another type ([`Error::UnsupportedType`]),
    /// - the lists have another length than `dim` ([`Error::DimensionMismatch`]),
    /// - the row ids or the vector ids overflow ([`Error::RowIdOverflow`], [`Error::TooManyVectors`]).
    pub fn append_batch(&self, vectors: Arc<FixedSizeListArray>, row_id_start: u64) -> Result<Range<u32>> {
        self.append(&vectors, RowIds::StartingAt(row_id_start)).map(|placed| placed.ids)
    }

    /// Appends the usable rows of a batch under row ids of the caller's choice, one for each row.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch), and [`Error::RowIdCount`] or [`Error::NullRowId`] if
    /// there is not one row id for each row.
    pub fn append_batch_with_row_ids(
        &self,
        vectors: Arc<FixedSizeListArray>,
        row_ids: &UInt64Array,
    ) -> Result<Range<u32>> {
        self.append(&vectors, RowIds::from(row_ids)).map(|placed| placed.ids)
    }

    /// Everything that [`append`](Self::append) refuses, but for the number of vectors.
    pub(crate) fn check_batch(&self, vectors: &FixedSizeListArray, row_ids: &RowIds) -> Result<()> {
        self.check(vectors)?;
        row_ids.check(vectors.len())
    }

    pub(crate) fn append(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Placed> {
        let (values, _) = self.check_rows(vectors, &row_ids)?;
        let admitted = of_elements!(self.directory, directory => {
            admit_to(directory, vectors, values, self.distance_type)
        });
        self.commit(values, row_ids, admitted)
    }

    /// Appends all rows of a batch, which the caller knows to be usable: no value is read, so that vectors that are
    /// mapped from a file are not loaded.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`Error::InvalidBatch`] if something is null.
    pub(crate) fn append_usable(&self, vectors: &FixedSizeListArray, row_ids: RowIds) -> Result<Placed> {
        let (values, rows) = self.check_rows(vectors, &row_ids)?;
        let nulls = vectors.null_count() + values.null_count();
        if nulls > 0 {
            let problem = format!("{nulls} nulls among vectors that are usable");
            return Err(Error::InvalidBatch { kind: "flat", problem });
        }
        self.commit(values, row_ids, admit::Admitted::all(rows))
    }

    /// The child values of a batch that can be appended, and its rows.
    fn check_rows<'a>(
        &self,
        vectors: &'a FixedSizeListArray,
        row_ids: &RowIds,
    ) -> Result<(&'a ArrayRef, u32)> {
        row_ids.check(vectors.len())?;
        let values = self.check(vectors)?;
        // Positions within a batch are 32 bits wide.
        let too_many = |_| Error::TooManyVectors { len: self.committed_len(), added: vectors.len() };
        Ok((values, u32::try_from(vectors.len()).map_err(too_many)?))
    }

    /// Gives the next ids to the rows of a batch that were admitted.
    fn commit(&self, values: &ArrayRef, row_ids: RowIds, admitted: admit::Admitted) -> Result<Placed> {
        let mut skipped = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let start = of_elements!(self.directory, directory => directory.committed());
        let end = u32::try_from(admitted.rows)
            .ok()
            .and_then(|rows| start.checked_add(rows))
            .filter(|&end| end <= MAX_VECTORS)
            .ok_or(Error::TooManyVectors { len: start as usize, added: admitted.rows })?;

        skipped.add(admitted.skipped);
        if admitted.rows > 0 {
            let batch = Batch { values: Arc::clone(values), row_ids, own_bytes: 0 };
            of_elements!(self.directory, directory => directory.append(batch, &admitted.runs));
        }
        Ok(Placed { ids: start..end, runs: admitted.runs })
    }

    /// The child values, from the first row of the array on.
    fn check<'a>(&self, vectors: &'a FixedSizeListArray) -> Result<&'a ArrayRef> {
        let of = ElementType::of_vectors(vectors.data_type());
        if !of.is_ok_and(|(element_type, _)| element_type == self.element_type) {
            return Err(Error::UnsupportedType {
                expected: match self.element_type {
                    ElementType::Float16 => "FixedSizeList<Float16>",
                    ElementType::BFloat16 => "FixedSizeList<BFloat16>",
                    ElementType::Float32 => "FixedSizeList<Float32>",
                    ElementType::Float64 => "FixedSizeList<Float64>",
                    ElementType::Int8 => "FixedSizeList<Int8>",
                    ElementType::UInt8 => "FixedSizeList<UInt8>",
                },
                actual: vectors.data_type().to_string(),
            });
        }
        let actual = vectors.value_length() as usize;
        if actual != self.dim {
            return Err(Error::DimensionMismatch { expected: self.dim, actual });
        }
        Ok(vectors.values())
    }

    /// Takes back the vectors from `len` on, and has skipped so many rows again.
    ///
    /// # Safety
    /// Nobody reads a vector from `len` on, or has a snapshot or a view that is longer and is used again.
    #[allow(unsafe_code, reason = "a promise that is passed on")]
    pub(crate) unsafe fn truncate(&self, len: u32, skipped: SkippedRows) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        *writer = skipped;
        // SAFETY: the lock makes this the single writer, and the caller promises the rest.
        of_elements!(self.directory, directory => unsafe { directory.truncate(len) });
    }

    /// Bytes by which [`resident_bytes`](Self::resident_bytes) grows at most with a batch of so many rows.
    pub(crate) fn growth(&self, rows: u32) -> usize {
        of_elements!(self.directory, directory => directory.growth(rows))
    }

    /// A store without vectors, for vectors as these are.
    pub(crate) fn emptied(&self) -> Self {
        let Self { dim, distance_type, element_type, .. } = *self;
        let directory = Elements::new(element_type, dim);
        Self { dim, distance_type, element_type, directory, writer: Mutex::default() }
    }

    /// Appends vectors of a store of the same kind, ascending ids of it, over its buffers.
    pub(crate) fn extend_from(&self, other: &Self, ids: &[u32]) {
        let _one_at_a_time = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.directory.extend_from(&other.directory, ids);
    }

    /// Counts rows that were skipped elsewhere.
    pub(crate) fn add_skipped(&self, skipped: SkippedRows) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).add(skipped);
    }

    /// A store of the given ids, in their order, over one buffer of its own.
    pub(crate) fn copied(&self, ids: &[u32]) -> Result<Self> {
        let Self { dim, distance_type, element_type, .. } = *self;
        let directory = self.directory.copied(ids)?;
        Ok(Self { dim, distance_type, element_type, directory, writer: Mutex::default() })
    }

    /// Vectors held.
    pub fn committed_len(&self) -> usize {
        of_elements!(self.directory, directory => directory.committed()) as usize
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.committed_len() == 0
    }

    /// Elements per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The metric.
    pub fn distance_type(&self) -> DistanceType {
        self.distance_type
    }

    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// Rows that got no id so far, and why.
    pub fn skipped(&self) -> SkippedRows {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held beside the caller's buffers; vectors that were copied are among them.
    pub fn resident_bytes(&self) -> usize {
        size_of::<Self>() + of_elements!(self.directory, directory => directory.resident_bytes())
    }

    /// The vectors appended so far, for good: later appends do not show.
    pub fn snapshot(self: &Arc<Self>) -> VectorStoreSnapshot {
        VectorStoreSnapshot { store: Arc::clone(self), len: self.committed_len() as u32 }
    }

    /// The vectors appended so far, without a share in the store: no reference count is written to.
    pub(crate) fn view(&self) -> VectorStoreSnapshot<&Self> {
        VectorStoreSnapshot { store: self, len: self.committed_len() as u32 }
    }
}

/// Where the rows of a batch are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub ids: Range<u32>,
    /// The rows that got these ids: first position and length.
    pub runs: Vec<(u32, u32)>,
}

fn admit_to<T: Stored>(
    _: &Directory<T>,
    vectors: &FixedSizeListArray,
    values: &ArrayRef,
    distance_type: DistanceType,
) -> admit::Admitted {
    admit::admit(vectors, values.nulls(), T::values(values).unwrap_or(&[]), distance_type)
}

#[cfg(feature = "lance")]
/// The rows of an array that get an id under a metric: first position and length of each run.
pub(crate) fn usable_rows(
    vectors: &FixedSizeListArray,
    distance_type: DistanceType,
) -> Result<Vec<(u32, u32)>> {
    fn runs<T: Stored>(vectors: &FixedSizeListArray, distance_type: DistanceType) -> Vec<(u32, u32)> {
        let values = vectors.values();
        admit::admit(vectors, values.nulls(), T::values(values).unwrap_or(&[]), distance_type).runs
    }
    let (element_type, dim) = ElementType::of_vectors(vectors.data_type())?;
    if dim == 0 {
        return Ok(Vec::new());
    }
    Ok(match element_type {
        ElementType::Float16 => runs::<f16>(vectors, distance_type),
        ElementType::BFloat16 => runs::<[u8; 2]>(vectors, distance_type),
        ElementType::Float32 => runs::<f32>(vectors, distance_type),
        ElementType::Float64 => runs::<f64>(vectors, distance_type),
        ElementType::Int8 => runs::<i8>(vectors, distance_type),
        ElementType::UInt8 => runs::<u8>(vectors, distance_type),
    })
}
