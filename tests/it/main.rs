//! Integration tests of pennon, through its public API alone.
//!
//! `data` makes the rows and the exact answers, `export` reads an exported graph back with plain Arrow calls
//! and audits it without asking the crate; every other module is a set of laws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arrow_input;
mod concurrency;
mod contract;
mod data;
mod determinism;
mod distance;
mod errors;
mod export;
mod hostile;
mod import;
mod reachability;
mod recall;
