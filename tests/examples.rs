//! The examples run, and what they assert of themselves holds.
#![allow(clippy::unwrap_used)]

#[path = "../examples/metadata_filter.rs"]
mod metadata_filter;
#[path = "../examples/paired.rs"]
mod paired;

#[test]
fn texts_and_pictures_of_the_same_rows_are_searched_from_either_side() {
    paired::main().unwrap();
}

#[test]
fn conditions_on_other_columns_are_met() {
    metadata_filter::main().unwrap();
}
