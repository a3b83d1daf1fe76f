//! What stands below the library's files in the models: its `util`, on loom.

/// The atomics, on loom.
pub(crate) mod atomics {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::ops::Deref;
    use std::panic::Location;
    pub(crate) use std::sync::atomic::Ordering;
    use std::sync::{Arc, OnceLock as StdOnceLock};

    pub(crate) use loom::sync::{Mutex, MutexGuard};

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
    }

    /// So that a row of four slots has two lines: every atomic costs time in every execution.
    pub(crate) const LANES: usize = 2;
    /// So that four ids fill a block.
    pub(crate) const BLOCK: u32 = 4;

    /// Where a file asks for an ordering: its line and column.
    pub(crate) type Site = (&'static str, u32, u32);

    // Loom runs the threads of a model on the one thread that checks it, so these are of one model and of no other
    // test.
    thread_local! {
        /// Whether all accesses are Relaxed, whatever they ask for.
        pub(crate) static RELAXED: Cell<bool> = const { Cell::new(false) };
        /// The one place whose accesses are Relaxed, whatever it asks for.
        pub(crate) static WEAKENED: Cell<Option<Site>> = const { Cell::new(None) };
        /// All places that asked for more than Relaxed, if somebody wants to know.
        pub(crate) static SITES: RefCell<Option<BTreeSet<Site>>> = const { RefCell::new(None) };
    }

    #[track_caller]
    fn effective(ordering: Ordering) -> Ordering {
        if ordering == Ordering::Relaxed || RELAXED.get() {
            return Ordering::Relaxed;
        }
        let caller = Location::caller();
        let site = (caller.file(), caller.line(), caller.column());
        SITES.with_borrow_mut(|sites| sites.as_mut().map(|sites| sites.insert(site)));
        if WEAKENED.get() == Some(site) { Ordering::Relaxed } else { ordering }
    }

    macro_rules! atomic {
        ($name:ident, $word:ty) => {
            #[derive(Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(word: $word) -> Self {
                    Self(loom::sync::atomic::$name::new(word))
                }

                #[track_caller]
                pub fn load(&self, ordering: Ordering) -> $word {
                    self.0.load(effective(ordering))
                }

                #[allow(dead_code, reason = "a count is only added to")]
                #[track_caller]
                pub fn store(&self, word: $word, ordering: Ordering) {
                    self.0.store(word, effective(ordering));
                }
            }
        };
    }

    macro_rules! counter {
        ($($name:ident, $word:ty;)*) => {$(
            impl $name {
                #[track_caller]
                pub fn fetch_add(&self, by: $word, ordering: Ordering) -> $word {
                    self.0.fetch_add(by, effective(ordering))
                }
            }
        )*};
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
    counter! {
        AtomicU32, u32;
        AtomicUsize, usize;
    }

    /// What an address leads to that was never stored: all bits are set. A fault must not read outside of memory.
    static NOWHERE: [u64; 16] = [u64::MAX; 16];

    pub(crate) struct AtomicPtr<T>(loom::sync::atomic::AtomicPtr<T>);

    impl<T> AtomicPtr<T> {
        pub fn new(address: *mut T) -> Self {
            assert!(size_of::<T>() <= size_of::<u64>());
            Self(loom::sync::atomic::AtomicPtr::new(address))
        }

        #[track_caller]
        pub fn load(&self, ordering: Ordering) -> *mut T {
            let address = self.0.load(effective(ordering));
            if address.is_null() { NOWHERE.as_ptr().cast_mut().cast() } else { address }
        }

        #[track_caller]
        pub fn store(&self, address: *mut T, ordering: Ordering) {
            self.0.store(address, effective(ordering));
        }
    }

    /// A cell that is filled once; a thread may see that late, as any other store.
    pub(crate) struct OnceLock<T> {
        is_full: loom::sync::atomic::AtomicBool,
        value: StdOnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub fn new() -> Self {
            Self { is_full: loom::sync::atomic::AtomicBool::new(false), value: StdOnceLock::new() }
        }

        pub fn get(&self) -> Option<&T> {
            self.value.get().filter(|_| self.is_full.load(Ordering::Acquire))
        }

        /// By one thread alone.
        pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            self.is_full.store(true, Ordering::Release);
            value
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }

    /// A shared pointer that is exchanged: the number of a slot, which a thread may see late as any other word.
    pub(crate) struct Pointer<T> {
        slots: [StdOnceLock<Arc<T>>; 2],
        at: AtomicU32,
    }

    impl<T> Pointer<T> {
        pub fn new(first: Arc<T>) -> Self {
            Self { slots: [StdOnceLock::from(first), StdOnceLock::new()], at: AtomicU32::new(0) }
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

    pub(crate) fn chunk_lens(len: u32) -> impl Iterator<Item = usize> {
        std::iter::repeat_n(LEN, (len as usize).div_ceil(LEN))
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

        pub fn growth(&self, _len: u32) -> usize {
            0
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
