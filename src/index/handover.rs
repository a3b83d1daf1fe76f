//! How a compaction takes the place of the generation that it compacted, while everybody goes on.
//!
//! ```text
//! append, update:  lock appending; the current generation                 it stays current: 4 needs the lock
//! delete:          lock the rows of the current generation; still current? else again
//! reader:          the current generation, for as long as it is held      waits for nobody
//!
//! compaction:
//!   1  begin: the next generation, from one version of the current one    beside everybody
//!   2  follow: rows appended since, in rounds, until few are left         beside everybody
//!   3  lock appending; the last rows                                      appends wait
//!   4  lock the rows; all deletes since the version; the pointer          deletes wait
//! ```
//! A change is acknowledged after it was published in the generation that was current under its lock. If that was the
//! old one, the compaction has not got that lock yet, and will see the change when it has: appends in step 3, deletes
//! in step 4. If it was the new one, nothing is left to be seen. So no acknowledged change is lost.
//!
//! An old generation is freed with its last reader.

use std::sync::Arc;

use crate::search::IndexVersion;
use crate::util::atomics::{Mutex, MutexGuard, Pointer, lock, try_lock};

/// Rounds of step 2, at most: an appender may be as fast as they are.
const ROUNDS: usize = 8;
/// Rows that may be left for step 3.
const FEW: usize = 256;

/// What the protocol needs of a generation.
pub(crate) trait Generation {
    /// Guarded by the lock under which versions are published.
    type Rows;

    fn version(&self) -> IndexVersion;

    /// Locks the rows.
    fn lock_rows(&self) -> MutexGuard<'_, Self::Rows>;
}

/// The next generation, which nobody else sees yet.
pub(crate) trait Successor {
    type Generation;
    type Error;
    /// What is told of the compaction.
    type Report;

    /// Appends the rows that `old` got since it was followed last, up to a version. Returns how many.
    fn follow(&mut self, old: &Self::Generation, version: IndexVersion) -> Result<usize, Self::Error>;

    /// Deletes the rows that are dead in a version of `old`.
    fn bury(&mut self, old: &Self::Generation, version: IndexVersion);

    /// The generation, ready to be read, in the place of `old`.
    fn finish(self, old: &Self::Generation) -> (Self::Generation, Self::Report);
}

/// The steps of a compaction that can be watched, and left out in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionStep {
    /// Step 1 is done. Nothing is locked.
    Begun,
    /// Step 3, under the lock of appends.
    LastRows,
    /// Step 4, under both locks.
    LastDeletes,
}

/// The current generation, and the locks of those who change it.
pub(crate) struct Handover<G> {
    current: Pointer<G>,
    appending: Mutex<()>,
    compacting: Mutex<()>,
}

impl<G: Generation> Handover<G> {
    pub fn new(first: G) -> Self {
        let current = Pointer::new(Arc::new(first));
        Self { current, appending: Mutex::new(()), compacting: Mutex::new(()) }
    }

    /// The current generation, for a moment.
    pub fn peek(&self) -> impl std::ops::Deref<Target = Arc<G>> {
        self.current.peek()
    }

    /// The current generation.
    pub fn current(&self) -> Arc<G> {
        self.current.load()
    }

    /// Appends to the current generation, one caller at a time.
    pub fn append<T>(&self, append: impl FnOnce(&G) -> T) -> T {
        let _appending = lock(&self.appending);
        append(&self.current.load())
    }

    /// Appends to the current generation, unless somebody has the lock of appends: then it gives `append` back.
    pub fn try_append<T, F: FnOnce(&G) -> T>(&self, append: F) -> Result<T, F> {
        match try_lock(&self.appending) {
            Some(_appending) => Ok(append(&self.current.load())),
            None => Err(append),
        }
    }

    /// Changes the current generation under the lock of its rows alone.
    pub fn change<T>(&self, change: impl FnOnce(&G, &mut G::Rows) -> T) -> T {
        loop {
            let generation = self.current.load();
            let mut rows = generation.lock_rows();
            // The pointer is stored under this lock: whoever stored it before has let the lock go to this thread.
            if Arc::ptr_eq(&generation, &self.current.load()) {
                return change(&generation, &mut rows);
            }
        }
    }

    /// Puts the successor of the current generation in its place. Compactions wait for each other. `watch` is called
    /// before each step; if it returns false, the step is left out.
    pub fn replace<S: Successor<Generation = G>>(
        &self,
        begin: impl FnOnce(&Arc<G>) -> Result<S, S::Error>,
        watch: &mut dyn FnMut(CompactionStep) -> bool,
    ) -> Result<S::Report, S::Error> {
        self.replace_alone(&lock(&self.compacting), begin, watch)
    }

    /// [`replace`](Self::replace), unless another compaction is under way.
    pub fn try_replace<S: Successor<Generation = G>>(
        &self,
        begin: impl FnOnce(&Arc<G>) -> Result<S, S::Error>,
        watch: &mut dyn FnMut(CompactionStep) -> bool,
    ) -> Option<Result<S::Report, S::Error>> {
        let alone = try_lock(&self.compacting)?;
        Some(self.replace_alone(&alone, begin, watch))
    }

    fn replace_alone<S: Successor<Generation = G>>(
        &self,
        _alone: &MutexGuard<'_, ()>,
        begin: impl FnOnce(&Arc<G>) -> Result<S, S::Error>,
        watch: &mut dyn FnMut(CompactionStep) -> bool,
    ) -> Result<S::Report, S::Error> {
        let old = self.current.load();
        let mut next = begin(&old)?;
        watch(CompactionStep::Begun);
        for _ in 0..ROUNDS {
            if next.follow(&old, old.version())? <= FEW {
                break;
            }
        }
        let _appending = lock(&self.appending);
        if watch(CompactionStep::LastRows) {
            next.follow(&old, old.version())?;
        }
        let rows = old.lock_rows();
        if watch(CompactionStep::LastDeletes) {
            next.bury(&old, old.version());
        }
        let (next, report) = next.finish(&old);
        self.current.store(Arc::new(next));
        drop(rows);
        Ok(report)
    }
}
