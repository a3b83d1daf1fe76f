//! Exact search: every row that qualifies is compared with the query.

use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;

use super::HnswGraph;
use super::key::key;
use super::scope::Scope;
use super::search::{SearchResult, key_range, results};
use super::walk::{SCAN_TESTS, keep_nearest};
use crate::distance::PreparedQuery;
use crate::error::Result;
use crate::params::SearchParams;
use crate::source::VectorSource;
use crate::version::{IndexVersion, Versions};

/// Rows scored at a time.
const BLOCK: usize = 256;
/// Rows of one job: enough that handing it out does not show.
const JOB: u32 = 16 << 10;

impl HnswGraph {
    /// The nearest `params.k` rows of all that qualify. On rayon's current pool if there are many.
    pub(crate) fn search_exact<S: VectorSource + ?Sized>(
        &self,
        query: &[f32],
        params: &SearchParams,
        source: &S,
        dead: Option<(&Versions, IndexVersion)>,
    ) -> Result<Vec<SearchResult>> {
        let (_, scope) = self.view_of(query, params, source, dead)?;
        let range = key_range(params)?;
        let query = PreparedQuery::new(query, source.distance_type());
        let k = params.k.min(scope.visible() as usize);
        if k == 0 {
            return Ok(Vec::new());
        }
        let end = scope.visible();
        let nearest = |ids: Range<u32>| nearest(ids, &scope, k, range.as_ref(), &query, source, params);
        let mut keys = if end <= JOB || params.max_distances.is_some() {
            nearest(0..end)
        } else {
            let jobs = (0..end.div_ceil(JOB)).into_par_iter();
            jobs.flat_map_iter(|job| nearest(job * JOB..(job + 1).saturating_mul(JOB))).collect()
        };
        keys.sort_unstable();
        keys.truncate(k);
        Ok(results(keys, source))
    }
}

/// The `k` nearest of a range of ids, in no order.
fn nearest<S: VectorSource + ?Sized>(
    ids: Range<u32>,
    scope: &Scope<'_, S>,
    k: usize,
    range: Option<&Range<u64>>,
    query: &PreparedQuery<'_>,
    source: &S,
    params: &SearchParams,
) -> Vec<u64> {
    let mut effort = super::effort::Effort::limited(params);
    let mut nearest = BinaryHeap::new();
    let mut block = Vec::with_capacity(BLOCK);
    let mut distances = [0.0; BLOCK];
    let mut score = |block: &mut Vec<u32>| {
        let distances = &mut distances[..block.len()];
        source.distances_to(query, block, distances);
        for (&id, &distance) in block.iter().zip(distances.iter()) {
            let key = key(distance, id);
            if range.is_none_or(|range| range.contains(&key)) {
                keep_nearest(&mut nearest, k, key);
            }
        }
        effort.distances += block.len() as u64;
        block.clear();
        !effort.is_spent_now()
    };
    let mut start = ids.start;
    let mut complete = true;
    while complete && start < ids.end {
        let stop = ids.end.min(start.saturating_add(SCAN_TESTS));
        scope.for_each(start..stop, |id| {
            block.push(id);
            complete = block.len() < BLOCK || score(&mut block);
            complete
        });
        // Tests take time too, also those that all rows fail.
        complete = complete && score(&mut block);
        start = stop;
    }
    nearest.into_vec()
}
