//! One test for each line of the table in `docs/bad-input.md`, in its order; the test here compares the two.

/// Panics unless the outcome is this error, with exactly this message.
macro_rules! refused {
    ($outcome:expr, $error:pat, $message:expr) => {{
        let error = $outcome.err().expect("an error");
        assert!(matches!(error, $error), "{error:?}");
        assert_eq!(error.to_string(), $message);
    }};
}

mod rows;
mod saved;
mod searches;
mod setup;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use pennon::{BuildParams, DistanceType, Index, SearchParams};

use crate::data::{Rows, build, uniform};

const L2: DistanceType = DistanceType::L2;
const COSINE: DistanceType = DistanceType::Cosine;
const QUERY: [f32; 2] = [0.5, -0.5];

fn defaults() -> BuildParams {
    BuildParams::default()
}

fn rows(n: usize) -> Rows {
    uniform(n, 2, 71)
}

/// Ten rows of two elements; row ids 0 to 9.
fn ten() -> Index {
    build(&rows(10), L2, &defaults(), 10)
}

fn five() -> SearchParams {
    SearchParams::new(5).ef(50)
}

fn doubles() -> FixedSizeListArray {
    let field = Arc::new(Field::new("item", DataType::Float64, true));
    FixedSizeListArray::new(field, 2, Arc::new(Float64Array::from(vec![1.0; 6])), None)
}

/// The batch with other schema metadata.
fn with_metadata(batch: &RecordBatch, key: &str, value: Option<&str>) -> RecordBatch {
    let metadata: HashMap<String, String> =
        value.map(|value| (key.to_owned(), value.to_owned())).into_iter().collect();
    let schema = Schema::new_with_metadata(batch.schema().fields().clone(), metadata);
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap()
}

/// The table and the tests have the same names in the same order, and name the same errors.
#[test]
fn the_table_and_the_tests_agree() {
    let table = include_str!("../../docs/bad-input.md").lines().filter(|line| line.starts_with('|')).skip(2);
    let lines: Vec<Vec<&str>> =
        table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let files = [
        include_str!("bad_input/rows.rs"),
        include_str!("bad_input/searches.rs"),
        include_str!("bad_input/setup.rs"),
        include_str!("bad_input/saved.rs"),
    ];
    let tests = files.iter().flat_map(|file| file.split("#[test]\nfn ").skip(1));
    let tests: Vec<(&str, &str)> = tests.map(|test| test.split_once("() {\n").unwrap()).collect();
    for cells in &lines {
        assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{cells:?}");
    }
    let named: Vec<&str> = lines.iter().map(|cells| cells[2].trim_matches('`')).collect();
    let written: Vec<&str> = tests.iter().map(|test| test.0).collect();
    assert_eq!(named, written);
    for (cells, (name, body)) in lines.iter().zip(&tests) {
        for rest in cells[1].split("`Error::").skip(1) {
            let variant = rest.split_once('`').unwrap().0;
            let is_seen = [" {", ","].iter().any(|end| body.contains(&format!("Error::{variant}{end}")));
            assert!(is_seen, "{name} does not see {variant}");
        }
        let sees_errors = body.contains("Error::");
        assert_eq!(sees_errors, cells[1].contains("`Error::"), "{name}: an error on one side only");
    }
}
