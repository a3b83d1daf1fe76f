//! Exact search: every row that qualifies is compared with the query, or told to be too far without.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::distance::PreparedQuery;
use crate::error::Result;
use crate::search::budget::Effort;
use crate::search::query::{check_query, key_range, results};
use crate::search::scope::Scope;
use crate::search::scored::{distance, keep_nearest, key};
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hits, SearchParams, SearchPlan, SearchStats};
use crate::vectors::VectorSource;

/// Rows scored at a time.
const BLOCK: usize = 256;
/// Rows tested between two looks at the limits.
pub(crate) const SCAN_TESTS: u32 = 1024;
/// Rows of one job: enough that handing it out does not show.
const JOB: u32 = 16 << 10;
/// Rows that a sieve looks at together.
pub(crate) const GROUP: usize = 64;
/// Rows of a scan from which on a sieve is made. To make it takes time, and in the first groups, while the bound is far
/// off, next to nothing is left out: a scan of 334 rows took 1.16 times as long with a sieve, one of 2,048 rows half as
/// long.
const SIFTED: usize = 1024;
/// Groups of the rows that are tested between two looks at the limits.
const GROUPS: usize = SCAN_TESTS as usize / GROUP;
const _: () = assert!(GROUPS * GROUP == SCAN_TESTS as usize && JOB.is_multiple_of(SCAN_TESTS));

/// Tells which rows are too far, for less than their distances cost.
pub(crate) trait Sieve: Sync {
    /// Of the rows from `first` on, a multiple of [`GROUP`], which are a bit each of `admitted`: those whose distance
    /// may be up to `bound`. A row that is left out is farther for certain.
    fn sift(&self, first: u32, admitted: u64, bound: f32) -> u64;
}

/// Makes the sieve of a query.
pub(crate) trait Sieves {
    /// Rows that its sieves know, from the first on.
    fn rows(&self) -> usize;

    /// The sieve of a query, if there can be one.
    fn of_query(&self, query: &[f32]) -> Option<Box<dyn Sieve + '_>>;
}

/// The nearest `params.k` rows of all that qualify. On rayon's current pool if there are many.
pub(crate) fn search_all<S: VectorSource + ?Sized>(
    query: &[f32],
    params: &SearchParams,
    source: &S,
    dead: Option<(&Versions, IndexVersion)>,
    sieves: Option<&dyn Sieves>,
) -> Result<Hits> {
    check_query(query, source)?;
    let end = source.len();
    let scope = Scope::of(params, source, u32::try_from(end).unwrap_or(u32::MAX), dead)?;
    scan(query, params, source, &scope, sieves)
}

fn scan<S: VectorSource + ?Sized>(
    query: &[f32],
    params: &SearchParams,
    source: &S,
    scope: &Scope<'_, S>,
    sieves: Option<&dyn Sieves>,
) -> Result<Hits> {
    let range = key_range(params)?;
    let k = params.k.min(scope.visible() as usize);
    let end = if k == 0 { 0 } else { scope.visible() };
    // A sieve looks at whole groups of rows, whatever part of them is asked for.
    let is_worth_it = |sieves: &&dyn Sieves| {
        sieves.rows().min(end as usize) >= SIFTED && scope.estimate() >= u64::from(end) / 10 * 9
    };
    let sieve = sieves.filter(is_worth_it).and_then(|sieves| sieves.of_query(query));
    let query = source.prepare(query);
    let farthest = key(f32::INFINITY, u32::MAX);
    let bound = AtomicU64::new(range.as_ref().map_or(farthest, |range| range.end.min(farthest)));
    let scan = Scan { scope, source, query, k, range, params, bound };
    let nearest = |ids: Range<u32>| match &sieve {
        Some(sieve) => scan.nearest_sifted(ids, &**sieve),
        None => scan.nearest(ids),
    };
    let parts: Vec<Part> = if end <= JOB || params.max_distances.is_some() {
        vec![nearest(0..end)]
    } else {
        let jobs = (0..end.div_ceil(JOB)).into_par_iter();
        jobs.map(|job| nearest(job * JOB..end.min((job + 1).saturating_mul(JOB)))).collect()
    };
    let distances = parts.iter().map(|part| part.distances).sum();
    let complete = parts.iter().all(|part| part.complete);
    let mut keys: Vec<u64> = parts.into_iter().flat_map(|part| part.keys).collect();
    keys.sort_unstable();
    keys.truncate(k);
    let stats = SearchStats {
        plan: SearchPlan::Scan,
        distances,
        estimates: 0,
        reranked: 0,
        nodes: 0,
        ef: params.ef,
        complete,
    };
    Ok(Hits::new(results(keys, source), stats))
}

/// One scan, on all its threads.
struct Scan<'a, S: ?Sized> {
    scope: &'a Scope<'a, S>,
    source: &'a S,
    query: PreparedQuery<'a>,
    k: usize,
    range: Option<Range<u64>>,
    params: &'a SearchParams,
    /// No greater key is among the `k` nearest, as far as any thread knows. Only speed depends on it.
    bound: AtomicU64,
}

/// What came of a range of ids.
struct Part {
    /// The `k` nearest, in no order.
    keys: Vec<u64>,
    /// Rows compared.
    distances: u64,
    /// Whether it was looked at to its end.
    complete: bool,
}

impl<S: VectorSource + ?Sized> Scan<'_, S> {
    fn nearest(&self, ids: Range<u32>) -> Part {
        let mut effort = Effort::limited(self.params);
        let mut nearest = BinaryHeap::new();
        let mut block = Vec::with_capacity(BLOCK);
        let mut distances = [0.0; BLOCK];
        let mut score = |block: &mut Vec<u32>| {
            self.keep(&mut nearest, block, &mut distances);
            effort.distances += block.len() as u64;
            block.clear();
            !effort.is_spent_now()
        };
        let mut start = ids.start;
        let mut goes_on = true;
        while goes_on && start < ids.end {
            let stop = ids.end.min(start.saturating_add(SCAN_TESTS));
            self.scope.for_each(start..stop, |id| {
                block.push(id);
                goes_on = block.len() < BLOCK || score(&mut block);
                goes_on
            });
            if goes_on {
                start = stop;
                // Tests take time too, also those that all rows fail.
                goes_on = score(&mut block);
            }
        }
        Part { keys: nearest.into_vec(), distances: effort.distances, complete: start >= ids.end }
    }

    /// The same, less the rows that a sieve tells to be too far. `ids` starts with a group.
    fn nearest_sifted(&self, ids: Range<u32>, sieve: &dyn Sieve) -> Part {
        let mut effort = Effort::limited(self.params);
        let mut nearest = BinaryHeap::new();
        let mut block = Vec::with_capacity(GROUP);
        let mut distances = [0.0; GROUP];
        let mut start = ids.start;
        while start < ids.end {
            let stop = ids.end.min(start.saturating_add(SCAN_TESTS));
            for (group, admitted) in self.admitted(start..stop).into_iter().enumerate() {
                if admitted == 0 {
                    continue;
                }
                let first = start + (group * GROUP) as u32;
                let bound = self.bound.load(Ordering::Relaxed);
                let mut left = sieve.sift(first, admitted, distance(bound));
                block.clear();
                while left != 0 {
                    block.push(first + left.trailing_zeros());
                    left &= left - 1;
                }
                self.keep(&mut nearest, &block, &mut distances);
                effort.distances += u64::from(admitted.count_ones());
                if let Some(&farthest) = nearest.peek()
                    && nearest.len() == self.k
                    && farthest < bound
                {
                    self.bound.fetch_min(farthest, Ordering::Relaxed);
                }
            }
            start = stop;
            if effort.is_spent_now() {
                break;
            }
        }
        Part { keys: nearest.into_vec(), distances: effort.distances, complete: start >= ids.end }
    }

    /// Which rows of a range may be returned, a bit each. At most [`SCAN_TESTS`] ids.
    fn admitted(&self, ids: Range<u32>) -> [u64; GROUPS] {
        let mut groups = [0_u64; GROUPS];
        if self.scope.is_everything() {
            for (group, first) in groups.iter_mut().zip((0..ids.len()).step_by(GROUP)) {
                *group = u64::MAX >> (GROUP - (ids.len() - first).min(GROUP));
            }
        } else {
            self.scope.for_each(ids.clone(), |id| {
                let at = (id - ids.start) as usize;
                groups[at / GROUP] |= 1 << (at % GROUP);
                true
            });
        }
        groups
    }

    /// Scores a block and keeps what is among the nearest. `distances` has room for it.
    fn keep(&self, nearest: &mut BinaryHeap<u64>, block: &[u32], distances: &mut [f32]) {
        let distances = &mut distances[..block.len()];
        self.source.distances_to(&self.query, block, distances);
        for (&id, &distance) in block.iter().zip(distances.iter()) {
            let key = key(distance, id);
            if self.range.as_ref().is_none_or(|range| range.contains(&key)) {
                keep_nearest(nearest, self.k, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use roaring::RoaringTreemap;

    use super::*;
    use crate::vectors::test_line::Line;

    /// Leaves no row out.
    struct Coarse;

    impl Sieve for Coarse {
        fn sift(&self, _first: u32, admitted: u64, _bound: f32) -> u64 {
            admitted
        }
    }

    /// Counts the sieves that it makes.
    struct Counting {
        rows: usize,
        made: AtomicUsize,
    }

    impl Sieves for Counting {
        fn rows(&self) -> usize {
            self.rows
        }

        fn of_query(&self, _query: &[f32]) -> Option<Box<dyn Sieve + '_>> {
            self.made.fetch_add(1, Ordering::Relaxed);
            Some(Box::new(Coarse))
        }
    }

    /// Sieves made for one search of `rows` rows, of which `known` are known to sieves.
    fn made(rows: usize, known: usize, params: &SearchParams) -> Result<usize> {
        let source = Line((0..rows).map(|row| row as f32).collect());
        let sieves = Counting { rows: known, made: AtomicUsize::new(0) };
        let sifted = search_all(&[7.4], params, &source, None, Some(&sieves))?;
        assert_eq!(sifted, search_all(&[7.4], params, &source, None, None)?);
        Ok(sieves.made.load(Ordering::Relaxed))
    }

    #[test]
    fn a_sieve_is_made_only_where_it_is_worth_it() -> Result<()> {
        let all = SearchParams::new(10);
        assert_eq!(made(SIFTED, SIFTED, &all)?, 1);
        assert_eq!(made(3 * SIFTED, 2 * SIFTED, &all)?, 1);
        assert_eq!(made(SIFTED - 1, SIFTED, &all)?, 0, "a few rows are searched among");
        assert_eq!(made(SIFTED, SIFTED - 1, &all)?, 0, "a few rows are known");
        assert_eq!(made(SIFTED, SIFTED, &SearchParams::new(0))?, 0, "nothing is asked for");
        for (percent, expected) in [(100, 1), (95, 1), (80, 0), (10, 0), (0, 0)] {
            let rows: RoaringTreemap = (0..2 * SIFTED as u64).filter(|row| row % 100 < percent).collect();
            let made = made(2 * SIFTED, 2 * SIFTED, &all.clone().mask(rows))?;
            assert_eq!(made, expected, "{percent} % qualify");
        }
        Ok(())
    }
}
