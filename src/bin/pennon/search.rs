//! `pennon search`: the nearest rows to a row or to a vector, with columns of the original file.

use std::collections::HashMap;

use pennon::{HnswIndex, SearchParams, SearchResult, VectorSource};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::arguments::{SearchArguments, at_least_one};
use crate::failure::{Context, Result, fail};
use crate::index_dir;
use crate::lookup::{Cell, Lookup};
use crate::query::{parse_like, parse_vector};
use crate::report::{Align, grid, print, print_json};
use crate::table::Table;

/// Characters of a cell that are printed.
const CELL_WIDTH: usize = 60;

#[derive(Serialize)]
struct Answer<'a> {
    query: &'a str,
    metric: String,
    k: usize,
    ef: usize,
    neighbors: Vec<Neighbor>,
}

#[derive(Serialize)]
struct Neighbor {
    rank: usize,
    row_id: u64,
    distance: f32,
    columns: Map<String, Value>,
}

pub fn run(arguments: &SearchArguments) -> Result<()> {
    at_least_one("--k", arguments.k)?;
    at_least_one("--ef", arguments.ef)?;
    let like = arguments.like.as_deref().map(parse_like).transpose()?;
    let table = open_from(arguments)?;
    let lookup = match &table {
        Some(table) => Some(Lookup::check(table, arguments.row_id.as_deref())?),
        None => None,
    };
    if let (Some(table), Some((column, _))) = (&table, like) {
        table.field(column)?;
    }
    let numbers = arguments.vector.as_deref().map(parse_vector).transpose()?;

    let index = index_dir::load(&arguments.dir)?;
    let (query, vector) = match (numbers, arguments.row, like, &lookup) {
        (Some(numbers), ..) => ("a vector".to_owned(), numbers),
        (None, Some(row_id), ..) => (format!("row {row_id}"), vector_of(&index, row_id)?),
        (None, None, Some((column, value)), Some(lookup)) => {
            let row_id = lookup.find(column, value)?;
            let vector = vector_of(&index, row_id)
                .context(|| format!("the row with {column}={value} cannot be the query"))?;
            (format!("row {row_id} ({column}={value})"), vector)
        }
        // clap asks for one of the three, `open_from` for --from with --like.
        _ => return fail("give one of --like, --vector and --row"),
    };
    if vector.len() != index.dim() {
        return fail(format!(
            "--vector has {} numbers, the vectors of {} have dimension {}",
            vector.len(),
            arguments.dir.display(),
            index.dim()
        ));
    }
    let (k, ef) = (arguments.k, arguments.ef.max(arguments.k));
    // No search can use more than all rows; a library may allocate for what it is asked.
    let params = SearchParams::new(k.min(index.len()), ef.min(index.len()));
    let found = index.search(&vector, params)?;
    let cells = match &lookup {
        Some(lookup) if !arguments.show.is_empty() => {
            let row_ids: Vec<u64> = found.iter().map(|row| row.row_id).collect();
            lookup.fetch(&arguments.show, &row_ids)?
        }
        _ => HashMap::new(),
    };
    let distance_type = index.distance_type();
    if arguments.json {
        return print_json(&Answer {
            query: &query,
            metric: distance_type.to_string(),
            k,
            ef,
            neighbors: neighbors(&found, &arguments.show, &cells),
        });
    }
    let table = text(&found, &arguments.show, &cells);
    print(&format!("{} nearest rows to {query}, distance {distance_type}, ef {ef}\n{table}", found.len()))
}

/// Opens --from, which --like and --show cannot do without, and checks the columns to show.
fn open_from(arguments: &SearchArguments) -> Result<Option<Table>> {
    let Some(path) = &arguments.from else {
        if arguments.like.is_some() {
            return fail("--like needs --from FILE, the file the index was built from");
        }
        if !arguments.show.is_empty() {
            return fail("--show needs --from FILE, the file the index was built from");
        }
        return Ok(None);
    };
    let table = Table::open(path)?;
    for column in &arguments.show {
        table.field(column)?;
    }
    Ok(Some(table))
}

fn vector_of(index: &HnswIndex, row_id: u64) -> Result<Vec<f32>> {
    let snapshot = index.snapshot();
    let mut ids = 0..snapshot.len() as u32;
    match ids.find(|id| snapshot.row_id(*id) == row_id) {
        Some(id) => Ok(snapshot.vector(id).to_vec()),
        None => fail(format!("row id {row_id} is not in the index (of {} rows)", snapshot.len())),
    }
}

fn neighbors(found: &[SearchResult], columns: &[String], cells: &HashMap<u64, Vec<Cell>>) -> Vec<Neighbor> {
    let neighbor = |(rank, row): (usize, &SearchResult)| {
        let cells = cells.get(&row.row_id).map(Vec::as_slice).unwrap_or_default();
        let values = cells.iter().map(|cell| cell.value.clone());
        Neighbor {
            rank: rank + 1,
            row_id: row.row_id,
            distance: row.distance,
            columns: columns.iter().cloned().zip(values).collect(),
        }
    };
    found.iter().enumerate().map(neighbor).collect()
}

fn text(found: &[SearchResult], columns: &[String], cells: &HashMap<u64, Vec<Cell>>) -> String {
    let mut headings = vec![("rank", Align::Right), ("row id", Align::Right), ("distance", Align::Right)];
    headings.extend(columns.iter().map(|column| (column.as_str(), Align::Left)));
    let line = |(rank, row): (usize, &SearchResult)| {
        let mut line = vec![(rank + 1).to_string(), row.row_id.to_string(), format!("{:.6}", row.distance)];
        let cells = cells.get(&row.row_id).map(Vec::as_slice).unwrap_or_default();
        line.extend(cells.iter().map(|cell| shortened(&cell.text)));
        line
    };
    let lines: Vec<Vec<String>> = found.iter().enumerate().map(line).collect();
    grid(&headings, &lines)
}

/// At most `CELL_WIDTH` characters, none of which moves the cursor.
fn shortened(text: &str) -> String {
    let printable = |character: char| {
        if character.is_control() { ' ' } else { character }
    };
    if text.chars().count() <= CELL_WIDTH {
        return text.chars().map(printable).collect();
    }
    let start: String = text.chars().take(CELL_WIDTH - 3).map(printable).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_end_in_dots() {
        assert_eq!(shortened("a\nb"), "a b");
        let long = shortened(&"x".repeat(200));
        assert_eq!(long.len(), CELL_WIDTH);
        assert!(long.ends_with("x..."));
    }
}
