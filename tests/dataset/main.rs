//! Indexes on ordinary Lance datasets, through Lance's public API alone: every test runs Lance 14.0.2 itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod data;

#[cfg(feature = "cli")]
mod cli;
mod conflicts;
mod growth;
mod kinds;
mod partitions;
mod pylance;
mod rows;
mod segments;
