//! A search that goes on where it stopped.

use std::fmt;
use std::vec::IntoIter;

use crate::error::Result;
use crate::graph::{self, Ground};
use crate::index::Reader;
use crate::search::{Hit, SearchParams};

/// A search that goes on where it stopped: all pages together are every row that qualifies, each once.
///
/// It owns the [`Reader`] whose version it searches, so it can be kept and sent to another thread. Rows come nearest
/// first within a page; from page to page, as far as the walk can tell: a wider `ef` looks farther ahead. Without a
/// graph the order is exact. Deadlines and limits of distances have no effect.
///
/// As an iterator it gives one row after the other and takes pages of `params.k` rows.
pub struct Cursor {
    reader: Reader,
    rows: Rows,
    /// Rows taken and not given out yet.
    page: IntoIter<Hit>,
    k: usize,
}

/// Where the next rows come from.
enum Rows {
    Walk(Box<graph::Cursor>),
    /// All of them, in order: without a graph.
    Sorted(IntoIter<Hit>),
}

impl Cursor {
    pub(super) fn try_new(reader: Reader, query: &[f32], params: &SearchParams) -> Result<Self> {
        let view = reader.generation().view(reader.version());
        let rows = match &reader.generation().graph {
            Some(graph) => {
                let dead = reader.generation().dead(reader.version());
                let ground = Ground { graph, source: &view, dead };
                Rows::Walk(Box::new(graph::Cursor::try_new(&ground, query, params)?))
            }
            None => {
                let all =
                    SearchParams { k: usize::MAX, deadline: None, max_distances: None, ..params.clone() };
                Rows::Sorted(reader.generation().scan(query, &all, reader.version())?.into_iter())
            }
        };
        reader.generation().tally.opened_cursor();
        Ok(Self { reader, rows, page: Vec::new().into_iter(), k: params.k.max(1) })
    }

    /// The next `k` rows; fewer only when no more are left.
    pub fn next_k(&mut self, k: usize) -> Vec<Hit> {
        let mut rows: Vec<Hit> = self.page.by_ref().take(k).collect();
        let missing = k - rows.len();
        if missing > 0 {
            rows.extend(self.take(missing));
        }
        rows
    }

    /// The reader whose version is searched.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    fn take(&mut self, k: usize) -> Vec<Hit> {
        let Self { reader, rows, .. } = self;
        match rows {
            Rows::Sorted(rows) => rows.by_ref().take(k).collect(),
            Rows::Walk(walk) => {
                let generation = reader.generation();
                let Some(graph) = generation.graph.as_ref() else { return Vec::new() };
                let (source, dead) = (generation.view(reader.version()), generation.dead(reader.version()));
                walk.next_k(&Ground { graph, source: &source, dead }, k)
            }
        }
    }
}

impl Iterator for Cursor {
    type Item = Hit;

    fn next(&mut self) -> Option<Hit> {
        if self.page.as_slice().is_empty() {
            self.page = self.take(self.k).into_iter();
        }
        self.page.next()
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("reader", &self.reader).field("k", &self.k).finish_non_exhaustive()
    }
}
