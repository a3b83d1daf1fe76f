//! `pennon`: builds, changes, searches and measures indexes over Parquet and Arrow files.
//!
//! A failure is one line on standard error that starts with `pennon: `, and exit code 1; clap's usage errors have exit
//! code 2.

mod arguments;
mod build;
mod change;
#[cfg(feature = "lance")]
mod dataset;
mod eval;
mod export;
mod fbin;
mod ingest;
mod input;
mod inspect;
mod labels;
mod measure;
mod open;
mod output;
mod search;
#[cfg(feature = "datafusion")]
mod sql;
mod verify;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser};
use clap_mangen::Man;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::remember_panics();
    // A decoder may panic on a damaged file: that has to end as one line too.
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(&arguments)));
    let message = match outcome {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => {
            let (message, trace) = output::last_panic();
            if let Some(trace) = trace {
                let _ = writeln!(io::stderr(), "{trace}");
            }
            format!("internal error: {message}")
        }
    };
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "pennon: {}", output::one_line(&message));
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<()> {
    let json = arguments.json;
    match &arguments.command {
        Command::Build(arguments) => build::run(arguments, json),
        Command::Append(arguments) => change::append(arguments, json),
        Command::Compact(arguments) => change::compact(arguments, json),
        Command::Verify(arguments) => verify::run(arguments, json),
        Command::Export(arguments) => export::run(arguments, json),
        Command::Search(arguments) => search::run(arguments, json),
        #[cfg(feature = "datafusion")]
        Command::Sql(arguments) => sql::run(arguments, json),
        Command::Inspect(arguments) => inspect::run(arguments, json),
        Command::Eval(arguments) => eval::run(arguments, json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "pennon", &mut script);
            output::print(&String::from_utf8_lossy(&script))
        }
        Command::Man { command } => man(command.as_deref()),
    }
}

/// Prints the manual page of a command, or that of all of them together.
fn man(name: Option<&str>) -> Result<()> {
    let mut all = Arguments::command();
    all.build();
    let command = match name {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => bail!("there is no command '{name}': see pennon help"),
        },
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    output::print(&String::from_utf8_lossy(&page))
}
