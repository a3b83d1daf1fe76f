//! Pennon as the index of Lance's MemTables.
//!
//! First the index alone, driven through `MemIndex` as a writer drives it; then whole tables, by Lance 14.0.2 itself,
//! with Lance's built-in index on the same rows beside it.

mod data;
mod table;

mod behavior;
mod concurrency;
mod elements;
mod end_to_end;
mod flush;
mod live;
mod memory;
mod queries;
mod settings;
mod traces;
mod watermark;
