//! What a compaction replaces: rows with their versions, and a graph or none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arrow_buffer::BooleanBuffer;

use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::graph::{Coding, HnswGraph};
use crate::index::counters::Tally;
use crate::index::handover;
use crate::index::row_lookup::Rows;
use crate::search::IndexVersion;
use crate::search::version::Versions;
use crate::util::atomics::{Mutex, MutexGuard, lock};
use crate::util::hash::mix;
use crate::vectors::{ArrowFixedSizeListVectorStore, VectorSource, VectorStoreSnapshot};

/// Rows looked up before another change may come in between.
const AT_A_TIME: u32 = 4096;

/// The vectors of one version, borrowed.
pub(crate) type View<'a> = VectorStoreSnapshot<&'a ArrowFixedSizeListVectorStore>;

/// One generation of an index. Vector ids are given out in each anew.
pub(crate) struct Generation {
    pub store: Arc<ArrowFixedSizeListVectorStore>,
    pub graph: Option<HnswGraph>,
    pub versions: Versions,
    /// Where rows are; whoever holds it may publish a version.
    rows: Mutex<Rows>,
    /// Compact codes of the rows, where there is no graph to hold them.
    pub codes: Option<Codes>,
    /// Whether it is mapped from files.
    pub read_only: bool,
    /// Bytes of the files that its graph and its vectors were loaded from, as far as they are on the heap.
    pub loaded_graph_bytes: usize,
    pub loaded_vector_bytes: usize,
    /// The counters of the index, which its generations share.
    pub tally: Arc<Tally>,
}

/// A number that no other generation in this process has. A part of it is drawn by the process, so that a version that
/// another process wrote down is hardly ever taken for one of this process.
fn next_number() -> u64 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        use std::hash::{BuildHasher, RandomState};
        // Below 2^53, so that JSON's numbers hold it.
        AtomicU64::new((mix(RandomState::new().hash_one(std::process::id())) >> 44 << 32) + 1)
    });
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Generation {
    /// The rows of a store, of which some are dead, and the graph over them, if there is one; `coding` is for where there
    /// is none.
    pub fn new(
        store: ArrowFixedSizeListVectorStore,
        graph: Option<HnswGraph>,
        dead: &[u32],
        coding: Coding,
    ) -> Self {
        let rows = store.view();
        let coded = graph.is_none() && coding != Coding::Off && rows.has_plain_metric();
        let codes = if coded { Codes::new(store.dim(), store.distance_type()) } else { None };
        Self::with_codes(store, graph, dead, codes)
    }

    /// A generation whose rows are coded already, at least in part, where there is no graph to hold the codes.
    pub fn with_codes(
        store: ArrowFixedSizeListVectorStore,
        graph: Option<HnswGraph>,
        dead: &[u32],
        codes: Option<Codes>,
    ) -> Self {
        if let Some(graph) = &graph {
            graph.code(&store.view());
        }
        let generation = Self {
            versions: Versions::starting_with(next_number(), store.committed_len() as u32, dead),
            store: Arc::new(store),
            graph,
            rows: Mutex::new(Rows::new()),
            codes,
            read_only: false,
            loaded_graph_bytes: 0,
            loaded_vector_bytes: 0,
            tally: Arc::default(),
        };
        generation.code_rows();
        generation
    }

    /// What a search that starts now sees.
    pub fn version(&self) -> IndexVersion {
        self.versions.current()
    }

    /// The vectors of a version.
    pub fn view(&self, version: IndexVersion) -> View<'_> {
        self.store.view().prefix(version.vectors())
    }

    /// What a search of a version may not return.
    pub fn dead(&self, version: IndexVersion) -> Option<(&Versions, IndexVersion)> {
        Some((&self.versions, version))
    }

    /// One bit for each vector id of a version: whether its row is alive.
    pub fn live_ids(&self, version: IndexVersion) -> BooleanBuffer {
        if version.deletes() == 0 {
            return BooleanBuffer::new_set(version.vectors());
        }
        BooleanBuffer::collect_bool(version.vectors(), |id| !self.versions.is_dead(id as u32, version))
    }

    /// Refuses changes of what is mapped from files.
    pub fn check_writable(&self) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The lock of the rows. What a panic could leave half done under it is not published, and the rest of the rows
    /// is as good as before.
    pub fn lock_rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.rows)
    }

    /// Enters all rows below `end`, some at a time.
    pub fn catch_up(&self, end: u32) {
        let source = self.store.view();
        loop {
            let mut rows = self.lock_rows();
            if rows.entered() >= end {
                return;
            }
            let next = end.min(rows.entered().saturating_add(AT_A_TIME));
            let version = self.version();
            rows.catch_up(next, &source, |id| self.versions.is_dead(id, version));
        }
    }

    /// The live row of a row id in a version that `rows` has entered.
    pub fn find_entered(&self, rows: &Rows, row_id: u64, version: IndexVersion) -> Option<u32> {
        let id = rows.find(row_id, &self.store.view(), |id| self.versions.is_dead(id, version))?;
        ((id as usize) < version.vectors()).then_some(id)
    }

    /// The live rows of some row ids in a version, whether or not it is the current one.
    pub fn find(&self, row_ids: &[u64], version: IndexVersion) -> Vec<Option<u32>> {
        let view = self.view(version);
        let is_live = |id: &u32| !self.versions.is_dead(*id, version);
        if view.visible_len(u64::MAX).is_some() {
            // They ascend with vector ids.
            let find = |&row_id: &u64| {
                let id = view.visible_len(row_id)?.checked_sub(1)? as u32;
                Some(id).filter(|&id| view.row_id(id) == row_id).filter(is_live)
            };
            return row_ids.iter().map(find).collect();
        }
        self.catch_up(version.vectors() as u32);
        let mut missing = BTreeMap::new();
        let mut found = Vec::with_capacity(row_ids.len());
        for row_ids in row_ids.chunks(AT_A_TIME as usize) {
            let rows = self.lock_rows();
            let now = self.version();
            for &row_id in row_ids {
                // A row that is alive now was so in all versions that have it.
                let id =
                    self.find_entered(&rows, row_id, now).filter(|&id| (id as usize) < version.vectors());
                if id.is_none() && now != version {
                    missing.insert(row_id, None);
                }
                found.push(id);
            }
        }
        if missing.is_empty() {
            return found;
        }
        // Those that died since the version are in no table any more.
        let (mut id, end) = (0, version.vectors() as u32);
        while id < end {
            let (first, rows) = view.row_id_run(id);
            let last = first.saturating_add(u64::from(rows) - 1);
            for (row_id, at) in missing.range_mut(first..=last) {
                *at = Some(id + (row_id - first) as u32).filter(is_live).or(*at);
            }
            id += rows;
        }
        let late = |row_id: &u64| missing.get(row_id).copied().flatten();
        found.into_iter().zip(row_ids).map(|(id, row_id)| id.or_else(|| late(row_id))).collect()
    }

    /// Codes all rows, where there is no graph to do it.
    fn code_rows(&self) {
        if let Some(codes) = &self.codes {
            let rows = self.store.view();
            codes.extend(rows.len() as u32, |id| rows.widened(id));
        }
    }

    /// The compact codes of the rows of a version, if there are any.
    pub fn codes_of(&self, version: IndexVersion) -> Option<&Codes> {
        let rows = version.vectors() as u32;
        match &self.graph {
            Some(graph) => graph.codes(rows),
            None => self.codes.as_ref().filter(|codes| codes.len() >= rows),
        }
    }

    /// Bytes of the compact codes.
    pub fn code_bytes(&self) -> usize {
        let of_graph = self.graph.as_ref().and_then(|graph| graph.codes(0));
        of_graph.or(self.codes.as_ref()).map_or(0, Codes::resident_bytes)
    }
}

impl handover::Generation for Generation {
    type Rows = Rows;

    fn version(&self) -> IndexVersion {
        self.version()
    }

    fn lock_rows(&self) -> MutexGuard<'_, Rows> {
        self.lock_rows()
    }
}
