//! Pennon and Lance 14.0.2, in one program because linking Lance takes minutes. Nothing here stands in for Lance:
//! every test runs Lance itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collected;
mod data;
#[path = "../kit/mod.rs"]
mod kit;

mod dataset;
#[cfg(all(feature = "cli", feature = "datafusion"))]
mod examples;
mod memwal;
mod sub_index;
