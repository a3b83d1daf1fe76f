//! A `lance:hnsw` batch taken apart, so that a test can change any of it and put it together again.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{ArrayRef, ListArray, RecordBatch, UInt32Array};
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::lance::{DISTANCE_COLUMN, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};
use serde_json::Value;

use crate::sub_index::probe::with_metadata;

type List<T> = Option<Vec<Option<T>>>;

/// Rows of all levels, level 0 first. `None` is a null.
#[derive(Clone)]
pub struct Draft {
    pub metadata: Value,
    pub ids: Vec<Option<u32>>,
    pub neighbors: Vec<List<u32>>,
    pub distances: Vec<List<f32>>,
}

impl Draft {
    pub fn of(batch: &RecordBatch) -> Self {
        let ids = batch[VECTOR_ID_COLUMN].as_primitive::<UInt32Type>();
        let neighbors = batch[NEIGHBORS_COLUMN].as_list::<i32>();
        let distances = batch[DISTANCE_COLUMN].as_list::<i32>();
        Self {
            metadata: serde_json::from_str(&batch.schema_ref().metadata()[HNSW_METADATA_KEY]).unwrap(),
            ids: ids.iter().collect(),
            neighbors: neighbors
                .iter()
                .map(|list| list.map(|list| list.as_primitive::<UInt32Type>().iter().collect()))
                .collect(),
            distances: distances
                .iter()
                .map(|list| list.map(|list| list.as_primitive::<Float32Type>().iter().collect()))
                .collect(),
        }
    }

    pub fn batch(&self) -> RecordBatch {
        let ids = UInt32Array::from(self.ids.clone());
        let neighbors = ListArray::from_iter_primitive::<UInt32Type, _, _>(self.neighbors.iter().cloned());
        let distances = ListArray::from_iter_primitive::<Float32Type, _, _>(self.distances.iter().cloned());
        let columns = vec![Arc::new(ids) as ArrayRef, Arc::new(neighbors), Arc::new(distances)];
        let batch = RecordBatch::try_new(HNSW::schema(), columns).unwrap();
        with_metadata(&batch, self.metadata.to_string())
    }

    /// The batch after `change`; this draft stays as it is.
    pub fn edit(&self, change: impl FnOnce(&mut Self)) -> RecordBatch {
        let mut draft = self.clone();
        change(&mut draft);
        draft.batch()
    }

    pub fn level_offsets(&self) -> Vec<usize> {
        let offsets = self.metadata["level_offsets"].as_array().unwrap();
        offsets.iter().map(|offset| offset.as_u64().unwrap() as usize).collect()
    }

    /// Nodes of the graph, which are the rows of level 0.
    pub fn nodes(&self) -> usize {
        self.level_offsets()[1]
    }

    /// A node that is on level 0 only.
    pub fn bottom_node(&self) -> u32 {
        let upper = &self.ids[self.nodes()..];
        (0..self.nodes() as u32).find(|id| !upper.contains(&Some(*id))).unwrap()
    }

    pub fn neighbors_of(&mut self, row: usize) -> &mut Vec<Option<u32>> {
        self.neighbors[row].as_mut().unwrap()
    }

    pub fn distances_of(&mut self, row: usize) -> &mut Vec<Option<f32>> {
        self.distances[row].as_mut().unwrap()
    }

    pub fn push_edge(&mut self, row: usize, neighbor: u32, distance: f32) {
        self.neighbors_of(row).push(Some(neighbor));
        self.distances_of(row).push(Some(distance));
    }

    pub fn clear_edges(&mut self, rows: Range<usize>) {
        for row in rows {
            self.neighbors_of(row).clear();
            self.distances_of(row).clear();
        }
    }

    /// Exchanges two rows whole: ids and lists.
    pub fn swap_rows(&mut self, left: usize, right: usize) {
        self.ids.swap(left, right);
        self.neighbors.swap(left, right);
        self.distances.swap(left, right);
    }

    pub fn insert_row(&mut self, at: usize, id: u32, edges: &[(u32, f32)]) {
        self.ids.insert(at, Some(id));
        self.neighbors.insert(at, Some(edges.iter().map(|edge| Some(edge.0)).collect()));
        self.distances.insert(at, Some(edges.iter().map(|edge| Some(edge.1)).collect()));
    }
}
