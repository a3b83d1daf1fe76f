//! The manifest: what the index is, and what its files were when they were saved.
//!
//! It is JSON for people and for other programs. Its last member is the checksum of all bytes before that member;
//! from there on the text is compared as it is, so no byte of it can differ unseen.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::error::{Error, Result};
use crate::graph::{BuildParams, Coding};
use crate::persist::checksum::Sum;
use crate::persist::directory::{MANIFEST, at};

/// The format that is written.
pub(super) const FORMAT: u32 = 2;
/// The formats that are read. Format 1 always has a graph, and has no properties.
pub(super) const FORMATS: RangeInclusive<u32> = 1..=FORMAT;

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
    /// The parameters of the build, if there is a graph. Of those that were not known when it was written, the
    /// defaults.
    pub params: Option<BuildParams>,
    /// Whether rows without a graph are coded.
    #[serde(default)]
    pub coding: Coding,
    /// The caller's.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    pub files: Files,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Files {
    pub graph: Option<Sum>,
    pub vectors: Sum,
    pub tombstones: Sum,
    pub labels: Option<Sum>,
    /// The other columns of a collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Sum>,
    /// The compact codes of the vectors; a save without them is coded when it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Sum>,
}

impl Files {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let optional = [self.graph, self.labels, self.rows, self.codes];
        let optional = optional.into_iter().flatten();
        optional.chain([self.vectors, self.tombstones]).map(|sum| sum.bytes).sum()
    }
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
        if !FORMATS.contains(&format) {
            let (first, last) = (FORMATS.start(), FORMATS.end());
            return Err(format!("its format is {format}, this version of pennon reads {first} to {last}"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if manifest.params.is_some() != manifest.files.graph.is_some() {
            return Err("it has a graph without parameters, or parameters without a graph".to_string());
        }
        Ok(manifest)
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
            params: Some(BuildParams::default().seed(u64::MAX)),
            coding: Coding::Auto,
            properties: BTreeMap::from([("column".to_string(), "a \"quoted\" name".to_string())]),
            files: Files {
                graph: Some(sum(1)),
                vectors: sum(2),
                tombstones: sum(3),
                labels: Some(sum(4)),
                rows: Some(sum(6)),
                codes: Some(sum(5)),
            },
        }
    }

    #[test]
    fn a_manifest_is_json_and_reads_back() {
        for labels in [None, Some(Sum { bytes: 0, crc32: 0 })] {
            let mut manifest = manifest();
            manifest.files.labels = labels;
            manifest.files.codes = labels;
            manifest.files.rows = labels;
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
        for format in [0, 3] {
            let text = Manifest { format, ..manifest() }.encode().unwrap();
            let error = Manifest::decode(text.as_bytes()).unwrap_err();
            assert_eq!(error, format!("its format is {format}, this version of pennon reads 1 to 2"));
        }
    }

    #[test]
    fn a_graph_has_parameters_and_an_index_without_one_has_none() {
        let mut flat = Manifest { params: None, ..manifest() };
        assert!(Manifest::decode(flat.encode().unwrap().as_bytes()).is_err());
        flat.files.graph = None;
        assert_eq!(Manifest::decode(flat.encode().unwrap().as_bytes()), Ok(flat));
    }
}
