//! Keys: what the caller calls a row, and the directory from key to row.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_schema::DataType;
use hashbrown::HashTable;

/// The value of a key column: an integer or a string.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<'a> {
    /// An integer of any width.
    Integer(i128),
    /// A string.
    Text(Cow<'a, str>),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(key) => key.fmt(f),
            Self::Text(key) => write!(f, "{key:?}"),
        }
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Key<'_> {
            fn from(key: $integer) -> Self {
                Self::Integer(i128::from(key))
            }
        }
    )*};
}

integers!(i8 i16 i32 i64 u8 u16 u32 u64);

impl<'a> From<&'a str> for Key<'a> {
    fn from(key: &'a str) -> Self {
        Self::Text(Cow::Borrowed(key))
    }
}

impl<'a> From<&'a String> for Key<'a> {
    fn from(key: &'a String) -> Self {
        Self::Text(Cow::Borrowed(key))
    }
}

impl From<String> for Key<'_> {
    fn from(key: String) -> Self {
        Self::Text(Cow::Owned(key))
    }
}

impl Key<'_> {
    /// Whether a column of this type can have such a key.
    pub(super) fn fits(&self, data_type: &DataType) -> bool {
        matches!(self, Self::Integer(_)) == data_type.is_integer()
    }
}

/// Whether a column of this type can be a key.
pub(super) fn is_key_type(data_type: &DataType) -> bool {
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    is_text || data_type.is_integer()
}

/// The key in a row of a column, unless it is null.
pub(super) fn key_of(column: &dyn Array, row: usize) -> Option<Key<'_>> {
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        _ => return None,
    })
}

/// A live row: the hash of its key, and its row id.
struct Entry {
    hash: u64,
    row_id: u64,
}

/// The live row of each key. Keys themselves stay in their batches.
#[derive(Default)]
pub(super) struct Keys {
    entries: HashTable<Entry>,
    hasher: RandomState,
}

impl Keys {
    pub fn hash(&self, key: &Key<'_>) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The row id of a key. `is_key` says whether a row has it.
    pub fn find(&self, hash: u64, is_key: impl Fn(u64) -> bool) -> Option<u64> {
        let entry = self.entries.find(hash, |entry| entry.hash == hash && is_key(entry.row_id));
        entry.map(|entry| entry.row_id)
    }

    /// Enters a row. Returns the row whose place it takes.
    pub fn enter(&mut self, hash: u64, row_id: u64, is_key: impl Fn(u64) -> bool) -> Option<u64> {
        match self.entries.find_mut(hash, |entry| entry.hash == hash && is_key(entry.row_id)) {
            Some(entry) => Some(std::mem::replace(&mut entry.row_id, row_id)),
            None => {
                self.entries.insert_unique(hash, Entry { hash, row_id }, |entry| entry.hash);
                None
            }
        }
    }

    /// Forgets a row.
    pub fn forget(&mut self, hash: u64, row_id: u64) {
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.row_id == row_id) {
            entry.remove();
        }
    }

    /// Bytes by which [`resident_bytes`](Self::resident_bytes) grows at most with so many keys more.
    pub fn growth(&self, keys: usize) -> usize {
        // A power of two of buckets, of which an eighth stays empty, each with a control byte. They are doubled when more
        // than half of them are in use, or are not because keys were deleted.
        let buckets = (self.entries.len() + keys) * 4 * 8 / 7 + 8;
        (buckets * (size_of::<Entry>() + 1) + 64).saturating_sub(self.resident_bytes())
    }

    pub fn resident_bytes(&self) -> usize {
        self.entries.allocation_size()
    }
}
