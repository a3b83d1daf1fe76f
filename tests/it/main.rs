//! Integration tests of pennon, through its public API alone.
//!
//! `data` makes the rows and the exact answers, `export` reads an exported graph back with plain Arrow calls
//! and audits it without asking the crate; every other module is a set of laws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrow_input;
mod bad_input;
mod batch;
mod budget;
mod compaction;
mod coded_scans;
mod concurrency;
mod contract;
mod control;
mod counters;
mod cursor;
mod data;
mod deletes;
mod determinism;
mod distance;
mod elements;
mod errors;
mod export;
mod filters;
mod handover;
mod hostile;
mod import;
mod kinds;
#[path = "../kit/mod.rs"]
mod kit;
mod memory_limit;
mod metadata;
mod model;
mod own_metric;
mod persist;
mod ranges;
mod reachability;
mod recall;
mod reorder;
mod selection;
mod selectivity;
mod stats;
mod traces;
mod visibility;
