//! The native half of the Python package `pennon`.
//!
//! ```text
//! index      the classes Index and Reader     reading   what both have: everything that reads
//! append     appends in slices                answer    answers and batches, Arrow objects of their own
//! cursor     answers page by page             collection  vectors with their other columns
//! input      vectors, queries, row ids        mask      rows that may be returned
//! numpy      arrays of numpy                  capsule   the Arrow C data interface
//! errors     exceptions                       pool      threads of batches, one pool for each process
//! ```

mod answer;
mod append;
mod capsule;
mod collection;
mod cursor;
mod errors;
mod index;
mod input;
mod mask;
mod numpy;
mod pool;
mod reading;

use pyo3::prelude::*;

/// The native half of the package.
#[pymodule]
mod _pennon {
    #[pymodule_export]
    use crate::answer::CollectionHits;
    #[pymodule_export]
    use crate::answer::{ArrowBatch, BatchHits, Hits};
    #[pymodule_export]
    use crate::append::Appended;
    #[pymodule_export]
    use crate::collection::{Collection, Filter};
    #[pymodule_export]
    use crate::cursor::Cursor;
    #[pymodule_export]
    use crate::index::{Index, Reader};
    #[pymodule_export]
    use crate::mask::RowMask;

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name that Python has for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
