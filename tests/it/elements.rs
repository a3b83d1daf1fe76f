//! Vectors of every element type: what is answered, what is skipped, what stays where it lies, what goes to Lance and
//! comes back, and what is refused.
//!
//! `columns` makes columns of a type and reads them back one value at a time, in f64.

mod answers;
mod columns;
mod layouts;
mod refusals;
mod round_trips;
