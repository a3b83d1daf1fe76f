//! How a long call is watched and ended: what it looks at between two parts of its work.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the caller of a long call wants to know of it and to say to it: `Control::new().cancelled_by(&flag)`.
///
/// Appends look at it between sub-batches of at most some hundred rows, compactions between some thousand rows, saves
/// between batches of some megabytes, always on the thread of the caller. A call of a [`Collection`](crate::Collection)
/// goes through its columns of vectors one after the other, and counts from zero for each.
///
/// ```
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # use arrow_array::{FixedSizeListArray, types::Float32Type};
/// # use pennon::{BuildParams, Control, DistanceType, Error, Index};
/// # fn main() -> pennon::Result<()> {
/// # let points = (0..1000_u16).map(|x| Some([Some(f32::from(x)), Some(1.0)]));
/// # let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2);
/// # let index = Index::hnsw(2, DistanceType::L2, BuildParams::default())?;
/// let stop = AtomicBool::new(false);
/// let half = |progress: pennon::Progress| {
///     if progress.done > progress.total / 2 {
///         stop.store(true, Ordering::Relaxed); // as any other thread may
///     }
/// };
/// let control = Control::new().on_progress(&half).cancelled_by(&stop);
/// let error = index.append_controlled(&vectors, 0u64, &control).unwrap_err();
/// assert!(matches!(error, Error::Cancelled { operation: "append", total: 1000, .. }));
/// assert!(index.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use]
pub struct Control<'a> {
    cancelled: Option<&'a AtomicBool>,
    observer: Option<&'a (dyn Fn(Progress) + Sync + 'a)>,
    waits: bool,
}

/// How far a long call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// What is under way.
    pub stage: Stage,
    /// Rows of it that are done.
    pub done: u64,
    /// All rows of it.
    pub total: u64,
}

/// What a long call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// An append links rows into the graph, or codes them where there is none. Rows without a usable vector are not
    /// among them, except in the first report.
    Append,
    /// A compaction links the rows that are alive. Rows that were appended meanwhile follow when all are done.
    Compact,
    /// A save writes the vectors of all rows, and then the compact codes of all rows, if there are any: then the total is
    /// twice the number of rows.
    Save,
}

impl Stage {
    /// What was cancelled, if it was cancelled in this stage.
    fn operation(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Compact => "compaction",
            Self::Save => "save",
        }
    }
}

impl Default for Control<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Control<'a> {
    /// Nothing is watched, and nothing ends the call.
    pub const fn new() -> Self {
        Self { cancelled: None, observer: None, waits: true }
    }

    /// Ends the call with [`Error::Cancelled`] soon after somebody has stored `true`. What is left then is said where
    /// the call is described.
    pub fn cancelled_by(mut self, flag: &'a AtomicBool) -> Self {
        self.cancelled = Some(flag);
        self
    }

    /// Calls `observer` before the first part of the work and after each, and before the flag of
    /// [`cancelled_by`](Self::cancelled_by) is looked at. The writer's lock may be held then: `observer` must not
    /// change the index.
    pub fn on_progress(mut self, observer: &'a (impl Fn(Progress) + Sync)) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns [`Error::Busy`] at once where the call would wait for another writer.
    pub fn no_wait(mut self) -> Self {
        self.waits = false;
        self
    }

    /// This control, of a call that waits for other writers.
    pub(crate) fn waiting(self) -> Self {
        Self { waits: true, ..self }
    }

    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Reports how far a stage is, and ends it if the caller wants that.
    pub(crate) fn check(&self, stage: Stage, done: u64, total: u64) -> Result<()> {
        if let Some(observer) = self.observer {
            observer(Progress { stage, done, total });
        }
        // Relaxed: the flag says nothing of other memory.
        if self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled { operation: stage.operation(), done, total });
        }
        Ok(())
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Control");
        debug.field("cancelled", &self.cancelled).field("observed", &self.observer.is_some());
        debug.field("waits", &self.waits).finish()
    }
}
