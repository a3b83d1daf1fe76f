//! What pennon exports is what Lance loads, and what Lance writes is what pennon reads.
//!
//! Nothing here stands in for Lance: every test runs lance-index 14.0.2 itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod data;
mod draft;
#[path = "../kit/mod.rs"]
mod kit;
mod laws;
mod layout;
mod probe;

mod determinism;
mod elements;
mod export;
mod fixtures;
mod fuzz;
mod import;
mod malformed;
mod params;
mod prefix;
mod reorder;
mod search;
