//! The manifest: what the index is, and what its files were when they were saved.
//!
//! It is JSON for people and for other programs. Its last member is the checksum of all bytes before that member;
//! from there on the text is compared as it is, so no byte of it can differ unseen.

use std::fs;
use std::path::Path;

use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::BuildParams;
use crate::persist::checksum::Sum;
use crate::persist::directory::{MANIFEST, at};

/// The format that is written, and the only one that is read.
pub(super) const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// The number in the names of the files.
    pub generation: u64,
    pub distance_type: DistanceType,
    pub dim: usize,
    /// Vector ids given out, those of dead rows too.
    pub vectors: usize,
    pub tombstones: usize,
    /// Of those that were not known when it was written, the defaults.
    pub params: BuildParams,
    pub files: Files,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Files {
    pub graph: Sum,
    pub vectors: Sum,
    pub tombstones: Sum,
    pub labels: Option<Sum>,
}

/// What is read before anything else can be understood.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The end of a manifest, after the bytes that it is the checksum of.
fn seal(bytes: &[u8]) -> String {
    format!("  \"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(bytes))
}

impl Manifest {
    pub fn encode(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|e| Error::Arrow(ArrowError::JsonError(e.to_string())))?;
        let mut text = format!("{},\n", json.trim_end_matches('}').trim_end());
        let end = seal(text.as_bytes());
        text.push_str(&end);
        Ok(text)
    }

    /// The manifest of a directory.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join(MANIFEST);
        let bytes = fs::read(&file).map_err(at(&file))?;
        Self::decode(&bytes).map_err(|problem| Error::CorruptIndex { file, problem })
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (summed, end) = bytes.split_at(bytes.len().saturating_sub(seal(b"").len()));
        if seal(summed).as_bytes() != end {
            return Err("its checksum is not that of its content".to_string());
        }
        let Version { format } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("its format is {format}, this version of pennon reads {FORMAT}"));
        }
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let sum = |bytes| Sum { bytes, crc32: u32::MAX - bytes as u32 };
        Manifest {
            format: FORMAT,
            generation: u64::MAX,
            distance_type: DistanceType::Cosine,
            dim: 768,
            vectors: 1_000,
            tombstones: 17,
            params: BuildParams::default().seed(u64::MAX),
            files: Files { graph: sum(1), vectors: sum(2), tombstones: sum(3), labels: Some(sum(4)) },
        }
    }

    #[test]
    fn a_manifest_is_json_and_reads_back() {
        for labels in [None, Some(Sum { bytes: 0, crc32: 0 })] {
            let mut manifest = manifest();
            manifest.files.labels = labels;
            let text = manifest.encode().unwrap();
            assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest));
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["params"]["seed"], u64::MAX);
            assert_eq!(json["crc32"].as_str().map(str::len), Some(8));
        }
    }

    #[test]
    fn a_manifest_with_any_bit_flipped_or_any_end_cut_off_is_refused() {
        let text = manifest().encode().unwrap().into_bytes();
        for length in 0..text.len() {
            assert!(Manifest::decode(&text[..length]).is_err(), "{length} bytes");
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[length] ^= 1 << bit;
                assert!(Manifest::decode(&flipped).is_err(), "bit {bit} of byte {length}");
            }
        }
    }

    #[test]
    fn another_format_is_named() {
        let text = Manifest { format: 2, ..manifest() }.encode().unwrap();
        let error = Manifest::decode(text.as_bytes()).unwrap_err();
        assert_eq!(error, "its format is 2, this version of pennon reads 1");
    }
}
