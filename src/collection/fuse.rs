//! Searches of several columns of vectors, and one order of what they found.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array};
use arrow_schema::{DataType, Field};

use crate::collection::layout::invalid;
use crate::collection::{CollectionHits, CollectionReader, CollectionSearch, SCORE_COLUMN};
use crate::error::Result;
use crate::search::DISTANCE_COLUMN;

/// A query for one column of vectors.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ColumnQuery {
    /// The column of vectors.
    pub column: String,
    /// The query.
    pub query: Vec<f32>,
    /// How much the column counts.
    pub weight: f32,
}

impl ColumnQuery {
    /// A query that counts as 1.
    pub fn new(column: impl Into<String>, query: impl Into<Vec<f32>>) -> Self {
        Self { column: column.into(), query: query.into(), weight: 1.0 }
    }

    /// Sets how much the column counts.
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }
}

/// How several columns give one order.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fusion {
    /// The sum of `weight / (constant + rank)`, in `_score`: greatest first. A row's rank in a column, from 1 on, is that
    /// among all rows that any of the columns found, by exact distance; equal distances have equal ranks. A row without a
    /// vector there gets nothing for it. After Cormack, Clarke and Buettcher, *Reciprocal rank fusion outperforms
    /// Condorcet and individual rank learning methods* (SIGIR 2009).
    ReciprocalRank {
        /// How little the first ranks differ: 60 in the paper.
        constant: f32,
    },
    /// The sum of `weight * distance`, in `_distance`: smallest first. A row without a vector in one of the columns is
    /// infinitely far away.
    WeightedSum,
}

impl Default for Fusion {
    fn default() -> Self {
        Self::ReciprocalRank { constant: 60.0 }
    }
}

impl CollectionReader {
    /// Searches several columns of vectors, each for its own query, and returns the `k` rows that are best in all of them
    /// together, ties by row id. Each column gives `max(k, ef)` candidates; a row that only some of the columns found has
    /// its exact distance in the others computed. The answer has the chosen columns and `_score` or `_distance`, as
    /// [`Fusion`] says.
    ///
    /// # Errors
    /// As [`search`](Self::search), and [`Error::InvalidColumn`](crate::Error::InvalidColumn) if a weight is negative or
    /// not finite.
    pub fn search_fused(
        &self,
        queries: &[ColumnQuery],
        fusion: Fusion,
        search: &CollectionSearch,
    ) -> Result<CollectionHits> {
        let layout = &self.shared.layout;
        let chosen = layout.chosen(search.columns.as_deref())?;
        let k = search.params.k;
        let (mut found, mut stats) = (Vec::new(), Vec::new());
        let mut readers = Vec::with_capacity(queries.len());
        for ColumnQuery { column, query, weight } in queries {
            if !weight.is_finite() || *weight < 0.0 {
                return Err(invalid(column, format!("its weight must not be negative, got {weight}")));
            }
            let reader = &self.state.readers[layout.vector(Some(column))?];
            let mut params = self.masked(reader, search)?;
            params.k = k.max(params.ef);
            let hits = match search.exact {
                true => reader.search_exact(query, &params),
                false => reader.search(query, &params),
            }?;
            found.extend(hits.row_ids());
            stats.push(*hits.stats());
            readers.push(reader);
        }
        found.sort_unstable();
        found.dedup();
        let mut scores = vec![0.0_f64; found.len()];
        for (ColumnQuery { query, weight, .. }, reader) in queries.iter().zip(readers) {
            let distances = reader.score(query, &found)?;
            fusion.add(&mut scores, &distances, f64::from(*weight));
        }
        let mut order: Vec<usize> = (0..found.len()).collect();
        match fusion {
            Fusion::ReciprocalRank { .. } => order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a])),
            Fusion::WeightedSum => order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b])),
        }
        order.truncate(k);
        let row_ids: Vec<u64> = order.iter().map(|&at| found[at]).collect();
        let scores: Float32Array = order.iter().map(|&at| scores[at] as f32).collect::<Vec<_>>().into();
        let name = match fusion {
            Fusion::ReciprocalRank { .. } => SCORE_COLUMN,
            Fusion::WeightedSum => DISTANCE_COLUMN,
        };
        let scores: ArrayRef = Arc::new(scores);
        let batch =
            self.answer(&row_ids, &chosen, vec![(Field::new(name, DataType::Float32, false), scores)])?;
        Ok(CollectionHits::new(batch, row_ids, stats))
    }
}

impl Fusion {
    /// Adds what one column says of each row.
    fn add(self, scores: &mut [f64], distances: &[Option<f32>], weight: f64) {
        match self {
            Self::WeightedSum => {
                for (score, distance) in scores.iter_mut().zip(distances) {
                    // Not 0 times infinity.
                    *score += distance.map_or(f64::INFINITY, |distance| weight * f64::from(distance));
                }
            }
            Self::ReciprocalRank { constant } => {
                let mut ranked: Vec<(f32, usize)> =
                    (0..).zip(distances).filter_map(|(at, distance)| Some(((*distance)?, at))).collect();
                ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (mut rank, mut last) = (0, f32::NAN);
                for (place, (distance, at)) in (1_u32..).zip(ranked) {
                    if distance != last {
                        (rank, last) = (place, distance);
                    }
                    scores[at] += weight / (f64::from(constant) + f64::from(rank));
                }
            }
        }
    }
}
