//! Recall and speed of searches at one width.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pennon::{HnswIndex, SearchParams};
use rayon::prelude::*;
use serde::Serialize;

use crate::failure::Result;
use crate::query_set::Query;
use crate::truth::Truth;

/// Passes over the queries are repeated until they have taken this long together, so that few
/// queries are not timed by one moment of the machine.
const TIMED_FOR: Duration = Duration::from_millis(300);

/// What a width costs and gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measurement {
    pub ef: usize,
    pub recall: f64,
    pub queries_per_second: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Searches for all queries on rayon's current pool: one pass to warm up, which also gives the
/// recall, then timed ones.
pub fn measure(
    index: &HnswIndex,
    queries: &[Query],
    truths: &[Truth],
    params: &SearchParams,
) -> Result<Measurement> {
    let recall = |(query, truth): (&Query, &Truth)| -> Result<f64> {
        let found = index.search(&query.vector, params.clone())?;
        Ok(truth.recall(&found))
    };
    let recalls = queries.par_iter().zip(truths).map(recall);
    let recalls = recalls.collect::<Result<Vec<f64>>>()?;

    let time = |query: &Query| -> Result<Duration> {
        let started = Instant::now();
        black_box(index.search(&query.vector, params.clone())?);
        Ok(started.elapsed())
    };
    let mut times = Vec::new();
    let started = Instant::now();
    while times.is_empty() || started.elapsed() < TIMED_FOR {
        times.extend(queries.par_iter().map(time).collect::<Result<Vec<_>>>()?);
    }
    let wall = started.elapsed().as_secs_f64();

    times.sort_unstable();
    let count = times.len() as f64;
    Ok(Measurement {
        ef: params.ef,
        recall: recalls.iter().sum::<f64>() / recalls.len() as f64,
        queries_per_second: count / wall.max(1e-9),
        mean_us: microseconds(times.iter().sum()) / count,
        p50_us: microseconds(percentile(&times, 50)),
        p99_us: microseconds(percentile(&times, 99)),
    })
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The smallest time that `percent` of all times do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    let time = sorted.get(rank.saturating_sub(1));
    time.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(percentile(&times, 50), Duration::from_micros(100));
        assert_eq!(percentile(&times, 99), Duration::from_micros(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_micros(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
