//! Vectors with their other columns: one index for each column of vectors, over the same rows.
//!
//! Row ids count up and are never given out again. Each index holds its vectors under these row ids, and the [`table`]
//! the other columns; so vector ids, row ids and positions ascend together, whatever is deleted and compacted, and all
//! that is needed to go from one to another are binary searches.
//!
//! A version of a collection is a [`State`]: readers of its indexes, and the rows of the table. A writer changes them
//! all, one after the other, and then exchanges the pointer to the state, so nobody sees a half of a change.

mod compact;
mod filter;
mod fuse;
mod key;
mod layout;
mod reader;
mod save;
mod search;
#[cfg(feature = "datafusion")]
pub(crate) mod sql;
mod table;
mod write;

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use crate::distance::DistanceType;
use crate::error::Result;
use crate::graph::BuildParams;
use crate::index::{Index, MemoryLimit, Reader};
use crate::util::atomics::{Mutex, Pointer, lock};

use key::Keys;
use layout::Layout;
use table::Rows;

pub use filter::Filter;
pub use fuse::{ColumnQuery, Fusion};
pub use key::Key;
pub use reader::CollectionReader;
pub use search::{CollectionHits, CollectionSearch};
pub use write::Written;

/// Column of scores, where several searches are fused by rank.
pub const SCORE_COLUMN: &str = "_score";

/// Rows with one or more columns of vectors and any other columns, searchable while rows arrive, change and go.
///
/// It is an [`Index`] for each column of vectors and the other columns beside. Rows come as record batches, and answers
/// are record batches. Vectors and other columns stay in the buffers of the caller's batches; rows are copied only into
/// answers.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow_array::cast::AsArray;
/// # use arrow_array::types::{Float32Type, Int32Type};
/// # use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Int32Array, RecordBatch};
/// # use pennon::{BuildParams, Collection, CollectionSearch, DistanceType, Filter};
/// # fn main() -> pennon::Result<()> {
/// # let points = (0..100_i16).map(|x| Some([Some(f32::from(x)), Some(1.0)]));
/// # let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2);
/// # let vectors: ArrayRef = Arc::new(vectors);
/// # let id: ArrayRef = Arc::new(Int32Array::from_iter_values(0..100));
/// # let year: ArrayRef = Arc::new(Int32Array::from_iter_values((0..100).map(|x| 2000 + x % 10)));
/// # let batch = RecordBatch::try_from_iter([("id", id), ("year", year), ("vector", vectors)])?;
/// let collection = Collection::builder(batch.schema())
///     .vectors("vector", DistanceType::L2)
///     .key("id")
///     .build()?;
/// collection.append(&batch)?;
///
/// // With arrow-ord: gt_eq(&batch["year"], &Int32Array::new_scalar(2008))
/// let recent = Filter::new(|batch| {
///     Ok(BooleanArray::from_unary(batch["year"].as_primitive::<Int32Type>(), |year| year >= 2008))
/// });
/// let search = CollectionSearch::new(3).filter(&recent).columns(["id", "year"]);
/// let hits = collection.search(&[40.1, 1.0], &search)?;
/// assert_eq!(hits["id"].as_primitive::<Int32Type>().values(), &[39, 38, 48]);
/// assert!(hits.complete());
/// # Ok(())
/// # }
/// ```
///
/// # Consistency
/// All methods take `&self`; share it in an `Arc`. A [reader](Self::reader) sees one version: of a batch that is under
/// way none of the rows or all of them, of a row that is replaced the old one or the new one. Searches wait for nobody.
/// Writes wait for each other.
///
/// # Rows without a vector
/// A row whose vector is null or not usable (see [`Index::append`]) stays in the collection: it is found by its key, by
/// scans and through other columns of vectors, and its vector reads as null.
pub struct Collection {
    shared: Arc<Shared>,
    indexes: Box<[Index]>,
    /// Writes wait for each other. The row id of the next row.
    writer: Mutex<u64>,
    /// Compactions wait for each other.
    compacting: Mutex<()>,
    memory_limit: MemoryLimit,
}

/// What readers share with the writers.
struct Shared {
    layout: Layout,
    current: Pointer<State>,
    /// The rows of keys. Held while a state is published, so that the two belong together.
    keys: Mutex<Keys>,
}

/// One version.
struct State {
    rows: Rows,
    /// One for each column of vectors.
    readers: Box<[Reader]>,
    /// The row id of the next row that is appended.
    next_row_id: u64,
}

/// How a collection without rows is made: [`Collection::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CollectionBuilder {
    schema: SchemaRef,
    vectors: Vec<(String, DistanceType)>,
    key: Option<String>,
    params: Option<BuildParams>,
    memory_limit: Option<usize>,
}

impl CollectionBuilder {
    /// Makes a column one of vectors, with a metric. The first is the one that is searched unless another is named.
    pub fn vectors(mut self, column: impl Into<String>, distance_type: DistanceType) -> Self {
        self.vectors.push((column.into(), distance_type));
        self
    }

    /// Makes a column of integers or strings the key, by which rows are read, replaced and deleted.
    pub fn key(mut self, column: impl Into<String>) -> Self {
        self.key = Some(column.into());
        self
    }

    /// Sets the parameters of the graphs.
    pub fn params(mut self, params: BuildParams) -> Self {
        self.params = Some(params);
        self
    }

    /// Asks for no graphs: every search compares all rows that qualify and is exact.
    pub fn flat(mut self) -> Self {
        self.params = None;
        self
    }

    /// Refuses appends and upserts that would make [`Collection::resident_bytes`] exceed so many bytes; see
    /// [`Collection::set_memory_limit`].
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The collection.
    ///
    /// # Errors
    /// - [`Error::InvalidColumn`] if a column is not in the schema, if two have one name, if a name is one that answers
    ///   use (`_rowid`, `_distance`, `_score`), if the key is not of integers or strings, or if no column is one of
    ///   vectors,
    /// - [`Error::UnsupportedType`] if a column of vectors is not a `FixedSizeList` of elements that can be indexed,
    /// - as [`IndexBuilder::build`](crate::IndexBuilder::build).
    ///
    /// [`Error::InvalidColumn`]: crate::Error::InvalidColumn
    /// [`Error::UnsupportedType`]: crate::Error::UnsupportedType
    pub fn build(self) -> Result<Collection> {
        let Self { schema, vectors, key, params, memory_limit } = self;
        let named: Vec<(&str, DistanceType)> =
            vectors.iter().map(|(name, distance_type)| (name.as_str(), *distance_type)).collect();
        let layout = Layout::try_new(&schema, &named, key.as_deref())?;
        if layout.vectors.is_empty() {
            return Err(layout::invalid("", "at least one column must be of vectors"));
        }
        let indexes = layout.vectors.iter().zip(&named).map(|(column, &(_, distance_type))| {
            let builder = Index::builder(column.dim, distance_type).element_type(column.element_type);
            match &params {
                Some(params) => builder.params(params.clone()).build(),
                None => builder.flat().build(),
            }
        });
        let indexes = indexes.collect::<Result<_>>()?;
        let collection = Collection::of(layout, indexes, Rows::new([], &[]), Keys::default(), 0);
        collection.set_memory_limit(memory_limit);
        Ok(collection)
    }
}

impl Collection {
    /// A collection without rows, of batches of a schema, one column of which is of vectors.
    ///
    /// # Errors
    /// As [`CollectionBuilder::build`].
    pub fn try_new(
        schema: SchemaRef,
        vector_column: &str,
        distance_type: DistanceType,
        params: BuildParams,
    ) -> Result<Self> {
        Self::builder(schema).vectors(vector_column, distance_type).params(params).build()
    }

    /// A collection without rows, of batches of a schema: with graphs of the default parameters, unless told otherwise.
    pub fn builder(schema: impl Into<Arc<Schema>>) -> CollectionBuilder {
        let (vectors, key, params) = (Vec::new(), None, Some(BuildParams::default()));
        CollectionBuilder { schema: schema.into(), vectors, key, params, memory_limit: None }
    }

    fn of(layout: Layout, indexes: Box<[Index]>, rows: Rows, keys: Keys, next_row_id: u64) -> Self {
        let readers = indexes.iter().map(Index::reader).collect();
        let current = Pointer::new(Arc::new(State { rows, readers, next_row_id }));
        Self {
            shared: Arc::new(Shared { layout, current, keys: Mutex::new(keys) }),
            indexes,
            writer: Mutex::new(next_row_id),
            compacting: Mutex::new(()),
            memory_limit: MemoryLimit::default(),
        }
    }

    /// The current version, to read.
    pub fn reader(&self) -> CollectionReader {
        CollectionReader::new(Arc::clone(&self.shared), self.shared.current.load())
    }

    /// [`CollectionReader::search`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn search(&self, query: &[f32], search: &CollectionSearch) -> Result<CollectionHits> {
        self.reader().search(query, search)
    }

    /// [`CollectionReader::search_fused`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn search_fused(
        &self,
        queries: &[ColumnQuery],
        fusion: Fusion,
        search: &CollectionSearch,
    ) -> Result<CollectionHits> {
        self.reader().search_fused(queries, fusion, search)
    }

    /// [`CollectionReader::get`] of the current version.
    ///
    /// # Errors
    /// As there.
    pub fn get<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<RecordBatch>> {
        self.reader().get(key)
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.shared.current.peek().rows.live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held beside the buffers of the caller's batches, by the indexes and by the directory of keys. Columns that a
    /// compaction or a load has copied are not counted.
    pub fn resident_bytes(&self) -> usize {
        let indexes: usize = self.indexes.iter().map(Index::resident_bytes).sum();
        indexes + lock(&self.shared.keys).resident_bytes()
    }

    /// Refuses appends and upserts from now on that would make [`resident_bytes`](Self::resident_bytes) exceed so many
    /// bytes, or refuses none: the limit of [`Index::set_memory_limit`], for all columns of vectors and the keys
    /// together.
    pub fn set_memory_limit(&self, bytes: Option<usize>) {
        self.memory_limit.set(bytes);
    }

    /// The [limit](Self::set_memory_limit) of resident bytes, if there is one.
    pub fn memory_limit(&self) -> Option<usize> {
        self.memory_limit.get()
    }

    /// The columns, in which vectors are lists of a fixed size and may be null.
    pub fn schema(&self) -> &SchemaRef {
        &self.shared.layout.schema
    }

    /// The name of the key column.
    pub fn key(&self) -> Option<&str> {
        self.shared.layout.key_name()
    }

    /// The columns of vectors and their indexes, to look at: statistics, health, bytes. The index holds the rows that
    /// have a usable vector, under the row ids of the collection.
    pub fn indexes(&self) -> impl ExactSizeIterator<Item = (&str, &Index)> {
        self.shared.layout.vectors.iter().map(|column| column.name.as_str()).zip(&self.indexes)
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Collection");
        debug.field("len", &self.len()).field("key", &self.key());
        debug.field("layout", &self.shared.layout).finish_non_exhaustive()
    }
}
