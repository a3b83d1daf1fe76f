//! What the publication protocols synchronize by, in one place: the models of `tests/loom` put their own here.

use std::sync::{Arc, PoisonError, TryLockError};

use arc_swap::ArcSwap;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};

/// Slots of one line of a neighbor list: 64 bytes.
pub(crate) const LANES: usize = 16;

/// Ids of a block of addresses.
pub(crate) const BLOCK: u32 = 256;

/// The lock, also after a panic: for what no panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, unless somebody else has it; also after a panic.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A shared pointer that is exchanged at one instant. To load it waits for nobody.
#[derive(Debug)]
pub(crate) struct Pointer<T>(ArcSwap<T>);

impl<T> Pointer<T> {
    pub fn new(first: Arc<T>) -> Self {
        Self(ArcSwap::new(first))
    }

    /// What the pointer points to, for a moment: no reference count is written to.
    pub fn peek(&self) -> impl std::ops::Deref<Target = Arc<T>> {
        self.0.load()
    }

    /// What the pointer points to. Acquire: whatever was written before it was stored is seen.
    pub fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Points to something else from now on. Release.
    pub fn store(&self, next: Arc<T>) {
        self.0.store(next);
    }
}
