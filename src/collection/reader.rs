//! One version of a collection, to read.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::filter::filter;

use crate::collection::key::{Key, key_of};
use crate::collection::layout::Column;
use crate::collection::table::Placed;
use crate::collection::{CollectionHits, CollectionSearch, Filter, Shared, State};
use crate::error::Result;
use crate::index::Reader;
use crate::search::{DISTANCE_COLUMN, RowMask, SearchParams};
use crate::util::atomics::lock;

/// One version of a [`Collection`](crate::Collection), to read: whatever is written or compacted meanwhile, every call
/// sees the same rows. Cheap to make, to clone and to send to another thread.
#[derive(Clone)]
pub struct CollectionReader {
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<State>,
}

impl CollectionReader {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<State>) -> Self {
        Self { shared, state }
    }

    /// The nearest `k` rows that pass the filters of `search`, nearest first, ties by row id: their columns, and
    /// `_distance`. Exactly `min(k, n)` of the `n` rows that qualify and have a vector.
    ///
    /// # Errors
    /// - [`Error::InvalidColumn`](crate::Error::InvalidColumn) if a column is unknown,
    /// - what a filter returns,
    /// - as [`Reader::search`].
    pub fn search(&self, query: &[f32], search: &CollectionSearch) -> Result<CollectionHits> {
        let number = self.shared.layout.vector(search.vector_column.as_deref())?;
        let chosen = self.shared.layout.chosen(search.columns.as_deref())?;
        let reader = &self.state.readers[number];
        let params = self.masked(reader, search)?;
        let hits = match search.exact {
            true => reader.search_exact(query, &params),
            false => reader.search(query, &params),
        }?;
        let row_ids: Vec<u64> = hits.row_ids().collect();
        let distances: Float32Array = hits.iter().map(|hit| hit.distance).collect::<Vec<_>>().into();
        let distance = Field::new(DISTANCE_COLUMN, DataType::Float32, false);
        let batch = self.answer(&row_ids, &chosen, vec![(distance, Arc::new(distances))])?;
        Ok(CollectionHits::new(batch, row_ids, vec![*hits.stats()]))
    }

    /// Parameters of a search with the masks of its filters.
    pub(super) fn masked(&self, reader: &Reader, search: &CollectionSearch) -> Result<SearchParams> {
        let mut params = search.params.clone();
        for filter in &search.filters {
            let mask = filter.mask_of(&self.state.rows, reader)?;
            params.mask = Some(match params.mask.take() {
                Some(other) => other.and(mask),
                None => mask,
            });
        }
        Ok(params)
    }

    /// Some columns of some rows, and columns of the answer's own after them.
    pub(super) fn answer(
        &self,
        row_ids: &[u64],
        chosen: &[(FieldRef, Column)],
        own: Vec<(Field, ArrayRef)>,
    ) -> Result<RecordBatch> {
        let others: Vec<usize> = chosen
            .iter()
            .filter_map(|(_, column)| match column {
                Column::Other(at) => Some(*at),
                _ => None,
            })
            .collect();
        let mut others = self.state.rows.gather(row_ids, &others, &self.shared.layout.others)?.into_iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(chosen.len() + own.len());
        for (_, column) in chosen {
            match *column {
                Column::Other(_) => arrays.extend(others.next()),
                Column::Vector(number) => {
                    arrays.push(Arc::new(self.state.readers[number].vectors_of(row_ids)?));
                }
                Column::RowId => arrays.push(Arc::new(UInt64Array::from(row_ids.to_vec()))),
            }
        }
        let mut fields: Vec<FieldRef> = chosen.iter().map(|(field, _)| Arc::clone(field)).collect();
        for (field, array) in own {
            fields.push(Arc::new(field));
            arrays.push(array);
        }
        batch_of(fields, arrays, row_ids.len())
    }

    /// The columns of some rows, in the order of `row_ids`, all if none are named. Rows that are not alive are left
    /// out.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if a column is unknown.
    pub fn take<'c>(
        &self,
        row_ids: &[u64],
        columns: Option<impl IntoIterator<Item = &'c str>>,
    ) -> Result<RecordBatch> {
        let names: Option<Vec<String>> = columns.map(|names| names.into_iter().map(str::to_string).collect());
        let chosen = self.shared.layout.chosen(names.as_deref())?;
        let live: Vec<u64> = row_ids.iter().copied().filter(|&id| self.state.rows.is_live(id)).collect();
        self.answer(&live, &chosen, Vec::new())
    }

    /// All columns of the live row of a key, as a batch of one row.
    ///
    /// Takes constant time, unless the row was replaced or deleted after this version, when the keys of all its rows are
    /// compared. Waits for the moment in which another change is made visible.
    ///
    /// # Errors
    /// [`Error::NoKey`](crate::Error::NoKey) if the collection has no key, and
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if the key is not of the type of the key column.
    pub fn get<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<RecordBatch>> {
        let chosen = self.shared.layout.chosen(None)?;
        let row_id = self.row_id(key)?;
        row_id.map(|row_id| self.answer(&[row_id], &chosen, Vec::new())).transpose()
    }

    /// The row id of the live row of a key. Takes as long as [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn row_id<'k>(&self, key: impl Into<Key<'k>>) -> Result<Option<u64>> {
        let key = key.into();
        let keys = lock(&self.shared.keys);
        let current = self.shared.current.load();
        let found = self.shared.find(&keys, &current, &key)?;
        drop(keys);
        if Arc::ptr_eq(&current, &self.state) {
            return Ok(found);
        }
        // A row that is alive now was so in all versions that have it.
        let rows = &self.state.rows;
        if let Some(row_id) = found.filter(|&row_id| rows.is_live(row_id)) {
            return Ok(Some(row_id));
        }
        let Some(column) = self.shared.layout.key else { return Ok(None) };
        for placed in rows.placed_parts() {
            let keys = placed.part.columns.column(column);
            let live = rows.live_rows(placed);
            if let Some(row) = live.set_indices().find(|&row| key_of(keys, row).as_ref() == Some(&key)) {
                return Ok(Some(placed.part.row_id(row)));
            }
        }
        Ok(None)
    }

    /// The live rows that pass the filters and some columns of them, all if none are named: one batch for each that was
    /// appended, in the order of their row ids. Batches without such a row are left out.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if a column is unknown. An item is an error if a filter
    /// returns one.
    pub fn scan(
        &self,
        columns: Option<&[String]>,
        filters: &[Filter],
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send + use<>> {
        let chosen = self.shared.layout.chosen(columns)?;
        let (reader, filters) = (self.clone(), filters.to_vec());
        let batches = (0..self.state.rows.parts).filter_map(move |number| {
            let placed = reader.state.rows.placed(number)?;
            let batch = reader.scan_part(placed, &chosen, &filters);
            batch.map(|batch| Some(batch).filter(|batch| batch.num_rows() > 0)).transpose()
        });
        Ok(batches)
    }

    fn scan_part(
        &self,
        placed: &Placed,
        chosen: &[(FieldRef, Column)],
        filters: &[Filter],
    ) -> Result<RecordBatch> {
        let part = &placed.part;
        let mut wanted: BooleanBuffer = self.state.rows.live_rows(placed);
        for filter in filters {
            wanted = &wanted & &filter.bits_of_part(part)?;
        }
        let rows = wanted.count_set_bits();
        let is_all = rows == part.rows();
        let needs_ids = chosen.iter().any(|(_, column)| !matches!(column, Column::Other(_)));
        let row_ids: Vec<u64> = match needs_ids {
            true => wanted.set_indices().map(|row| part.row_id(row)).collect(),
            false => Vec::new(),
        };
        let wanted = BooleanArray::from(wanted);
        let array = |column: Column| -> Result<ArrayRef> {
            Ok(match column {
                Column::Other(at) if is_all => Arc::clone(part.columns.column(at)),
                Column::Other(at) => filter(part.columns.column(at), &wanted)?,
                Column::Vector(number) => Arc::new(self.state.readers[number].vectors_of(&row_ids)?),
                Column::RowId => Arc::new(UInt64Array::from(row_ids.clone())),
            })
        };
        let arrays = chosen.iter().map(|(_, column)| array(*column)).collect::<Result<_>>()?;
        batch_of(chosen.iter().map(|(field, _)| Arc::clone(field)).collect(), arrays, rows)
    }

    /// The rows that pass a filter, as a mask for searches of the index of a column of vectors, in this version.
    ///
    /// # Errors
    /// What the filter returns, and [`Error::InvalidColumn`](crate::Error::InvalidColumn) if the column is not one of
    /// vectors.
    pub fn mask(&self, vector_column: &str, filter: &Filter) -> Result<RowMask> {
        let number = self.shared.layout.vector(Some(vector_column))?;
        filter.mask_of(&self.state.rows, &self.state.readers[number])
    }

    /// The index of a column of vectors in this version.
    ///
    /// # Errors
    /// [`Error::InvalidColumn`](crate::Error::InvalidColumn) if the column is not one of vectors.
    pub fn index(&self, vector_column: &str) -> Result<&Reader> {
        Ok(&self.state.readers[self.shared.layout.vector(Some(vector_column))?])
    }

    /// Rows that are alive.
    pub fn len(&self) -> usize {
        self.state.rows.live()
    }

    /// Whether no row is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns, in which vectors are lists of a fixed size and may be null.
    pub fn schema(&self) -> &SchemaRef {
        &self.shared.layout.schema
    }
}

fn batch_of(fields: Vec<FieldRef>, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

impl fmt::Debug for CollectionReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionReader").field("len", &self.len()).finish_non_exhaustive()
    }
}
