//! Where a graph reads its vectors: a trait over any storage.

use std::borrow::Cow;

use crate::distance::{DistanceType, PreparedQuery};

/// Vectors by id, as the graph sees them. Implement it to index storage of your own;
/// [`VectorStoreSnapshot`](crate::VectorStoreSnapshot) is the implementation over Arrow batches.
///
/// # Contract
/// - Ids are dense: `0..len()`. What an id stands for never changes: `vector(id)`, `row_id(id)` and
///   all distances give the same answer every time, on every thread, for every source that is used
///   with one graph.
/// - Every vector has `dim()` elements, all finite, and under [`DistanceType::Cosine`] not all zero.
/// - Distances are symmetric, and `distance_to(vector(a), b)` equals `distance_between(a, b)`.
///
/// A source that breaks the contract gets poor or missing results, never undefined behavior. If a
/// method panics during an insert, the graph answers as before it, and the same insert can be tried
/// again: it goes on from the sub-batches that were done. A panic during a search changes nothing.
/// Methods are called while an insert holds the graph: one that inserts, exports or asks for the graph's
/// health waits forever.
///
/// # Metrics of your own
/// The graph asks only for distances. To use another metric, override [`distance_to`] and
/// [`distance_between`]; [`distances_to`] calls the first unless it is overridden too.
///
/// [`distance_to`]: Self::distance_to
/// [`distance_between`]: Self::distance_between
/// [`distances_to`]: Self::distances_to
pub trait VectorSource: Send + Sync {
    /// Number of vectors; a search returns ids below it.
    fn len(&self) -> usize;

    /// Elements per vector.
    fn dim(&self) -> usize;

    /// The metric.
    fn distance_type(&self) -> DistanceType;

    /// What the caller calls the row of `id < len()`.
    fn row_id(&self, id: u32) -> u64;

    /// The vector of `id < readable_len()`.
    fn vector(&self, id: u32) -> &[f32];

    /// The vector of `id < readable_len()` in `f32`. Override it where vectors are kept otherwise, and the methods below
    /// too: [`vector`](Self::vector) has nothing to give there.
    fn widened(&self, id: u32) -> Cow<'_, [f32]> {
        Cow::Borrowed(self.vector(id))
    }

    /// Whether there is no vector.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ids below this may be read though they are not to be returned: a search of an old snapshot
    /// walks through them. At least `len()`.
    fn readable_len(&self) -> usize {
        self.len()
    }

    /// The row id of `id < len()`, and how many ids from it on have row ids that count up by one: at least 1.
    /// Only speed depends on it.
    fn row_id_run(&self, id: u32) -> (u64, u32) {
        (self.row_id(id), 1)
    }

    /// If row ids ascend with ids: the number of vectors whose row id is at most `max_row_id`. Only speed
    /// depends on it.
    fn visible_len(&self, max_row_id: u64) -> Option<usize> {
        let _ = max_row_id;
        None
    }

    /// Whether distances are those of [`distance_type`](Self::distance_type) between [`widened`](Self::widened)
    /// vectors, so that a graph may estimate them from compact codes of its own. A source with a metric of its own
    /// must say no, which is the default. Only speed depends on it.
    fn has_plain_metric(&self) -> bool {
        false
    }

    /// Computes once what all distances to a query need. Only speed depends on it.
    fn prepare<'q>(&self, query: &'q [f32]) -> PreparedQuery<'q> {
        PreparedQuery::new(query, self.distance_type())
    }

    /// Distance of a query to a vector.
    fn distance_to(&self, query: &[f32], id: u32) -> f32 {
        PreparedQuery::new(query, self.distance_type()).distance(self.vector(id))
    }

    /// Distance of two vectors.
    fn distance_between(&self, left: u32, right: u32) -> f32 {
        self.distance_to(&self.widened(left), right)
    }

    /// Distances of a query, as [`prepare`](Self::prepare) made it, to several vectors, into `out` (of the same length
    /// as `ids`).
    ///
    /// A source that keeps Pennon's metrics is faster with
    /// `query.distances(|i| self.vector(ids[i]), out)`.
    fn distances_to(&self, query: &PreparedQuery<'_>, ids: &[u32], out: &mut [f32]) {
        for (&id, out) in ids.iter().zip(out) {
            *out = self.distance_to(query.vector(), id);
        }
    }
}
