//! `pennon verify`: whether the files, the structure and the recall of an index are what they should be.

use std::collections::HashSet;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::arguments::VerifyArguments;
use crate::measure::{self, SAMPLE_EF};
use crate::open::{Location, Opened};
use crate::output;

#[derive(Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    detail: String,
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    checks: Vec<Check>,
}

pub fn run(arguments: &VerifyArguments, json: bool) -> Result<()> {
    let path = &arguments.index.index;
    let is_saved = Location::of(path)? == Location::Saved;
    let checks = match Opened::open(path, arguments.index.in_memory) {
        Ok(opened) => checks(&opened, is_saved, arguments)?,
        Err(error) if is_saved => {
            vec![Check { check: "files", ok: false, detail: format!("{error:#}") }]
        }
        // What is no index is a mistake of the command, and not a finding.
        Err(error) => return Err(error),
    };
    let failed = checks.iter().filter(|check| !check.ok).count();
    let all = checks.len();
    let verdict = Verdict { ok: failed == 0, checks };
    if json {
        output::print_json(&verdict)?;
    } else {
        let row = |check: &Check| {
            let outcome = if check.ok { "ok" } else { "FAILED" };
            vec![check.check.to_owned(), outcome.to_owned(), output::one_line(&check.detail)]
        };
        let rows: Vec<_> = verdict.checks.iter().map(row).collect();
        output::print(&output::table(&["check", "outcome", "detail"], &rows)?)?;
    }
    match failed {
        0 => Ok(()),
        _ => bail!("{} fails {failed} of {all} checks", path.display()),
    }
}

fn checks(opened: &Opened, is_saved: bool, arguments: &VerifyArguments) -> Result<Vec<Check>> {
    let reader = opened.index.reader();
    let detail = match is_saved {
        true => "all bytes have the checksums that were saved with them",
        false => "all batches can be read; they have no checksums",
    };
    let mut checks = vec![Check { check: "files", ok: true, detail: detail.to_owned() }];
    if let Some(health) = opened.index.health() {
        let (nodes, lists) = (health.nodes, health.lists_over_cap);
        let detail =
            format!("{} of {nodes} rows are reachable, {lists} lists are too long", health.reachable);
        checks.push(Check { check: "graph", ok: health.is_healthy(), detail });
    }
    let row_ids = reader.live_row_ids();
    let distinct = row_ids.values().iter().collect::<HashSet<_>>().len();
    let detail = format!("{} live rows have {distinct} row ids", row_ids.len());
    checks.push(Check { check: "row ids", ok: distinct == row_ids.len(), detail });
    if !arguments.no_sample && !reader.is_empty() {
        let sample = measure::sampled_recall(&reader)?;
        let detail = format!(
            "{:.4} at ef {SAMPLE_EF} against an exact scan, of {} rows; at least {} is asked for",
            sample.recall, sample.queries, arguments.min_recall
        );
        checks.push(Check { check: "recall@10", ok: sample.recall >= arguments.min_recall, detail });
    }
    Ok(checks)
}
