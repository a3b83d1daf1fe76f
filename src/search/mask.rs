//! Which rows a search may return, in the caller's words.

use std::fmt;
use std::ops::{BitAnd, BitOr, Bound, Not, RangeBounds};
use std::sync::Arc;

use arrow_array::{Array, BooleanArray};
use arrow_buffer::BooleanBuffer;
use roaring::{RoaringBitmap, RoaringTreemap};

use crate::error::{Error, Result};

/// The rows that a search may return: it walks through the others. Cheap to clone.
///
/// | made by | rows |
/// |---|---|
/// | `RoaringTreemap`, `RoaringBitmap` | a set of row ids |
/// | [`row_id_range`](Self::row_id_range) | row ids from one to another |
/// | [`predicate`](Self::predicate) | row ids that pass a test |
/// | [`Reader::mask`](crate::Reader::mask) | one bit for each vector id of a reader |
/// | `BooleanArray`, `BooleanBuffer` | one bit for each node of an [`HnswGraph`](crate::HnswGraph) that is used without an index |
///
/// Masks combine with [`and`](Self::and), [`or`](Self::or) and [`not`](Self::not), or `&`, `|` and `!`. Every form
/// of one set gives the same answers. What differs is the cost of finding the members when few are left: bits, members
/// and ranges are enumerated, also as a part of an `and`; in any other form each row is tested.
///
/// Vector ids belong to one generation of an index, and so does a mask of them: a search of another generation, or of
/// another number of vectors, is an error.
#[derive(Clone)]
pub struct RowMask(pub(crate) RowSet);

/// What a mask is made of.
#[derive(Clone)]
pub(crate) enum RowSet {
    /// One bit for each vector id of a generation, or of a source without an index.
    Ids {
        bits: BooleanBuffer,
        generation: Option<u64>,
    },
    /// A set of row ids.
    RowIds(Arc<RoaringTreemap>),
    /// Row ids from `first` to `last`; none if `first` is greater.
    Range {
        first: u64,
        last: u64,
    },
    /// A test of the row id.
    Predicate(Arc<dyn Fn(u64) -> bool + Send + Sync>),
    Not(Arc<Self>),
    And(Arc<[Self]>),
    Or(Arc<[Self]>),
}

impl RowMask {
    /// The rows whose row id is in a range: `RowMask::row_id_range(100..200)`.
    pub fn row_id_range(range: impl RangeBounds<u64>) -> Self {
        let first = match range.start_bound() {
            Bound::Included(&first) => Some(first),
            Bound::Excluded(&before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let last = match range.end_bound() {
            Bound::Included(&last) => Some(last),
            Bound::Excluded(&end) => end.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        let (first, last) = first.zip(last).unwrap_or((1, 0));
        Self(RowSet::Range { first, last })
    }

    /// The rows whose row id passes a test, which may be called for any row, in any order, on the searching threads.
    pub fn predicate(test: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        Self(RowSet::Predicate(Arc::new(test)))
    }

    /// The mask for so many vector ids of a generation. Bits without a generation are taken to be of this one.
    pub(crate) fn bound(self, vectors: usize, generation: u64) -> Result<Self> {
        let set = match self.0 {
            RowSet::Ids { bits, generation: None } => RowSet::Ids { bits, generation: Some(generation) },
            set => set,
        };
        set.check(vectors, Some(generation))?;
        Ok(Self(set))
    }

    /// The rows of both masks.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        Self(match (self.0, other.into().0) {
            (RowSet::Ids { bits: a, generation }, RowSet::Ids { bits: b, generation: other })
                if generation == other && a.len() == b.len() =>
            {
                RowSet::Ids { bits: &a & &b, generation }
            }
            (RowSet::RowIds(a), RowSet::RowIds(b)) => RowSet::RowIds(Arc::new(&*a & &*b)),
            (RowSet::Range { first: a, last: b }, RowSet::Range { first, last }) => {
                RowSet::Range { first: a.max(first), last: b.min(last) }
            }
            (a, b) => RowSet::And(members(a, b, |set| match set {
                RowSet::And(sets) => Some(sets),
                _ => None,
            })),
        })
    }

    /// The rows of either mask.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        Self(match (self.0, other.into().0) {
            (RowSet::Ids { bits: a, generation }, RowSet::Ids { bits: b, generation: other })
                if generation == other && a.len() == b.len() =>
            {
                RowSet::Ids { bits: &a | &b, generation }
            }
            (RowSet::RowIds(a), RowSet::RowIds(b)) => RowSet::RowIds(Arc::new(&*a | &*b)),
            (a, b) => RowSet::Or(members(a, b, |set| match set {
                RowSet::Or(sets) => Some(sets),
                _ => None,
            })),
        })
    }

    /// The rows that are not in the mask.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "the trait is implemented, and calls this")]
    pub fn not(self) -> Self {
        Self(match self.0 {
            RowSet::Ids { bits, generation } => RowSet::Ids { bits: !&bits, generation },
            RowSet::Not(set) => Arc::unwrap_or_clone(set),
            set => RowSet::Not(Arc::new(set)),
        })
    }
}

/// The sets of `a` and `b`, and where one is of the same operation, those it is made of.
fn members(a: RowSet, b: RowSet, of: impl Fn(&RowSet) -> Option<&Arc<[RowSet]>>) -> Arc<[RowSet]> {
    let mut sets = Vec::new();
    for set in [a, b] {
        match of(&set) {
            Some(of) => sets.extend(of.iter().cloned()),
            None => sets.push(set),
        }
    }
    sets.into()
}

impl RowSet {
    /// Whether a row is in the set.
    pub fn contains(&self, id: u32, row_id: &impl Fn() -> u64) -> bool {
        match self {
            Self::Ids { bits, .. } => (id as usize) < bits.len() && bits.value(id as usize),
            Self::RowIds(row_ids) => row_ids.contains(row_id()),
            Self::Range { first, last } => (first..=last).contains(&&row_id()),
            Self::Predicate(test) => test(row_id()),
            Self::Not(set) => !set.contains(id, row_id),
            Self::And(sets) => sets.iter().all(|set| set.contains(id, row_id)),
            Self::Or(sets) => sets.iter().any(|set| set.contains(id, row_id)),
        }
    }

    /// Checks that bits by vector id are of the vectors that are searched.
    pub fn check(&self, vectors: usize, searched: Option<u64>) -> Result<()> {
        match self {
            &Self::Ids { generation: mask, .. } if mask != searched => {
                Err(Error::StaleMask { mask, searched })
            }
            Self::Ids { bits, .. } if bits.len() != vectors => {
                Err(Error::MaskLength { expected: vectors, actual: bits.len() })
            }
            Self::Not(set) => set.check(vectors, searched),
            Self::And(sets) | Self::Or(sets) => sets.iter().try_for_each(|set| set.check(vectors, searched)),
            _ => Ok(()),
        }
    }

    /// The part of the set that all its rows are in, that can be enumerated, and that is best to be: bits or members.
    pub fn enumerable(&self) -> Option<&Self> {
        let is_bits = |set: &&Self| matches!(set, Self::Ids { .. });
        let is_set = |set: &&Self| matches!(set, Self::RowIds(_));
        match self {
            Self::And(sets) => sets.iter().find(is_bits).or_else(|| sets.iter().find(is_set)),
            set => Some(set).filter(|set| is_bits(set) || is_set(set)),
        }
    }

    /// The row ids that all its rows have: from the first to the last.
    pub fn row_ids(&self) -> (u64, u64) {
        match self {
            &Self::Range { first, last } => (first, last),
            Self::And(sets) => sets.iter().fold((0, u64::MAX), |all, set| {
                let of = set.row_ids();
                (all.0.max(of.0), all.1.min(of.1))
            }),
            _ => (0, u64::MAX),
        }
    }
}

/// The bits of an array. Null counts as false.
pub(crate) fn bits_of(array: &BooleanArray) -> BooleanBuffer {
    match array.nulls() {
        Some(valid) => array.values() & valid.inner(),
        None => array.values().clone(),
    }
}

impl BitAnd for RowMask {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.and(other)
    }
}

impl BitOr for RowMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

impl Not for RowMask {
    type Output = Self;

    fn not(self) -> Self {
        Self::not(self)
    }
}

impl From<&Self> for RowMask {
    fn from(mask: &Self) -> Self {
        mask.clone()
    }
}

impl From<BooleanBuffer> for RowMask {
    fn from(bits: BooleanBuffer) -> Self {
        Self(RowSet::Ids { bits, generation: None })
    }
}

/// Null counts as false.
impl From<&BooleanArray> for RowMask {
    fn from(array: &BooleanArray) -> Self {
        Self::from(bits_of(array))
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
        Self::from(Arc::new(row_ids))
    }
}

impl From<Arc<RoaringTreemap>> for RowMask {
    fn from(row_ids: Arc<RoaringTreemap>) -> Self {
        Self(RowSet::RowIds(row_ids))
    }
}

impl From<RoaringBitmap> for RowMask {
    fn from(row_ids: RoaringBitmap) -> Self {
        Self::from(RoaringTreemap::from_bitmaps([(0, row_ids)]))
    }
}

impl fmt::Debug for RowMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids { bits, .. } => write!(f, "Ids({} of {})", bits.count_set_bits(), bits.len()),
            Self::RowIds(row_ids) => write!(f, "RowIds({})", row_ids.len()),
            Self::Range { first, last } => write!(f, "Range({first}..={last})"),
            Self::Predicate(_) => write!(f, "Predicate"),
            Self::Not(set) => write!(f, "Not({set:?})"),
            Self::And(sets) => write!(f, "And({sets:?})"),
            Self::Or(sets) => write!(f, "Or({sets:?})"),
        }
    }
}
