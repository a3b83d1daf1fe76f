//! `lance:hnsw` batch to graph. The batch is untrusted.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, UInt32Array};
use arrow_schema::DataType;

use crate::error::{Error, Result};
use crate::format::{
    DISTANCE_COLUMN, HNSW_METADATA_KEY, LanceHnswMetadata, LanceHnswParams, NEIGHBORS_COLUMN,
    VECTOR_ID_COLUMN,
};
use crate::graph::BuildParams;
use crate::graph::{HnswGraph, Holding, Lists, UpperRow};

/// Levels that a graph of `u32` ids can sensibly have.
const MAX_LEVELS: usize = 33;

fn invalid(problem: impl Into<String>) -> Error {
    Error::InvalidBatch { kind: HNSW_METADATA_KEY, problem: problem.into() }
}

impl HnswGraph {
    /// The graph of a `lance:hnsw` batch, of whatever writer. More rows can be inserted: the next id
    /// is the number of level-0 rows. Until the first insert the neighbor lists of level 0 are read where
    /// they lie, in the buffers of the batch.
    ///
    /// What would only cost recall is mended: edges from a node to itself, twice, or to a node that
    /// is not there are dropped, lists are cut to `m0` or twice `m`, nodes that cannot be reached are
    /// connected, missing distances are computed at the first insert, parameters that Lance would
    /// not build with are raised to the least it accepts. `m` and `m0` are halved as long as rows of that length would
    /// take more than 64 MiB and 64 bytes for each byte of the batch.
    ///
    /// # Errors
    /// [`Error::InvalidBatch`] if
    /// - the metadata is missing or is not what Lance writes,
    /// - a column is missing or has another type (`_distance` may be missing),
    /// - `level_offsets` do not start at 0, decrease, or pass the end of the batch,
    /// - the level-0 rows are not the ids from 0 on, in order, or an upper-level id is not among them,
    /// - the entry point is not a level-0 row,
    /// - even the shortest rows would take more memory than that.
    pub fn from_lance_hnsw_batch(batch: &RecordBatch) -> Result<Self> {
        Self::import(batch, None)
    }

    /// Imports a graph; `known` are all parameters of one that this crate saved.
    pub(crate) fn import(batch: &RecordBatch, known: Option<&BuildParams>) -> Result<Self> {
        let metadata = match batch.schema_ref().metadata().get(HNSW_METADATA_KEY) {
            // As Lance: an empty batch is an empty graph.
            None if batch.num_rows() == 0 => return Self::try_new(known.cloned().unwrap_or_default()),
            None => return Err(invalid(format!("no schema metadata {HNSW_METADATA_KEY:?}"))),
            Some(json) => serde_json::from_str::<LanceHnswMetadata>(json)
                .map_err(|e| invalid(format!("metadata {HNSW_METADATA_KEY:?}: {e}")))?,
        };
        let columns = Columns::of(batch)?;
        let (nodes, upper) = read_levels(&metadata.level_offsets, &columns)?;
        let entry_point = metadata.entry_point;
        if entry_point as usize >= nodes && batch.num_rows() > 0 {
            return Err(invalid(format!("entry point {entry_point} of {nodes} nodes")));
        }
        let params = known.cloned().unwrap_or_else(|| BuildParams::from(&metadata.params));
        let max_level = params.max_level.max(upper.len() as u16 + 1);
        let params = params.max_level(max_level);
        let refused = |e: Error| match e {
            Error::InvalidParams { .. } => invalid(e.to_string()),
            other => other,
        };
        Self::check_params(&params).map_err(refused)?;
        let params = holding(nodes, &upper, &columns).limit(params).map_err(|(asks, most)| {
            invalid(format!("its lists would take {asks} bytes, what it holds justifies at most {most}"))
        })?;
        let level_0 = Box::new(Level0 { columns, nodes });
        Self::from_lists(params, entry_point, level_0, upper).map_err(refused)
    }
}

impl From<&LanceHnswParams> for BuildParams {
    /// Parameters that Lance would not build with are raised to the least it accepts; what it does not know is as by
    /// default.
    fn from(params: &LanceHnswParams) -> Self {
        let m = params.m.max(4);
        Self { m0: params.m0.map(|m0| m0.max(m)), ..Self::default() }
            .num_edges(m)
            .ef_construction(params.ef_construction.max(m))
            .max_level(params.max_level)
    }
}

/// The columns of a batch, sharing its buffers.
struct Columns {
    rows: usize,
    ids: UInt32Array,
    neighbors: ListArray,
    distances: Option<ListArray>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let required = |name: &str| column(name).ok_or_else(|| invalid(format!("no column {name:?}")));
        let list = |name: &str, array: &ArrayRef, item: DataType| match array.data_type() {
            DataType::List(field) if *field.data_type() == item => Ok(array.as_list::<i32>().clone()),
            other => Err(invalid(format!("column {name:?} must be List<{item}>, got {other}"))),
        };
        let ids = required(VECTOR_ID_COLUMN)?;
        let Some(ids) = ids.as_primitive_opt::<UInt32Type>() else {
            let actual = ids.data_type();
            return Err(invalid(format!("column {VECTOR_ID_COLUMN:?} must be UInt32, got {actual}")));
        };
        Ok(Self {
            rows: batch.num_rows(),
            ids: ids.clone(),
            neighbors: list(NEIGHBORS_COLUMN, required(NEIGHBORS_COLUMN)?, DataType::UInt32)?,
            distances: column(DISTANCE_COLUMN)
                .map(|array| list(DISTANCE_COLUMN, array, DataType::Float32))
                .transpose()?,
        })
    }

    fn id(&self, row: usize) -> Result<u32> {
        if self.ids.is_null(row) {
            Err(invalid(format!("null id in row {row}")))
        } else {
            Ok(self.ids.value(row))
        }
    }

    /// The edges of a row; NaN where there is no distance.
    fn edges(&self, row: usize) -> Vec<(u32, f32)> {
        if self.neighbors.is_null(row) {
            return Vec::new();
        }
        let neighbors = self.neighbors.value(row);
        let neighbors = neighbors.as_primitive::<UInt32Type>();
        let distances =
            self.distances.as_ref().filter(|lists| lists.is_valid(row)).map(|lists| lists.value(row));
        let distances = distances
            .as_ref()
            .map(|list| list.as_primitive::<Float32Type>())
            .filter(|list| list.len() == neighbors.len());
        let distance =
            |at| distances.filter(|list| list.is_valid(at)).map_or(f32::NAN, |list| list.value(at));
        neighbors.iter().enumerate().filter_map(|(at, id)| Some((id?, distance(at)))).collect()
    }
}

/// The first rows of a batch, row `id` for each node.
struct Level0 {
    columns: Columns,
    nodes: usize,
}

impl Level0 {
    fn ids(&self) -> &[u32] {
        self.columns.neighbors.values().as_primitive::<UInt32Type>().values()
    }
}

impl Lists for Level0 {
    fn len(&self) -> usize {
        self.nodes
    }

    fn is_walkable(&self, cap: usize) -> bool {
        let lists = &self.columns.neighbors;
        let offsets = lists.value_offsets();
        let offsets = &offsets[..=self.nodes];
        let used = &self.ids()[offsets[0] as usize..offsets[self.nodes] as usize];
        lists.null_count() == 0
            && lists.values().null_count() == 0
            && offsets.windows(2).all(|list| (list[1] - list[0]) as usize <= cap)
            && used.iter().fold(0, |highest, &id| highest.max(id)) < self.nodes as u32
    }

    #[inline]
    fn neighbors(&self, id: u32) -> &[u32] {
        let offsets = self.columns.neighbors.value_offsets();
        match offsets.get(id as usize..id as usize + 2) {
            Some(&[start, end]) => self.ids().get(start as usize..end as usize).unwrap_or(&[]),
            _ => &[],
        }
    }

    fn edges(&self, id: u32) -> Vec<(u32, f32)> {
        self.columns.edges(id as usize)
    }
}

/// What the lists of the batch hold.
fn holding(nodes: usize, upper: &[Vec<UpperRow>], columns: &Columns) -> Holding {
    // Row ids, offsets of both lists, and edges with distances; a list that no row has counts as nothing.
    let row = size_of::<u32>() + 2 * size_of::<i32>();
    let offsets = columns.neighbors.value_offsets();
    let edges = offsets.last().zip(offsets.first()).map_or(0, |(end, start)| (end - start) as usize);
    let mut highest: HashMap<u32, u32> = HashMap::new();
    for (level, rows) in (1..).zip(upper) {
        highest.extend(rows.iter().map(|row| (row.id, level)));
    }
    let upper_rows = highest.into_values().map(u64::from).sum::<u64>();
    Holding {
        nodes: nodes as u32,
        upper_rows: u32::try_from(upper_rows).unwrap_or(u32::MAX),
        bytes: columns.rows * row + edges * (size_of::<u32>() + size_of::<f32>()),
    }
}

/// The number of nodes, and the rows of each upper level up to the last one that has any.
fn read_levels(offsets: &[usize], columns: &Columns) -> Result<(usize, Vec<Vec<UpperRow>>)> {
    if offsets.first() != Some(&0) {
        return Err(invalid(format!("level_offsets must start with 0, got {:?}", offsets.first())));
    }
    if let Some(pair) = offsets.windows(2).find(|pair| pair[0] > pair[1]) {
        return Err(invalid(format!("level_offsets decrease from {} to {}", pair[0], pair[1])));
    }
    let last = offsets.last().copied().unwrap_or(0);
    if last > columns.rows {
        return Err(invalid(format!("level_offsets end at {last}, the batch has {} rows", columns.rows)));
    }
    let height = offsets.windows(2).rposition(|pair| pair[0] < pair[1]).map_or(0, |level| level + 1);
    if height > MAX_LEVELS {
        return Err(invalid(format!("{height} levels, at most {MAX_LEVELS} are possible")));
    }
    let nodes = offsets.get(1).copied().unwrap_or(0);
    if nodes == 0 && columns.rows > 0 {
        return Err(invalid(format!("level 0 is empty, the batch has {} rows", columns.rows)));
    }
    if nodes >= u32::MAX as usize {
        return Err(invalid(format!("{nodes} nodes, at most {} are possible", u32::MAX - 1)));
    }
    for row in 0..nodes {
        let id = columns.id(row)?;
        if id as usize != row {
            return Err(invalid(format!("row {row} of level 0 has id {id}")));
        }
    }
    let mut upper = Vec::with_capacity(height.saturating_sub(1));
    for (level, pair) in offsets.windows(2).enumerate().take(height).skip(1) {
        let mut rows = Vec::with_capacity(pair[1] - pair[0]);
        for row in pair[0]..pair[1] {
            let id = columns.id(row)?;
            if id as usize >= nodes {
                return Err(invalid(format!("id {id} on level {level}, there are {nodes} nodes")));
            }
            rows.push(UpperRow { id, edges: columns.edges(row) });
        }
        upper.push(rows);
    }
    Ok((nodes, upper))
}
