//! Generations without their dead rows: in the place of the current one, and copies.

use std::sync::Arc;

use tracing::{info, info_span};

use crate::codes::Codes;
use crate::control::{Control, Stage};
use crate::error::{Error, Result};
use crate::graph::HnswGraph;
use crate::index::generation::Generation;
use crate::index::handover::{CompactionStep, Successor};
use crate::index::row_lookup::Rows;
use crate::index::{Index, Reader};
use crate::search::IndexVersion;
use crate::vectors::{ArrowFixedSizeListVectorStore, VectorSource};

/// With fewer than one of so many rows alive, a build of the rest is cheap, and better than what repair can do.
const REBUILD: usize = 4;

/// What a compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// The last version of the older generation.
    pub from: IndexVersion,
    /// The first version of the newer generation.
    pub to: IndexVersion,
    /// Rows that were alive when the compaction began, and are in the newer generation.
    pub kept: usize,
    /// Rows that were appended meanwhile, and are in the newer generation.
    pub followed: usize,
    /// Dead rows that are not in the newer generation.
    pub removed: usize,
    /// Rows in the newer generation that were deleted or replaced meanwhile: its first tombstones.
    pub buried: usize,
    ids: Vec<u32>,
}

impl Compaction {
    /// The older vector id of each vector id of the newer generation: `old_ids()[new] == old`. They ascend.
    pub fn old_ids(&self) -> &[u32] {
        &self.ids
    }
}

impl Index {
    /// Removes the dead rows, while everybody goes on: a new generation without them is made from the live rows, over
    /// the same buffers, gets what is appended and deleted meanwhile, and takes the place of the current one at one
    /// instant. No acknowledged change is lost. Searches wait for nothing; appends and deletes wait for the last
    /// rows to follow. Compactions wait for each other.
    ///
    /// Vector ids are given out anew, in the old order; row ids stay. Links that led through dead rows are repaired,
    /// which is several times faster than a build; if less than a quarter of the rows is alive, they are linked from
    /// scratch. Readers and cursors of the older generation keep it in memory, until they are dropped; a buffer of the
    /// caller stays alive as long as one row of its batch does. An index that is mapped from files can be changed
    /// after this.
    ///
    /// # Errors
    /// [`Error::TooManyVectors`] if what is appended meanwhile exceeds the limit; the index is as it was then.
    pub fn compact(&self) -> Result<Compaction> {
        self.compact_controlled(&Control::new())
    }

    /// [`compact`](Self::compact) that can be watched and cancelled: it looks at `control` between some thousand rows,
    /// and before the last rows follow. A compaction that is cancelled leaves the index as it was.
    ///
    /// # Errors
    /// As [`compact`](Self::compact), [`Error::Cancelled`], and [`Error::Busy`] if it is not to wait for another
    /// compaction.
    pub fn compact_controlled(&self, control: &Control<'_>) -> Result<Compaction> {
        self.compact_steps(control, &mut |_| true)
    }

    /// [`compact`](Self::compact) with a look at its steps; where `watch` returns false, the step is left out. For
    /// tests: a compaction that leaves out a step loses changes.
    #[doc(hidden)]
    pub fn compact_watched(&self, watch: &mut dyn FnMut(CompactionStep) -> bool) -> Result<Compaction> {
        self.compact_steps(&Control::new(), watch)
    }

    fn compact_steps(
        &self,
        control: &Control<'_>,
        watch: &mut dyn FnMut(CompactionStep) -> bool,
    ) -> Result<Compaction> {
        let version = self.version();
        let _span = info_span!("compact", rows = version.live(), dead = version.deletes()).entered();
        let begin = |old: &Arc<Generation>| Next::begin(old, old.version(), *control);
        let outcome = if control.waits() {
            self.generations.replace(begin, watch)
        } else {
            self.generations.try_replace(begin, watch).unwrap_or(Err(Error::Busy))
        };
        match &outcome {
            Ok(Compaction { to, kept, followed, removed, buried, .. }) => {
                let generation = to.generation();
                info!(generation, kept, followed, removed, buried, "compacted");
            }
            Err(error) => info!(%error, "nothing was compacted"),
        }
        outcome
    }

    /// A copy of the live rows whose ids are given out anew so that rows that a search meets together lie together:
    /// the vectors are copied in that order into one buffer, and the neighbor lists follow. See
    /// [`Reader::reordered`].
    ///
    /// # Errors
    /// As [`Reader::reordered`].
    pub fn reordered(&self) -> Result<Self> {
        self.reader().reordered()
    }
}

impl Reader {
    /// A new index of the live rows alone, over the same buffers: what [`Index::compact`] makes, as a copy. Ids are given
    /// out anew, in the old order; row ids stay. The count of skipped rows is zero in the copy.
    ///
    /// # Errors
    /// None today.
    pub fn compacted(&self) -> Result<Index> {
        self.generation().without_dead(self.version()).map(Index::of)
    }

    /// A new index of the live rows, whose ids are given out anew so that rows that a search meets together lie
    /// together: the vectors are copied in that order into one buffer, and the neighbor lists follow. Row ids stay. It
    /// takes appends as any other index, in the order of arrival again. After Coleman, Segarra, Smola and Shrivastava,
    /// [arXiv 2104.03221](https://arxiv.org/abs/2104.03221). Without a graph the order stays as well.
    ///
    /// Searches give the same row ids at the same distances; only rows at exactly the same distance, which come in the
    /// order of their ids, may change places. If rows are dead, this holds for the compacted index.
    ///
    /// It pays where vectors and lists are larger than the caches. Appends wait while the lists are read. The count of
    /// skipped rows is zero in the copy.
    ///
    /// # Errors
    /// [`Error::Arrow`] if Arrow refuses the size.
    pub fn reordered(&self) -> Result<Index> {
        let version = self.version();
        if version.deletes() > 0 {
            return self.compacted()?.reordered();
        }
        let old = self.generation();
        let ids = match &old.graph {
            Some(graph) => graph.breadth_first(version.vectors()),
            None => (0..version.vectors() as u32).collect(),
        };
        let store = old.store.copied(&ids)?;
        let graph = old
            .graph
            .as_ref()
            .map(|graph| graph.compacted(&ids, &old.view(version), &store.view(), &|_, _| Ok(())));
        let codes = old.codes.as_ref().map(|codes| codes.retain(&ids));
        Ok(Index::of(Generation::with_codes(store, graph.transpose()?, &[], codes)))
    }
}

impl Generation {
    /// The live rows of a version alone, over the same buffers.
    pub fn without_dead(&self, version: IndexVersion) -> Result<Self> {
        let Next { store, graph, codes, .. } = Next::begin(self, version, Control::new())?;
        Ok(Self::with_codes(store, graph, &[], codes))
    }
}

/// A generation that is made from another.
struct Next<'a> {
    control: Control<'a>,
    store: ArrowFixedSizeListVectorStore,
    graph: Option<HnswGraph>,
    rows: Rows,
    /// As in a generation.
    codes: Option<Codes>,
    /// The older id of each id.
    ids: Vec<u32>,
    /// How many of them it began with.
    kept: usize,
    /// The ids of rows that died meanwhile.
    dead: Vec<u32>,
    /// What has been followed.
    from: IndexVersion,
}

impl<'a> Next<'a> {
    /// The live rows of a version.
    fn begin(old: &Generation, version: IndexVersion, control: Control<'a>) -> Result<Self> {
        let proceed = |done, total| control.check(Stage::Compact, done, total);
        proceed(0, version.live() as u64)?;
        let ids: Vec<u32> = old.live_ids(version).set_indices_u32().collect();
        let store = old.store.emptied();
        store.extend_from(&old.store, &ids);
        let graph = match &old.graph {
            Some(graph) if ids.len() < version.vectors() / REBUILD => {
                let graph = HnswGraph::try_new(graph.params().clone())?;
                graph.insert_batch_while(0..ids.len() as u32, &store.view(), &proceed)?;
                Some(graph)
            }
            Some(graph) => Some(graph.compacted(&ids, &old.view(version), &store.view(), &proceed)?),
            None => None,
        };
        let codes = old.codes.as_ref().map(|codes| codes.retain(&ids));
        let (rows, kept) = (Rows::new(), ids.len());
        let dead = Vec::new();
        let mut next = Self { control, store, graph, rows, codes, ids, kept, dead, from: version };
        if old.lock_rows().entered() > 0 {
            next.rows.catch_up(kept as u32, &next.store.view(), |_| false);
        }
        Ok(next)
    }
}

impl Successor for Next<'_> {
    type Generation = Generation;
    type Error = Error;
    type Report = Compaction;

    fn follow(&mut self, old: &Generation, version: IndexVersion) -> Result<usize> {
        // What follows is not foreseen in the total; only the end of it is looked for.
        let (control, kept) = (self.control, self.kept as u64);
        let proceed = |_, _| control.check(Stage::Compact, kept, kept);
        proceed(kept, kept)?;
        let appended = self.from.vectors() as u32..version.vectors() as u32;
        let rows = appended.len();
        let before = self.ids.len();
        self.ids.extend(appended.filter(|&id| !old.versions.is_dead(id, version)));
        self.store.extend_from(&old.store, &self.ids[before..]);
        let end = self.ids.len() as u32;
        if let Some(graph) = &self.graph {
            graph.insert_batch_while(before as u32..end, &self.store.view(), &proceed)?;
        }
        if let Some(codes) = &self.codes {
            let rows = self.store.view();
            codes.extend(end, |id| rows.widened(id));
        }
        if self.rows.entered() > 0 {
            self.rows.catch_up(end, &self.store.view(), |_| false);
        }
        self.from = version;
        Ok(rows)
    }

    fn bury(&mut self, old: &Generation, version: IndexVersion) {
        self.from = version;
        // Each of the older ids is here, or was dead before.
        if version.deletes() as usize + self.ids.len() == version.vectors() {
            return;
        }
        let is_dead = |&(_, &id): &(u32, &u32)| old.versions.is_dead(id, version);
        self.dead = (0..).zip(&self.ids).filter(is_dead).map(|(id, _)| id).collect();
        for &id in &self.dead {
            let row_id = self.store.view().row_id(id);
            self.rows.forget(row_id, id);
        }
    }

    fn finish(self, old: &Generation) -> (Generation, Compaction) {
        self.store.add_skipped(old.store.skipped());
        let mut next = Generation::with_codes(self.store, self.graph, &self.dead, self.codes);
        next.tally = Arc::clone(&old.tally);
        *next.lock_rows() = self.rows;
        next.loaded_vector_bytes = old.loaded_vector_bytes;
        let report = Compaction {
            from: self.from,
            to: next.version(),
            kept: self.kept,
            followed: self.ids.len() - self.kept,
            removed: self.from.vectors() - self.ids.len(),
            buried: self.dead.len(),
            ids: self.ids,
        };
        next.tally.compacted(&report);
        (next, report)
    }
}
