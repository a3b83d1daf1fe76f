//! Collections: vectors with their other columns, against a naive table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "collection/kit.rs"]
mod kit;

#[path = "collection/concurrency.rs"]
mod concurrency;
#[path = "collection/control.rs"]
mod control;
#[path = "collection/filters.rs"]
mod filters;
#[path = "collection/fused.rs"]
mod fused;
#[path = "collection/refusals.rs"]
mod refusals;
#[path = "collection/rows.rs"]
mod rows;
#[path = "collection/saved.rs"]
mod saved;
