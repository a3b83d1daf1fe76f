//! Rows of a Lance table that are searched before they are flushed: Pennon in the place of the HNSW that Lance keeps
//! over its MemTables.
//!
//! ```sh
//! cargo run --release --features lance --example memtable
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, FixedSizeListArray, Int64Array, RecordBatch, RecordBatchIterator};
use arrow_schema::{DataType, Field, Schema};
use lance::Dataset;
use lance::dataset::mem_wal::{DatasetMemWalExt, LsmScanner, ShardSnapshot, ShardWriter, ShardWriterConfig};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::{PennonMemIndexParams, live_index};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const DIM: i32 = 32;
const INDEX: &str = "vector_idx";

/// Rows `id` (the key), `vector` with random vectors.
fn rows(ids: std::ops::Range<i64>) -> Result<RecordBatch, Box<dyn Error>> {
    let mut rng = SmallRng::seed_from_u64(ids.start as u64);
    let vectors =
        ids.clone().map(|_| Some((0..DIM).map(|_| Some(rng.random_range(-1.0..1.0))).collect::<Vec<_>>()));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, DIM);
    let key = HashMap::from([("lance-schema:unenforced-primary-key".to_string(), "true".to_string())]);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false).with_metadata(key),
        Field::new("vector", vectors.data_type().clone(), true),
    ]);
    let ids = Int64Array::from_iter_values(ids);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(vectors)])?)
}

/// The nearest row of the table, of what was flushed, and of what is in memory.
async fn nearest(
    dataset: &Dataset,
    writer: &ShardWriter,
    query: &RecordBatch,
    row: usize,
) -> lance::Result<Option<(i64, f32)>> {
    let shard = writer.shard_id();
    let mut snapshot = ShardSnapshot::new(shard);
    if let Some(manifest) = writer.manifest().await? {
        snapshot = snapshot.with_current_generation(manifest.current_generation);
        for table in manifest.sstables {
            snapshot = snapshot.with_sstable(table.generation, table.path);
        }
    }
    // A list of one row, which may have any elements; without the list Lance takes nothing but Float32.
    let query = query["vector"].as_fixed_size_list().slice(row, 1);
    let found = LsmScanner::new(Arc::new(dataset.clone()), vec![snapshot], vec!["id".to_string()])
        .with_in_memory_memtables(shard, writer.in_memory_memtable_refs().await?)
        .nearest("vector", &query, 3)?
        // Without this Lance searches in L2, whatever the index has, and compares all rows of the MemTable.
        .distance_metric(LanceMetric::Cosine)
        .refine(3)
        .try_into_batch()
        .await?;
    let ids = found["id"].as_primitive::<Int64Type>().values().iter().copied();
    let distances = found["_distance"].as_primitive::<Float32Type>().values().iter().copied();
    Ok(ids.zip(distances).min_by(|left, right| left.1.total_cmp(&right.1)))
}

/// Puts rows, finds them, flushes, finds them again.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let uri = dir.path().join("table.lance");
    let uri = uri.to_str().ok_or("a path that is not UTF-8")?;
    let base = rows(0..1_000)?;
    let schema = base.schema();
    let mut dataset = Dataset::write(RecordBatchIterator::new([Ok(base)], schema), uri, None).await?;
    // The base table's index, of any vector type, says which column and metric the MemTables maintain.
    let params = VectorIndexParams::ivf_flat(1, LanceMetric::Cosine);
    dataset.create_index(&["vector"], IndexType::Vector, Some(INDEX.to_string()), &params, true).await?;

    // One registry for the table's MemWAL and for each writer: nothing of it is stored.
    let registry = pennon::lance::registry()?;
    let mem_wal = dataset.initialize_mem_wal().maintained_indexes([INDEX]);
    mem_wal.mem_index_registry(registry.clone()).execute().await?;
    let config = ShardWriterConfig::new(Uuid::new_v4())
        .with_mem_index_registry(registry)
        .with_index_override(INDEX, PennonMemIndexParams::default().ef(100));
    let writer = dataset.mem_wal_writer(config.shard_id, config).await?;

    let fresh = rows(10_000..12_000)?;
    writer.put(vec![fresh.clone()]).await?;
    let (id, distance) = nearest(&dataset, &writer, &fresh, 5).await?.ok_or("nothing is found")?;
    println!("before the flush: row {id} at {distance:.4}");
    assert!(id == 10_005 && distance.abs() < 1e-4);

    // The index behind it, to look at.
    let index = live_index(&writer, INDEX).await?.ok_or("the MemTable has rows")?;
    let health = index.health().ok_or("it has a graph")?;
    println!("{} rows, {} bytes, {} unreachable", index.len(), index.resident_bytes(), health.unreachable());
    assert_eq!((index.len(), health.unreachable()), (2_000, 0));

    // A flush writes the graph as it is, in Lance's own format.
    writer.force_freeze_active().await?.wait().await?;
    let manifest = writer.manifest().await?.ok_or("there is a manifest")?;
    let generation = &manifest.sstables[0];
    let flushed = Dataset::open(&format!("{uri}/_mem_wal/{}/{}", writer.shard_id(), generation.path)).await?;
    let statistics = flushed.index_statistics(INDEX).await?;
    assert!(statistics.contains("IVF_HNSW_SQ"), "{statistics}");
    let (id, distance) = nearest(&dataset, &writer, &fresh, 5).await?.ok_or("nothing is found")?;
    println!("after the flush:  row {id} at {distance:.4}");
    assert!(id == 10_005 && distance.abs() < 1e-4);
    writer.close().await?;
    Ok(())
}
