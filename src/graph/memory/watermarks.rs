//! The three words through which the writer publishes its work.
//!
//! One writer, any number of readers that never wait. `super` states the protocol.

use crate::util::atomics::{AtomicU32, AtomicU64, Ordering};

/// What a reader works with: loaded once, in the order `visible`, `entry`, `ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Ids below this may be returned.
    pub visible: u32,
    /// Where a search starts, and the node's level; `None` in an empty graph.
    pub entry: Option<Entry>,
    /// Ids below this may be dereferenced.
    pub ready: u32,
}

/// The entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub level: usize,
    pub id: u32,
}

pub(crate) struct Watermarks {
    visible: AtomicU32,
    /// Level in the high half, id in the low half; all ones in an empty graph.
    entry: AtomicU64,
    ready: AtomicU32,
}

const NO_ENTRY: u64 = u64::MAX;

impl Watermarks {
    pub fn new() -> Self {
        Self { visible: AtomicU32::new(0), entry: AtomicU64::new(NO_ENTRY), ready: AtomicU32::new(0) }
    }

    /// What may be read from now on.
    pub fn load(&self) -> View {
        // Acquire pairs with the Release store in `publish_visible`: every node below `visible` was
        // linked, and an entry point that leads to it was set, before.
        let visible = self.visible.load(Ordering::Acquire);
        // Pairs with `publish_entry`: the entry point's own lists were written before.
        let word = self.entry.load(Ordering::Acquire);
        // Pairs with `publish_ready`: the lists of all nodes below `ready` were written before. Last,
        // so that neither `visible` nor the entry point can be past it.
        let ready = self.ready.load(Ordering::Acquire);
        let entry = (word != NO_ENTRY).then_some(Entry { level: (word >> 32) as usize, id: word as u32 });
        View { visible, entry, ready }
    }

    /// Nodes below `end` have their vectors, slots and forward lists.
    pub fn publish_ready(&self, end: u32) {
        self.ready.store(end, Ordering::Release);
    }

    /// Searches start at `entry` from now on; it is linked already.
    pub fn publish_entry(&self, entry: Entry) {
        self.entry.store((entry.level as u64) << 32 | u64::from(entry.id), Ordering::Release);
    }

    /// Nodes below `end` may be returned.
    pub fn publish_visible(&self, end: u32) {
        self.visible.store(end, Ordering::Release);
    }

    pub fn visible(&self) -> u32 {
        self.visible.load(Ordering::Acquire)
    }
}
