//! Columns of other elements than `Float32`: which are taken, how their queries are read, and whole tables of them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use lance::Dataset;
use lance::dataset::mem_wal::DatasetMemWalExt;
use lance::dataset::mem_wal::index::{
    MemIndex, MemIndexBuildContext, MemIndexPlugin, RankedMatch, SearchContext, VectorMemQuery,
};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::ivf::IvfBuildParams;
use lance_index::vector::sq::builder::SQBuildParams;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams, PennonMemIndexPlugin, Quantizer};
use pennon::{DistanceType, ElementType, Error};

use crate::collected::{assert_one, during};
use crate::memwal::data::{
    DIM, K, batch, close, distance, lance_metric, list_of, nearest, null_list_of, vectors_of,
};
use crate::memwal::table::{INDEX, Shard, Table, with_pennon};

/// An index as the plugin makes it.
fn index_of(element_type: ElementType, metric: DistanceType) -> pennon::Result<PennonMemIndex> {
    let params = PennonMemIndexParams::default();
    PennonMemIndex::try_with_elements(element_type, "vec", 1, DIM, metric, params)
}

/// What the plugin says of a column before there is a row.
fn refusal(column: DataType) -> String {
    let schema = Schema::new(vec![Field::new("vec", column, true)]);
    let schema = lance_core::datatypes::Schema::try_from(&schema).unwrap();
    let (field_ids, columns) = ([schema.field("vec").unwrap().id], ["vec".to_string()]);
    let context = MemIndexBuildContext {
        name: INDEX,
        schema: &schema,
        field_ids: &field_ids,
        columns: &columns,
        capacity_rows: 0,
        capacity_batches: 0,
        params: &(),
    };
    let plugin = PennonMemIndexPlugin::default();
    let (refused, lines) = during(|| plugin.validate(&context).unwrap_err().to_string());
    assert_one(&lines, &["WARN", "Pennon does not index these MemTables", INDEX, &refused]);
    refused
}

#[test]
fn columns_that_lance_does_not_index_are_refused_by_name() {
    let bfloat16 = Field::new("item", DataType::FixedSizeBinary(2), true).with_metadata(HashMap::from([
        ("ARROW:extension:name".to_string(), "lance.bfloat16".to_string()),
        ("ARROW:extension:metadata".to_string(), String::new()),
    ]));
    for (item, name) in [(Field::new("item", DataType::Int8, true), "Int8"), (bfloat16, "lance.bfloat16")] {
        let refusal = refusal(DataType::FixedSizeList(Arc::new(item), DIM as i32));
        let says = "column 'vec' must be FixedSizeList of Float16, Float32, Float64 or UInt8, got";
        assert!(refusal.contains(says) && refusal.contains(name) && refusal.contains(INDEX), "{refusal}");
    }
}

#[test]
fn an_index_of_one_s_own_is_of_what_lance_indexes() {
    for (element_type, metric) in [
        (ElementType::Float16, DistanceType::Cosine),
        (ElementType::Float64, DistanceType::Dot),
        (ElementType::UInt8, DistanceType::Hamming),
    ] {
        assert!(index_of(element_type, metric).is_ok());
    }
    for (element_type, metric) in [
        (ElementType::Int8, DistanceType::L2),
        (ElementType::BFloat16, DistanceType::L2),
        (ElementType::UInt8, DistanceType::L2),
        (ElementType::UInt8, DistanceType::Cosine),
    ] {
        let error = index_of(element_type, metric).unwrap_err();
        assert!(matches!(&error, Error::InvalidColumn { column, .. } if column == "vec"), "{error:?}");
        assert!(error.to_string().contains(&element_type.to_string()), "{error}");
    }
    let error = index_of(ElementType::Float64, DistanceType::Hamming).unwrap_err();
    assert!(matches!(error, Error::UnsupportedElement { .. }), "{error:?}");
    let quantized = PennonMemIndexParams::default().quantizer(Quantizer::Sq);
    let (bytes, hamming) = (ElementType::UInt8, DistanceType::Hamming);
    let error = PennonMemIndex::try_with_elements(bytes, "vec", 1, DIM, hamming, quantized).unwrap_err();
    assert!(matches!(error, Error::NotInLance { .. }), "{error:?}");
}

#[test]
fn a_query_is_of_the_column_s_elements_or_rounded_to_them() {
    let types = [DataType::Float16, DataType::Float32, DataType::Float64, DataType::UInt8];
    for (element_type, metric, taken) in [
        (ElementType::Float16, DistanceType::L2, [true, true, false, false]),
        (ElementType::Float32, DistanceType::L2, [false, true, false, false]),
        (ElementType::Float64, DistanceType::L2, [false, true, true, false]),
        (ElementType::UInt8, DistanceType::Hamming, [false, false, false, true]),
    ] {
        let own = types.iter().find(|own| own.to_string() == element_type.to_string()).unwrap();
        let rows = vectors_of(own, 200, 1);
        let index = index_of(element_type, metric).unwrap();
        index.insert(&batch(0, list_of(own, &rows)), 0).unwrap();
        let asked = vectors_of(&DataType::Float32, 1, 2);
        let answer = |data_type| -> Option<Vec<RankedMatch>> {
            let vector = list_of(data_type, &asked);
            let query = VectorMemQuery { vector, k: 5, ef: None, distance_type: None };
            let answer = index.search(&query, &SearchContext::new(u64::MAX)).unwrap();
            assert_eq!(answer.is_some(), index.can_answer(&query), "{data_type} for {element_type}");
            answer.map(|matches| matches.as_ranked().unwrap().to_vec())
        };
        let expected = answer(own).unwrap();
        assert_eq!(expected.len(), 5);
        for (data_type, is_taken) in types.iter().zip(taken) {
            let found = answer(data_type);
            assert_eq!(found.is_some(), is_taken, "{data_type} for {element_type}");
            assert!(found.is_none_or(|found| found == expected), "{data_type} for {element_type}");
        }
    }
}

#[test]
fn a_batch_of_other_elements_is_an_error_and_no_row() {
    let index = index_of(ElementType::Float16, DistanceType::L2).unwrap();
    let singles = list_of(&DataType::Float32, &vectors_of(&DataType::Float32, 2, 1));
    let error = index.insert(&batch(0, singles), 0).unwrap_err().to_string();
    assert!(error.contains("FixedSizeList<Float16>") && error.contains("Float32"), "{error}");
    assert!(index.index().is_none_or(|index| index.is_empty()));
}

/// A shard, and the rows of its table that are alive.
struct World {
    data_type: DataType,
    metric: DistanceType,
    live: BTreeMap<i64, Vec<f32>>,
    queries: Vec<Vec<f32>>,
    shard: Shard,
}

impl World {
    async fn put(&mut self, first_id: i64, rows: usize, seed: u64) {
        let vectors = vectors_of(&self.data_type, rows, seed);
        self.shard.writer.put(vec![batch(first_id, list_of(&self.data_type, &vectors))]).await.unwrap();
        self.live.extend((first_id..).zip(vectors));
    }

    async fn delete(&mut self, ids: Range<i64>) {
        self.shard.delete(ids.clone()).await;
        self.live.retain(|id, _| !ids.contains(id));
    }

    /// Asserts that a node is in the plan of a search so often at least.
    async fn check_plan(&self, node: &str, at_least: usize) {
        let plan = self.shard.plan(&self.queries[0], K).await;
        assert!(plan.matches(node).count() >= at_least, "{node}: {plan}");
    }

    /// Every query is answered with `K` live rows at their exact distances, nearly all of them among the nearest.
    async fn check(&self, stage: &str) {
        let stage = format!("{} {} {stage}", self.data_type, self.metric);
        let mut right = 0;
        for query in &self.queries {
            let live = self.live.iter().map(|(id, vector)| (*id, vector.as_slice()));
            let farthest = nearest(self.metric, live, query, K)[K - 1].1;
            let found = self.shard.search(query, K).await;
            assert_eq!(found.len(), K, "{stage}");
            for (id, score) in found {
                let vector = self.live.get(&id).unwrap_or_else(|| panic!("{stage}: dead key {id}"));
                let exact = distance(self.metric, query, vector);
                assert!(close(score, exact), "{stage}: {score} for {exact}");
                // Of rows at the same distance any will do.
                right += usize::from(exact <= farthest);
            }
        }
        let wanted = K * self.queries.len();
        println!("{stage}: {right} of {wanted}");
        assert!(right * 100 >= wanted * 98, "{stage}: {right} of {wanted}");
    }
}

async fn run(data_type: DataType, metric: DistanceType, base_index: VectorIndexParams, flushed: &str) {
    let base = vectors_of(&data_type, 600, 1);
    let mut table = Table::create(batch(0, list_of(&data_type, &base)), base_index).await;
    table.initialize().await.unwrap();
    let shard = Shard::open(&table.uri, metric, with_pennon()).await;
    assert_eq!(shard.writer.maintained_index_names().await, [INDEX]);
    let queries = vectors_of(&data_type, 10, 2);
    let mut world = World { data_type, metric, live: (0..).zip(base).collect(), queries, shard };

    for (first_id, seed) in [(600, 3), (700, 4), (800, 5)] {
        world.put(first_id, 100, seed).await;
    }
    let nulls = batch(90_000, null_list_of(&world.data_type, 2));
    world.shard.writer.put(vec![nulls]).await.unwrap();
    world.delete(0..10).await;
    world.check("rows in the MemTable").await;
    world.check_plan("VectorIndexExec", 1).await;
    let index = world.shard.index().await;
    assert_eq!((index.len(), index.element_type().to_string()), (300, world.data_type.to_string()));

    // From here on Lance compares all rows of the MemTable itself.
    world.put(650, 5, 6).await;
    world.check_plan("MemTableBruteForceVectorExec", 1).await;
    world.check("keys of the MemTable replaced").await;

    world.shard.flush().await;
    let generations = world.shard.generations().await;
    let [generation] = generations.as_slice() else { panic!("{} generations", generations.len()) };
    let statistics = generation.index_statistics(INDEX).await.unwrap();
    assert!(statistics.contains(flushed), "{statistics}");
    world.check("flushed").await;
    // The base table's and the generation's.
    world.check_plan("ANNSubIndex", 2).await;

    world.put(5_000, 40, 7).await;
    let World { data_type, metric, live, queries, shard } = world;
    let shard = shard.crash_and_reopen().await;
    let world = World { data_type, metric, live, queries, shard };
    assert_eq!(world.shard.index().await.len(), 40);
    world.check("replayed from the WAL").await;
    world.shard.writer.close().await.unwrap();
}

fn flat(metric: DistanceType) -> VectorIndexParams {
    VectorIndexParams::ivf_flat(1, lance_metric(metric))
}

fn hnsw_sq(metric: DistanceType) -> VectorIndexParams {
    let (ivf, hnsw) = (IvfBuildParams::new(2), HnswBuildParams::default());
    VectorIndexParams::with_ivf_hnsw_sq_params(lance_metric(metric), ivf, hnsw, SQBuildParams::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_precision() {
    run(DataType::Float16, DistanceType::L2, flat(DistanceType::L2), "IVF_HNSW_FLAT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_precision_quantized() {
    run(DataType::Float16, DistanceType::Cosine, flat(DistanceType::Cosine), "IVF_HNSW_SQ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn double_precision() {
    run(DataType::Float64, DistanceType::Dot, flat(DistanceType::Dot), "IVF_HNSW_FLAT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn double_precision_quantized() {
    run(DataType::Float64, DistanceType::L2, hnsw_sq(DistanceType::L2), "IVF_HNSW_SQ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits() {
    run(DataType::UInt8, DistanceType::Hamming, flat(DistanceType::Hamming), "IVF_HNSW_FLAT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_are_not_quantized() {
    let bytes = list_of(&DataType::UInt8, &vectors_of(&DataType::UInt8, 256, 1));
    let mut table = Table::create(batch(0, bytes), flat(DistanceType::Hamming)).await;
    table.initialize().await.unwrap();
    let quantized = PennonMemIndexParams::default().quantizer(Quantizer::Sq);
    let config = Table::config(with_pennon()).with_index_override(INDEX, quantized);
    let dataset = Dataset::open(&table.uri).await.unwrap();
    let opened = dataset.mem_wal_writer(config.shard_id, config).await;
    let Err(error) = opened else { panic!("the writer opened") };
    let says = "Lance has no IVF_HNSW_SQ index with distance type hamming";
    assert!(error.to_string().contains(says) && error.to_string().contains(INDEX), "{error}");
}
