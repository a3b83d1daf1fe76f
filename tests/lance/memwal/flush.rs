//! What a flush leaves behind: an index of the generation whose row ids are the positions, or none.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt64Type};
use arrow_array::{Float32Array, RecordBatch};
use lance::Dataset;
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::pb;
use lance_index::pb::vector_index_details::Compression;
use pennon::lance::{PennonMemIndexParams, Quantizer};
use pennon::{BuildParams, DistanceType};

use crate::memwal::data::{
    DIM, batch, close, distance, lance_metric, list, null_list, rows, scaled, vectors,
};
use crate::memwal::table::{INDEX, Shard, Table, with_pennon};

async fn table(metric: DistanceType) -> Table {
    let index = VectorIndexParams::ivf_flat(1, lance_metric(metric));
    let mut table = Table::create(rows(&vectors(256, 1)), index).await;
    table.initialize().await.unwrap();
    table
}

/// The nearest row of a generation: `id`, `_rowid`, `_distance`.
async fn nearest(generation: &Dataset, vector: &[f32]) -> (i64, u64, f32) {
    let mut scan = generation.scan();
    scan.nearest("vec", &Float32Array::from(vector.to_vec()), 1).unwrap().ef(32).with_row_id();
    let plan = scan.explain_plan(false).await.unwrap();
    assert!(plan.contains("ANNSubIndex"), "{plan}");
    let row: RecordBatch = scan.try_into_batch().await.unwrap();
    let (id, row_id) = (row["id"].as_primitive::<Int64Type>(), row["_rowid"].as_primitive::<UInt64Type>());
    (id.value(0), row_id.value(0), row["_distance"].as_primitive::<Float32Type>().value(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_ids_are_the_positions_of_the_rows() {
    let table = table(DistanceType::L2).await;
    let shard = Shard::open(&table.uri, DistanceType::L2, with_pennon()).await;
    let (first, second) = (vectors(60, 2), vectors(40, 3));
    let mut unusable = vectors(2, 4);
    unusable[0][7] = f32::NAN;
    unusable[1][0] = f32::NEG_INFINITY;
    // Positions 0..3 and 3..63; 63..65 are tombstones, 65..67 unusable; then 67..107.
    shard.writer.put(vec![batch(500, null_list(3)), batch(600, list(&first))]).await.unwrap();
    shard.delete([1, 2]).await;
    shard.writer.put(vec![batch(800, list(&unusable))]).await.unwrap();
    shard.writer.put(vec![batch(700, list(&second))]).await.unwrap();
    assert_eq!(shard.index().await.len(), 100);
    shard.flush().await;

    let generations = shard.generations().await;
    assert_eq!(generations.len(), 1);
    let statistics = generations[0].index_statistics(INDEX).await.unwrap();
    assert!(statistics.contains("IVF_HNSW_FLAT"), "{statistics}");
    for (vectors, first_id, first_position) in [(&first, 600, 3), (&second, 700, 67)] {
        for (row, vector) in vectors.iter().enumerate().step_by(13) {
            let (id, row_id, distance) = nearest(&generations[0], vector).await;
            assert_eq!((id, row_id), (first_id + row as i64, first_position + row as u64));
            assert!(distance < 1e-5, "{distance}");
        }
    }
    shard.writer.close().await.unwrap();
}

/// Lance's own flush and build leave such rows out, or store zeros for them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_any_length_are_found_in_cosine() {
    let table = table(DistanceType::Cosine).await;
    let shard = Shard::open(&table.uri, DistanceType::Cosine, with_pennon()).await;
    let directions = vectors(60, 2);
    shard.writer.put(vec![batch(600, list(&scaled(&directions)))]).await.unwrap();
    assert_eq!(shard.index().await.len(), 60);
    shard.flush().await;

    let generations = shard.generations().await;
    let statistics = generations[0].index_statistics(INDEX).await.unwrap();
    assert!(statistics.contains("IVF_HNSW_SQ"), "{statistics}");
    for (row, direction) in directions.iter().enumerate() {
        let (id, row_id, distance) = nearest(&generations[0], direction).await;
        assert_eq!((id, row_id), (600 + row as i64, row as u64));
        assert!(distance.abs() < 0.01, "{distance}");
    }
    shard.writer.close().await.unwrap();
}

/// All rows are one value, to which a quantizer has nothing to add.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_all_the_same_are_found() {
    let table = table(DistanceType::Cosine).await;
    let shard = Shard::open(&table.uri, DistanceType::Cosine, with_pennon()).await;
    shard.writer.put(vec![batch(600, list(&vec![vec![-2.5; DIM]; 20]))]).await.unwrap();
    shard.flush().await;
    let generations = shard.generations().await;
    let (id, _, distance) = nearest(&generations[0], &[-1.0; DIM]).await;
    assert!((600..620).contains(&id) && distance.abs() < 0.01, "row {id} at {distance}");
    let (_, _, opposite) = nearest(&generations[0], &[1.0; DIM]).await;
    assert!(opposite > 0.5, "{opposite}");
    shard.writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memtable_without_a_vector_leaves_no_index() {
    let table = table(DistanceType::Cosine).await;
    let shard = Shard::open(&table.uri, DistanceType::Cosine, with_pennon()).await;
    shard.delete(0..5).await;
    shard.writer.put(vec![batch(900, null_list(2))]).await.unwrap();
    shard.flush().await;
    let generations = shard.generations().await;
    assert_eq!(generations.len(), 1);
    assert!(generations[0].load_indices().await.unwrap().iter().all(|index| index.name != INDEX));
    // The table is whole: five rows less, and the others at their distances.
    let all = vectors(256, 1);
    let found = shard.search(&all[9], 10).await;
    assert_eq!(found[0].0, 9);
    for (id, score) in found {
        assert!((5..256).contains(&id), "{id}");
        assert!(close(score, distance(DistanceType::Cosine, &all[9], &all[id as usize])));
    }
    shard.writer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_the_index_says_how_it_was_built() {
    let table = table(DistanceType::Dot).await;
    let build = BuildParams::default().num_edges(9).ef_construction(50);
    let settings = PennonMemIndexParams::default().build(build).quantizer(Quantizer::Sq);
    let config = Table::config(with_pennon()).with_index_override(INDEX, settings);
    let shard = Shard::open_with(&table.uri, DistanceType::Dot, config).await;
    shard.writer.put(vec![batch(600, list(&vectors(50, 2)))]).await.unwrap();
    shard.flush().await;

    let generations = shard.generations().await;
    let indices = generations[0].load_indices().await.unwrap();
    let index = indices.iter().find(|index| index.name == INDEX).unwrap();
    let details: Arc<prost_types::Any> = index.index_details.clone().unwrap();
    let details = details.to_msg::<pb::VectorIndexDetails>().unwrap();
    assert_eq!(details.metric_type, pb::VectorMetricType::Dot as i32);
    assert!(matches!(details.compression, Some(Compression::Sq(_))), "{details:?}");
    let hnsw = details.hnsw_index_config.unwrap();
    assert_eq!((hnsw.max_connections, hnsw.construction_ef), (9, 50));
    let statistics = generations[0].index_statistics(INDEX).await.unwrap();
    assert!(statistics.contains("IVF_HNSW_SQ"), "{statistics}");
    shard.writer.close().await.unwrap();
}
