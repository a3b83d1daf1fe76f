//! Several indexes over the same rows and the other columns of these, saved as one.
//!
//! The first index is in the directory itself, with the other columns in a file of its generation. Each other index has
//! a directory of its own in there, which the properties of the manifest name; so that manifest decides about all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::filter::{filter, filter_record_batch};
use tracing::info_span;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::index::{Index, Reader};
use crate::persist::directory::{self, MANIFEST, at};
use crate::persist::manifest::Manifest;
use crate::persist::open::{Memory, Saved};
use crate::persist::save::{save_locked, told};
use crate::persist::{Loaded, SaveOptions, directory::is_column_directory};
use crate::search::ROW_ID_COLUMN;

/// Property of the manifest: the names of the directories of the other indexes, with a `/` between them.
const DIRECTORIES: &str = "pennon.directories";
/// Column of the row ids of an index that was saved alone.
pub(crate) const SAVED_ROW_ID_COLUMN: &str = "row_id";

/// The columns of a collection that are not vectors.
#[derive(Debug)]
pub(crate) struct Columns {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Columns {
    /// The live rows of an index whose row ids are its vector ids, with the row ids that were saved and the labels.
    fn beside(reader: &Reader, row_ids: &UInt64Array, labels: Option<&RecordBatch>) -> Result<Self> {
        let live = reader.live_ids();
        let numbers = UInt64Array::from_iter_values(live.set_indices().map(|id| id as u64));
        let live = BooleanArray::from(live);
        let mut fields: Vec<FieldRef> = [ROW_ID_COLUMN, SAVED_ROW_ID_COLUMN]
            .map(|name| Arc::new(Field::new(name, DataType::UInt64, false)))
            .to_vec();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(numbers), filter(row_ids, &live)?];
        if let Some(labels) = labels {
            fields.extend(labels.schema_ref().fields().iter().cloned());
            columns.extend(filter_record_batch(labels, &live)?.columns().iter().cloned());
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Self { batches: vec![RecordBatch::try_new(Arc::clone(&schema), columns)?], schema })
    }
}

/// What is saved together.
#[derive(Debug)]
pub(crate) struct Set<I> {
    pub indexes: Vec<I>,
    pub columns: Columns,
    pub properties: BTreeMap<String, String>,
}

/// Saves what `set` gives under the lock of the directory: the last of two saves has the later version.
pub(crate) fn save_set(
    dir: &Path,
    control: &Control<'_>,
    set: impl FnOnce() -> Result<Set<Reader>>,
) -> Result<()> {
    let _span = info_span!("save", dir = %dir.display()).entered();
    told(save_all(dir, control, set))
}

fn save_all(dir: &Path, control: &Control<'_>, set: impl FnOnce() -> Result<Set<Reader>>) -> Result<()> {
    directory::make_directory(dir)?;
    let _lock = directory::lock(dir)?;
    let Set { indexes, columns, properties } = set()?;
    let Some((first, others)) = indexes.split_first() else { return Ok(()) };
    let mut names = Vec::new();
    let saved = save_others(dir, control, others, &mut names).and_then(|()| {
        let mut options = SaveOptions { properties, ..SaveOptions::new() };
        options.properties.insert(DIRECTORIES.to_string(), names.join("/"));
        save_locked(dir, &options, control, first.params(), &first.checkpoint()?, Some(&columns))
    });
    // After an error it may be that the manifest names the new ones.
    let named = Manifest::read(dir).ok().and_then(|mut manifest| manifest.properties.remove(DIRECTORIES));
    let named = named.unwrap_or_default();
    for entry in fs::read_dir(dir).map_err(at(dir))?.flatten() {
        let name = entry.file_name();
        let is_left = name
            .to_str()
            .is_some_and(|name| is_column_directory(name) && !named.split('/').any(|named| named == name));
        if is_left {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    saved
}

fn save_others(dir: &Path, control: &Control<'_>, others: &[Reader], names: &mut Vec<String>) -> Result<()> {
    let named = Manifest::read(dir).map_or(0, |manifest| manifest.generation);
    for (number, reader) in (1..).zip(others) {
        let is_free = |of: &u64| !dir.join(directory::column_directory(number, *of)).exists();
        let of = (named..u64::MAX).skip(1).find(is_free).unwrap_or(u64::MAX);
        let name = directory::column_directory(number, of);
        reader.save_controlled(dir.join(&name), &SaveOptions::new(), control)?;
        names.push(name);
    }
    if names.is_empty() { Ok(()) } else { directory::sync_directory(dir) }
}

/// What was last saved together. Of an index that was saved alone the row ids become a column, and the index has vector
/// ids in their place: they ascend.
pub(crate) fn load_set(dir: &Path) -> Result<Set<Index>> {
    let _span = info_span!("load", dir = %dir.display()).entered();
    loop {
        let saved = Saved::open(dir)?;
        let number = saved.number();
        match load(dir, saved) {
            // A save may have removed a directory before it was opened; then there is another manifest.
            Err(_) if Manifest::read(dir)?.generation != number => {}
            outcome => return outcome,
        }
    }
}

fn load(dir: &Path, saved: Saved) -> Result<Set<Index>> {
    let file = dir.join(MANIFEST);
    let Some((columns, properties)) = saved.read_rows()? else {
        let (Loaded { index, labels, properties }, row_ids) = saved.load_numbered()?;
        let columns = Columns::beside(&index.reader(), &row_ids, labels.as_ref())?;
        return Ok(Set { indexes: vec![index], columns, properties });
    };
    let mut properties = properties.clone();
    let names = properties.remove(DIRECTORIES).unwrap_or_default();
    let mut indexes = Vec::new();
    for name in names.split('/').filter(|name| !name.is_empty()) {
        if !is_column_directory(name) {
            return Err(Error::CorruptIndex { file, problem: format!("it names a directory {name:?}") });
        }
        indexes.push(Index::load(dir.join(name))?.index);
    }
    indexes.insert(0, saved.load(Memory::Heap)?.index);
    Ok(Set { indexes, columns, properties })
}
