//! How much memory a build takes, and how many partitions fit.

use crate::graph::HnswGraph;
use crate::lance::attach::column::Column;
use crate::lance::attach::params::AttachParams;
use crate::vectors::ElementType;

/// Rows of a partition, at most, where nobody says how many there are to be.
const ROWS_PER_PARTITION: u64 = 1 << 20;
/// Bytes of a row id.
const ROW_ID_BYTES: u64 = 8;

pub(super) fn row_bytes(element_type: ElementType, dim: usize) -> usize {
    element_type.item().data_type().primitive_width().unwrap_or(0) * dim
}

/// Bytes of the vectors of so many rows, with their row ids.
fn column_bytes(column: &Column, rows: u64) -> u64 {
    rows.saturating_mul(row_bytes(column.element_type, column.dim) as u64 + ROW_ID_BYTES)
}

/// Bytes that a partition of so many rows takes while it is built: its vectors, its graph, and the graph as it is
/// written.
pub(super) fn partition_bytes(column: &Column, params: &AttachParams, rows: u64) -> u64 {
    let graph =
        HnswGraph::reserved_bytes(&params.build, column.dim, usize::try_from(rows).unwrap_or(usize::MAX));
    let written = rows.saturating_mul(16 * params.build.m as u64 + 24);
    column_bytes(column, rows).saturating_add(graph as u64).saturating_add(written)
}

/// The number of partitions for so many rows where the caller gives none.
pub(super) fn default_partitions(rows: u64, params: &AttachParams, column: &Column) -> usize {
    let by_rows = rows.div_ceil(ROWS_PER_PARTITION);
    let by_memory = params
        .memory_limit
        .map_or(1, |limit| partition_bytes(column, params, rows).saturating_mul(2).div_ceil(limit.max(1)));
    usize::try_from(by_rows.max(by_memory).clamp(1, rows.max(1))).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column() -> Column {
        Column { name: "v".to_string(), field: 0, element_type: ElementType::Float32, dim: 4 }
    }

    #[test]
    fn a_partition_for_each_million_rows_or_for_half_of_the_memory() {
        let params = AttachParams::default();
        let cases = [(0, 1), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (10 << 20, 10)];
        for (rows, partitions) in cases {
            assert_eq!(default_partitions(rows, &params, &column()), partitions, "{rows} rows");
        }
        let needed = partition_bytes(&column(), &params, 10_000);
        assert!(needed > 10_000 * (16 + 8));
        for (limit, partitions) in [(u64::MAX, 1), (2 * needed, 1), (needed, 2), (needed / 4, 8), (1, 10_000)]
        {
            let params = params.clone().memory_limit(limit);
            assert_eq!(default_partitions(10_000, &params, &column()), partitions, "limit {limit}");
        }
    }
}
