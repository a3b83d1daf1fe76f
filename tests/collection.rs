//! Collections: vectors with their other columns, against a naive table.

#[path = "collection/kit.rs"]
mod kit;

#[path = "collection/concurrency.rs"]
mod concurrency;
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
