//! Recall and speed of searches, and the queries for them.

use std::collections::HashSet;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use pennon::{DistanceType, Hit, Index, Reader, SearchParams, VectorSource};
use rayon::prelude::*;
use serde::Serialize;

use crate::ingest::{OnDuplicate, Source};
use crate::input::Input;

/// Passes over the queries are repeated until they have taken this long together, so that few queries are not timed by
/// one moment of the machine.
const TIMED_FOR: Duration = Duration::from_millis(300);

const SAMPLE_K: usize = 10;
pub const SAMPLE_EF: usize = 100;
/// Rows of a sample, and the time after which no more are taken.
const SAMPLE_ROWS: usize = 200;
const SAMPLE_TIME: Duration = Duration::from_secs(3);

/// A query with its position among the rows it was read from.
pub struct Query {
    pub position: u64,
    pub vector: Vec<f32>,
}

/// Queries that can be searched for.
pub struct Queries {
    pub queries: Vec<Query>,
    pub skipped: u64,
}

impl Queries {
    /// The usable vectors of a file, of any elements.
    pub fn read(path: &Path, column: &str, index: &Index) -> Result<Self> {
        let input = Input::open(path)?;
        let source = Source::check(&input, column, None, None, &[])?;
        let (elements, dim) = source.shape()?;
        let (name, expected) = (path.display(), index.dim());
        if dim != expected {
            bail!("the queries in {name} have dimension {dim}, the indexed vectors have {expected}");
        }
        // Which rows are usable depends on the metric for cosine alone, and l2 takes all elements.
        let metric = match index.distance_type() {
            DistanceType::Cosine => DistanceType::Cosine,
            _ => DistanceType::L2,
        };
        let read = Index::builder(dim, metric).element_type(elements).flat().build()?;
        let taken = source.fill(&read, 0, OnDuplicate::Never)?;
        if read.is_empty() {
            bail!("{name} has no usable query among {} rows", taken.rows);
        }
        let all = (0..read.len() as u32).collect::<Vec<_>>();
        Ok(Self { queries: of_ids(&read.reader(), &all), skipped: read.skipped().total() })
    }

    /// Up to `wanted` live rows of an index, evenly spaced.
    pub fn sampled(reader: &Reader, wanted: usize) -> Self {
        let live: Vec<u32> = reader.live_ids().set_indices_u32().collect();
        let count = wanted.min(live.len());
        let ids: Vec<u32> = (0..count).map(|at| live[at * live.len() / count]).collect();
        Self { queries: of_ids(reader, &ids), skipped: 0 }
    }
}

fn of_ids(reader: &Reader, ids: &[u32]) -> Vec<Query> {
    let rows = reader.snapshot();
    let query = |&id| Query { position: rows.row_id(id), vector: rows.widened(id).into_owned() };
    ids.iter().map(query).collect()
}

/// The true neighbors of one query.
///
/// A row also counts as true if it is as near as the farthest of them: among rows at one distance the choice is
/// arbitrary.
pub struct Truth {
    row_ids: HashSet<u64>,
    farthest: f32,
    size: usize,
}

impl Truth {
    /// The `k` nearest by an exact scan.
    pub fn exact(reader: &Reader, query: &[f32], k: usize) -> Result<Self> {
        let nearest = reader.search_exact(query, &SearchParams::new(k))?;
        let farthest = nearest.last().map_or(f32::NEG_INFINITY, |hit| hit.distance);
        Ok(Self { row_ids: nearest.row_ids().collect(), farthest, size: nearest.len() })
    }

    /// Given row ids, of which those that are not in the index cannot be found. The distances are computed here: those
    /// of another program may be of another scale.
    pub fn given(reader: &Reader, query: &[f32], row_ids: &[u64]) -> Result<Self> {
        let farthest = reader.score(query, row_ids)?.into_iter().flatten().fold(f32::NEG_INFINITY, f32::max);
        Ok(Self { row_ids: row_ids.iter().copied().collect(), farthest, size: row_ids.len() })
    }

    /// The share of the true neighbors that an answer of as many rows has.
    pub fn recall(&self, found: &[Hit]) -> f64 {
        let is_true = |hit: &&Hit| hit.distance <= self.farthest || self.row_ids.contains(&hit.row_id);
        found.iter().take(self.size).filter(is_true).count() as f64 / self.size.max(1) as f64
    }
}

/// The recall of searches for rows of the index, each of which is part of its own answer.
pub struct Sample {
    pub queries: usize,
    pub recall: f64,
}

/// Searches for evenly spaced rows until the time is over.
pub fn sampled_recall(reader: &Reader) -> Result<Sample> {
    let started = Instant::now();
    let params = SearchParams::new(SAMPLE_K).ef(SAMPLE_EF);
    let recall = |query: &Query| -> Result<f64> {
        let truth = Truth::exact(reader, &query.vector, SAMPLE_K)?;
        Ok(truth.recall(&reader.search(&query.vector, &params)?))
    };
    let mut recalls: Vec<f64> = Vec::new();
    let all = Queries::sampled(reader, SAMPLE_ROWS).queries;
    // Not in their order, so that those of a sample that is cut short come from everywhere.
    let rounds = all.len().div_ceil(8);
    for first in 0..rounds {
        if first > 0 && started.elapsed() > SAMPLE_TIME {
            break;
        }
        let round: Vec<&Query> = all.iter().skip(first).step_by(rounds).collect();
        recalls.extend(round.into_par_iter().map(recall).collect::<Result<Vec<_>>>()?);
    }
    Ok(Sample { queries: recalls.len(), recall: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64 })
}

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

/// Searches for all queries on rayon's current pool: one pass to warm up, which also gives the recall, then timed ones.
pub fn measure(
    reader: &Reader,
    queries: &[Query],
    truths: &[Truth],
    k: usize,
    ef: usize,
) -> Result<Measurement> {
    let params = SearchParams::new(k).ef(ef);
    let recall = |(query, truth): (&Query, &Truth)| -> Result<f64> {
        Ok(truth.recall(&reader.search(&query.vector, &params)?))
    };
    let recalls = queries.par_iter().zip(truths).map(recall).collect::<Result<Vec<f64>>>()?;

    let time = |query: &Query| -> Result<Duration> {
        let started = Instant::now();
        let _ = black_box(reader.search(&query.vector, &params)?);
        Ok(started.elapsed())
    };
    let mut times = Vec::new();
    let started = Instant::now();
    while times.is_empty() || started.elapsed() < TIMED_FOR {
        times.extend(queries.par_iter().map(time).collect::<Result<Vec<_>>>()?);
    }
    let wall = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let (count, total) = (times.len() as f64, times.iter().sum::<Duration>());
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Measurement {
        ef,
        recall: recalls.iter().sum::<f64>() / recalls.len() as f64,
        queries_per_second: count / wall.max(1e-9),
        mean_us: microseconds(total) / count,
        p50_us: microseconds(percentile(&times, 50)),
        p99_us: microseconds(percentile(&times, 99)),
    })
}

/// The smallest time that `percent` of all times do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
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

    #[test]
    fn equally_near_rows_count_as_true() {
        let truth = Truth { row_ids: HashSet::from([7, 3]), farthest: 1.0, size: 2 };
        let recall = |rows: &[(u32, f32)]| {
            let hit = |&(id, distance): &(u32, f32)| Hit { id, row_id: u64::from(id), distance };
            truth.recall(&rows.iter().map(hit).collect::<Vec<_>>())
        };
        assert_eq!(recall(&[(7, 0.5), (3, 1.0)]), 1.0);
        assert_eq!(recall(&[(7, 0.5), (9, 1.0)]), 1.0);
        assert_eq!(recall(&[(7, 0.5), (9, 1.5)]), 0.5);
        assert_eq!(recall(&[]), 0.0);
    }
}
