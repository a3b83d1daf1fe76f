//! `pennon`: builds, searches, inspects and measures HNSW indexes over Parquet and Arrow IPC files.
//!
//! Every failure is one line on standard error that starts with `pennon: `, and exit code 1
//! (clap's usage errors are its own, with exit code 2).

mod arguments;
mod build;
#[cfg(feature = "lance")]
mod dataset;
mod eval;
mod failure;
mod fbin;
mod histogram;
mod index_dir;
mod ingest;
mod input_file;
mod inspect;
mod ipc_layout;
mod lookup;
mod measure;
mod plot;
mod pool;
mod progress;
mod query;
mod query_set;
mod report;
mod row_ids;
mod sample;
mod search;
mod staging;
mod table;
mod truth;
mod vector_column;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::{Failure, Result, panic_text};

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // A decoding library may panic on a damaged file: that has to end as one line too.
    panic::set_hook(Box::new(|_| {}));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(&command)));
    let failure = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::new(format!("internal error: {}", panic_text(&*payload))),
    };
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "pennon: {failure}");
    ExitCode::FAILURE
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Build(arguments) => build::run(arguments),
        Command::Search(arguments) => search::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Eval(arguments) => eval::run(arguments),
    }
}
