//! How much slower is a search while a writer ingests at full speed on another core?
//!
//! Prints p50, p99 and the mean of single searches from one thread: idle, and while another thread appends
//! batches without a pause. The index holds about as many rows in both phases.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pennon::{DistanceType, Index, SearchParams};

const DIM: usize = 100;
const ROWS: usize = 50_000;
const SEARCHES: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The writer's own thread, so that one core is left for the reader.
    let writer = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    println!("{ROWS} rows x {DIM}, cosine, ef 64, one reader; microseconds");
    println!("{:<28}{:>8}{:>8}{:>8}", "", "mean", "p50", "p99");
    for batch in [1, 100, 1_000] {
        let index = support::index(ROWS, DIM, DistanceType::Cosine);
        let queries = support::clustered(1_000, DIM, 2);
        measure(&index, &queries, "idle")?;

        let (done, started) = (AtomicBool::new(false), AtomicBool::new(false));
        let rows = support::clustered(20_000, DIM, 3);
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| {
                writer.install(|| {
                    for (at, rows) in rows.chunks_exact(batch * DIM).enumerate() {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        index.append(&support::array(rows.to_vec(), DIM), (ROWS + at * batch) as u64)?;
                        started.store(true, Ordering::Relaxed);
                    }
                    Ok::<_, pennon::Error>(())
                })
            });
            while !started.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            let before = index.len();
            let measured = measure(&index, &queries, &format!("appending batches of {batch}"));
            assert!(index.len() > before || before == ROWS + 20_000, "nothing was appended meanwhile");
            done.store(true, Ordering::Relaxed);
            appending.join().map_err(|_| "the writer panicked")??;
            measured
        })?;
    }
    Ok(())
}

fn measure(index: &Index, queries: &[f32], what: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut micros = Vec::with_capacity(SEARCHES);
    for query in queries.chunks_exact(DIM).cycle().take(SEARCHES) {
        let start = Instant::now();
        let hits = index.search(query, &SearchParams::new(10).ef(64))?.into_vec();
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        assert_eq!(hits.len(), 10);
    }
    micros.sort_by(f64::total_cmp);
    let mean = micros.iter().sum::<f64>() / micros.len() as f64;
    let percentile = |p: usize| micros[micros.len() * p / 100];
    println!("{what:<28}{mean:>8.1}{:>8.1}{:>8.1}", percentile(50), percentile(99));
    Ok(())
}
