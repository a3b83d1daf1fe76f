//! What stands below the library's files in the models: its `util`, on loom.

/// The atomics, on loom.
pub(crate) mod atomics {
    use std::cell::Cell;
    use std::ops::Deref;
    pub(crate) use std::sync::atomic::Ordering;
    use std::sync::{Arc, OnceLock};

    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
    }

    /// So that a row of four slots has two lines: every atomic costs time in every execution.
    pub(crate) const LANES: usize = 2;

    thread_local! {
        /// Whether all accesses are Relaxed, whatever they ask for. Loom runs the threads of a model on the one
        /// thread that checks it, so this is the flag of one model and of no other test.
        pub(crate) static RELAXED: Cell<bool> = const { Cell::new(false) };
    }

    fn effective(ordering: Ordering) -> Ordering {
        if RELAXED.get() { Ordering::Relaxed } else { ordering }
    }

    macro_rules! atomic {
        ($name:ident, $word:ty) => {
            #[derive(Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(word: $word) -> Self {
                    Self(loom::sync::atomic::$name::new(word))
                }

                pub fn load(&self, ordering: Ordering) -> $word {
                    self.0.load(effective(ordering))
                }

                pub fn store(&self, word: $word, ordering: Ordering) {
                    self.0.store(word, effective(ordering));
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    /// A shared pointer that is exchanged: the number of a slot, which a thread may see late as any other word.
    pub(crate) struct Pointer<T> {
        slots: [OnceLock<Arc<T>>; 2],
        at: AtomicU32,
    }

    impl<T> Pointer<T> {
        pub fn new(first: Arc<T>) -> Self {
            Self { slots: [OnceLock::from(first), OnceLock::new()], at: AtomicU32::new(0) }
        }

        pub fn peek(&self) -> impl Deref<Target = Arc<T>> {
            Box::new(self.load())
        }

        pub fn load(&self) -> Arc<T> {
            Arc::clone(self.slots[self.at.load(Ordering::Acquire) as usize].get().unwrap())
        }

        /// Once in a model.
        pub fn store(&self, next: Arc<T>) {
            assert!(self.slots[1].set(next).is_ok());
            self.at.store(1, Ordering::Release);
        }
    }
}

/// Chunked arrays with one chunk of [`LEN`](chunked::LEN) elements. Loom does not know `OnceLock`: a model
/// makes the chunk before its threads start.
pub(crate) mod chunked {
    use std::sync::OnceLock;

    pub(crate) const LEN: usize = 4;

    #[derive(Clone, Copy)]
    pub(crate) struct Place {
        pub chunk: usize,
        pub offset: usize,
        pub len: usize,
    }

    pub(crate) fn locate(index: u32) -> Place {
        Place { chunk: index as usize / LEN, offset: index as usize % LEN, len: LEN }
    }

    pub(crate) type Directory<T> = Box<[OnceLock<Box<[T]>>]>;

    pub(crate) fn empty_directory<T>() -> Directory<T> {
        Box::new([OnceLock::new()])
    }

    pub(crate) struct Chunked<T>(OnceLock<Box<[T]>>);

    impl<T: Default> Chunked<T> {
        pub fn new() -> Self {
            Self(OnceLock::new())
        }

        pub fn get(&self, index: u32) -> Option<&T> {
            self.0.get()?.get(index as usize)
        }

        pub fn get_or_grow(&self, index: u32) -> &T {
            &self.0.get_or_init(|| (0..LEN).map(|_| T::default()).collect())[index as usize]
        }

        pub fn resident_bytes(&self) -> usize {
            0
        }
    }
}

/// The cache hint, without effect.
pub(crate) mod prefetch {
    pub(crate) fn prefetch<T>(_: &[T], _: usize) {}
}
