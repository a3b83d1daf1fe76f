//! LanceDB with Pennon as the index of its fresh rows: real-time writes, searches of rows that are not flushed, filters,
//! upserts, a reopening that replays the log, and the flush. Each answer is checked, and each search that Pennon's
//! index answered is counted.
//!
//! ```sh
//! tools/lancedb-example.sh
//! ```

mod rows;
mod served;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{RecordBatch, RecordBatchIterator};
use arrow_schema::DataType;
use futures::TryStreamExt;
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lancedb::index::Index;
use lancedb::index::vector::IvfHnswSqIndexBuilder;
use lancedb::query::{ExecutableQuery, QueryBase};
use lancedb::table::RTEWriteSpec;
use lancedb::{DistanceType, Table, connect};
use pennon::lance::{PennonMemIndexParams, PennonMemIndexPlugin, registry_with};

use rows::{Rows, vector};
use served::served;

const INDEX: &str = "vector_idx";
const K: usize = 10;
const BASE: i64 = 4_000;
const FRESH: i64 = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    served::count()?;
    let dir = tempfile::tempdir()?;
    let uri = dir.path().to_str().context("a path that is not UTF-8")?;
    println!("Float32, cosine");
    fresh_rows(uri).await?;
    println!("Float16, cosine");
    half_floats(uri).await
}

/// The table as LanceDB makes it, and what has to come before the first fresh row, in this order.
async fn create(uri: &str, name: &str, rows: &Rows, plugin: &PennonMemIndexPlugin) -> Result<Table> {
    let database = connect(uri).execute().await?;
    let table = database.create_table(name, rows.batch()?).execute().await?;
    table.set_unenforced_primary_key(["id"]).await?;
    // Rows that are put before there is an index are not found once there is one.
    let index = IvfHnswSqIndexBuilder::default().distance_type(DistanceType::Cosine).num_partitions(2);
    table.create_index(&["vector"], Index::IvfHnswSq(index)).name(INDEX.to_string()).execute().await?;
    register(&table, plugin)?;
    // With the name of the index: a table that only Pennon indexes then fails where the registry was forgotten.
    let spec = RTEWriteSpec::unsharded().with_maintained_indexes(vec![INDEX.to_string()]);
    table.enable_rte(spec).await?;
    Ok(table)
}

/// After every open and before the first put: the registry is not stored with the table. LanceDB hands no settings
/// of a writer through, so the plugin has them.
fn register(table: &Table, plugin: &PennonMemIndexPlugin) -> Result<()> {
    let native = table.as_native().context("a remote table")?;
    native.set_mem_index_registry(registry_with(plugin.clone())?);
    Ok(())
}

/// Inserts rows, or replaces those with the same key.
async fn upsert(table: &Table, rows: &Rows) -> Result<()> {
    let batch = rows.batch()?;
    let schema = batch.schema();
    let mut merge = table.merge_insert(&["id"]);
    merge.when_matched_update_all(None).when_not_matched_insert_all();
    merge.execute(Box::new(RecordBatchIterator::new([Ok(batch)], schema))).await?;
    Ok(())
}

/// Ids and distances, nearest first.
async fn search(table: &Table, query: &[f32], filter: Option<&str>) -> Result<Vec<(i64, f32)>> {
    // Flushed rows are quantized: more candidates, with the distances of the vectors themselves.
    let mut search = table.query().nearest_to(query)?.column("vector").refine_factor(5).limit(K);
    if let Some(filter) = filter {
        search = search.only_if(filter);
    }
    let batches: Vec<RecordBatch> = search.execute().await?.try_collect().await?;
    let mut found = Vec::new();
    for batch in &batches {
        let ids = batch["id"].as_primitive::<Int64Type>().values().iter();
        let distances = batch["_distance"].as_primitive::<Float32Type>().values().iter();
        found.extend(ids.copied().zip(distances.copied()));
    }
    Ok(found)
}

/// Searches near 20 rows; says how many of the nearest were found, and how often Pennon's index was asked.
async fn check(
    table: &Table,
    live: &Rows,
    filter: Option<(&str, fn(i64) -> bool)>,
    what: &str,
) -> Result<u64> {
    let before = served();
    let (mut found, mut wanted) = (0, 0);
    for (id, seed) in live.some(20) {
        let query = rows::near(id, seed);
        let answer = search(table, &query, filter.map(|filter| filter.0)).await?;
        let exact = live.nearest(&query, K, |id| filter.is_none_or(|filter| (filter.1)(id)));
        ensure!(answer.len() == K, "{what}: {} rows", answer.len());
        for (id, distance) in &answer {
            let real = live.distance(&query, *id).with_context(|| format!("{what}: {id} is not there"))?;
            ensure!((distance - real).abs() < 1e-3, "{what}: {id} at {distance}, really {real}");
        }
        found += answer.iter().filter(|row| exact.contains(&row.0)).count();
        wanted += K;
    }
    let asked = served() - before;
    println!("  {what:<44} {found:>3} of {wanted} found, Pennon's index answered {asked:>2} of 20 searches");
    ensure!(found * 100 >= wanted * 95, "{what}: {found} of {wanted}");
    Ok(asked)
}

/// Everything that a table of `Float32` does.
async fn fresh_rows(uri: &str) -> Result<()> {
    let settings = PennonMemIndexParams::default().ef(128);
    let plugin = PennonMemIndexPlugin::with_defaults(settings);
    let mut live = Rows::new(DataType::Float32, 0..BASE, 1);
    let table = create(uri, "words", &live, &plugin).await?;
    // A durable put waits for its log: rows are put by the hundred, not one by one.
    for first in (BASE..BASE + FRESH).step_by(500) {
        let fresh = Rows::new(DataType::Float32, first..first + 500, 1);
        upsert(&table, &fresh).await?;
        live.replace(&fresh);
    }
    let indexed: usize =
        plugin.live_indexes().iter().filter_map(|(_, index)| index.index()).map(|i| i.len()).sum();
    println!("  {BASE} rows in the table, {indexed} in Pennon's index of the MemTable");
    ensure!(indexed == FRESH as usize);

    ensure!(check(&table, &live, None, "fresh rows").await? == 20);
    let filter = Some(("id % 3 = 0", (|id| id % 3 == 0) as fn(i64) -> bool));
    // Lance compares the rows of the MemTable itself where there is a filter.
    ensure!(check(&table, &live, filter, "with a filter").await? == 0);

    let again = Rows::new(DataType::Float32, 100..150, 2);
    upsert(&table, &again).await?;
    live.replace(&again);
    ensure!(check(&table, &live, None, "keys of the table replaced").await? == 20);
    let again = Rows::new(DataType::Float32, BASE + 100..BASE + 110, 2);
    upsert(&table, &again).await?;
    live.replace(&again);
    ensure!(check(&table, &live, None, "fresh keys replaced: until the flush").await? == 0);

    // As after a crash: nothing is closed, and what was put comes back from the log with the next put.
    drop(table);
    let table = connect(uri).execute().await?.open_table("words").execute().await?;
    register(&table, &plugin)?;
    let one = Rows::new(DataType::Float32, BASE + FRESH..BASE + FRESH + 1, 1);
    upsert(&table, &one).await?;
    live.replace(&one);
    check(&table, &live, None, "reopened, the log replayed").await?;

    table.close_rte_writers().await?;
    let kinds = flushed(Path::new(uri).join("words.lance")).await?;
    println!("  flushed as {}", kinds.join(", "));
    ensure!(kinds.iter().all(|kind| kind == "IVF_HNSW_SQ") && !kinds.is_empty());
    ensure!(check(&table, &live, None, "flushed, searched by Lance").await? == 0);

    let more = Rows::new(DataType::Float32, 50_000..50_500, 1);
    upsert(&table, &more).await?;
    live.replace(&more);
    ensure!(check(&table, &live, None, "and fresh rows again").await? == 20);
    table.close_rte_writers().await?;
    Ok(())
}

/// LanceDB asks in `Float32`: a search without a filter is answered by the index, one with a filter is Lance's, which
/// does not compare the two types in a MemTable.
async fn half_floats(uri: &str) -> Result<()> {
    let plugin = PennonMemIndexPlugin::default();
    let mut live = Rows::new(DataType::Float16, 0..BASE, 1);
    let table = create(uri, "halves", &live, &plugin).await?;
    let fresh = Rows::new(DataType::Float16, BASE..BASE + 500, 1);
    upsert(&table, &fresh).await?;
    live.replace(&fresh);
    ensure!(check(&table, &live, None, "fresh rows").await? == 20);
    match search(&table, &vector(BASE + 7, 1), Some("id % 3 = 0")).await {
        Ok(found) => println!("  with a filter: {} rows", found.len()),
        Err(error) => {
            let text = format!("{error:#}");
            println!("  with a filter: {}", text.lines().next().unwrap_or_default());
        }
    }
    table.close_rte_writers().await?;
    let filter = Some(("id % 3 = 0", (|id| id % 3 == 0) as fn(i64) -> bool));
    check(&table, &live, filter, "flushed, with a filter").await?;
    Ok(())
}

/// The kinds of the indexes of all flushed generations, as Lance reads them.
async fn flushed(table: impl AsRef<Path>) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    for shard in std::fs::read_dir(table.as_ref().join("_mem_wal"))? {
        for generation in std::fs::read_dir(shard?.path())? {
            let path = generation?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains("_gen_")) {
                let dataset = Dataset::open(path.to_str().context("a path that is not UTF-8")?).await?;
                let statistics = dataset.index_statistics(INDEX).await?;
                let kind =
                    ["IVF_HNSW_SQ", "IVF_HNSW_FLAT"].into_iter().find(|kind| statistics.contains(kind));
                kinds.push(kind.context(statistics.clone())?.to_string());
            }
        }
    }
    Ok(kinds)
}
