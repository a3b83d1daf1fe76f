//! What pennon exports is what Lance loads, and what Lance writes is what pennon reads.

mod data;
mod draft;
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
