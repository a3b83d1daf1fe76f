//! What an index holds, in numbers and as a table.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::distance::DistanceType;
use crate::graph::BuildParams;
use crate::graph::LevelStats;
use crate::index::counters::Tally;
use crate::index::generation::Generation;
use crate::index::{Index, Reader};
use crate::vectors::{ElementType, SkippedRows};

/// The result of [`Index::stats`]. Prints as tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexStats {
    /// Rows that are alive.
    pub live: usize,
    /// Dead rows, which are nodes of the graph still.
    pub tombstones: usize,
    /// Rows that were appended without a usable vector, and why.
    pub skipped: SkippedRows,
    /// The elements of the vectors.
    pub element_type: ElementType,
    /// Elements per vector.
    pub dim: usize,
    /// The metric.
    pub distance_type: DistanceType,
    /// The parameters of the build, if there is a graph.
    pub params: Option<BuildParams>,
    /// The levels of the graph, level 0 first. Dead rows are among the nodes.
    pub levels: Vec<LevelStats>,
    /// Where the memory is.
    pub bytes: ResidentBytes,
}

/// The parts of [`Index::resident_bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResidentBytes {
    /// Neighbor lists of level 0.
    pub level_0: usize,
    /// Neighbor lists of the other levels.
    pub upper_levels: usize,
    /// From vector id to vector and row id; vectors too, where they were copied.
    pub vectors: usize,
    /// Compact codes of the vectors.
    pub codes: usize,
    /// From row id to vector id.
    pub row_ids: usize,
    /// Which rows are dead.
    pub tombstones: usize,
    /// Working memory of searches that have ended, kept for the next.
    pub scratch: usize,
    /// The files of an index that was loaded, not mapped.
    pub files: usize,
    /// What does not grow.
    pub fixed: usize,
}

impl ResidentBytes {
    /// All of them.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|part| part.1).sum()
    }

    fn parts(&self) -> [(&'static str, usize); 9] {
        let Self { level_0, upper_levels, vectors, codes, row_ids, tombstones, scratch, files, fixed } =
            *self;
        [
            ("lists of level 0", level_0),
            ("lists of upper levels", upper_levels),
            ("ids to vectors", vectors),
            ("codes of vectors", codes),
            ("row ids to ids", row_ids),
            ("tombstones", tombstones),
            ("searches", scratch),
            ("files", files),
            ("fixed", fixed),
        ]
    }
}

impl Reader {
    /// What the index holds in this version. Walks the whole graph; appends wait meanwhile, searches do not. The bytes,
    /// and the rows that were skipped, are those of now.
    pub fn stats(&self) -> IndexStats {
        let (generation, version) = (self.generation(), self.version());
        let levels = generation.graph.as_ref().map(|graph| graph.level_stats(version.vectors()));
        IndexStats {
            live: version.live(),
            tombstones: version.deletes() as usize,
            skipped: generation.store.skipped(),
            element_type: self.element_type(),
            dim: self.dim(),
            distance_type: self.distance_type(),
            params: self.params().cloned(),
            levels: levels.unwrap_or_default(),
            bytes: generation.bytes_by_part(),
        }
    }
}

impl Index {
    /// [`Reader::stats`] of the current version.
    pub fn stats(&self) -> IndexStats {
        self.reader().stats()
    }

    /// Bytes held beside what the caller gave: vectors, arrays of row ids and the batches of an import. What was
    /// [loaded](Self::load) counts, what is [mapped](Self::load_mmap) does not, and neither do older generations that
    /// readers keep.
    pub fn resident_bytes(&self) -> usize {
        self.generations.peek().bytes_by_part().total()
    }
}

impl Generation {
    pub(super) fn bytes_by_part(&self) -> ResidentBytes {
        let [level_0, upper_levels, scratch] =
            self.graph.as_ref().map_or([0; 3], |graph| graph.bytes_by_part());
        ResidentBytes {
            level_0,
            upper_levels,
            vectors: self.store.resident_bytes(),
            codes: self.code_bytes(),
            row_ids: self.lock_rows().resident_bytes(),
            tombstones: self.versions.resident_bytes(),
            scratch,
            files: self.loaded_graph_bytes + self.loaded_vector_bytes,
            fixed: size_of::<Index>()
                + in_arc::<Self>()
                + in_arc::<Tally>()
                // The store counts itself, but not the counts of its `Arc`.
                + 2 * size_of::<usize>(),
        }
    }
}

/// Bytes of what is in an `Arc`, behind its two counts.
fn in_arc<T>() -> usize {
    (2 * size_of::<usize>()).next_multiple_of(align_of::<T>()) + size_of::<T>()
}

impl fmt::Display for IndexStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rows             {} ({} dead)", self.live, self.tombstones)?;
        writeln!(f, "skipped          {}", self.skipped)?;
        writeln!(f, "vectors          {} x {}, {}", self.dim, self.element_type, self.distance_type)?;
        if let Some(params) = &self.params {
            let BuildParams { max_level, m, m0, ef_construction, seed, .. } = *params;
            writeln!(f, "m                {m} (level 0: {})", m0.unwrap_or(2 * m))?;
            writeln!(f, "ef_construction  {ef_construction}")?;
            writeln!(f, "max_level        {max_level}")?;
            writeln!(f, "seed             {seed}")?;
            writeln!(f, "selection        {:?}, prune {:?}", params.selection, params.prune)?;
            writeln!(f, "\n{:>5}{:>12}{:>14}{:>22}", "level", "nodes", "edges", "degree min/mean/max")?;
            for (number, level) in self.levels.iter().enumerate() {
                let LevelStats { nodes, edges, .. } = level;
                let (least, mean, most) = (level.min_degree(), level.mean_degree(), level.max_degree());
                let degrees = format!("{least}/{mean:.1}/{most}");
                writeln!(f, "{number:>5}{nodes:>12}{edges:>14}{degrees:>22}")?;
            }
        }
        writeln!(f, "\n{:<24}{:>14}", "memory", "bytes")?;
        for (part, bytes) in self.bytes.parts() {
            writeln!(f, "{part:<24}{bytes:>14}")?;
        }
        write!(f, "{:<24}{:>14}", "all", self.bytes.total())
    }
}
