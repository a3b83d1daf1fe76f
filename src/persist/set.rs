//! Several indexes over the same rows and the other columns of these, saved as one.
//!
//! The first index is in the directory itself, with the other columns in a file of its generation. Each other index has
//! a directory of its own in there, which the properties of the manifest name; so that manifest decides about all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use tracing::info_span;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::index::{Index, Reader};
use crate::persist::directory::{self, MANIFEST, at};
use crate::persist::manifest::Manifest;
use crate::persist::open::{Memory, Saved};
use crate::persist::save::{save_locked, told};
use crate::persist::{SaveOptions, directory::is_column_directory};

/// Property of the manifest: the names of the directories of the other indexes, with a `/` between them.
const DIRECTORIES: &str = "pennon.directories";

/// The columns of a collection that are not vectors.
#[derive(Debug)]
pub(crate) struct Columns {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
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

/// What was last saved together.
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
        return Err(Error::CorruptIndex { file, problem: "it is an index, not a collection".to_string() });
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
