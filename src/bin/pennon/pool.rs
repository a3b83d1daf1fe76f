//! Runs work on a thread pool of the size asked for.

use rayon::ThreadPoolBuilder;

use crate::arguments::at_least_one;
use crate::failure::{Context, Result};

/// Runs `work` on a pool of `threads` threads, of all the machine's if it is `None`.
/// What `work` does with rayon stays on that pool.
pub fn install<T: Send>(threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if let Some(threads) = threads {
        at_least_one("--threads", threads)?;
    }
    // To rayon 0 threads means one per CPU.
    let pool = ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let pool = pool.build().context(|| "cannot start threads".to_owned())?;
    pool.install(work)
}
