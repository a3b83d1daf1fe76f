//! The exported graph read back with plain Arrow calls, and audited without asking the crate.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use pennon::lance::{DISTANCE_COLUMN, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};
use pennon::{GraphHealth, VectorSource};
use serde_json::Value;

use crate::data::exact_distance;

/// "An edge or two over its cap", says the export.
const PREFIX_SLACK: usize = 2;

pub struct Exported {
    pub entry_point: usize,
    pub m: usize,
    pub max_level: usize,
    pub level_offsets: Vec<usize>,
    pub ids: Vec<u32>,
    pub neighbors: Vec<Vec<u32>>,
    pub distances: Vec<Vec<f32>>,
}

impl Exported {
    pub fn read(batch: &RecordBatch) -> Self {
        let schema = batch.schema();
        let metadata: Value = serde_json::from_str(&schema.metadata()[HNSW_METADATA_KEY]).unwrap();
        let number = |value: &Value| value.as_u64().expect("an unsigned number") as usize;
        let lists = |name: &str| -> Vec<ArrayRef> {
            let column = batch[name].as_list::<i32>();
            column.iter().map(|list| list.expect("no null lists")).collect()
        };
        Self {
            entry_point: number(&metadata["entry_point"]),
            m: number(&metadata["params"]["m"]),
            max_level: number(&metadata["params"]["max_level"]),
            level_offsets: metadata["level_offsets"].as_array().unwrap().iter().map(number).collect(),
            ids: batch[VECTOR_ID_COLUMN].as_primitive::<UInt32Type>().values().to_vec(),
            neighbors: lists(NEIGHBORS_COLUMN)
                .iter()
                .map(|list| list.as_primitive::<UInt32Type>().values().to_vec())
                .collect(),
            distances: lists(DISTANCE_COLUMN)
                .iter()
                .map(|list| list.as_primitive::<Float32Type>().values().to_vec())
                .collect(),
        }
    }

    pub fn nodes(&self) -> usize {
        self.level_offsets[1]
    }

    /// Nodes per level, without the empty levels at the top.
    pub fn level_nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self.level_offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        trim(&mut nodes);
        nodes
    }

    /// Nodes that a walk over level 0 meets from the entry point.
    pub fn reachable(&self) -> usize {
        if self.nodes() == 0 {
            return 0;
        }
        walk(&self.neighbors[..self.nodes()], self.entry_point, &mut vec![false; self.nodes()])
    }

    /// Weakly connected components of level 0.
    pub fn components(&self) -> usize {
        let mut both = vec![Vec::new(); self.nodes()];
        for (from, list) in self.neighbors[..self.nodes()].iter().enumerate() {
            for &to in list {
                both[from].push(to);
                both[to as usize].push(from as u32);
            }
        }
        let mut seen = vec![false; self.nodes()];
        (0..self.nodes()).filter(|&node| walk(&both, node, &mut seen) > 0).count()
    }

    /// Panics unless this is a graph that Lance may load: every law of the format, and every node reachable.
    pub fn check(&self, source: &dyn VectorSource, case: &str) {
        self.check_with(0, source, case);
    }

    /// The same for a prefix of a graph: a list may be `PREFIX_SLACK` over its cap, and what was reconnected
    /// may be at an unknown distance.
    pub fn check_prefix(&self, source: &dyn VectorSource, case: &str) {
        self.check_with(PREFIX_SLACK, source, case);
    }

    fn check_with(&self, slack: usize, source: &dyn VectorSource, case: &str) {
        let offsets = &self.level_offsets;
        assert_eq!(offsets.len(), self.max_level + 1, "{case}: offsets {offsets:?}");
        assert_eq!(offsets[0], 0, "{case}: offsets {offsets:?}");
        assert!(offsets.is_sorted(), "{case}: offsets {offsets:?}");
        assert_eq!(*offsets.last().unwrap(), self.ids.len(), "{case}: offsets {offsets:?}");
        if self.nodes() == 0 {
            return;
        }
        let dense = (0..self.nodes() as u32).eq(self.ids[..self.nodes()].iter().copied());
        assert!(dense, "{case}: level 0 is not dense");
        let mut below: Option<HashSet<u32>> = None;
        for (level, rows) in offsets.windows(2).enumerate() {
            let on_level: HashSet<u32> = self.ids[rows[0]..rows[1]].iter().copied().collect();
            assert_eq!(on_level.len(), rows[1] - rows[0], "{case}: an id twice on level {level}");
            if let Some(below) = &below {
                assert!(on_level.is_subset(below), "{case}: level {level} is not nested");
            }
            for row in rows[0]..rows[1] {
                self.check_list(row, level, slack, &on_level, source, case);
            }
            below = Some(on_level);
        }
        let top = self.level_nodes().len() - 1;
        let top_ids = &self.ids[offsets[top]..offsets[top + 1]];
        assert!(
            top_ids.contains(&(self.entry_point as u32)),
            "{case}: entry point {} is not on level {top}",
            self.entry_point
        );
        assert_eq!(self.reachable(), self.nodes(), "{case}: nodes reachable from {}", self.entry_point);
        assert_eq!(self.components(), 1, "{case}: components");
    }

    fn check_list(
        &self,
        row: usize,
        level: usize,
        slack: usize,
        on_level: &HashSet<u32>,
        source: &dyn VectorSource,
        case: &str,
    ) {
        let (id, list, distances) = (self.ids[row], &self.neighbors[row], &self.distances[row]);
        let what = || format!("{case}: node {id} on level {level} with {list:?} at {distances:?}");
        let cap = if level == 0 { 2 * self.m + slack } else { self.m };
        assert!(list.len() <= cap, "{}: more than {cap} neighbors", what());
        assert_eq!(list.len(), distances.len(), "{}: lengths", what());
        assert!(!list.contains(&id), "{}: names itself", what());
        let different: HashSet<u32> = list.iter().copied().collect();
        assert_eq!(different.len(), list.len(), "{}: a neighbor twice", what());
        assert!(different.is_subset(on_level), "{}: a neighbor is not on the level", what());
        assert!(distances.is_sorted(), "{}: not nearest first", what());
        for (&neighbor, &distance) in list.iter().zip(distances) {
            if slack > 0 && distance == f32::INFINITY {
                continue;
            }
            let exact = exact_distance(source.distance_type(), source.vector(id), source.vector(neighbor));
            let close = (f64::from(distance) - exact).abs() <= 1e-4 * (1.0 + exact.abs());
            assert!(close, "{}: the distance to {neighbor} is {exact}", what());
        }
    }

    /// Panics unless the crate's own report says what the export says.
    pub fn assert_reported(&self, health: &GraphHealth, case: &str) {
        assert_eq!(health.nodes, self.nodes(), "{case}");
        assert_eq!(health.reachable, self.reachable(), "{case}");
        assert_eq!(health.components, self.components(), "{case}");
        assert_eq!(health.entry_point, (self.nodes() > 0).then_some(self.entry_point as u32), "{case}");
        assert_eq!(health.level_nodes, self.level_nodes(), "{case}");
        let mut degrees = vec![0; 2 * self.m + 1];
        for list in &self.neighbors[..self.nodes()] {
            degrees[list.len()] += 1;
        }
        let edges: usize = self.neighbors[..self.nodes()].iter().map(Vec::len).sum();
        assert_eq!(health.edges, edges as u64, "{case}");
        let longest = |pair: &[usize]| self.neighbors[pair[0]..pair[1]].iter().map(Vec::len).max();
        let mut max_degree: Vec<usize> = self.level_offsets.windows(2).filter_map(longest).collect();
        let (mut reported_degrees, mut reported_max) =
            (health.degree_histogram.clone(), health.max_degree.clone());
        for list in [&mut degrees, &mut max_degree, &mut reported_degrees, &mut reported_max] {
            trim(list);
        }
        assert_eq!(reported_degrees, degrees, "{case}");
        assert_eq!(reported_max, max_degree, "{case}");
    }
}

fn trim(list: &mut Vec<usize>) {
    while list.last() == Some(&0) {
        list.pop();
    }
}

fn walk(neighbors: &[Vec<u32>], start: usize, seen: &mut [bool]) -> usize {
    if seen[start] {
        return 0;
    }
    seen[start] = true;
    let mut stack = vec![start];
    let mut met = 0;
    while let Some(node) = stack.pop() {
        met += 1;
        for &next in &neighbors[node] {
            if !seen[next as usize] {
                seen[next as usize] = true;
                stack.push(next as usize);
            }
        }
    }
    met
}

/// Every bit of a batch that a reader can see: its metadata and its values.
pub fn bytes(batch: &RecordBatch) -> Vec<u8> {
    let schema = batch.schema();
    let mut metadata: Vec<_> = schema.metadata().iter().collect();
    metadata.sort();
    let mut out = format!("{metadata:?}").into_bytes();
    for column in batch.columns() {
        push_bytes(&mut out, column);
    }
    out
}

pub fn push_bytes(out: &mut Vec<u8>, column: &ArrayRef) {
    assert_eq!(column.logical_null_count(), 0, "an exported column has nulls");
    match column.data_type() {
        DataType::UInt32 => {
            out.extend(column.as_primitive::<UInt32Type>().values().iter().flat_map(|v| v.to_le_bytes()))
        }
        DataType::UInt64 => {
            out.extend(column.as_primitive::<UInt64Type>().values().iter().flat_map(|v| v.to_le_bytes()))
        }
        DataType::Float32 => {
            out.extend(column.as_primitive::<Float32Type>().values().iter().flat_map(|v| v.to_le_bytes()))
        }
        DataType::FixedSizeList(..) => push_bytes(out, column.as_fixed_size_list().values()),
        DataType::List(_) => {
            for list in column.as_list::<i32>().iter() {
                let list = list.expect("no null lists");
                out.extend((list.len() as u64).to_le_bytes());
                push_bytes(out, &list);
            }
        }
        other => panic!("an exported column of type {other}"),
    }
}
