//! Work on the nodes of a sub-batch, by as many threads as rayon's current pool has.
//!
//! Not by the pool's own threads: the caller holds the writer's lock, and a rayon worker that waits for
//! others runs whatever else the pool has to do meanwhile, perhaps an append that waits for that lock.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Fewer items than this are not worth a thread.
const WORTH_A_THREAD: usize = 8;

/// `work` on each item, in the order of the items. A panic of `work` goes on in the caller.
pub(crate) fn map<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let threads = rayon::current_num_threads().min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    // Runs of items, because neighbors share what they read; many, so that no thread is left waiting.
    let run = items.len().div_ceil(threads * 8);
    let next = AtomicUsize::new(0);
    let take_runs = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match items.chunks(run).nth(at) {
                Some(items) => done.push((at, items.iter().map(&work).collect::<Vec<T>>())),
                None => return done,
            }
        }
    };
    let mut runs = thread::scope(|scope| {
        // If the system refuses a thread, those that there are do the work.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, take_runs).ok();
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut runs = take_runs();
        for helper in helpers {
            runs.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        runs
    });
    runs.sort_unstable_by_key(|run| run.0);
    runs.into_iter().flat_map(|run| run.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_for_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for len in [0_usize, 1, 7, 16, 100, 1_001] {
                let items: Vec<usize> = (0..len).collect();
                assert_eq!(
                    pool.install(|| map(&items, |i| i * 2)),
                    (0..len).map(|i| i * 2).collect::<Vec<_>>()
                );
            }
        }
    }
}
