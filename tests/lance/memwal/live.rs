//! From a writer, or from the plugin, to the indexes of what is in memory.

use std::sync::Arc;
use std::time::Duration;

use lance::dataset::mem_wal::MemIndexRegistry;
use lance::index::vector::VectorIndexParams;
use pennon::DistanceType;
use pennon::lance::{PennonMemIndexPlugin, live_index, live_indexes, registry_with};

use crate::memwal::data::{batch, lance_metric, list, rows, vectors};
use crate::memwal::table::{INDEX, Shard, Table};

const L2: DistanceType = DistanceType::L2;

async fn table() -> Table {
    let index = VectorIndexParams::ivf_flat(1, lance_metric(L2));
    let mut table = Table::create(rows(&vectors(256, 1)), index).await;
    table.initialize().await.unwrap();
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_leads_to_the_indexes_of_its_memtables() {
    let table = table().await;
    let plugin = PennonMemIndexPlugin::default();
    // What is flushed stays in memory beside the active MemTable.
    let config = Table::config(registry_with(plugin.clone()).unwrap());
    let config = config.with_frozen_memtable_grace(Duration::from_secs(600));
    let shard = Shard::open_with(&table.uri, L2, config).await;
    let writer = &shard.writer;
    assert!(live_index(writer, INDEX).await.unwrap().is_none(), "there is no row yet");
    assert!(live_indexes(writer, INDEX).await.unwrap().is_empty());

    writer.put(vec![batch(1_000, list(&vectors(60, 2)))]).await.unwrap();
    let index = live_index(writer, INDEX).await.unwrap().unwrap();
    assert_eq!((index.len(), index.health().unwrap().unreachable()), (60, 0));
    assert!(
        writer.active_memtable_ref().await.unwrap().index_store.resident_bytes() >= index.resident_bytes()
    );
    assert!(live_index(writer, "other").await.unwrap().is_none());
    // The very index that searches use: it grows with the next put.
    writer.put(vec![batch(2_000, list(&vectors(40, 3)))]).await.unwrap();
    assert_eq!(index.len(), 100);

    shard.flush().await;
    assert!(live_index(writer, INDEX).await.unwrap().is_none(), "the new MemTable has no row");
    writer.put(vec![batch(3_000, list(&vectors(7, 4)))]).await.unwrap();
    let all = live_indexes(writer, INDEX).await.unwrap();
    assert_eq!(all.iter().map(|index| index.len()).collect::<Vec<_>>(), [100, 7]);
    assert!(Arc::ptr_eq(&all[0], &index));

    let made = plugin.live_indexes();
    assert!(made.iter().all(|(name, _)| name == INDEX), "{made:?}");
    let made: Vec<_> = made.iter().filter_map(|(_, index)| index.index()).collect();
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made.iter().zip(&all).all(|(made, index)| Arc::ptr_eq(made, index)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_keeps_no_index_in_memory() {
    let table = table().await;
    let plugin = PennonMemIndexPlugin::default();
    let shard = Shard::open_with(&table.uri, L2, Table::config(registry_with(plugin.clone()).unwrap())).await;
    shard.writer.put(vec![batch(1_000, list(&vectors(60, 2)))]).await.unwrap();
    assert_eq!(plugin.live_indexes().len(), 1);
    let Shard { writer, .. } = shard;
    writer.close().await.unwrap();
    assert!(plugin.live_indexes().is_empty(), "{:?}", plugin.live_indexes());
}

#[tokio::test(flavor = "multi_thread")]
async fn lance_s_own_index_is_not_ours() {
    let table = table().await;
    let shard = Shard::open(&table.uri, L2, MemIndexRegistry::default()).await;
    shard.writer.put(vec![batch(1_000, list(&vectors(60, 2)))]).await.unwrap();
    assert!(live_index(&shard.writer, INDEX).await.unwrap().is_none());
    assert!(live_indexes(&shard.writer, INDEX).await.unwrap().is_empty());
}
