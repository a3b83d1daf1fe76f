//! A prefix of the store: what a graph reads its vectors from.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray};

use crate::distance::element::Element;
use crate::distance::{DistanceType, PreparedQuery};
use crate::error::Result;
use crate::util::prefetch::{GROUP, fetch_ahead, prefetch};
use crate::vectors::ElementType;
use crate::vectors::VectorSource;
use crate::vectors::blocks::Directory;
use crate::vectors::element_type::Stored;
use crate::vectors::store::{ArrowFixedSizeListVectorStore, Elements};

/// A prefix of the store that does not change while the store grows. Cheap to make and to clone.
#[derive(Clone)]
pub struct VectorStoreSnapshot<S = Arc<ArrowFixedSizeListVectorStore>> {
    pub(crate) store: S,
    pub(crate) len: u32,
}

impl<S: Clone> VectorStoreSnapshot<S> {
    /// The prefix of the first `len` ids, or this one if it is shorter.
    pub fn prefix(&self, len: usize) -> Self {
        let len = u32::try_from(len).unwrap_or(u32::MAX).min(self.len);
        Self { store: self.store.clone(), len }
    }
}

impl<S: Deref<Target = ArrowFixedSizeListVectorStore>> VectorStoreSnapshot<S> {
    /// The elements of the vectors.
    pub fn element_type(&self) -> ElementType {
        self.store.element_type
    }

    /// Some vectors; null where there is no id.
    pub(crate) fn gather(&self, ids: &[Option<u32>]) -> Result<FixedSizeListArray> {
        fn copy<T: Stored>(directory: &Directory<T>, dim: usize, ids: &[Option<u32>]) -> Result<ArrayRef> {
            let mut values = Vec::with_capacity(ids.len() * dim);
            for id in ids {
                let end = values.len() + dim;
                values.extend_from_slice(id.map_or(&[], |id| directory.vector(id)));
                values.resize(end, T::default());
            }
            T::array(values)
        }
        let dim = self.store.dim;
        let values = of_elements!(self.store.directory, directory => copy(directory, dim, ids))?;
        let nulls = ids.iter().any(Option::is_none).then(|| ids.iter().map(Option::is_some).collect());
        let item = self.store.element_type.item();
        let len = ids.len();
        Ok(FixedSizeListArray::try_new_with_length(item, dim as i32, values, nulls, len)?)
    }

    /// The elements of some vectors, one after the other.
    pub(crate) fn values(&self, ids: Range<u32>) -> Result<ArrayRef> {
        fn copy<T: Stored>(directory: &Directory<T>, dim: usize, ids: Range<u32>) -> Result<ArrayRef> {
            let mut values = Vec::with_capacity(ids.len() * dim);
            ids.for_each(|id| values.extend_from_slice(directory.vector(id)));
            T::array(values)
        }
        of_elements!(self.store.directory, directory => copy(directory, self.store.dim, ids))
    }
}

/// Cache lines of a row that are fetched; in a longer row the hardware's own prefetcher follows from there.
const LINES: usize = 32;

impl<S> VectorSource for VectorStoreSnapshot<S>
where
    S: Deref<Target = ArrowFixedSizeListVectorStore> + Send + Sync,
{
    fn len(&self) -> usize {
        self.len as usize
    }

    fn dim(&self) -> usize {
        self.store.dim
    }

    fn distance_type(&self) -> DistanceType {
        self.store.distance_type
    }

    /// `u64::MAX` for an id that is not there.
    fn row_id(&self, id: u32) -> u64 {
        of_elements!(self.store.directory, directory => directory.row_id(id)).unwrap_or(u64::MAX)
    }

    fn row_id_run(&self, id: u32) -> (u64, u32) {
        let run = of_elements!(self.store.directory, directory => directory.row_id_run(id));
        let (row_id, rows) = run.unwrap_or((u64::MAX, 1));
        (row_id, rows.min(self.len.saturating_sub(id)).max(1))
    }

    fn visible_len(&self, max_row_id: u64) -> Option<usize> {
        if !of_elements!(self.store.directory, directory => directory.ascends()) {
            return None;
        }
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row_id(middle) <= max_row_id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low as usize)
    }

    /// Empty for an id that is not there, and if the elements are not `f32`.
    #[inline(always)]
    fn vector(&self, id: u32) -> &[f32] {
        match &self.store.directory {
            Elements::Float32(directory) => directory.vector(id),
            _ => &[],
        }
    }

    #[inline]
    fn widened(&self, id: u32) -> Cow<'_, [f32]> {
        match &self.store.directory {
            Elements::Float32(directory) => Cow::Borrowed(directory.vector(id)),
            other => of_elements!(*other, directory => {
                Cow::Owned(directory.vector(id).iter().map(|x| x.widen()).collect())
            }),
        }
    }

    /// Bytes are as small as their codes would be.
    fn has_plain_metric(&self) -> bool {
        !matches!(self.store.directory, Elements::Int8(_) | Elements::UInt8(_))
    }

    fn readable_len(&self) -> usize {
        self.store.committed_len()
    }

    #[inline]
    fn prepare<'q>(&self, query: &'q [f32]) -> PreparedQuery<'q> {
        fn of<'q, T: Stored>(_: &Directory<T>, query: &'q [f32], metric: DistanceType) -> PreparedQuery<'q> {
            T::prepare(query, metric)
        }
        of_elements!(self.store.directory, directory => of(directory, query, self.store.distance_type))
    }

    fn distance_to(&self, query: &[f32], id: u32) -> f32 {
        let query = self.prepare(query);
        let mut distance = [0.0];
        of_elements!(self.store.directory, directory => {
            Element::score(&query, &[directory.vector(id)], &mut distance);
        });
        distance[0]
    }

    #[inline]
    fn distances_to(&self, query: &PreparedQuery<'_>, ids: &[u32], out: &mut [f32]) {
        of_elements!(self.store.directory, directory => gather(directory, query, ids, out));
    }
}

/// Scores rows in the order given, each group of them while the next is fetched.
#[inline(always)]
fn gather<T: Stored>(directory: &Directory<T>, query: &PreparedQuery<'_>, ids: &[u32], out: &mut [f32]) {
    let fetch = |id| prefetch(directory.vector(id), LINES);
    fetch_ahead(ids, fetch, |start, ids| {
        let mut rows: [&[T]; GROUP] = [&[]; GROUP];
        for (row, &id) in rows.iter_mut().zip(ids) {
            *row = directory.vector(id);
        }
        let out = out.get_mut(start..).unwrap_or_default();
        let len = ids.len().min(out.len());
        T::score(query, &rows[..ids.len()], &mut out[..len]);
    });
}
