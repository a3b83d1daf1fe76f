//! A `lance:hnsw` batch decoded by the test itself: Arrow columns, Lance's metadata type.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use lance_index::vector::hnsw::HnswMetadata;
use pennon::lance::{DISTANCE_COLUMN, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};

pub struct Row {
    pub id: u32,
    pub neighbors: Vec<u32>,
    pub distances: Vec<f32>,
}

pub struct Layout {
    pub metadata: HnswMetadata,
    /// One entry per range of `level_offsets`, padding included.
    pub levels: Vec<Vec<Row>>,
    /// Rows of the batch, whatever the offsets say.
    pub rows: usize,
}

impl Layout {
    /// Panics where the batch is not one that a writer may write: nulls, bad metadata, wrong types.
    pub fn decode(batch: &RecordBatch) -> Self {
        let metadata = &batch.schema_ref().metadata()[HNSW_METADATA_KEY];
        let metadata: HnswMetadata = serde_json::from_str(metadata).unwrap();
        let ids = batch[VECTOR_ID_COLUMN].as_primitive::<UInt32Type>();
        let neighbors = batch[NEIGHBORS_COLUMN].as_list::<i32>();
        let distances = batch[DISTANCE_COLUMN].as_list::<i32>();
        let neighbor_ids = neighbors.values().as_primitive::<UInt32Type>();
        let edge_distances = distances.values().as_primitive::<Float32Type>();
        assert_eq!(ids.null_count(), 0);
        assert_eq!(neighbors.null_count() + neighbor_ids.null_count(), 0);
        assert_eq!(distances.null_count() + edge_distances.null_count(), 0);

        let edges = |offsets: &[i32], row: usize| offsets[row] as usize..offsets[row + 1] as usize;
        let decode_row = |row: usize| Row {
            id: ids.value(row),
            neighbors: neighbor_ids.values()[edges(neighbors.value_offsets(), row)].to_vec(),
            distances: edge_distances.values()[edges(distances.value_offsets(), row)].to_vec(),
        };
        let levels = metadata
            .level_offsets
            .windows(2)
            .map(|range| (range[0]..range[1]).map(decode_row).collect())
            .collect();
        Self { metadata, levels, rows: batch.num_rows() }
    }

    /// Levels up to the last one that holds a node.
    pub fn height(&self) -> usize {
        self.levels.iter().rposition(|level| !level.is_empty()).map_or(0, |top| top + 1)
    }

    /// Nodes that level-0 edges reach from the entry point.
    pub fn reachable(&self) -> usize {
        let Some(level) = self.levels.first().filter(|level| !level.is_empty()) else {
            return 0;
        };
        let mut seen = vec![false; level.len()];
        let mut waiting = vec![self.metadata.entry_point];
        seen[self.metadata.entry_point as usize] = true;
        let mut count = 0;
        while let Some(id) = waiting.pop() {
            count += 1;
            for &neighbor in &level[id as usize].neighbors {
                if !std::mem::replace(&mut seen[neighbor as usize], true) {
                    waiting.push(neighbor);
                }
            }
        }
        count
    }

    /// `node` and then its lists from the highest level that has it down to level 0: the ids that a
    /// search scores when `node` is the entry point and nearer to the query than all others.
    pub fn scored_from(&self, node: u32) -> Vec<u32> {
        let mut scored = vec![node];
        for level in self.levels.iter().skip(1).rev() {
            if let Some(row) = level.iter().find(|row| row.id == node) {
                scored.extend(&row.neighbors);
            }
        }
        scored.extend(&self.levels[0][node as usize].neighbors);
        scored
    }
}
