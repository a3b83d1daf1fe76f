//! Indexes on ordinary Lance datasets, through Lance's public API alone: every test runs Lance 14.0.2 itself.

mod data;

mod bounds;
#[cfg(feature = "cli")]
mod cli;
mod conflicts;
mod elements;
mod expressions;
mod fixtures;
mod fold;
mod fold_conflicts;
mod growth;
#[cfg(feature = "cli")]
mod kill;
mod kinds;
mod lengths;
mod memory;
mod model;
mod partitions;
mod pylance;
mod replace;
mod rows;
mod segments;
#[cfg(feature = "datafusion")]
mod sql;
mod traces;
