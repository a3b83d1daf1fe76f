//! What every batch that pennon exports obeys, and that Lance loads it without losing an edge.

use arrow_array::RecordBatch;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::{BuildParams, DistanceType};

use crate::sub_index::data::{Vectors, close, distance};
use crate::sub_index::layout::{Layout, Row};
use crate::sub_index::probe::{bytes_beside, without_edges};

/// Checks `batch` as the export of a graph over exactly `vectors`, and returns what Lance loads.
pub fn assert_lawful(
    batch: &RecordBatch,
    vectors: &Vectors,
    metric: DistanceType,
    params: &BuildParams,
) -> HNSW {
    assert_eq!(batch.schema_ref().fields(), HNSW::schema().fields());
    let layout = Layout::decode(batch);
    assert_metadata(&layout, vectors.len(), params);
    assert_levels(&layout, vectors, metric, params.m);
    assert_eq!(layout.reachable(), vectors.len(), "nodes reachable at level 0");
    load_as_written(batch, &layout)
}

fn assert_metadata(layout: &Layout, n: usize, params: &BuildParams) {
    let metadata = &layout.metadata;
    assert_eq!(metadata.params.max_level, params.max_level);
    assert_eq!(metadata.params.m, params.m);
    assert_eq!(metadata.params.ef_construction, params.ef_construction);

    let offsets = &metadata.level_offsets;
    assert_eq!(offsets.len(), usize::from(params.max_level) + 1);
    assert_eq!(offsets[0], 0);
    assert_eq!(offsets[1], n);
    assert_eq!(offsets.last(), Some(&layout.rows));
    assert!(offsets.is_sorted());
    let populated = layout.levels.iter().filter(|level| !level.is_empty()).count();
    assert_eq!(populated, layout.height(), "no empty level below a populated one");
    if let Some(top) = layout.height().checked_sub(1) {
        assert!(layout.levels[top].iter().any(|row| row.id == metadata.entry_point));
    }
}

fn assert_levels(layout: &Layout, vectors: &Vectors, metric: DistanceType, m: usize) {
    let mut below = vec![true; vectors.len()];
    for (level, rows) in layout.levels.iter().enumerate() {
        let mut present = vec![false; vectors.len()];
        for (index, row) in rows.iter().enumerate() {
            let id = row.id as usize;
            assert!(level > 0 || id == index, "level 0 row {index} has id {id}");
            assert!(below[id], "{id} is on level {level} and not below it");
            assert!(!present[id], "{id} is on level {level} twice");
            present[id] = true;
        }
        let cap = if level == 0 { 2 * m } else { m };
        for row in rows {
            assert_row(row, level, cap, &present);
            for (&neighbor, &stored) in row.neighbors.iter().zip(&row.distances) {
                let real = distance(metric, vectors.row(row.id as usize), vectors.row(neighbor as usize));
                let id = row.id;
                assert!(close(stored, real), "{metric} {id} to {neighbor}: {stored}, really {real}");
            }
        }
        below = present;
    }
}

fn assert_row(row: &Row, level: usize, cap: usize, present: &[bool]) {
    let Row { id, neighbors, distances } = row;
    assert_eq!(neighbors.len(), distances.len(), "lists of {id} at level {level}");
    assert!(neighbors.len() <= cap, "{id} has {} neighbors at level {level}", neighbors.len());
    assert!(distances.is_sorted(), "{id} at level {level} is not nearest first: {distances:?}");
    assert!(!neighbors.contains(id), "{id} is its own neighbor at level {level}");
    let mut distinct = neighbors.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), neighbors.len(), "{id} has a neighbor twice at level {level}");
    for &neighbor in neighbors {
        let known = present.get(neighbor as usize).copied();
        assert_eq!(known, Some(true), "{id} names {neighbor}, which is not on level {level}");
    }
}

fn load_as_written(batch: &RecordBatch, layout: &Layout) -> HNSW {
    let hnsw = HNSW::load(batch.clone()).unwrap();
    assert_eq!(hnsw.len(), layout.levels[0].len());
    assert_eq!(usize::from(hnsw.max_level()), layout.height());
    if hnsw.is_empty() {
        return hnsw;
    }
    for (level, rows) in layout.levels.iter().enumerate() {
        assert_eq!(hnsw.num_nodes(level), rows.len());
    }
    let metadata = hnsw.metadata();
    assert_eq!(metadata.entry_point, layout.metadata.entry_point);
    assert_eq!(metadata.params, layout.metadata.params);
    assert_eq!(metadata.level_offsets, layout.metadata.level_offsets);
    assert_eq!(hnsw.to_batch().unwrap().columns(), batch.columns());
    assert_eq!(bytes_beside(batch), bytes_beside(&without_edges(batch)), "Lance dropped edges");
    hnsw
}
