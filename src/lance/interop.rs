//! Lance's own types, with the feature `lance-index`.

use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::v3::subindex::IvfSubIndex;
use lance_linalg::distance::DistanceType as LanceDistanceType;

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::BuildParams;
use crate::graph::HnswGraph;
use crate::index::GraphView;

impl HnswGraph {
    /// The graph as Lance has it after loading [`to_lance_hnsw_batch`](Self::to_lance_hnsw_batch).
    ///
    /// # Errors
    /// As the export, and [`Error::Lance`] if Lance refuses the batch.
    pub fn to_lance_hnsw(&self, max_nodes: Option<usize>) -> Result<HNSW> {
        let batch = self.to_lance_hnsw_batch(max_nodes)?;
        HNSW::load(batch).map_err(|e| Error::Lance { problem: e.to_string() })
    }
}

impl GraphView<'_> {
    /// The graph as Lance has it after loading [`to_lance_hnsw_batch`](Self::to_lance_hnsw_batch).
    ///
    /// # Errors
    /// As the export, and [`Error::Lance`] if Lance refuses the batch.
    pub fn to_lance_hnsw(&self) -> Result<HNSW> {
        self.graph().to_lance_hnsw(Some(self.len()))
    }
}

impl From<&BuildParams> for HnswBuildParams {
    fn from(params: &BuildParams) -> Self {
        Self::default()
            .num_edges(params.m)
            .ef_construction(params.ef_construction)
            .max_level(params.max_level)
    }
}

impl TryFrom<&HnswBuildParams> for BuildParams {
    type Error = Error;

    /// The seed is the default one, because Lance's is not a parameter, and so is what else Lance does not know.
    fn try_from(params: &HnswBuildParams) -> Result<Self> {
        let params = Self::default()
            .num_edges(params.m)
            .ef_construction(params.ef_construction)
            .max_level(params.max_level);
        params.validate()?;
        Ok(params)
    }
}

impl TryFrom<DistanceType> for LanceDistanceType {
    type Error = Error;

    fn try_from(distance_type: DistanceType) -> Result<Self> {
        match distance_type {
            DistanceType::L2 => Ok(Self::L2),
            DistanceType::Cosine => Ok(Self::Cosine),
            DistanceType::Dot => Ok(Self::Dot),
            DistanceType::Hamming => Ok(Self::Hamming),
            DistanceType::L1 => {
                Err(Error::NotInLance { what: "distance type", actual: distance_type.to_string() })
            }
        }
    }
}

impl TryFrom<LanceDistanceType> for DistanceType {
    type Error = Error;

    fn try_from(distance_type: LanceDistanceType) -> Result<Self> {
        distance_type.to_string().parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_types_are_lances_where_it_has_them() {
        use DistanceType::{Cosine, Dot, Hamming, L1, L2};
        for ours in [L2, Cosine, Dot, Hamming, L1] {
            let theirs = LanceDistanceType::try_from(ours);
            assert_eq!(theirs.is_ok(), ours.check_lance().is_ok(), "{ours}");
            match theirs {
                Ok(theirs) => {
                    assert_eq!(theirs.to_string(), ours.to_string());
                    assert_eq!(DistanceType::try_from(theirs).ok(), Some(ours));
                }
                Err(error) => assert_eq!(error.to_string(), ours.check_lance().unwrap_err().to_string()),
            }
        }
    }
}
