//! What goes to standard output: aligned text and JSON.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::failure::{Context, Result};

/// Writes `text` to standard output. A reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context(|| "cannot write to standard output".to_owned()),
    }
}

/// Writes `value` to standard output as one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| "cannot write JSON".to_owned())?;
    print(&format!("{text}\n"))
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line per level, level 0 first: `0: 5,000  1: 310`.
pub fn levels(nodes: &[usize]) -> String {
    let each = nodes.iter().enumerate();
    let parts: Vec<String> =
        each.map(|(level, nodes)| format!("{level}: {}", grouped(*nodes as u64))).collect();
    parts.join("  ")
}

/// Labeled values, one per line, the values aligned.
#[derive(Debug, Default)]
pub struct Facts(Vec<(String, String)>);

impl Facts {
    pub fn add(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.0.push((label.into(), value.into()));
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(label, _)| label.len()).max();
        let width = width.unwrap_or(0);
        for (label, value) in &self.0 {
            writeln!(formatter, "{label:<width$}  {value}")?;
        }
        Ok(())
    }
}

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table with one heading line; every row has one cell per column.
pub fn grid(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width_of = |column: usize, heading: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(heading.chars().count())
    };
    let widths: Vec<usize> =
        columns.iter().enumerate().map(|(column, (heading, _))| width_of(column, heading)).collect();
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut text = grid_line(&headings, columns, &widths);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text.push_str(&grid_line(&cells, columns, &widths));
    }
    text
}

fn grid_line(cells: &[&str], columns: &[(&str, Align)], widths: &[usize]) -> String {
    let aligned = |((cell, (_, align)), width): ((&&str, &(&str, Align)), &usize)| {
        let width = *width;
        match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        }
    };
    let cells = cells.iter().zip(columns).zip(widths).map(aligned);
    format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let texts = [0, 7, 999, 1_000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["1".to_owned(), "guitar".to_owned()], vec!["10".to_owned(), "a".to_owned()]];
        let text = grid(&[("id", Align::Right), ("word", Align::Left)], &rows);
        assert_eq!(text, "id  word\n 1  guitar\n10  a\n");
    }
}
