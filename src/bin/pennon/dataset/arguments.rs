//! The options of `pennon build` that are about Lance datasets.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pennon::lance::Quantizer;

// No doc comment: clap would take it for the help of the command this is flattened into.
#[derive(Debug, Args)]
pub struct DatasetArguments {
    /// Directory to write a Lance dataset to: all columns of the file, with an index on the vector column
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "row_id"])]
    pub lance: Option<PathBuf>,
    /// Replace the Lance dataset at DIR, with all its versions
    #[arg(long, requires = "lance")]
    pub overwrite: bool,
    /// How a dataset's index stores vectors: flat (as they are) or sq (8 bits per element)
    #[arg(long, value_enum, default_value_t = Storage::Flat, conflicts_with = "output")]
    pub quantizer: Storage,
    /// IVF partitions of a dataset's index
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "output")]
    pub partitions: usize,
}

/// The quantizers, as clap names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Storage {
    Flat,
    Sq,
}

impl From<Storage> for Quantizer {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::Flat => Self::Flat,
            Storage::Sq => Self::Sq,
        }
    }
}
