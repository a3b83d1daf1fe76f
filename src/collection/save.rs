//! A collection in a directory, and a collection from there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};

use crate::collection::key::{Keys, key_of};
use crate::collection::layout::Layout;
use crate::collection::table::{Part, Rows};
use crate::collection::{Collection, CollectionReader};
use crate::control::Control;
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::index::{Index, Reader};
use crate::persist::{Columns, SAVED_ROW_ID_COLUMN, Set, load_set, save_set};
use crate::search::ROW_ID_COLUMN;
use crate::vectors::VectorSource;

/// Property of the manifest that describes the columns.
const LAYOUT: &str = "pennon.collection";
/// Property of an index that was saved alone: what its column of vectors is called, if it is not called `vector`.
const VECTOR_COLUMN: &str = "column";
/// Batches are put together up to so many rows.
const BATCH_ROWS: usize = 64 << 10;

/// The columns, as the manifest has them.
#[derive(Serialize, Deserialize)]
struct SavedLayout {
    /// All columns, in their order.
    columns: Vec<String>,
    /// Those of vectors, in the order of the indexes.
    vectors: Vec<String>,
    key: Option<String>,
    next_row_id: u64,
}

impl SavedLayout {
    /// The columns of an index that was saved alone.
    fn of_index(others: &Schema, properties: &BTreeMap<String, String>) -> Self {
        let vector = properties.get(VECTOR_COLUMN).map_or("vector", String::as_str).to_string();
        let others = others.fields().iter().map(|field| field.name()).filter(|name| *name != ROW_ID_COLUMN);
        Self {
            columns: others.cloned().chain([vector.clone()]).collect(),
            vectors: vec![vector],
            key: Some(SAVED_ROW_ID_COLUMN.to_string()),
            next_row_id: 0,
        }
    }
}

impl CollectionReader {
    /// Saves the version into a directory, which is made if it is not there: each index as [`Reader::save`] does it, and
    /// the other columns of the live rows. What was saved there before, also an index, is replaced at one instant. Searches
    /// and writes go on meanwhile.
    ///
    /// # Errors
    /// As [`Reader::save`].
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_controlled(dir, &Control::new())
    }

    /// [`save`](Self::save) that can be watched and cancelled. A save that is cancelled leaves what was saved before.
    ///
    /// # Errors
    /// As [`save`](Self::save), and [`Error::Cancelled`].
    pub fn save_controlled(&self, dir: impl AsRef<Path>, control: &Control<'_>) -> Result<()> {
        save_set(dir.as_ref(), control, || self.set())
    }

    fn set(&self) -> Result<Set<Reader>> {
        let (layout, rows) = (&self.shared.layout, &self.state.rows);
        let row_id: FieldRef = Arc::new(Field::new(ROW_ID_COLUMN, DataType::UInt64, false));
        let mut fields = vec![row_id];
        fields.extend(layout.others.fields().iter().cloned());
        let schema = Arc::new(Schema::new_with_metadata(fields, layout.others.metadata().clone()));
        let (mut batches, mut small, mut small_rows) = (Vec::new(), Vec::new(), 0);
        for placed in rows.placed_parts() {
            let part = &placed.part;
            let row_ids = (0..part.rows()).map(|row| part.row_id(row));
            let row_ids: UInt64Array = row_ids.collect::<Vec<_>>().into();
            let mut columns: Vec<ArrayRef> = vec![Arc::new(row_ids)];
            columns.extend(part.columns.columns().iter().cloned());
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
            let live = filter_record_batch(&batch, &BooleanArray::from(rows.live_rows(placed)))?;
            if small_rows + live.num_rows() > BATCH_ROWS && !small.is_empty() {
                batches.push(concat_batches(&schema, &small)?);
                (small, small_rows) = (Vec::new(), 0);
            }
            small_rows += live.num_rows();
            small.push(live);
        }
        if !small.is_empty() {
            batches.push(concat_batches(&schema, &small)?);
        }
        let saved = SavedLayout {
            columns: layout.schema.fields().iter().map(|field| field.name().clone()).collect(),
            vectors: layout.vectors.iter().map(|column| column.name.clone()).collect(),
            key: layout.key_name().map(str::to_string),
            next_row_id: self.state.next_row_id,
        };
        let saved = serde_json::to_string(&saved);
        let saved = saved.map_err(|e| Error::Arrow(ArrowError::JsonError(e.to_string())))?;
        Ok(Set {
            indexes: self.state.readers.to_vec(),
            columns: Columns { schema, batches },
            properties: BTreeMap::from([(LAYOUT.to_string(), saved)]),
        })
    }
}

impl Collection {
    /// Saves the version that is current once other saves into the directory are done; see [`CollectionReader::save`].
    ///
    /// # Errors
    /// As there.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_controlled(dir, &Control::new())
    }

    /// [`save`](Self::save) that can be watched and cancelled; see [`CollectionReader::save_controlled`].
    ///
    /// # Errors
    /// As there.
    pub fn save_controlled(&self, dir: impl AsRef<Path>, control: &Control<'_>) -> Result<()> {
        save_set(dir.as_ref(), control, || self.reader().set())
    }

    /// The collection that was last saved into a directory, in memory. Row ids are what they were. All bytes are checked,
    /// as by [`Index::load`].
    ///
    /// An index that was saved alone loads as a collection of its live rows: the columns are `row_id`, which is the key,
    /// the labels, and the vectors, called as the property `column` says, or `vector` without one. The row ids of the
    /// collection are the vector ids of the index then.
    ///
    /// # Errors
    /// - [`Error::Io`] if there is nothing or it cannot be read,
    /// - [`Error::CorruptIndex`] if a file is not what was saved, or if the labels of an index that was saved alone have
    ///   a column of one of those names.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        Self::from_set(load_set(dir)?)
            .map_err(|problem| Error::CorruptIndex { file: dir.to_path_buf(), problem })
    }

    fn from_set(set: Set<Index>) -> Result<Self, String> {
        let Set { indexes, columns, properties } = set;
        let saved: SavedLayout = match properties.get(LAYOUT) {
            Some(saved) => serde_json::from_str(saved).map_err(|e| e.to_string())?,
            None => SavedLayout::of_index(&columns.schema, &properties),
        };
        let layout = layout_of(&saved, &indexes, &columns.schema)?;
        let mut parts = Vec::with_capacity(columns.batches.len());
        let mut next = 0;
        for batch in &columns.batches {
            let column = batch.column_by_name(ROW_ID_COLUMN);
            let row_ids = column.and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let row_ids =
                row_ids.filter(|row_ids| row_ids.null_count() == 0).ok_or("rows without row ids")?;
            let ascend = row_ids.values().is_sorted_by(|a, b| a < b);
            let Some((&first, &last)) = row_ids.values().first().zip(row_ids.values().last()) else {
                continue;
            };
            if !ascend || first < next || last == u64::MAX {
                return Err("row ids out of order".to_string());
            }
            next = last + 1;
            let others: Vec<usize> = (0..batch.num_columns())
                .filter(|&at| batch.schema_ref().field(at).name() != ROW_ID_COLUMN)
                .collect();
            let others = batch.project(&others).map_err(|e| e.to_string())?;
            parts.push(Arc::new(Part::with_row_ids(row_ids.clone(), others)));
        }
        let count: usize = parts.iter().map(|part| part.rows()).sum();
        if u32::try_from(count).is_err() {
            return Err(format!("{count} rows are more than there can be"));
        }
        let rows = Rows::new(parts, &[]);
        check_rows(&indexes, &rows)?;
        let mut keys = Keys::default();
        if let Some(column) = layout.key {
            for placed in rows.placed_parts() {
                for row in 0..placed.part.rows() {
                    let key = key_of(placed.part.columns.column(column), row).ok_or("a key is null")?;
                    let is_key = |other| rows.key(other, column).as_ref() == Some(&key);
                    if keys.enter(keys.hash(&key), placed.part.row_id(row), is_key).is_some() {
                        return Err(format!("two rows have key {key}"));
                    }
                }
            }
        }
        let last_vectors = indexes.iter().filter_map(|index| {
            let vectors = index.reader().snapshot();
            Some(vectors.row_id((vectors.len() as u32).checked_sub(1)?))
        });
        let next = last_vectors.fold(next, |next, last| next.max(last.saturating_add(1)));
        let next_row_id = saved.next_row_id.max(next);
        Ok(Self::of(layout, indexes.into(), rows, keys, next_row_id))
    }
}

/// Checks that the live rows of each index are rows of the collection.
fn check_rows(indexes: &[Index], rows: &Rows) -> Result<(), String> {
    for index in indexes {
        let reader = index.reader();
        let vectors = reader.snapshot();
        if vectors.visible_len(u64::MAX).is_none() {
            return Err("the row ids of an index do not ascend".to_string());
        }
        let live = reader.live_ids();
        let mut row_ids = live.set_indices_u32().map(|id| vectors.row_id(id));
        if let Some(row_id) = row_ids.find(|&row_id| !rows.is_live(row_id)) {
            return Err(format!("a vector has row id {row_id}, which no row has"));
        }
    }
    Ok(())
}

fn layout_of(saved: &SavedLayout, indexes: &[Index], others: &Schema) -> Result<Layout, String> {
    if saved.vectors.len() != indexes.len() {
        return Err(format!("{} indexes for {} columns of vectors", indexes.len(), saved.vectors.len()));
    }
    let vectors: Vec<(&str, DistanceType)> = saved
        .vectors
        .iter()
        .zip(indexes)
        .map(|(name, index)| (name.as_str(), index.distance_type()))
        .collect();
    let field = |name: &String| -> Result<FieldRef, String> {
        match saved.vectors.iter().zip(indexes).find(|(column, _)| *column == name) {
            Some((_, index)) => {
                Ok(Arc::new(Field::new(name, index.element_type().vectors(index.dim()), true)))
            }
            None => {
                others.field_with_name(name).map(|field| Arc::new(field.clone())).map_err(|e| e.to_string())
            }
        }
    };
    let fields = saved.columns.iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let schema = Schema::new_with_metadata(fields, others.metadata().clone());
    let layout = Layout::try_new(&schema, &vectors, saved.key.as_deref()).map_err(|e| e.to_string())?;
    // The columns of the batches are used by position.
    let saved = others.fields().iter().filter(|field| field.name() != ROW_ID_COLUMN);
    if saved.eq(layout.others.fields()) { Ok(layout) } else { Err("other columns than it says".to_string()) }
}
