//! The graph: HNSW (Malkov and Yashunin, arXiv 1603.09320) that is searched while it is built.
//!
//! # Publication
//! One writer at a time, behind a lock that is really taken; any number of readers that never wait.
//! Three watermarks ([`memory::watermarks`]) say what a reader may do:
//! - ids below `ready` may be dereferenced: their vector, slots and forward lists are written;
//! - `entry` is where a search starts;
//! - ids below `visible` may be returned.
//!
//! ```text
//! writer, per sub-batch [s, e):
//!   1 forward lists of s..e              nobody can reach them yet        Relaxed
//!   2 ready = e                                                           Release
//!   3 reverse edges into older lists, in place, a store per changed slot  Release
//!   4 entry, if the top level grew; the node is linked already            Release
//! after the caller's whole batch: visible = end                           Release
//!
//! reader: visible, entry, ready, in this order                            Acquire
//! ```
//! - I1: whatever is below `ready` was fully written before the Release store that covers it.
//! - I2: a reader dereferences an id only if it is below a `ready` it loaded. A list that changes while
//!   it is read is safe whatever mix of old and new it shows, and no edge that stays is missed
//!   ([`memory::slots`]). An id past `ready` tells the reader that the writer was faster: it loads `ready` again
//!   and follows, because the edges it came to know by other ways may be pruned by now.
//! - I3: results hold only ids below the `visible` it loaded.
//!
//! Nodes in `[visible, ready)` are walked through but not returned, so a reader of an old prefix keeps
//! its recall while a large batch lands. Everything that can fail or that runs code of a caller's
//! [`VectorSource`] happens before step 2; from there on a sub-batch only stores words.
//!
//! # Reading on
//! [`memory`] holds the lists and the watermarks; [`build`] links new nodes (Algorithms 1, 3 and 4) and keeps every
//! node reachable; [`walk`] reads (Algorithms 2 and 5).

mod allowance;
mod build;
mod exchange;
mod growth;
mod health;
mod memory;
mod order;
mod repair;
mod stats;
mod walk;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::codes::Codes;
use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::vectors::{MAX_VECTORS, VectorSource};

pub(crate) use allowance::Holding;
pub use build::{BuildParams, Coding, PruneStrategy, Selection};
pub(crate) use exchange::{GraphParts, UpperRow};
pub use health::{GraphHealth, LongList};
pub(crate) use memory::borrowed::Lists;
pub use stats::LevelStats;
pub(crate) use walk::cursor::{Cursor, Ground};

use memory::borrowed::{Frozen, List};
use memory::levels::{Levels, MAX_LEVELS};
use memory::slots::{NONE, SlotArena};
use memory::watermarks::{Entry, Watermarks};
use walk::scratch::ScratchPool;

/// Largest `m` that is built: a list of 8,192 neighbors is a scan, not a graph.
const MAX_M: usize = 4096;

/// An HNSW graph over the vectors of a [`VectorSource`]. It holds edges and no vectors.
///
/// After Malkov and Yashunin, *Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
/// Small World graphs*, [arXiv 1603.09320](https://arxiv.org/abs/1603.09320), whose names the
/// [parameters](BuildParams) mention.
///
/// All methods take `&self`. Inserts wait for each other; searches wait for nobody.
pub struct HnswGraph {
    params: BuildParams,
    levels: Levels,
    /// Level-0 lists with their side columns, by node id.
    nodes: SlotArena,
    /// Level 0 of an imported graph, until `thawed`.
    frozen: Option<Frozen>,
    /// Stored with Release once `nodes` holds what `frozen` did.
    thawed: AtomicBool,
    /// Lists of levels 1 and up: a node on level `l` owns `l` consecutive rows.
    upper: SlotArena,
    watermarks: Watermarks,
    /// The first entry point that reached each level: where a search of an old prefix starts.
    entries: [AtomicU32; MAX_LEVELS],
    writer: Mutex<Writer>,
    scratch: ScratchPool,
    /// Compact codes of the nodes, where the source's distances can be estimated from such; known with the metric.
    codes: OnceLock<Option<Codes>>,
    /// Set by the first insert: the metric and dimension of all edges.
    metric: OnceLock<(DistanceType, usize)>,
}

/// What only the writer knows.
pub(crate) struct Writer {
    /// The node without an anchor, from which anchor edges lead to all others.
    root: u32,
    /// Rows of the upper arena in use.
    upper_rows: u32,
    /// An imported graph may come without edge distances; they are computed at the first insert.
    distances_known: bool,
}

impl fmt::Debug for HnswGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, metric) = (self.len(), self.metric.get());
        let mut debug = f.debug_struct("HnswGraph");
        debug.field("nodes", &nodes).field("metric", &metric).field("params", &self.params);
        debug.finish_non_exhaustive()
    }
}

impl HnswGraph {
    /// A graph without nodes. Memory grows with the rows; there is no capacity to declare.
    ///
    /// # Errors
    /// [`Error::InvalidParams`] as [`BuildParams::validate`], or if `m` exceeds 4,096 or `m0` twice that.
    pub fn try_new(params: BuildParams) -> Result<Self> {
        Self::check_params(&params)?;
        Ok(Self {
            levels: Levels::new(params.seed, params.m, params.max_level),
            nodes: SlotArena::new(params.cap(0), true),
            frozen: None,
            thawed: AtomicBool::new(false),
            upper: SlotArena::new(params.cap(1), false),
            watermarks: Watermarks::new(),
            entries: std::array::from_fn(|_| AtomicU32::new(NONE)),
            writer: Mutex::new(Writer { root: NONE, upper_rows: 0, distances_known: true }),
            scratch: ScratchPool::new(),
            codes: OnceLock::new(),
            metric: OnceLock::new(),
            params,
        })
    }

    /// Checks what [`try_new`](Self::try_new) requires.
    pub(crate) fn check_params(params: &BuildParams) -> Result<()> {
        params.validate()?;
        for (parameter, value, most) in [("m", params.m, MAX_M), ("m0", params.cap(0), 2 * MAX_M)] {
            if value > most {
                let requirement = format!("at most {most}");
                return Err(Error::InvalidParams { parameter, value: value as u64, requirement });
            }
        }
        Ok(())
    }

    /// Nodes that a search may return.
    pub fn len(&self) -> usize {
        self.watermarks.visible() as usize
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameters of the build.
    pub fn params(&self) -> &BuildParams {
        &self.params
    }

    /// Says whose vectors these are, for a graph of which nothing else says it, and codes those of its nodes.
    pub(crate) fn code<S: VectorSource + ?Sized>(&self, source: &S) {
        let _ = self.metric.set((source.distance_type(), source.dim()));
        self.code_up_to(self.watermarks.load().ready, source);
    }

    /// Takes codes that were saved with the graph, unless there are to be none.
    pub(crate) fn adopt_codes(&self, codes: Codes) {
        let _ = self.codes.set((self.params.codes != Coding::Off).then_some(codes));
    }

    /// Codes the vectors of the nodes below `end` that are not coded yet, if there are to be codes.
    fn code_up_to<S: VectorSource + ?Sized>(&self, end: u32, source: &S) -> Option<&Codes> {
        let new = || {
            let wanted = self.params.codes != Coding::Off && source.has_plain_metric();
            wanted.then(|| Codes::new(source.dim(), source.distance_type()))?
        };
        let codes = self.codes.get_or_init(new).as_ref()?;
        codes.extend(end, |id| source.widened(id));
        Some(codes)
    }

    /// The metric of all edges, once something was inserted: a `lance:hnsw` batch does not say.
    pub(crate) fn distance_type(&self) -> Option<DistanceType> {
        self.metric.get().map(|metric| metric.0)
    }

    /// Inserts one node, the next one: `id` is [`len`](Self::len).
    ///
    /// # Errors
    /// As [`insert_batch`](Self::insert_batch).
    pub fn insert<S: VectorSource + ?Sized>(&self, id: u32, source: &S) -> Result<()> {
        let end = id.checked_add(1).ok_or(Error::TooManyVectors { len: id as usize, added: 1 })?;
        self.insert_batch(id..end, source)
    }

    /// Inserts the nodes `ids`, which must start at [`len`](Self::len). They are searchable, all at
    /// once, when this returns.
    ///
    /// Runs on as many threads as rayon's current pool has, though not on that pool's own. The graph depends on the
    /// seed, the vectors and how they were batched, not on the number of threads.
    ///
    /// # Errors
    /// Nothing is inserted if
    /// - `ids` does not start at `len()` ([`Error::NonContiguousIds`]),
    /// - the source is shorter than `ids.end` ([`Error::SourceTooShort`]),
    /// - the source has another metric or dimension than in earlier inserts ([`Error::SourceMismatch`]).
    pub fn insert_batch<S: VectorSource + ?Sized>(&self, ids: Range<u32>, source: &S) -> Result<()> {
        self.insert_batch_while(ids, source, &|_, _| Ok(()))
    }

    /// Inserts nodes as [`insert_batch`](Self::insert_batch) does, as long as `proceed` does not refuse. If it does,
    /// some of the nodes are linked and none is visible; [`show_linked`](Self::show_linked) or the next insert goes on
    /// from there.
    pub(crate) fn insert_batch_while<S: VectorSource + ?Sized>(
        &self,
        ids: Range<u32>,
        source: &S,
        proceed: &dyn Fn(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut writer = self.lock_writer();
        let next = self.watermarks.visible();
        if ids.start != next || ids.end < ids.start {
            return Err(Error::NonContiguousIds { expected: next, start: ids.start, end: ids.end });
        }
        if ids.is_empty() {
            return Ok(());
        }
        if ids.end > MAX_VECTORS {
            return Err(Error::TooManyVectors { len: next as usize, added: ids.len() });
        }
        let (len, needed) = (source.len(), ids.end as usize);
        if len < needed {
            return Err(Error::SourceTooShort { len, needed });
        }
        self.check_metric(source)?;
        self.build(&mut writer, ids.end, source, proceed)?;
        self.watermarks.publish_visible(ids.end);
        Ok(())
    }

    /// Makes all nodes visible that are linked. Returns their number.
    pub(crate) fn show_linked(&self) -> u32 {
        let _writer = self.lock_writer();
        let linked = self.watermarks.load().ready;
        self.watermarks.publish_visible(linked);
        linked
    }

    /// Bytes of everything the graph holds.
    pub fn resident_bytes(&self) -> usize {
        let codes = self.codes(0).map_or(0, Codes::resident_bytes);
        size_of::<Self>() + self.bytes_by_part().iter().sum::<usize>() + codes
    }

    /// Bytes of the lists of level 0, of those of the upper levels, and of the working memory of walks.
    pub(crate) fn bytes_by_part(&self) -> [usize; 3] {
        [self.nodes.resident_bytes(), self.upper.resident_bytes(), self.scratch.resident_bytes()]
    }

    /// Bytes that the lists of `rows` nodes take before they are there, and the codes of their vectors of `dim`
    /// elements, unless the parameters ask for none: an estimate of what [`resident_bytes`](Self::resident_bytes)
    /// grows to. Metrics and elements that have no codes take less.
    pub fn reserved_bytes(params: &BuildParams, dim: usize, rows: usize) -> usize {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let m = params.m.clamp(2, MAX_M);
        let m0 = params.m0.unwrap_or(2 * m).clamp(m, 2 * MAX_M);
        // Each node is on 1 / (m - 1) upper levels on average.
        let upper = (rows / (m as u32 - 1)).saturating_add(1);
        let codes = if params.codes == Coding::Off { 0 } else { Codes::bytes_for(dim, rows) };
        SlotArena::bytes_for(m0, true, rows) + SlotArena::bytes_for(m, false, upper) + codes
    }

    fn check_metric<S: VectorSource + ?Sized>(&self, source: &S) -> Result<()> {
        let Some(&(distance_type, dim)) = self.metric.get() else { return Ok(()) };
        let mismatch =
            |what, expected: String, actual: String| Err(Error::SourceMismatch { what, expected, actual });
        if source.distance_type() != distance_type {
            return mismatch("distance type", distance_type.to_string(), source.distance_type().to_string());
        }
        if source.dim() != dim {
            return mismatch("dimension", dim.to_string(), source.dim().to_string());
        }
        Ok(())
    }

    /// The writer's lock. A panic of a caller's source leaves nothing half done behind it (see the
    /// module's documentation), so a poisoned lock is as good as any.
    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Level 0 of an imported graph that nothing was inserted into.
    #[inline(always)]
    fn frozen(&self) -> Option<&Frozen> {
        // Acquire pairs with the Release store in `thaw`: the arena is complete when it is read.
        self.frozen.as_ref().filter(|_| !self.thawed.load(Ordering::Acquire))
    }

    /// The list of a node on a level; empty if it has none there.
    #[inline(always)]
    fn neighbors(&self, level: usize, id: u32) -> List<'_> {
        if let Some(frozen) = self.frozen().filter(|_| level == 0) {
            return List::Ids(frozen.lists.neighbors(id));
        }
        self.arena_row(level, id).map_or(List::EMPTY, |(arena, row)| List::Slots(arena.neighbors(row)))
    }

    /// Where the list of a node on a level is, if it is in an arena.
    #[inline(always)]
    fn arena_row(&self, level: usize, id: u32) -> Option<(&SlotArena, u32)> {
        if level == 0 {
            return Some((&self.nodes, id));
        }
        let upper = match self.frozen() {
            Some(frozen) => *frozen.upper.get(&id)?,
            None => self.nodes.upper(id),
        };
        (upper != NONE).then(|| (&self.upper, upper + level as u32 - 1))
    }

    /// Slots of the longest list that can be.
    fn longest_list(&self) -> usize {
        self.nodes.slots_per_row().max(self.upper.slots_per_row())
    }

    /// The edges of a node on a level, with their distances. Writer only.
    fn edges(&self, level: usize, id: u32) -> Vec<(u32, f32)> {
        if let Some(frozen) = self.frozen().filter(|_| level == 0) {
            return frozen.edges(id);
        }
        self.arena_row(level, id).map_or_else(Vec::new, |(arena, row)| arena.edges(row).collect())
    }

    /// The highest entry point below `end`.
    fn entry_below(&self, end: u32) -> Entry {
        let level = (0..MAX_LEVELS).rev().find(|&l| self.entries[l].load(Ordering::Relaxed) < end);
        let level = level.unwrap_or(0);
        let id = self.entries[level].load(Ordering::Relaxed);
        Entry { level, id: if id < end { id } else { 0 } }
    }
}
