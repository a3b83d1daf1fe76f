//! Exact search: every row that qualifies is compared with the query, or told to be too far by its code.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::codes::{CodeQuery, Codes};
use crate::distance::PreparedQuery;
use crate::error::Result;
use crate::search::budget::Effort;
use crate::search::query::{check_query, key_range, results, saturate};
use crate::search::scope::Scope;
use crate::search::scored::{distance, keep_nearest, key};
use crate::search::version::{IndexVersion, Versions};
use crate::search::{Hits, SearchParams, SearchPlan};
use crate::util::prefetch::{GROUP, fetch_ahead};
use crate::vectors::VectorSource;

/// Rows compared at a time.
const BLOCK: usize = 256;
/// Rows tested between two looks at the limits.
const TESTS: u32 = 1024;
/// Rows of one job: enough that handing it out does not show.
const JOB: u32 = 16 << 10;

/// Calls `score` with the ids of a scope that are wanted, at most [`BLOCK`] at a time, until a limit is reached. False
/// if one was.
pub(crate) fn for_each_block<S: VectorSource + ?Sized>(
    scope: &Scope<'_, S>,
    ids: Range<u32>,
    effort: &mut Effort,
    mut is_wanted: impl FnMut(u32) -> bool,
    mut score: impl FnMut(&[u32], &mut Effort),
) -> bool {
    let mut block = [0; BLOCK];
    let mut len = 0;
    let end = ids.end.min(scope.visible());
    let mut start = ids.start;
    while start < end {
        if effort.is_spent_now() {
            return false;
        }
        let stop = end.min(start.saturating_add(TESTS));
        scope.for_each(start..stop, |id| {
            if is_wanted(id) {
                block[len] = id;
                len += 1;
                if len == BLOCK {
                    len = 0;
                    score(&block, effort);
                    return !effort.is_spent();
                }
            }
            true
        });
        if effort.is_spent() {
            return false;
        }
        start = stop;
    }
    if len > 0 {
        score(&block[..len], effort);
    }
    true
}

/// The nearest rows of all that are compared, by exact distance. Threads may share it.
pub(crate) struct Nearest<'a, S: ?Sized> {
    source: &'a S,
    query: &'a PreparedQuery<'a>,
    /// By which rows are told to be too far; they cover all rows that are compared.
    codes: Option<(&'a Codes, CodeQuery)>,
    k: usize,
    range: Option<Range<u64>>,
    /// No greater key is among the `k` nearest, as far as any thread knows. Only speed depends on it.
    bound: AtomicU64,
}

impl<'a, S: VectorSource + ?Sized> Nearest<'a, S> {
    pub fn new(
        source: &'a S,
        query: &'a PreparedQuery<'a>,
        codes: Option<&'a Codes>,
        k: usize,
        range: Option<Range<u64>>,
    ) -> Self {
        let codes = codes.map(|codes| (codes, codes.prepare(query.vector())));
        let farthest = key(f32::INFINITY, u32::MAX);
        let bound = AtomicU64::new(range.as_ref().map_or(farthest, |range| range.end.min(farthest)));
        Self { source, query, codes, k, range, bound }
    }

    /// Compares at most [`BLOCK`] rows, and keeps those that are among the nearest.
    pub fn compare(&self, nearest: &mut BinaryHeap<u64>, ids: &[u32], effort: &mut Effort) {
        let Some((codes, query)) = &self.codes else { return self.measure(nearest, ids, effort) };
        effort.estimates += ids.len() as u64;
        fetch_ahead(
            ids,
            |id| codes.prefetch(id),
            |_, ids| {
                let mut is_near = [true; GROUP];
                codes.near(query, ids, distance(self.bound(nearest)), &mut is_near);
                let (mut near, mut len) = ([0; GROUP], 0);
                for (&id, is_near) in ids.iter().zip(is_near) {
                    near[len] = id;
                    len += usize::from(is_near);
                }
                self.measure(nearest, &near[..len], effort);
            },
        );
    }

    fn measure(&self, nearest: &mut BinaryHeap<u64>, ids: &[u32], effort: &mut Effort) {
        if ids.is_empty() {
            return;
        }
        let mut distances = [0.0; BLOCK];
        let distances = &mut distances[..ids.len()];
        self.source.distances_to(self.query, ids, distances);
        effort.distances += ids.len() as u64;
        if self.codes.is_some() {
            effort.reranked += ids.len() as u64;
        }
        for (&id, &distance) in ids.iter().zip(distances.iter()) {
            let key = key(distance, id);
            if self.range.as_ref().is_none_or(|range| range.contains(&key)) {
                keep_nearest(nearest, self.k, key);
            }
        }
        if nearest.len() >= self.k
            && let Some(&farthest) = nearest.peek()
            && farthest < self.bound.load(Ordering::Relaxed)
        {
            self.bound.fetch_min(farthest, Ordering::Relaxed);
        }
    }

    fn bound(&self, nearest: &BinaryHeap<u64>) -> u64 {
        let bound = self.bound.load(Ordering::Relaxed);
        match nearest.peek() {
            Some(&farthest) if nearest.len() >= self.k => bound.min(farthest),
            _ => bound,
        }
    }
}

/// The nearest `params.k` rows of all that qualify. On rayon's current pool if there are many.
pub(crate) fn search_all<S: VectorSource + ?Sized>(
    query: &[f32],
    params: &SearchParams,
    source: &S,
    dead: Option<(&Versions, IndexVersion)>,
    codes: Option<&Codes>,
) -> Result<Hits> {
    check_query(query, source)?;
    let scope = Scope::of(params, source, saturate(source.len()), dead)?;
    let range = key_range(params)?;
    let k = params.k.min(scope.visible() as usize);
    let end = if k == 0 { 0 } else { scope.visible() };
    let query = source.prepare(query);
    let codes = codes.filter(|codes| codes.len() >= end);
    let all = Nearest::new(source, &query, codes, k, range);
    let part = |ids: Range<u32>| {
        let (mut nearest, mut effort) = (BinaryHeap::new(), Effort::limited(params));
        for_each_block(
            &scope,
            ids,
            &mut effort,
            |_| true,
            |block, effort| all.compare(&mut nearest, block, effort),
        );
        (nearest, effort)
    };
    let parts: Vec<(BinaryHeap<u64>, Effort)> = if end <= JOB || params.max_distances.is_some() {
        vec![part(0..end)]
    } else {
        let jobs = (0..end.div_ceil(JOB)).into_par_iter();
        jobs.map(|job| part(job * JOB..end.min((job + 1).saturating_mul(JOB)))).collect()
    };
    let mut effort = Effort::unlimited();
    let mut keys: Vec<u64> = Vec::with_capacity(parts.iter().map(|part| part.0.len()).sum());
    for (nearest, spent) in parts {
        keys.extend(nearest);
        effort.add(&spent);
    }
    keys.sort_unstable();
    keys.truncate(k);
    Ok(Hits::new(results(keys, source), effort.stats(SearchPlan::Scan, params.ef)))
}
