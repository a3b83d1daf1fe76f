//! Indexes by path: saved ones, and Lance's batches in Arrow IPC files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use pennon::lance::{DISTANCE_TYPE_KEY, HNSW_METADATA_KEY};
use pennon::{Index, LanceBatches, Loaded, SaveOptions, WriterLock};

use crate::input::Input;

/// The file of a saved index that names the others.
const MANIFEST: &str = "pennon.json";
pub const GRAPH_FILE: &str = "graph.arrow";
pub const VECTORS_FILE: &str = "vectors.arrow";

/// Properties of a saved index: the column of vectors, the elements that they were converted to, if they were, the
/// column of row ids, if there was one, and otherwise the row id of the next row.
pub const COLUMN: &str = "column";
pub const ELEMENTS: &str = "elements";
pub const ROW_ID: &str = "row_id";
pub const NEXT_ROW_ID: &str = "next_row_id";

/// What is at a path.
#[derive(Debug, PartialEq)]
pub enum Location {
    Saved,
    /// Lance's batches, either of which may be missing.
    Lance {
        graph: Option<PathBuf>,
        vectors: Option<PathBuf>,
    },
    #[cfg_attr(not(feature = "lance"), allow(dead_code, reason = "told apart to be refused by name"))]
    Dataset,
    /// Something else.
    Other,
}

impl Location {
    pub fn of(path: &Path) -> Result<Self> {
        let if_there = |path: PathBuf| path.is_file().then_some(path);
        let pair = |dir: &Path| (if_there(dir.join(GRAPH_FILE)), if_there(dir.join(VECTORS_FILE)));
        if !path.exists() {
            bail!("there is nothing at {}", path.display());
        }
        if path.is_dir() {
            return Ok(match pair(path) {
                _ if path.join(MANIFEST).exists() => Self::Saved,
                _ if path.join("_versions").is_dir() => Self::Dataset,
                (None, None) => Self::Other,
                (graph, vectors) => Self::Lance { graph, vectors },
            });
        }
        let schema = match Input::open(path) {
            Ok(input) => input.schema().metadata().clone(),
            Err(_) => return Ok(Self::Other),
        };
        let path = path.to_owned();
        Ok(if schema.contains_key(HNSW_METADATA_KEY) {
            let vectors = path.parent().and_then(|dir| pair(dir).1);
            Self::Lance { graph: Some(path), vectors }
        } else if schema.contains_key(DISTANCE_TYPE_KEY) {
            Self::Lance { graph: None, vectors: Some(path) }
        } else {
            Self::Other
        })
    }
}

/// An index, with what is known of its rows.
pub struct Opened {
    pub index: Index,
    /// By vector id.
    pub labels: Option<RecordBatch>,
    pub properties: BTreeMap<String, String>,
}

impl Opened {
    pub fn open(path: &Path, in_memory: bool) -> Result<Self> {
        let name = path.display();
        match Location::of(path)? {
            Location::Saved if in_memory => Ok(Self::of(Index::load(path)?)),
            Location::Saved => {
                // SAFETY: nobody writes to the files of a saved index: they are read-only, and a save makes new ones.
                // This process changes nothing in the directory while it has the index mapped.
                #[allow(unsafe_code, reason = "the files are the user's, who is told not to write to them")]
                let loaded = unsafe { Index::load_mmap(path) };
                Ok(Self::of(loaded?))
            }
            Location::Lance { graph, vectors } => {
                let Some(vectors) = vectors else {
                    bail!("{name} is a graph without its vectors: there is no {VECTORS_FILE} beside it")
                };
                let graph = graph.map(|graph| read_batch(&graph)).transpose()?;
                let batches = LanceBatches::new(graph, read_batch(&vectors)?);
                let index =
                    Index::from_lance_batches(&batches).with_context(|| format!("{name} is no index"))?;
                Ok(Self { index, labels: None, properties: BTreeMap::new() })
            }
            Location::Dataset if cfg!(feature = "lance") => {
                bail!("{name} is a Lance dataset, which this command does not take")
            }
            Location::Dataset => {
                bail!("{name} is a Lance dataset, and this pennon is without the feature lance")
            }
            Location::Other => {
                bail!("{name} is not an index: it has neither {MANIFEST} nor {VECTORS_FILE}")
            }
        }
    }

    /// Fails unless there is a saved index.
    pub fn check_saved(path: &Path) -> Result<()> {
        match Location::of(path)? {
            Location::Saved => Ok(()),
            _ => bail!("{} is not a saved index: it has no {MANIFEST}", path.display()),
        }
    }

    /// A saved index in memory, to be changed.
    pub fn to_change(path: &Path) -> Result<Self> {
        Ok(Self::of(Index::load(path)?))
    }

    fn of(Loaded { index, labels, properties, .. }: Loaded) -> Self {
        Self { index, labels, properties }
    }

    /// The column of vectors that was asked for, or that the index was built from.
    pub fn column<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        given.or(self.properties.get(COLUMN).map(String::as_str)).unwrap_or("vector")
    }

    /// The column of row ids that was asked for, or that the index was built with.
    pub fn row_id<'a>(&'a self, given: Option<&'a str>) -> Option<&'a str> {
        given.or(self.properties.get(ROW_ID).map(String::as_str))
    }

    /// Saves the index in the place of what is there.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let mut options = SaveOptions::new();
        options.labels = self.labels.clone();
        options.properties = self.properties.clone();
        Ok(self.index.save_with(dir, &options)?)
    }
}

/// The right to replace the index of a directory.
pub fn lock(dir: &Path) -> Result<WriterLock> {
    if let Some(lock) = WriterLock::try_acquire(dir)? {
        return Ok(lock);
    }
    eprintln!("pennon: waiting for another process that changes {}", dir.display());
    Ok(WriterLock::acquire(dir)?)
}

/// All rows of an Arrow IPC file as one batch.
pub fn read_batch(path: &Path) -> Result<RecordBatch> {
    let input = Input::open(path)?;
    let columns: Vec<&str> = input.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let batches = input.batches(&columns)?.collect::<Result<Vec<_>>>()?;
    match <[RecordBatch; 1]>::try_from(batches) {
        Ok([batch]) => Ok(batch),
        Err(batches) => Ok(concat_batches(input.schema(), &batches)?),
    }
}
