//! The walk that passes through nodes it may not return: it can stop, give a page, and go on.
//!
//! Every node met leads on; only those that may be returned take a place among the results. A search takes one page of
//! it, a cursor one after the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::graph::walk::plan::{Costs, Progress};
use crate::graph::walk::scorer::Scorer;
use crate::graph::walk::scratch::Scratch;
use crate::graph::walk::steps::Walk;
use crate::search::scope::Scope;
use crate::search::scored::{id, keep_nearest, key};
use crate::vectors::VectorSource;

/// What such a walk is after.
pub(crate) struct Goal<'a, S: ?Sized> {
    pub scope: &'a Scope<'a, S>,
    /// Results kept.
    pub results: usize,
    /// Keys that are results, and how many of the nearest nodes are expanded whatever their key, so that the
    /// walk gets there.
    pub range: Option<(Range<u64>, usize)>,
    /// When to give up; never if every node may be returned.
    pub costs: Option<Costs>,
    /// Whether more pages may be asked for: then nothing that was met is forgotten.
    pub goes_on: bool,
}

/// How such a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No node that is left is nearer than the farthest result.
    Found,
    /// No node is left.
    Exhausted,
    /// It costs more than a scan is expected to, or meets too few nodes that may be returned.
    Hopeless,
    /// A limit was reached.
    Spent,
}

impl<R: Scorer> Walk<'_, R> {
    /// Begins a walk through.
    pub fn start_through(&mut self) {
        self.scratch.visited.start(self.readable as usize);
        self.scratch.candidates.clear();
        self.scratch.results.clear();
        self.scratch.rest.clear();
        self.scratch.nearest.clear();
    }

    /// Adds a node to start from, unless it was met.
    pub fn start_from<S: VectorSource + ?Sized>(&mut self, start: u64, goal: &Goal<'_, S>) {
        if self.scratch.visited.insert(id(start)) {
            self.meet(start, goal);
        }
    }

    /// Goes on until the results are the nearest, or there is a reason to stop.
    pub fn walk_through<S: VectorSource + ?Sized>(
        &mut self,
        goal: &Goal<'_, S>,
        progress: &mut Progress,
    ) -> Verdict {
        while let Some(&Reverse(nearest)) = self.scratch.candidates.peek() {
            if nearest > self.bound(goal) {
                return Verdict::Found;
            }
            if self.effort.is_spent() {
                return Verdict::Spent;
            }
            self.scratch.candidates.pop();
            if let Some(costs) = &goal.costs {
                progress.expanded += 1;
                progress.passed += u64::from(goal.scope.admits(id(nearest)));
                if costs.is_hopeless(self.effort.scored(), progress) {
                    return Verdict::Hopeless;
                }
            }
            let met = self.collect_following(self.graph.neighbors(0, id(nearest)));
            self.score_collected(met);
            for at in 0..met {
                self.meet(key(self.scratch.distances[at], self.scratch.ids[at]), goal);
            }
        }
        Verdict::Exhausted
    }

    /// The key that a node must be below to be of use now.
    fn bound<S: ?Sized>(&self, goal: &Goal<'_, S>) -> u64 {
        let worst = |heap: &BinaryHeap<u64>, capacity| match heap.peek() {
            Some(&worst) if heap.len() >= capacity => worst,
            _ => u64::MAX,
        };
        let bound = worst(&self.scratch.results, goal.results);
        match &goal.range {
            Some((range, nearest)) => bound.min(range.end).max(worst(&self.scratch.nearest, *nearest)),
            None => bound,
        }
    }

    /// A node that was scored leads on, and is a result if it may be returned and is near enough.
    fn meet<S: VectorSource + ?Sized>(&mut self, key: u64, goal: &Goal<'_, S>) {
        if !goal.goes_on && key >= self.bound(goal) {
            return;
        }
        self.scratch.candidates.push(Reverse(key));
        if let Some((range, nearest)) = &goal.range {
            keep_nearest(&mut self.scratch.nearest, *nearest, key);
            if !range.contains(&key) {
                return;
            }
        }
        if goal.scope.admits(id(key)) {
            self.keep(key, goal);
        }
    }

    /// Keeps a result; one that is too far, or that it displaces, is for later pages.
    pub(super) fn keep<S: ?Sized>(&mut self, key: u64, goal: &Goal<'_, S>) {
        if !goal.goes_on {
            return keep_nearest(&mut self.scratch.results, goal.results, key);
        }
        self.scratch.results.push(key);
        if self.scratch.results.len() > goal.results {
            self.scratch.rest.extend(self.scratch.results.pop().map(Reverse));
        }
    }

    /// Moves the nearest rows of the rest to the results, as many as there is room for.
    pub fn refill<S: ?Sized>(&mut self, goal: &Goal<'_, S>) {
        let Scratch { results, rest, .. } = &mut *self.scratch;
        while results.len() > goal.results {
            rest.extend(results.pop().map(Reverse));
        }
        while let Some(&Reverse(next)) = rest.peek() {
            if results.len() >= goal.results && results.peek().is_none_or(|&worst| next > worst) {
                return;
            }
            rest.pop();
            results.push(next);
            if results.len() > goal.results {
                rest.extend(results.pop().map(Reverse));
            }
        }
    }
}
