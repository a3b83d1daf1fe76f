//! `lance:hnsw` batch to graph. The batch is untrusted.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_schema::DataType;

use super::{DISTANCE_COLUMN, HNSW_METADATA_KEY, LanceHnswMetadata, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};
use crate::error::{Error, Result};
use crate::graph::{HnswGraph, LevelRow};
use crate::params::BuildParams;

/// Levels that a graph of `u32` ids can sensibly have.
const MAX_LEVELS: usize = 33;

fn invalid(problem: impl Into<String>) -> Error {
    Error::InvalidBatch { kind: HNSW_METADATA_KEY, problem: problem.into() }
}

impl HnswGraph {
    /// The graph of a `lance:hnsw` batch, of whatever writer. More rows can be inserted: the next id
    /// is the number of level-0 rows.
    ///
    /// What would only cost recall is mended: edges from a node to itself, twice, or to a node that
    /// is not there are dropped, lists are cut to twice `m`, nodes that cannot be reached are
    /// connected, missing distances are computed at the first insert, parameters that Lance would
    /// not build with are raised to the least it accepts.
    ///
    /// # Errors
    /// [`Error::InvalidBatch`] if
    /// - the metadata is missing or is not what Lance writes,
    /// - a column is missing or has another type (`_distance` may be missing),
    /// - `level_offsets` do not start at 0, decrease, or pass the end of the batch,
    /// - the level-0 rows are not the ids from 0 on, in order, or an upper-level id is not among them,
    /// - the entry point is not a level-0 row.
    pub fn from_lance_hnsw_batch(batch: &RecordBatch) -> Result<Self> {
        let metadata = match batch.schema_ref().metadata().get(HNSW_METADATA_KEY) {
            // As Lance: an empty batch is an empty graph.
            None if batch.num_rows() == 0 => return Self::try_new(BuildParams::default()),
            None => return Err(invalid(format!("no schema metadata {HNSW_METADATA_KEY:?}"))),
            Some(json) => serde_json::from_str::<LanceHnswMetadata>(json)
                .map_err(|e| invalid(format!("metadata {HNSW_METADATA_KEY:?}: {e}")))?,
        };
        let columns = Columns::of(batch)?;
        let levels = read_levels(&metadata.level_offsets, &columns)?;

        let nodes = levels.first().map_or(0, Vec::len);
        let entry_point = metadata.entry_point;
        if entry_point as usize >= nodes && batch.num_rows() > 0 {
            return Err(invalid(format!("entry point {entry_point} of {nodes} nodes")));
        }
        let params = &metadata.params;
        let m = params.m.max(4);
        let params = BuildParams::default()
            .num_edges(m)
            .ef_construction(params.ef_construction.max(m))
            .max_level(params.max_level.max(levels.len() as u16).max(1));
        Self::from_parts(params, entry_point, levels).map_err(|e| match e {
            Error::InvalidParams { .. } => invalid(e.to_string()),
            other => other,
        })
    }
}

struct Columns<'a> {
    rows: usize,
    ids: &'a arrow_array::UInt32Array,
    neighbors: &'a ListArray,
    distances: Option<&'a ListArray>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let required = |name: &str| column(name).ok_or_else(|| invalid(format!("no column {name:?}")));
        let list = |name: &str, array: &'a arrow_array::ArrayRef, item: DataType| match array.data_type() {
            DataType::List(field) if *field.data_type() == item => Ok(array.as_list::<i32>()),
            other => Err(invalid(format!("column {name:?} must be List<{item}>, got {other}"))),
        };
        let ids = required(VECTOR_ID_COLUMN)?;
        let Some(ids) = ids.as_primitive_opt::<UInt32Type>() else {
            let actual = ids.data_type();
            return Err(invalid(format!("column {VECTOR_ID_COLUMN:?} must be UInt32, got {actual}")));
        };
        Ok(Self {
            rows: batch.num_rows(),
            ids,
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
        let distances = self.distances.filter(|lists| lists.is_valid(row)).map(|lists| lists.value(row));
        let distances = distances
            .as_ref()
            .map(|list| list.as_primitive::<Float32Type>())
            .filter(|list| list.len() == neighbors.len());
        let distance =
            |at| distances.filter(|list| list.is_valid(at)).map_or(f32::NAN, |list| list.value(at));
        neighbors.iter().enumerate().filter_map(|(at, id)| Some((id?, distance(at)))).collect()
    }
}

/// The rows of each level up to the last one that has any.
fn read_levels(offsets: &[usize], columns: &Columns<'_>) -> Result<Vec<Vec<LevelRow>>> {
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
    let mut levels = Vec::with_capacity(height);
    for (level, pair) in offsets.windows(2).take(height).enumerate() {
        let mut rows = Vec::with_capacity(pair[1] - pair[0]);
        for row in pair[0]..pair[1] {
            let id = columns.id(row)?;
            if level == 0 && id as usize != row {
                return Err(invalid(format!("row {row} of level 0 has id {id}")));
            }
            if id as usize >= nodes {
                return Err(invalid(format!("id {id} on level {level}, there are {nodes} nodes")));
            }
            rows.push(LevelRow { id, edges: columns.edges(row) });
        }
        levels.push(rows);
    }
    Ok(levels)
}
