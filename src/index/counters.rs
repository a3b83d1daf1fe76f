//! What was done to an index since it was made, counted: cheap enough to be read every second.
//!
//! # Where searches count
//! A counter that all searches write to would be a cache line that travels between all cores. So there are
//! [`STRIPES`] copies of the counters of searches, each on cache lines of its own. A thread takes the number of its copy
//! with its first search, in turn, and adds to that copy for as long as it lives: with no more threads than copies, no
//! search writes what another thread writes. Further threads share copies, and lose time at most, because each addition
//! is one atomic operation. Whoever reads the counters adds the copies up, some kilobytes.
//!
//! All orderings are Relaxed: a counter says nothing of other memory. What a thread counted before it was joined is in
//! the sum; of what goes on meanwhile, some counters may have a search already that others do not.
//!
//! The counters belong to an index and not to a generation. Each generation has a share in them, so that readers of older
//! ones count to the same.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::index::{Compaction, Index};
use crate::search::{SearchPlan, SearchStats};
use crate::vectors::{Appended, SkippedRows};

/// Copies of the counters of searches; a power of two.
const STRIPES: usize = 32;

/// What was done to an index since it was made or loaded, in this process: [`Index::counters`]. No counter ever falls.
///
/// Searches count to the index whose rows they search, also those of readers of older generations. A copy of an index
/// ([`Reader::compacted`](crate::Reader::compacted), [`Reader::reordered`](crate::Reader::reordered)) counts from
/// zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Searches that were answered: each query of a batch, and each exact search. Queries that were refused or null
    /// do not count, and neither do cursors.
    pub searches: u64,
    /// Searches of which [`SearchPlan::Graph`] was the way.
    pub graph_searches: u64,
    /// Searches of which [`SearchPlan::FilteredGraph`] was the way.
    pub filtered_searches: u64,
    /// Searches of which [`SearchPlan::Scan`] was the way: of an index without a graph, exact ones, and those for whose
    /// filter a scan was cheaper or had to make up for a walk.
    pub scans: u64,
    /// Searches that a deadline or a limit ended.
    pub incomplete_searches: u64,
    /// Distances that searches computed from vectors: [`SearchStats::distances`].
    pub distances: u64,
    /// Distances that searches estimated: [`SearchStats::estimates`].
    pub estimates: u64,
    /// The part of `distances` that was computed for rows met by estimate.
    pub reranked: u64,
    /// Nodes that searches expanded.
    pub nodes: u64,
    /// Cursors that were opened.
    pub cursors: u64,
    /// Appends and upserts that succeeded. Several batches that are appended at once count once.
    pub appends: u64,
    /// Appends and upserts that returned an error, whatever it was.
    pub failed_appends: u64,
    /// Rows that got a vector id.
    pub appended_rows: u64,
    /// Rows that were appended without a usable vector, and why.
    pub skipped: SkippedRows,
    /// Rows whose place other rows took.
    pub replaced_rows: u64,
    /// Deletes that succeeded, of one row or several.
    pub deletes: u64,
    /// Rows that were deleted.
    pub deleted_rows: u64,
    /// Appends and upserts that waited for another writer.
    pub writer_waits: u64,
    /// How long they waited, in nanoseconds.
    pub writer_wait_nanos: u64,
    /// Compactions that succeeded. Each begins a generation.
    pub compactions: u64,
    /// Dead rows that compactions removed.
    pub removed_rows: u64,
}

impl Index {
    /// What was done since the index was made or loaded. Waits for nobody but for the moment in which rows that are
    /// appended are counted.
    pub fn counters(&self) -> Counters {
        let generation = self.generations.peek();
        generation.tally.counters(generation.store.skipped())
    }
}

impl Index {
    /// Counts a wait of those who write to several indexes at once.
    pub(crate) fn waited(&self, time: Duration) {
        self.generations.peek().tally.waited(time);
    }
}

/// Counts what one counter counts.
#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, n: u64) {
        // Most searches leave some counters as they are.
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of the searches of some threads: one cache line, on a pair of lines of its own, because CPUs fetch
/// lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    graph: Count,
    filtered: Count,
    scans: Count,
    incomplete: Count,
    distances: Count,
    estimates: Count,
    reranked: Count,
    nodes: Count,
}

/// The counters of an index, which its generations share.
#[derive(Default)]
pub(crate) struct Tally {
    stripes: [Stripe; STRIPES],
    cursors: Count,
    appends: Count,
    failed_appends: Count,
    appended_rows: Count,
    replaced_rows: Count,
    deletes: Count,
    deleted_rows: Count,
    writer_waits: Count,
    writer_wait_nanos: Count,
    compactions: Count,
    removed_rows: Count,
}

/// The number of the stripe of this thread.
fn stripe_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const NONE: usize = usize::MAX;
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(NONE) };
    }
    // A thread that ends may search from a destructor, when its number is gone already.
    let known = STRIPE.try_with(Cell::get).unwrap_or(0);
    if known != NONE {
        return known;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    STRIPE.set(number);
    number
}

impl Tally {
    pub fn searched(&self, stats: &SearchStats) {
        let stripe = &self.stripes[stripe_of_thread() % STRIPES];
        match stats.plan {
            SearchPlan::Graph => &stripe.graph,
            SearchPlan::FilteredGraph => &stripe.filtered,
            SearchPlan::Scan => &stripe.scans,
        }
        .add(1);
        stripe.incomplete.add(u64::from(!stats.complete));
        stripe.distances.add(stats.distances);
        stripe.estimates.add(stats.estimates);
        stripe.reranked.add(stats.reranked);
        stripe.nodes.add(stats.nodes);
    }

    pub fn opened_cursor(&self) {
        self.cursors.add(1);
    }

    /// Counts an append, if it succeeded with its rows.
    pub fn appended<E>(&self, outcome: Result<&Appended, E>) {
        match outcome {
            Ok(appended) => {
                self.appends.add(1);
                self.appended_rows.add(appended.len() as u64);
            }
            Err(_) => self.failed_appends.add(1),
        }
    }

    pub fn replaced(&self, rows: u32) {
        self.replaced_rows.add(u64::from(rows));
    }

    pub fn deleted(&self, rows: usize) {
        self.deletes.add(1);
        self.deleted_rows.add(rows as u64);
    }

    /// Counts a wait for the lock of writers.
    pub fn waited(&self, time: Duration) {
        self.writer_waits.add(1);
        self.writer_wait_nanos.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn compacted(&self, compaction: &Compaction) {
        self.compactions.add(1);
        self.removed_rows.add(compaction.removed as u64);
    }

    fn counters(&self, skipped: SkippedRows) -> Counters {
        let sum = |count: fn(&Stripe) -> &Count| self.stripes.iter().map(|stripe| count(stripe).get()).sum();
        let mut counters = Counters {
            searches: 0,
            graph_searches: sum(|stripe| &stripe.graph),
            filtered_searches: sum(|stripe| &stripe.filtered),
            scans: sum(|stripe| &stripe.scans),
            incomplete_searches: sum(|stripe| &stripe.incomplete),
            distances: sum(|stripe| &stripe.distances),
            estimates: sum(|stripe| &stripe.estimates),
            reranked: sum(|stripe| &stripe.reranked),
            nodes: sum(|stripe| &stripe.nodes),
            cursors: self.cursors.get(),
            appends: self.appends.get(),
            failed_appends: self.failed_appends.get(),
            appended_rows: self.appended_rows.get(),
            skipped,
            replaced_rows: self.replaced_rows.get(),
            deletes: self.deletes.get(),
            deleted_rows: self.deleted_rows.get(),
            writer_waits: self.writer_waits.get(),
            writer_wait_nanos: self.writer_wait_nanos.get(),
            compactions: self.compactions.get(),
            removed_rows: self.removed_rows.get(),
        };
        counters.searches = counters.graph_searches + counters.filtered_searches + counters.scans;
        counters
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_live_at_once_have_stripes_of_their_own() {
        // Threads of other tests may take numbers in between, so that some of these share.
        let threads = STRIPES / 4;
        let own: Vec<usize> = thread::scope(|scope| {
            let of = || (stripe_of_thread(), stripe_of_thread());
            let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(of)).collect();
            let numbers = spawned.into_iter().map(|thread| thread.join().unwrap());
            numbers.inspect(|(first, again)| assert_eq!(first, again)).map(|of| of.0).collect()
        });
        assert!(own.iter().all(|&stripe| stripe < STRIPES));
        let different = own.iter().collect::<BTreeSet<_>>().len();
        assert!(different > threads / 2, "{own:?}");
        assert_eq!(size_of::<Stripe>(), 128);
    }
}
