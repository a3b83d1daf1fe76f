//! The queries of an evaluation, each with its true neighbors.

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray};
use pennon::{DistanceType, HnswIndex, VectorSource};
use rayon::prelude::*;

use crate::failure::{Result, fail};
use crate::fbin::GroundTruth;
use crate::sample;
use crate::table::Table;
use crate::truth::Truth;
use crate::vector_column::VectorColumn;

/// Rows of the base that serve as queries, if no others are given.
const SAMPLE_ROWS: usize = 1000;

/// A query with its position among the rows it was read from.
#[derive(Clone, Debug)]
pub struct Query {
    position: usize,
    pub vector: Vec<f32>,
}

/// Query vectors, all of them usable.
#[derive(Debug)]
pub struct QuerySet {
    pub queries: Vec<Query>,
    pub skipped: usize,
}

impl QuerySet {
    /// Evenly spaced vectors of the index.
    pub fn sampled(index: &HnswIndex) -> Self {
        let snapshot = index.snapshot();
        let ids = sample::evenly_spaced(index.len(), SAMPLE_ROWS);
        let query = |id: usize| Query { position: id, vector: snapshot.vector(id as u32).to_vec() };
        Self { queries: ids.map(query).collect(), skipped: 0 }
    }

    /// The usable vectors of a column; fails if there are none.
    pub fn read(table: &Table, column: &VectorColumn, distance: DistanceType) -> Result<Self> {
        let mut queries = Vec::new();
        let mut row = 0;
        for batch in table.batches(&[column.name()])? {
            let batch = batch?;
            let vectors = column.vectors(&batch, row as u64)?;
            for position in 0..vectors.len() {
                if let Some(vector) = usable(&vectors, position, distance) {
                    queries.push(Query { position: row + position, vector });
                }
            }
            row += vectors.len();
        }
        if queries.is_empty() {
            let name = table.path().display();
            return fail(format!("{name} has no usable query among {row} rows"));
        }
        let skipped = row - queries.len();
        Ok(Self { queries, skipped })
    }

    /// The true neighbors of each query: the given ones, or those of an exact scan.
    pub fn truths(&self, index: &HnswIndex, k: usize, given: Option<&GroundTruth>) -> Result<Vec<Truth>> {
        let snapshot = index.snapshot();
        let truth = |query: &Query| match given {
            Some(given) => {
                let rows = given.rows(query.position);
                let nearest = &rows[..k.min(rows.len())];
                Ok(Truth::given(&snapshot, &query.vector, nearest))
            }
            None => Truth::exact(index, &query.vector, k),
        };
        self.queries.par_iter().map(truth).collect()
    }
}

/// The vector of a row, if a search can be for it.
fn usable(vectors: &FixedSizeListArray, row: usize, distance_type: DistanceType) -> Option<Vec<f32>> {
    let values = vectors.is_valid(row).then(|| vectors.value(row))?;
    let values = values.as_primitive::<Float32Type>();
    let finite = values.null_count() == 0 && values.values().iter().all(|value| value.is_finite());
    let has_direction =
        distance_type != DistanceType::Cosine || values.values().iter().any(|value| *value != 0.0);
    (finite && has_direction).then(|| values.values().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_vectors_with_a_direction_are_queries() {
        let rows = vec![
            Some(vec![Some(1.0), Some(0.0)]),
            None,
            Some(vec![Some(f32::NAN), Some(0.0)]),
            Some(vec![None, Some(1.0)]),
            Some(vec![Some(0.0), Some(0.0)]),
        ];
        let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2);
        let usable_rows = |distance: DistanceType| {
            let rows = (0..vectors.len()).filter(|row| usable(&vectors, *row, distance).is_some());
            rows.collect::<Vec<_>>()
        };
        assert_eq!(usable_rows(DistanceType::Cosine), [0]);
        assert_eq!(usable_rows(DistanceType::L2), [0, 4]);
    }
}
