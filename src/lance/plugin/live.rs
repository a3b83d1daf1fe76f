//! The way from a writer, or from a plugin, to the indexes of the MemTables that are in memory.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ::lance::dataset::mem_wal::ShardWriter;
use ::lance::dataset::mem_wal::index::MemIndex;
use ::lance::dataset::mem_wal::scanner::InMemoryMemTableRef;

use crate::error::Result;
use crate::index::Index;
use crate::lance::plugin::PennonMemIndex;

/// The [`Index`] of a writer's active MemTable, by the name that it has in the base table: for
/// [`health`](Index::health), [`stats`](Index::stats), [`resident_bytes`](Index::resident_bytes), or a search beside
/// Lance. Row ids are positions in the MemTable.
///
/// `None` if this MemTable has no row yet, or no index of that name that is Pennon's. It is the index that searches
/// use: read it, and leave writes to the writer. After a flush there is another one.
///
/// # Errors
/// [`Error::LanceDataset`](crate::Error::LanceDataset) if the writer keeps no MemTables, or if it has failed.
pub async fn live_index(writer: &ShardWriter, name: &str) -> Result<Option<Arc<Index>>> {
    Ok(index_of(&writer.active_memtable_ref().await?, name))
}

/// The indexes of all MemTables of a writer that are in memory, oldest first: of those that wait for their flush, and
/// of the active one. A MemTable without an index ([`live_index`] says when) is left out.
///
/// # Errors
/// As [`live_index`].
pub async fn live_indexes(writer: &ShardWriter, name: &str) -> Result<Vec<Arc<Index>>> {
    let memtables = writer.in_memory_memtable_refs().await?;
    let mut all = memtables.frozen;
    all.push(memtables.active);
    all.sort_by_key(|memtable| memtable.generation);
    Ok(all.iter().filter_map(|memtable| index_of(memtable, name)).collect())
}

fn index_of(memtable: &InMemoryMemTableRef, name: &str) -> Option<Arc<Index>> {
    let index: &dyn MemIndex = memtable.index_store.get_index(name)?.as_ref();
    (index as &dyn Any).downcast_ref::<PennonMemIndex>()?.index().cloned()
}

/// What a plugin and its clones have made, by name; it keeps nothing in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Made(Arc<Mutex<Vec<Named>>>);

/// An index by the name of the column's index in Lance.
type Named = (String, Weak<PennonMemIndex>);

impl Made {
    pub fn add(&self, name: &str, index: &Arc<PennonMemIndex>) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(_, index)| index.strong_count() > 0);
        made.push((name.to_string(), Arc::downgrade(index)));
    }

    /// Those that somebody else has, in the order in which they were made.
    pub fn live(&self) -> Vec<(String, Arc<PennonMemIndex>)> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().filter_map(|(name, index)| Some((name.clone(), index.upgrade()?))).collect()
    }
}
