//! A search that gives out its rows page by page.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::answer::Hits;

/// A search that goes on where it stopped: an iterator over pages of `k` rows, each of them `Hits`. All pages together are
/// every row that qualifies, each once; the last may be shorter.
///
/// Rows come nearest first within a page; from page to page, as far as the walk can tell: a wider `ef` looks farther ahead.
/// It reads the version of the index that was current when it was made, and may be kept between two requests.
///
/// >>> import numpy, pennon
/// >>> index = pennon.Index(1)
/// >>> _ = index.append(numpy.arange(7, dtype="float32").reshape(7, 1))
/// >>> [page.row_ids for page in index.cursor([2.2], k=3)]
/// [[2, 3, 1], [4, 0, 5], [6]]
/// >>> cursor = index.cursor([2.2], k=3)
/// >>> cursor.take(2).row_ids, next(cursor).row_ids
/// ([2, 3], [1, 4, 0])
#[pyclass(frozen, module = "pennon", name = "Cursor")]
pub struct Cursor {
    cursor: Mutex<pennon::Cursor>,
    k: usize,
}

impl Cursor {
    pub fn new(cursor: pennon::Cursor, k: usize) -> Self {
        Self { cursor: Mutex::new(cursor), k }
    }
}

#[pymethods]
impl Cursor {
    /// The next `k` rows; fewer only when no more are left.
    fn take(&self, py: Python<'_>, k: usize) -> Hits {
        let next = || self.cursor.lock().unwrap_or_else(PoisonError::into_inner).next_k(k);
        Hits::page(py.detach(next))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> Option<Hits> {
        let page = self.take(py, self.k);
        Some(page).filter(|page| !page.is_empty())
    }

    fn __repr__(&self) -> String {
        format!("Cursor(k={})", self.k)
    }
}
