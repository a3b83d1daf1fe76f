//! The protocols between writers and readers, on loom: the library's own files, with loom's atomics below them.
//!
//! `publication` is about the graph's watermarks, `lists` about a neighbor list that changes while it is read,
//! `blocks` about the addresses of vectors, `updates` about versions, `compaction` about a generation that takes the
//! place of another. Each also runs its protocol with a fault, and fails if no execution shows it.
#![allow(clippy::unwrap_used)]

mod blocks;
mod compaction;
mod lists;
mod publication;
mod updates;
mod util;

#[allow(dead_code, reason = "the models call only what readers and writers share")]
#[path = "../../src/index/handover.rs"]
mod handover;
#[allow(dead_code, reason = "as above")]
#[path = "../../src/graph/memory/slots.rs"]
mod slots;
#[allow(dead_code, reason = "as above")]
#[path = "../../src/search/version.rs"]
mod version;
#[allow(dead_code, reason = "as above")]
#[path = "../../src/graph/memory/watermarks.rs"]
mod watermarks;

/// Where the library's files look for it.
mod search {
    pub(crate) use crate::version::IndexVersion;
}

/// What the file of addresses is about: [`vectors::blocks`] is the library's.
mod vectors {
    pub(crate) mod element_type;

    #[allow(dead_code, reason = "as above")]
    #[path = "../../../src/vectors/blocks.rs"]
    pub(crate) mod blocks;
    #[allow(dead_code, reason = "as above")]
    #[path = "../../../src/vectors/row_ids.rs"]
    pub(crate) mod row_ids;
}

/// What the library's files refuse.
#[allow(dead_code, reason = "the models give rise to none")]
mod error {
    #[derive(Debug)]
    pub(crate) enum Error {
        RowIdOverflow { row_id_start: u64, rows: usize },
        RowIdCount { rows: usize, row_ids: usize },
        NullRowId { row: usize },
    }

    pub(crate) type Result<T> = std::result::Result<T, Error>;
}

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use loom::model::Builder;

use slots::Row;

/// How a model is run.
///
/// Loom answers a load with every store that the memory model allows, old ones included, and readers store nothing:
/// whatever a reader can see, it can see after the writers are done. So executions without preemptions show
/// everything about one writer. Preemptions show the same in other orders, and let two writers change places.
#[derive(Clone, Copy)]
struct Run {
    preemptions: usize,
    relaxed: bool,
}

impl Run {
    const AS_WRITTEN: Self = Self { preemptions: 2, relaxed: false };
    /// For what is broken otherwise than by its orderings.
    const FAULTY: Self = Self { preemptions: 0, relaxed: false };
    /// All orderings Relaxed.
    const RELAXED: Self = Self { preemptions: 0, relaxed: true };
}

/// What one thread of a model does.
type Role<S> = Arc<dyn Fn(&S) + Send + Sync>;

fn role<S>(act: impl Fn(&S) + Send + Sync + 'static) -> Role<S> {
    Arc::new(act)
}

/// All that `read` can return beside `writers`, in every execution.
fn outcomes<S: 'static, T: Ord + Send + 'static>(
    run: Run,
    setup: impl Fn() -> S + Send + Sync + 'static,
    writers: Vec<Role<S>>,
    read: impl Fn(&S) -> T + Send + Sync + 'static,
) -> BTreeSet<T> {
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let reader = {
        let found = Arc::clone(&found);
        role(move |shared: &S| {
            let outcome = read(shared);
            found.lock().unwrap().insert(outcome);
        })
    };
    // Of the threads that can run, loom starts the first one first.
    let roles: Vec<Role<S>> = writers.into_iter().chain([reader]).collect();
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);

    let mut builder = Builder::new();
    builder.preemption_bound = Some(run.preemptions);
    util::atomics::RELAXED.set(run.relaxed);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(setup());
        for role in &roles {
            let (role, shared) = (Arc::clone(role), Arc::clone(&shared));
            loom::thread::spawn(move || role(&shared));
        }
    });
    let found = std::mem::take(&mut *found.lock().unwrap());
    println!("{} outcomes in {} executions", found.len(), executions.load(Ordering::Relaxed));
    found
}

/// A list without distances.
fn edges(ids: &[u32]) -> Vec<(u32, f32)> {
    ids.iter().map(|&id| (id, 0.0)).collect()
}

/// The words of a row, in the order in which readers meet them.
fn words(row: Row<'_>) -> Vec<u32> {
    let mut words = Vec::new();
    row.for_each(|word| words.push(word));
    words
}
