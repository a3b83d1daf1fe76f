//! The files under `fixtures/` are those that its README names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use lance::deps::datafusion::functions::crypto::expr_fn;
use lance::deps::datafusion::prelude::{SessionContext, col};

use crate::dataset::data::run;

/// Files and their sums as the table has them. Those of a row are in the same order, or there is one sum for all.
fn named(readme: &str) -> BTreeMap<String, String> {
    fn quoted(cell: &str) -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_string).collect()
    }
    let mut named = BTreeMap::new();
    for line in readme.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').collect();
        let mut sums = quoted(cells[3]);
        sums.retain(|sum| sum.len() == 64 && sum.chars().all(|digit| digit.is_ascii_hexdigit()));
        let files = quoted(cells[1]);
        match sums.as_slice() {
            [] => {}
            [of_all] => named.extend(files.into_iter().map(|file| (file, of_all.clone()))),
            _ => {
                assert_eq!(files.len(), sums.len(), "{line}");
                named.extend(files.into_iter().zip(sums));
            }
        }
    }
    named
}

/// The sums of some contents, by DataFusion, which Lance brings along.
async fn sha256(contents: &[Vec<u8>]) -> Vec<String> {
    let contents: ArrayRef = Arc::new(BinaryArray::from_iter_values(contents));
    let batch = RecordBatch::try_from_iter([("content", contents)]).unwrap();
    let sums = SessionContext::new().read_batch(batch).unwrap();
    let sums = sums.select(vec![expr_fn::sha256(col("content")).alias("sum")]).unwrap();
    let batches = sums.collect().await.unwrap();
    let sums = batches.iter().flat_map(|batch| batch["sum"].as_binary::<i32>().iter().flatten());
    sums.map(|sum| sum.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

#[test]
fn fixtures_have_the_sums_that_the_readme_gives() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let named = named(&fs::read_to_string(fixtures.join("README.md")).unwrap());
    assert!(named.len() >= 6, "{named:?}");
    let contents: Vec<Vec<u8>> = named
        .keys()
        .map(|file| fs::read(fixtures.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect();
    let sums = run(sha256(&contents));
    let found: BTreeMap<String, String> = named.keys().cloned().zip(sums).collect();
    assert_eq!(found, named);
}
