//! What Pennon's Lance side traces, a line for each event.

use tracing::Level;

use crate::kit::traces::Collected;

/// The lines of what this thread does meanwhile.
pub fn during<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let (result, lines) = Collected::new("pennon::lance", Level::TRACE, false).during(work);
    println!("{}", lines.join("\n"));
    (result, lines)
}

/// Asserts that exactly one line has all these parts.
#[track_caller]
pub fn assert_one(lines: &[String], parts: &[&str]) {
    let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
    assert_eq!(lines.iter().filter(has_all).count(), 1, "{parts:?} in {lines:#?}");
}
