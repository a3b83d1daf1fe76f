//! The command line as clap types; values are checked where they are used.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use pennon::{BuildParams, DistanceType, PruneStrategy, Selection};

#[cfg(feature = "lance")]
use crate::dataset::DatasetArguments;
use crate::failure::{Result, fail};

/// HNSW indexes over Parquet and Arrow IPC files, stored as Lance's `lance:hnsw` batch.
#[derive(Debug, Parser)]
#[command(name = "pennon", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Build(BuildArguments),
    Search(SearchArguments),
    Inspect(InspectArguments),
    Eval(EvalArguments),
}

/// Build an index of one vector column and write it to a directory.
#[derive(Debug, Args)]
pub struct BuildArguments {
    #[cfg_attr(not(feature = "lance"), doc = "Parquet or Arrow IPC file")]
    #[cfg_attr(
        feature = "lance",
        doc = "Parquet or Arrow IPC file, or a Lance dataset, which gets the index"
    )]
    pub file: PathBuf,
    /// Vector column: FixedSizeList, List or LargeList of Float32
    #[arg(long, default_value = "vector")]
    pub column: String,
    /// Distance: l2 (squared), cosine (1 - cos) or dot (1 - dot)
    #[arg(long, value_enum, default_value_t = Metric::L2)]
    pub metric: Metric,
    /// Directory to write graph.arrow and vectors.arrow to; an earlier index in it is replaced
    #[arg(long, value_name = "DIR")]
    #[cfg_attr(not(feature = "lance"), arg(required = true))]
    pub output: Option<PathBuf>,
    /// Integer column to take row ids from, instead of the row's position in the file
    #[arg(long, value_name = "COLUMN")]
    pub row_id: Option<String>,
    #[command(flatten)]
    pub graph: GraphArguments,
    /// Threads to build with [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[cfg(feature = "lance")]
    #[command(flatten)]
    pub dataset: DatasetArguments,
}

/// Find the nearest rows to a row, to a named row, or to a vector.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("query").required(true).args(["like", "vector", "row"]))]
pub struct SearchArguments {
    /// Directory that `pennon build` wrote
    pub dir: PathBuf,
    /// Query with the vector of the first row of --from whose COLUMN prints as VALUE
    #[arg(long, value_name = "COLUMN=VALUE", allow_hyphen_values = true)]
    pub like: Option<String>,
    /// Query with these numbers: '0.1,0.2' or '[0.1, 0.2]'
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true)]
    pub vector: Option<String>,
    /// Query with the vector of the row with this row id
    #[arg(long, value_name = "ROW_ID")]
    pub row: Option<u64>,
    /// Neighbors to return
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub k: usize,
    /// Candidates kept during the search: more is slower and finds more (raised to k)
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub ef: usize,
    /// Columns of --from to print with each neighbor
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub show: Vec<String>,
    /// The file the index was built from, for --like and --show
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Column of --from that holds the row ids, if the index was built with --row-id
    #[arg(long, value_name = "COLUMN")]
    pub row_id: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Show what is in an index: parameters, levels, degrees, reachability, sizes.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// Directory that `pennon build` wrote, or an Arrow IPC file with a `lance:hnsw` batch
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Build an index in memory and measure recall and speed for a list of ef values.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["file", "base"]))]
pub struct EvalArguments {
    /// Parquet, Arrow IPC or .fbin file
    pub file: Option<PathBuf>,
    /// Vectors to index, as a .fbin file (or any file that FILE may be)
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// Query vectors [default: up to 1,000 rows of the file itself, evenly spaced]
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// True neighbors of --queries as an .ibin file [default: an exact scan]
    #[arg(long, value_name = "FILE", requires = "queries")]
    pub ground_truth: Option<PathBuf>,
    /// Vector column (a .fbin file has only one)
    #[arg(long, default_value = "vector")]
    pub column: String,
    /// Distance: l2 (squared), cosine (1 - cos) or dot (1 - dot)
    #[arg(long, value_enum, default_value_t = Metric::L2)]
    pub metric: Metric,
    /// Neighbors per query
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub k: usize,
    /// Search widths to measure
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "10,16,24,32,48,64,96,128,192,256,400"
    )]
    pub ef: Vec<usize>,
    #[command(flatten)]
    pub graph: GraphArguments,
    /// Threads to build and to search with
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Draw recall against queries per second to this SVG file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

// No doc comment: clap would take it for the help of every command this is flattened into.
#[derive(Debug, Args)]
pub struct GraphArguments {
    /// Neighbors per node on the upper levels; twice as many on level 0
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub m: usize,
    /// Neighbors per node on level 0 [default: twice --m]
    #[arg(long, value_name = "N")]
    pub m0: Option<usize>,
    /// Candidates kept while inserting a row
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub ef_construction: usize,
    /// Seed of the level draw
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Neighbors of a new row: those nearer to it than to each other, or simply the nearest
    #[arg(long, value_enum, default_value_t = Strategy::Heuristic)]
    pub selection: Strategy,
    /// Let the heuristic of a new row consider the neighbors of its candidates: slow
    #[arg(long)]
    pub extend_candidates: bool,
    /// Let the heuristic fill up with the nearest of those that it rejected
    #[arg(long)]
    pub keep_pruned: bool,
    /// What stays where a row has too many neighbors
    #[arg(long, value_enum, default_value_t = Strategy::Heuristic)]
    pub prune: Strategy,
}

impl GraphArguments {
    /// The library's parameters, validated.
    pub fn params(&self) -> Result<BuildParams> {
        let params = BuildParams { m0: self.m0, ..BuildParams::default() }
            .num_edges(self.m)
            .ef_construction(self.ef_construction)
            .seed(self.seed)
            .selection(self.selection.into())
            .extend_candidates(self.extend_candidates)
            .keep_pruned(self.keep_pruned)
            .prune(self.prune.into());
        params.validate()?;
        Ok(params)
    }
}

/// Ways to choose neighbors, as clap names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Strategy {
    Heuristic,
    Nearest,
}

impl From<Strategy> for Selection {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Heuristic => Self::Heuristic,
            Strategy::Nearest => Self::Nearest,
        }
    }
}

impl From<Strategy> for PruneStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Heuristic => Self::Heuristic,
            Strategy::Nearest => Self::Nearest,
        }
    }
}

/// The distances, as clap names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Metric {
    L2,
    Cosine,
    Dot,
}

impl From<Metric> for DistanceType {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::L2,
            Metric::Cosine => Self::Cosine,
            Metric::Dot => Self::Dot,
        }
    }
}

/// Fails for a count of zero, which clap would report as a usage error of many lines.
pub fn at_least_one(option: &str, value: usize) -> Result<()> {
    if value == 0 {
        return fail(format!("{option} must be at least 1, got 0"));
    }
    Ok(())
}
