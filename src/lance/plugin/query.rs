//! Which searches of a MemTable are for this index to answer; of the others, why Lance compares all rows instead.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use ::lance::dataset::mem_wal::index::{MemQuery, VectorMemQuery};
use arrow_array::{Array, FixedSizeListArray};
use half::f16;
use tracing::{debug, warn};

use crate::distance::DistanceType;
use crate::lance::plugin::PennonMemIndex;
use crate::vectors::{ElementType, widened};

/// Why a search by vector is not for the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declined {
    Metric,
    Null,
    Elements,
    Dimension,
    NotFinite,
    Zero,
}

impl Declined {
    fn reason(self) -> &'static str {
        match self {
            Self::Metric => "the query is in another metric: call distance_metric(..) after nearest(..)",
            Self::Null => "the query is null, has a null element, or is not one vector",
            Self::Elements => {
                "the query has elements of a type that those of the column are not compared with"
            }
            Self::Dimension => "the query is of another dimension",
            Self::NotFinite => "the query is not finite",
            Self::Zero => "the query is zero, which has no cosine",
        }
    }
}

/// The reasons that somebody was warned of.
#[derive(Debug, Default)]
pub(super) struct Warned(AtomicU32);

impl Warned {
    /// Whether it is the first time. Relaxed: of two at once, one is the first.
    fn first(&self, reason: Declined) -> bool {
        let bit = 1 << reason as u32;
        self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

impl PennonMemIndex {
    /// The query and its vector, if this is for us to answer. Of each reason why it is not, the first such query of a
    /// MemTable is a warning.
    pub(super) fn vector_query<'a>(
        &self,
        query: &'a dyn MemQuery,
    ) -> Option<(&'a VectorMemQuery, Cow<'a, [f32]>)> {
        // Queries of other kinds are those of other indexes.
        let query = query.as_any().downcast_ref::<VectorMemQuery>()?;
        match self.answerable(query) {
            Ok(vector) => Some((query, vector)),
            Err(declined) => {
                let (column, metric) = (self.column(), self.distance_type);
                let reason = declined.reason();
                if self.warned.first(declined) {
                    warn!(column, %metric, reason, "Lance compares all rows of the MemTable");
                } else {
                    debug!(column, %metric, reason, "Lance compares all rows of the MemTable");
                }
                None
            }
        }
    }

    /// The elements of a query as they are searched for.
    fn answerable<'a>(&self, query: &'a VectorMemQuery) -> Result<Cow<'a, [f32]>, Declined> {
        if query.distance_type.is_some_and(|wanted| wanted != self.settings.metric) {
            return Err(Declined::Metric);
        }
        let nulls = query.vector.null_count() + query.vector.values().null_count();
        if query.vector.len() != 1 || nulls > 0 {
            return Err(Declined::Null);
        }
        let vector = self.elements_of(&query.vector).ok_or(Declined::Elements)?;
        if vector.len() != self.dim {
            return Err(Declined::Dimension);
        }
        if !vector.iter().all(|x| x.is_finite()) {
            return Err(Declined::NotFinite);
        }
        if self.distance_type == DistanceType::Cosine && vector.iter().all(|&x| x == 0.0) {
            return Err(Declined::Zero);
        }
        Ok(vector)
    }

    /// The elements of a query as those of the column are compared with it.
    fn elements_of<'a>(&self, query: &'a FixedSizeListArray) -> Option<Cow<'a, [f32]>> {
        let (element_type, _) = ElementType::of_vectors(query.data_type()).ok()?;
        let elements = widened(query.values(), element_type)?;
        match (element_type, self.element_type) {
            (own, column) if own == column => Some(elements),
            (ElementType::Float32, ElementType::Float64) => Some(elements),
            (ElementType::Float32, ElementType::Float16) => {
                Some(elements.iter().map(|&x| f16::from_f32(x).to_f32()).collect())
            }
            _ => None,
        }
    }
}
