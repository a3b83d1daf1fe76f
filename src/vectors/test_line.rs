//! Points on a line: the vectors of unit tests.

use crate::distance::DistanceType;
use crate::vectors::VectorSource;

/// The point of each id, which is its row id too.
pub(crate) struct Line(pub Vec<f32>);

impl VectorSource for Line {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn dim(&self) -> usize {
        1
    }

    fn distance_type(&self) -> DistanceType {
        DistanceType::L2
    }

    fn row_id(&self, id: u32) -> u64 {
        u64::from(id)
    }

    fn vector(&self, id: u32) -> &[f32] {
        &self.0[id as usize..][..1]
    }
}
