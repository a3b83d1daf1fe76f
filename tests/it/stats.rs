//! What an index says of itself is what it is.

use arrow_array::{FixedSizeListArray, types::Float32Type};
use pennon::{BuildParams, DistanceType, Index, PruneStrategy, Selection};

use crate::data::{build, clustered};
use crate::export::Exported;

fn params() -> BuildParams {
    BuildParams::default().num_edges(8).ef_construction(60)
}

#[test]
fn statistics_are_those_of_the_export() {
    let rows = clustered(3_000, 12, 64, 71).0;
    let index = build(&rows, DistanceType::Cosine, &params(), 700);
    (0..100).for_each(|row_id| index.delete(row_id).unwrap());
    let stats = index.stats();
    assert_eq!((stats.live, stats.tombstones), (2_900, 100));
    assert_eq!((stats.dim, stats.distance_type), (12, DistanceType::Cosine));
    assert_eq!(stats.params, Some(params()));

    // Dead rows are nodes, which `to_lance_batches` would leave out.
    let exported = Exported::read(&index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap());
    let level_nodes: Vec<usize> = stats.levels.iter().map(|level| level.nodes).collect();
    assert_eq!(level_nodes, exported.level_nodes());
    for (level, pair) in stats.levels.iter().zip(exported.level_offsets.windows(2)) {
        let degrees: Vec<usize> = exported.neighbors[pair[0]..pair[1]].iter().map(Vec::len).collect();
        let (least, most) = (degrees.iter().min().copied(), degrees.iter().max().copied());
        assert_eq!((Some(level.min_degree()), Some(level.max_degree())), (least, most));
        assert_eq!(level.edges, degrees.iter().sum::<usize>() as u64);
        assert!((level.mean_degree() - level.edges as f64 / level.nodes as f64).abs() < 1e-9);
        for (degree, &nodes) in level.degree_histogram.iter().enumerate() {
            assert_eq!(nodes, degrees.iter().filter(|&&d| d == degree).count(), "of degree {degree}");
        }
    }
    let health = index.health().unwrap();
    assert_eq!(health.degree_histogram, stats.levels[0].degree_histogram);
    assert_eq!((health.lists_over_cap, health.unreachable_nodes.len(), health.long_lists.len()), (0, 0, 0));

    let reader = index.reader();
    let by_level = reader.graph().unwrap().level_histogram();
    assert_eq!(health.level_nodes, level_nodes);
    assert_eq!(by_level.iter().sum::<usize>(), 3_000);
    assert_eq!(by_level[0], level_nodes[0] - level_nodes[1]);
    assert_eq!(by_level.last(), level_nodes.last());
}

#[test]
fn bytes_add_up() {
    let rows = clustered(2_000, 12, 64, 72).0;
    let index = build(&rows, DistanceType::L2, &params(), 500);
    for deletes in [0, 1] {
        (0..deletes).for_each(|row_id| index.delete(row_id).unwrap());
        let bytes = index.stats().bytes;
        assert_eq!(bytes.total(), index.resident_bytes());
        // Lists of 16 ids with their distances.
        assert!(bytes.level_0 >= 2_000 * 16 * 8, "{bytes:?}");
        let others = [bytes.upper_levels, bytes.vectors, bytes.scratch, bytes.fixed];
        assert!(others.iter().all(|&part| part > 0), "{bytes:?}");
        assert_eq!((bytes.tombstones > 0, bytes.row_ids > 0), (deletes > 0, true), "{bytes:?}");
    }
    let frozen = index.reordered().unwrap();
    assert!(frozen.stats().bytes.vectors >= 1_999 * 12 * 4, "{:?}", frozen.stats().bytes);
}

#[test]
fn skipped_rows_are_told_by_reason() {
    let vector = |x: f32| Some([Some(x), Some(1.0)]);
    let zero = Some([Some(0.0); 2]);
    let half = Some([Some(1.0), None]);
    let rows = [vector(1.0), None, vector(f32::NAN), half, zero, vector(2.0), None];
    let array = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2);
    let index = Index::hnsw(2, DistanceType::Cosine, params()).unwrap();
    index.append(&array, 0u64).unwrap();
    let stats = index.stats();
    let skipped = stats.skipped;
    assert_eq!((stats.live, skipped.total(), skipped.null, skipped.null_element), (2, 5, 2, 1));
    assert_eq!((skipped.non_finite, skipped.zero_norm), (1, 1));
    let text = stats.to_string();
    assert!(text.contains("5 (2 null, 1 with a null element, 1 not finite, 1 zero)"), "{text}");
}

#[test]
fn tables_say_what_there_is() {
    let rows = clustered(1_000, 12, 64, 73).0;
    let params = params().m0(24).selection(Selection::Nearest).prune(PruneStrategy::Nearest);
    let index = build(&rows, DistanceType::Dot, &params, 500);
    index.delete(7).unwrap();
    let text = index.stats().to_string();
    println!("{text}");
    for part in ["999 (1 dead)", "12 x Float32, dot", "8 (level 0: 24)", "Nearest", "lists of level 0"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.is_ascii() && !text.ends_with('\n'));
    // A line for each level, and for each part of the memory.
    let levels = index.stats().levels.len();
    let (_, after) = text.split_once("max\n").unwrap();
    let (table, memory) = after.split_once("\n\n").unwrap();
    assert_eq!(table.lines().count(), levels, "{text}");
    let total: usize = memory.lines().last().unwrap().split_whitespace().last().unwrap().parse().unwrap();
    assert_eq!(total, index.resident_bytes());
}

#[test]
fn an_empty_index_has_no_levels() {
    let index = Index::hnsw(4, DistanceType::L2, params()).unwrap();
    let stats = index.stats();
    assert_eq!((stats.live, stats.tombstones, stats.levels.len()), (0, 0, 0));
    assert!(index.reader().graph().unwrap().level_histogram().is_empty());
    assert!(index.health().unwrap().level_nodes.is_empty());
    assert_eq!(stats.bytes.total(), index.resident_bytes());
    assert!(stats.to_string().contains("0 (0 dead)"));
    assert_eq!(index.health().unwrap().to_string().lines().count(), 5);
}
