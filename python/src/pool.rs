//! The threads of batch and exact searches: a pool for each process.
//!
//! A process that was forked has no thread of its parent's pool, and would wait for one for ever.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// The pool of this process, with as many threads as `RAYON_NUM_THREADS` says, or as there are processors.
pub fn pool() -> PyResult<Arc<ThreadPool>> {
    let process = std::process::id();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, pool)) = pool.as_ref()
        && *of == process
    {
        return Ok(Arc::clone(pool));
    }
    let name = |number| format!("pennon-{number}");
    let new = ThreadPoolBuilder::new().thread_name(name).build();
    let new = Arc::new(new.map_err(|error| PyRuntimeError::new_err(error.to_string()))?);
    // That of the parent is not shut down: its threads are not here to answer.
    std::mem::forget(pool.replace((process, Arc::clone(&new))));
    Ok(new)
}
