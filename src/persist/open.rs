//! Reading: the manifest, then the files that it names, of which every byte is checked before it is used.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, UInt64Array};
use arrow_buffer::{Buffer, MutableBuffer};
use tracing::{info, info_span};

use crate::codes::Codes;
use crate::error::{Error, Result};
use crate::format::{FLAT_COLUMN, Storage, VECTOR_ID_COLUMN};
use crate::graph::HnswGraph;
use crate::index::{Generation, Index};
use crate::persist::checksum::Sum;
use crate::persist::directory::{Part, at};
use crate::persist::ipc::{self, Content};
use crate::persist::manifest::Manifest;
use crate::persist::map::map;
use crate::persist::set::Columns;
use crate::persist::{CODE_COLUMN, Loaded};
use crate::vectors::{ArrowFixedSizeListVectorStore, ElementType, RowIds};

/// Where the bytes of a file are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Heap,
    Mapped,
}

/// A saved index with its files open: they can be read even if a save removes them meanwhile.
pub(super) struct Saved {
    manifest: Manifest,
    graph: Option<PartFile>,
    vectors: PartFile,
    tombstones: PartFile,
    labels: Option<PartFile>,
    rows: Option<PartFile>,
    codes: Option<PartFile>,
}

/// The index that was last saved into a directory, with what was saved beside it.
pub(super) fn load(dir: &Path, memory: Memory) -> Result<Loaded> {
    let _span = info_span!("load", dir = %dir.display(), mapped = memory == Memory::Mapped).entered();
    let loaded = Saved::open(dir).and_then(|saved| saved.load(memory));
    loaded.inspect_err(|error| info!(%error, "not loaded"))
}

impl Saved {
    pub fn open(dir: &Path) -> Result<Self> {
        loop {
            let manifest = Manifest::read(dir)?;
            let generation = manifest.generation;
            match Self::open_files(dir, manifest) {
                // A save may have removed files before they were opened; then there is another manifest.
                Err(_) if Manifest::read(dir)?.generation != generation => {}
                outcome => return outcome,
            }
        }
    }

    fn open_files(dir: &Path, manifest: Manifest) -> Result<Self> {
        let open = |part: Part, sum| PartFile::open(dir.join(part.file_name(manifest.generation)), sum);
        let files = &manifest.files;
        Ok(Self {
            graph: files.graph.map(|sum| open(Part::Graph, sum)).transpose()?,
            vectors: open(Part::Vectors, files.vectors)?,
            tombstones: open(Part::Tombstones, files.tombstones)?,
            labels: files.labels.map(|sum| open(Part::Labels, sum)).transpose()?,
            rows: files.rows.map(|sum| open(Part::Rows, sum)).transpose()?,
            codes: files.codes.map(|sum| open(Part::Codes, sum)).transpose()?,
            manifest,
        })
    }

    /// The other columns of a collection, if it is one, and the properties that were saved with them.
    pub fn read_rows(&self) -> Result<Option<(Columns, &BTreeMap<String, String>)>> {
        let Some(part) = &self.rows else { return Ok(None) };
        let Content { schema, batches } = part.content(Memory::Heap)?;
        Ok(Some((Columns { schema, batches }, &self.manifest.properties)))
    }

    /// The number of the generation of files.
    pub fn number(&self) -> u64 {
        self.manifest.generation
    }

    pub fn load(self, memory: Memory) -> Result<Loaded> {
        let store = self.read_store(memory, |row_ids, _| RowIds::from(row_ids.clone()))?;
        self.load_with(store, memory)
    }

    /// The index with vector ids as its row ids, in memory, and the row ids that were saved, by vector id.
    pub fn load_numbered(self) -> Result<(Loaded, UInt64Array)> {
        let mut saved = Vec::new();
        let store = self.read_store(Memory::Heap, |row_ids, first| {
            saved.extend_from_slice(row_ids.values());
            RowIds::StartingAt(first)
        })?;
        Ok((self.load_with(store, Memory::Heap)?, saved.into()))
    }

    fn load_with(self, store: ArrowFixedSizeListVectorStore, memory: Memory) -> Result<Loaded> {
        let graph = self.read_graph(memory)?;
        let tombstones = self.read_tombstones()?;
        let codes = self.read_codes(memory)?;
        let mut generation = match (graph, codes) {
            (None, Some(codes)) => Generation::with_codes(store, None, &tombstones, Some(codes)),
            (Some(graph), Some(codes)) => {
                graph.adopt_codes(codes);
                Generation::with_codes(store, Some(graph), &tombstones, None)
            }
            (graph, None) => Generation::new(store, graph, &tombstones, self.manifest.coding),
        };
        match memory {
            Memory::Heap => {
                generation.loaded_graph_bytes = self.graph.as_ref().map_or(0, |part| part.sum.bytes as usize);
                generation.loaded_vector_bytes = self.vectors.sum.bytes as usize;
            }
            Memory::Mapped => generation.read_only = true,
        }
        let labels = self.read_labels(memory)?;
        let Manifest { generation: files, vectors, tombstones: dead, .. } = self.manifest;
        info!(files, vectors, dead, bytes = self.manifest.files.bytes(), "loaded");
        Ok(Loaded { index: Index::of(generation), labels, properties: self.manifest.properties })
    }

    fn read_graph(&self, memory: Memory) -> Result<Option<HnswGraph>> {
        let Some((part, params)) = self.graph.as_ref().zip(self.manifest.params.as_ref()) else {
            return Ok(None);
        };
        let batch = part.batch(memory)?;
        let graph = HnswGraph::import(&batch, Some(params)).map_err(|e| part.corrupt(e))?;
        part.check_count("nodes", graph.len(), self.manifest.vectors)?;
        Ok(Some(graph))
    }

    /// The vectors, under row ids made of those of each batch and the vector id of its first row.
    fn read_store(
        &self,
        memory: Memory,
        mut row_ids: impl FnMut(&UInt64Array, u64) -> RowIds,
    ) -> Result<ArrowFixedSizeListVectorStore> {
        let Manifest { dim, distance_type, .. } = self.manifest;
        let part = &self.vectors;
        let corrupt = |error: Error| part.corrupt(error);
        let Content { schema, batches } = part.content(memory)?;
        let column = schema.field_with_name(FLAT_COLUMN).map_err(|e| part.corrupt(e))?;
        let (element_type, elements) = ElementType::of_vectors(column.data_type()).map_err(corrupt)?;
        part.check_count("elements per vector", elements, dim)?;
        let store = ArrowFixedSizeListVectorStore::try_with_elements(element_type, dim, distance_type);
        let store = store.map_err(corrupt)?;
        for batch in &batches {
            let storage = Storage::of(batch).map_err(corrupt)?;
            // They were usable when they were saved, and are what was saved.
            let row_ids = row_ids(storage.row_ids, store.committed_len() as u64);
            store.append_usable(storage.vectors, row_ids).map_err(corrupt)?;
        }
        part.check_count("vectors", store.committed_len(), self.manifest.vectors)?;
        Ok(store)
    }

    fn read_tombstones(&self) -> Result<Vec<u32>> {
        let part = &self.tombstones;
        let batch = part.batch(Memory::Heap)?;
        let column = batch.column_by_name(VECTOR_ID_COLUMN);
        let ids = column.and_then(|column| column.as_primitive_opt::<UInt32Type>());
        let ids = ids.filter(|ids| ids.null_count() == 0).map(|ids| ids.values().to_vec());
        let ids = ids.ok_or_else(|| part.corrupt("its column is not of vector ids"))?;
        part.check_count("dead rows", ids.len(), self.manifest.tombstones)?;
        let vectors = self.manifest.vectors;
        let fits = ids.is_sorted_by(|a, b| a < b) && ids.last().is_none_or(|&id| (id as usize) < vectors);
        if fits { Ok(ids) } else { Err(part.corrupt(format!("dead rows out of order, or not of {vectors}"))) }
    }

    /// The compact codes, if they were saved: in memory, or where they lie.
    fn read_codes(&self, memory: Memory) -> Result<Option<Codes>> {
        let Some(part) = &self.codes else { return Ok(None) };
        let Manifest { dim, distance_type, vectors, .. } = self.manifest;
        let foreign = || part.corrupt("its column is not of codes of such vectors");
        let empty = Codes::new(dim, distance_type).ok_or_else(foreign)?;
        let mut parts = Vec::new();
        for batch in part.content(memory)?.batches {
            let column = batch.column_by_name(CODE_COLUMN).ok_or_else(foreign)?;
            let column = column.as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(foreign)?;
            if column.null_count() > 0 || column.value_length() as usize != empty.record_len() {
                return Err(foreign());
            }
            parts.push(
                column.to_data().buffers()[0].slice_with_length(
                    column.offset() * empty.record_len(),
                    column.len() * empty.record_len(),
                ),
            );
        }
        let codes = match memory {
            Memory::Heap => parts.iter().all(|part| empty.add_records(part)).then_some(empty),
            Memory::Mapped if parts.is_empty() => Some(empty),
            Memory::Mapped => {
                let rows = parts[0].len() / empty.record_len();
                // A single part may have any number of rows.
                Codes::saved(dim, distance_type, parts, rows.max(1).next_power_of_two().ilog2())
            }
        };
        let codes = codes.ok_or_else(foreign)?;
        part.check_count("codes", codes.len() as usize, vectors)?;
        Ok(Some(codes))
    }

    fn read_labels(&self, memory: Memory) -> Result<Option<RecordBatch>> {
        let Some(part) = &self.labels else { return Ok(None) };
        let labels = part.batch(memory)?;
        part.check_count("labels", labels.num_rows(), self.manifest.vectors)?;
        Ok(Some(labels))
    }
}

/// A file, and what it has to be.
struct PartFile {
    path: PathBuf,
    file: File,
    sum: Sum,
}

impl PartFile {
    fn open(path: PathBuf, sum: Sum) -> Result<Self> {
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file, sum }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::CorruptIndex { file: path, problem: "it is missing".to_string() })
            }
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    fn corrupt(&self, problem: impl Display) -> Error {
        Error::CorruptIndex { file: self.path.clone(), problem: problem.to_string() }
    }

    fn check_count(&self, what: &str, actual: usize, expected: usize) -> Result<()> {
        if actual == expected {
            return Ok(());
        }
        Err(self.corrupt(format!("{actual} {what}, {expected} were saved")))
    }

    /// All bytes of the file, checked.
    fn bytes(&self, memory: Memory) -> Result<Buffer> {
        let (saved, actual) = (self.sum.bytes, self.file.metadata().map_err(at(&self.path))?.len());
        if actual != saved {
            return Err(self.corrupt(format!("{actual} bytes, {saved} were saved")));
        }
        let (bytes, is_right) = match memory {
            Memory::Heap => {
                let length = usize::try_from(saved);
                let length = length.map_err(|_| self.corrupt("more bytes than this machine can address"))?;
                let mut bytes = MutableBuffer::from_len_zeroed(length);
                let is_right = self.sum.read(&self.file, bytes.as_slice_mut()).map_err(at(&self.path))?;
                (Buffer::from(bytes), is_right)
            }
            Memory::Mapped => {
                // Read, not walked through in the mapping, whose pages would all become resident.
                let is_right = self.sum.check(&self.file).map_err(at(&self.path))?;
                // SAFETY: `Memory::Mapped` comes from `Index::load_mmap` alone, whose caller has promised it.
                #[allow(unsafe_code, reason = "a promise that is passed on")]
                let bytes = unsafe { map(&self.file) };
                (bytes.map_err(at(&self.path))?, is_right)
            }
        };
        if is_right { Ok(bytes) } else { Err(self.corrupt("its checksum is not that of its content")) }
    }

    fn content(&self, memory: Memory) -> Result<Content> {
        ipc::decode(&self.bytes(memory)?).map_err(|problem| self.corrupt(problem))
    }

    /// The only batch.
    fn batch(&self, memory: Memory) -> Result<RecordBatch> {
        let mut batches = self.content(memory)?.batches;
        self.check_count("batches", batches.len(), 1)?;
        batches.pop().ok_or_else(|| self.corrupt("no batch"))
    }
}
