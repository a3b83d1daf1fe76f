//! What a writer may ask of the index, and what is refused before any row is written.

use std::sync::Arc;

use arrow_array::{Array, ListArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::Field;
use lance::Dataset;
use lance::dataset::mem_wal::{DatasetMemWalExt, ShardWriterConfig};
use lance::index::vector::VectorIndexParams;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams, PennonMemIndexPlugin, Quantizer, registry_with};
use pennon::{BuildParams, DistanceType, Error};

use crate::memwal::data::{DIM, batch, lance_metric, list, rows, vectors};
use crate::memwal::table::{INDEX, Shard, Table, with_pennon};

async fn table(metric: DistanceType) -> Table {
    let index = VectorIndexParams::ivf_flat(1, lance_metric(metric));
    let mut table = Table::create(rows(&vectors(256, 1)), index).await;
    table.initialize().await.unwrap();
    table
}

/// The parameters of the graph of a shard's first row.
async fn graph_params(table: &Table, config: ShardWriterConfig) -> BuildParams {
    let shard = Shard::open_with(&table.uri, DistanceType::L2, config).await;
    shard.writer.put(vec![batch(500, list(&vectors(1, 2)))]).await.unwrap();
    let params = shard.index().await.params().unwrap().clone();
    shard.writer.abort().await.unwrap();
    params
}

/// Why a writer does not open.
async fn refusal(table: &Table, config: ShardWriterConfig) -> String {
    let dataset = Dataset::open(&table.uri).await.unwrap();
    let opened = dataset.mem_wal_writer(config.shard_id, config).await;
    let Err(error) = opened else { panic!("the writer opened") };
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_s_settings_reach_the_graph() {
    let table = table(DistanceType::L2).await;
    let config = || Table::config(with_pennon());
    assert_eq!(graph_params(&table, config()).await, BuildParams::default());

    let of_lance = HnswBuildParams::default().num_edges(8).ef_construction(33).max_level(4);
    let expected = BuildParams::default().num_edges(8).ef_construction(33).max_level(4);
    assert_eq!(graph_params(&table, config().with_hnsw_params(INDEX, of_lance)).await, expected);

    let build = BuildParams::default().num_edges(12).seed(7);
    let ours = PennonMemIndexParams::default().build(build.clone()).ef(200);
    assert_eq!(graph_params(&table, config().with_index_override(INDEX, ours)).await, build);
}

/// Where a client hands no settings through, the plugin's own apply: those of the index by its name first.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_settings_of_its_own() {
    let table = table(DistanceType::L2).await;
    let of = |m| PennonMemIndexParams::default().build(BuildParams::default().num_edges(m));
    let config = |plugin| Table::config(registry_with(plugin).unwrap());
    let plugin = PennonMemIndexPlugin::with_defaults(of(8));
    let named = plugin.clone().index(INDEX, of(12)).index("another", of(24));
    for (config, m) in [
        (config(plugin), 8),
        (config(named.clone()), 12),
        (config(named).with_index_override(INDEX, of(20)), 20),
    ] {
        assert_eq!(graph_params(&table, config).await, BuildParams::default().num_edges(m));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_met_are_refused() {
    let table = table(DistanceType::Cosine).await;
    let config = || Table::config(with_pennon());
    let few_of_lance = HnswBuildParams::default().num_edges(3);
    let few = PennonMemIndexParams::default().build(BuildParams::default().num_edges(3));
    let flat = PennonMemIndexParams::default().quantizer(Quantizer::Flat);
    let cases = [
        (config().with_index_override(INDEX, "fast".to_string()), "PennonMemIndexParams"),
        (config().with_hnsw_params(INDEX, few_of_lance), "m must be at least 4, got 3"),
        (config().with_index_override(INDEX, few), "m must be at least 4, got 3"),
        (config().with_index_override(INDEX, flat), "not as IVF_HNSW_FLAT"),
    ];
    for (config, expected) in cases {
        let refusal = refusal(&table, config).await;
        assert!(refusal.contains(expected), "{refusal}");
        assert!(refusal.contains(INDEX), "{refusal}");
    }
}

/// A table with several vectors in a row, which Lance indexes and the plugin does not maintain.
async fn table_of_lists() -> Table {
    let vectors = list(&vectors(256, 1));
    let item = Arc::new(Field::new("item", vectors.data_type().clone(), true));
    let lists = ListArray::new(item, OffsetBuffer::from_lengths([1; 256]), Arc::new(vectors), None);
    Table::create(batch(0, lists), VectorIndexParams::ivf_flat(1, LanceMetric::Cosine)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_columns_than_of_vectors_are_refused_by_column_and_type() {
    let refusal = table_of_lists().await.initialize().await.unwrap_err().to_string();
    let says = "'vec' must be FixedSizeList of Float16, Float32, Float64 or UInt8, got List(";
    assert!(refusal.contains(says) && refusal.contains(INDEX), "{refusal}");
}

/// A table that maintains all its indexes does without one that the plugin cannot maintain.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_maintains_all_indexes_can_be_written_without_one() {
    let mut table = table_of_lists().await;
    table.dataset.initialize_mem_wal().mem_index_registry(with_pennon()).execute().await.unwrap();
    let config = Table::config(with_pennon());
    let writer = table.dataset.mem_wal_writer(config.shard_id, config).await.unwrap();
    assert!(writer.maintained_index_names().await.is_empty());
    writer.close().await.unwrap();
}

#[test]
fn an_index_of_one_s_own_is_checked_like_the_plugin_s() {
    let index = |dim, metric, params| PennonMemIndex::try_new("vec", 1, dim, metric, params);
    let defaults = PennonMemIndexParams::default;
    assert!(index(DIM, DistanceType::Cosine, defaults()).is_ok());
    assert!(index(DIM, DistanceType::L2, defaults().quantizer(Quantizer::Flat)).is_ok());
    let error = index(0, DistanceType::L2, defaults()).unwrap_err();
    assert!(matches!(error, Error::InvalidParams { parameter: "dim", value: 0, .. }), "{error:?}");
    let few = defaults().build(BuildParams::default().num_edges(1));
    let error = index(DIM, DistanceType::L2, few).unwrap_err();
    assert!(matches!(error, Error::InvalidParams { parameter: "m", value: 1, .. }), "{error:?}");
    let error = index(DIM, DistanceType::L1, defaults()).unwrap_err();
    assert!(matches!(error, Error::NotInLance { .. }), "{error:?}");
    let error = index(DIM, DistanceType::Hamming, defaults()).unwrap_err();
    assert!(matches!(error, Error::UnsupportedElement { .. }), "{error:?}");
    let error = index(DIM, DistanceType::Cosine, defaults().quantizer(Quantizer::Flat)).unwrap_err();
    assert!(matches!(&error, Error::InvalidColumn { column, .. } if column == "vec"), "{error:?}");
}

/// The registry replaces the kind that claims the same base indexes; there is no second.
#[test]
fn one_line_installs_the_plugin() {
    let registry = with_pennon();
    let names: Vec<&str> = registry.plugins().iter().map(|plugin| plugin.name()).collect();
    assert!(names.contains(&"Pennon") && !names.contains(&"Hnsw"), "{names:?}");
    let url = "/lance.index.pb.VectorIndexDetails";
    assert_eq!(registry.plugin_for_details_url(url).unwrap().name(), "Pennon");
    let plugin = Arc::new(PennonMemIndexPlugin::default());
    let refused = ShardWriterConfig::default().with_mem_index_plugin(plugin).map(drop);
    assert!(refused.unwrap_err().to_string().contains("already claims"));
}
