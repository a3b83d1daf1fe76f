//! Graph to `lance:hnsw` batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Float32Array, ListArray, RecordBatch, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Schema};

use crate::error::{Error, Result};
use crate::format::{HNSW_METADATA_KEY, LanceHnswMetadata, LanceHnswParams, hnsw_fields, list_item};
use crate::graph::BuildParams;
use crate::graph::{GraphParts, HnswGraph};

/// What Lance's own builder writes.
const PREFETCH_DISTANCE: usize = 2;

impl HnswGraph {
    /// The graph as the sub-index batch that `lance_index::vector::hnsw::HNSW::load` reads.
    ///
    /// With `max_nodes`, only the first so many nodes and the edges among them; they are all
    /// reachable, and a few lists may exceed their cap for it. Inserts wait meanwhile.
    ///
    /// Of the parameters `max_level`, `m`, `ef_construction` and `m0` are in the batch. Lance does not know the last:
    /// it reads lists of any length, and rebuilds with twice `m`.
    ///
    /// The batch names no metric: Lance searches it in that of the vectors it is given with. A graph knows its own from
    /// its index or the sources of its inserts; an imported one without an index does not before the first insert. A
    /// metric of the caller's is taken for the one that its source names.
    ///
    /// # Errors
    /// - [`Error::NotInLance`] if Lance does not know the metric,
    /// - [`Error::ExportTooLarge`] if there are more than `i32::MAX` edges.
    pub fn to_lance_hnsw_batch(&self, max_nodes: Option<usize>) -> Result<RecordBatch> {
        if let Some(distance_type) = self.distance_type() {
            distance_type.check_lance()?;
        }
        self.to_hnsw_batch(max_nodes)
    }

    /// Exports the graph whatever its metric, to be read back by [`from_lance_hnsw_batch`](Self::from_lance_hnsw_batch).
    pub(crate) fn to_hnsw_batch(&self, max_nodes: Option<usize>) -> Result<RecordBatch> {
        encode(self.to_parts(max_nodes.unwrap_or(usize::MAX)), self.params())
    }
}

fn encode(parts: GraphParts, params: &BuildParams) -> Result<RecordBatch> {
    let edges = parts.neighbors.len() as u64;
    let offsets: Vec<i32> = parts
        .offsets
        .iter()
        .map(|&offset| i32::try_from(offset))
        .collect::<Result<_, _>>()
        .map_err(|_| Error::ExportTooLarge { edges })?;
    let offsets = OffsetBuffer::new(offsets.into());

    let neighbors = UInt32Array::new(parts.neighbors.into(), None);
    let distances = Float32Array::new(parts.distances.into(), None);
    let schema = Schema::new_with_metadata(
        hnsw_fields(),
        HashMap::from([(
            HNSW_METADATA_KEY.to_string(),
            metadata(parts.entry_point, parts.level_offsets, params)?,
        )]),
    );
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(UInt32Array::new(parts.ids.into(), None)),
            Arc::new(ListArray::try_new(
                list_item(DataType::UInt32),
                offsets.clone(),
                Arc::new(neighbors),
                None,
            )?),
            Arc::new(ListArray::try_new(list_item(DataType::Float32), offsets, Arc::new(distances), None)?),
        ],
    )?)
}

fn metadata(entry_point: u32, mut level_offsets: Vec<usize>, params: &BuildParams) -> Result<String> {
    let end = level_offsets.last().copied().unwrap_or(0);
    level_offsets.resize(level_offsets.len().max(usize::from(params.max_level) + 1), end);
    let metadata = LanceHnswMetadata {
        entry_point,
        params: LanceHnswParams {
            max_level: params.max_level,
            m: params.m,
            m0: params.m0,
            ef_construction: params.ef_construction,
            prefetch_distance: Some(PREFETCH_DISTANCE),
        },
        level_offsets,
    };
    serde_json::to_string(&metadata).map_err(|e| Error::Arrow(ArrowError::JsonError(e.to_string())))
}
