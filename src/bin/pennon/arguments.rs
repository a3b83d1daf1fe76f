//! The command line as clap types.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use pennon::{BuildParams, Coding, DistanceType, ElementType};

#[cfg(feature = "lance")]
use crate::dataset::DatasetArguments;

#[cfg(feature = "lance-index")]
const LANCE: &str = "Lance 14.0.2; ";
#[cfg(not(feature = "lance-index"))]
const LANCE: &str = "without Lance; ";

/// The version of the package and what it was built with.
fn version() -> String {
    let features =
        [("cli", true), ("datafusion", cfg!(feature = "datafusion")), ("lance", cfg!(feature = "lance"))];
    let features: Vec<&str> = features.iter().filter(|feature| feature.1).map(|feature| feature.0).collect();
    format!("{} ({LANCE}features: {})", env!("CARGO_PKG_VERSION"), features.join(", "))
}

const OVERVIEW: &str = "\
Exit codes:
  0  done; of verify: the index is sound
  1  the command failed, or verify found something; one line on standard error says what
  2  the command line is not one that pennon understands

Examples:
  pennon build words.parquet --column vector --metric cosine --keep word --output words
  pennon search words --like word=guitar --show word -k 8
  pennon verify words";

const BUILD: &str = "\
Examples:
  pennon build words.parquet --metric cosine --keep word --output words
  pennon build base.fbin --m 32 --ef-construction 400 --output base
  pennon build pixels.arrow --metric hamming --row-id id --flat --output pixels";

const APPEND: &str = "\
Examples:
  pennon append words more.parquet
  pennon append pixels changed.arrow --upsert

The rows appear all at once: an append that fails or is killed leaves the index as it was.";

const EXPORT: &str = "\
Example:
  pennon export words --output batches

graph.arrow has the lance:hnsw batch, vectors.arrow Lance's flat storage batch of the same rows.";

const SEARCH: &str = "\
Examples:
  pennon search words --like word=guitar --show word
  pennon search words --row 17 -k 100 --ef 400 --out nearest.csv
  pennon search words --row 17 --where \"word LIKE 'g%'\"
  pennon search words --vector '0.1, -0.2, 0.3' --json
  pennon search words --queries questions.parquet --out answers.parquet";

#[cfg(feature = "datafusion")]
const SQL: &str = "\
Examples:
  pennon sql \"SELECT word, _distance FROM vector_search('words', 3582, 8) WHERE row_id < 5000\" --table words=words
  pennon sql 'SELECT f.*, w.row_id FROM words w JOIN f ON f.word = w.word' --table words=words --table f=words.parquet

A saved index has the columns row_id, those that it keeps, and its vectors. vector_search('table', query, k, 'ef=100')
takes a list of numbers, or the row_id (of a collection the key) of a row; a WHERE is tested before the search.";

const INSPECT: &str = "\
Examples:
  pennon inspect words
  pennon inspect batches/graph.arrow --json";

const EVAL: &str = "\
Examples:
  pennon eval words --queries questions.parquet --ef 20,50,100
  pennon eval base.fbin --queries queries.fbin --ground-truth truth.ibin --json";

const VERIFY: &str = "\
Example:
  pennon verify words --min-recall 0.95 || echo 'build it again'";

/// Vector search in files: HNSW and flat indexes over Parquet and Arrow, in Lance's formats.
#[derive(Debug, Parser)]
#[command(name = "pennon", version = version(), after_help = OVERVIEW)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Build(BuildArguments),
    Append(AppendArguments),
    Compact(CompactArguments),
    Verify(VerifyArguments),
    Export(ExportArguments),
    Search(SearchArguments),
    #[cfg(feature = "datafusion")]
    Sql(SqlArguments),
    Inspect(InspectArguments),
    Eval(EvalArguments),
    /// Print a script that completes commands and options in a shell
    Completions {
        shell: Shell,
    },
    /// Print a manual page: of pennon, or of one command
    Man {
        command: Option<String>,
    },
}

/// Build an index of a column of vectors and save it in a directory
#[derive(Debug, Args)]
#[command(after_help = BUILD)]
pub struct BuildArguments {
    #[cfg_attr(not(feature = "lance"), doc = "Parquet, Arrow IPC, fbin, u8bin or i8bin file")]
    #[cfg_attr(
        feature = "lance",
        doc = "Parquet, Arrow IPC, fbin, u8bin or i8bin file, or a Lance dataset: without --output, that gets the index"
    )]
    pub file: PathBuf,
    /// Column of vectors: FixedSizeList, List or LargeList of Float16, bfloat16, Float32, Float64, Int8 or UInt8
    #[arg(long, default_value = "vector")]
    pub column: String,
    /// Convert the vectors to these elements: Float16, Float32, Float64, Int8 or UInt8 [default: as they are]
    #[arg(long, value_name = "TYPE")]
    pub elements: Option<ElementType>,
    #[command(flatten)]
    pub graph: GraphArguments,
    /// Directory to save the index in; an index that is there is replaced at one instant
    #[arg(long, value_name = "DIR")]
    #[cfg_attr(not(feature = "lance"), arg(required = true))]
    pub output: Option<PathBuf>,
    /// Columns to save with the index, for --like and --show of a search
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub keep: Vec<String>,
    /// Integer column of row ids [default: the row's position in the file]
    #[arg(long, value_name = "COLUMN")]
    pub row_id: Option<String>,
    /// Threads to build with [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Do not measure the recall of a sample, which takes up to 3 seconds
    #[arg(long)]
    pub no_sample: bool,
    #[cfg(feature = "lance")]
    #[command(flatten)]
    pub dataset: DatasetArguments,
}

/// Append the rows of a file to a saved index
#[derive(Debug, Args)]
#[command(after_help = APPEND)]
pub struct AppendArguments {
    /// Directory of a saved index
    pub index: PathBuf,
    /// File of any format that build reads, with the columns that the index keeps
    pub file: PathBuf,
    /// Column of vectors [default: the column that the index was built from]
    #[arg(long)]
    pub column: Option<String>,
    /// Integer column of row ids [default: as in the build; or counted on from there]
    #[arg(long, value_name = "COLUMN")]
    pub row_id: Option<String>,
    /// Let rows take the place of those with the same row ids, which are errors otherwise
    #[arg(long)]
    pub upsert: bool,
    /// Threads to build with [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Remove dead rows from a saved index
#[derive(Debug, Args)]
pub struct CompactArguments {
    /// Directory of a saved index
    pub index: PathBuf,
    /// Threads to work with [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// Check the files, the structure and the recall of an index; exit code 1 if something is wrong
#[derive(Debug, Args)]
#[command(after_help = VERIFY)]
pub struct VerifyArguments {
    #[command(flatten)]
    pub index: IndexArguments,
    /// The recall@10 at ef 100 that a sample of rows must have
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub min_recall: f64,
    /// Do not measure the recall of a sample, which takes up to 3 seconds
    #[arg(long)]
    pub no_sample: bool,
}

/// Write the batches of an index as Lance has them, into Arrow IPC files
#[derive(Debug, Args)]
#[command(after_help = EXPORT)]
pub struct ExportArguments {
    #[command(flatten)]
    pub index: IndexArguments,
    /// Directory to write graph.arrow and vectors.arrow to
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

/// Find the nearest rows to a row, a vector, or each vector of a file
#[derive(Debug, Args)]
#[command(after_help = SEARCH)]
#[command(group = ArgGroup::new("query").required(true).args(["like", "row", "vector", "queries"]))]
pub struct SearchArguments {
    #[command(flatten)]
    pub index: IndexArguments,
    /// Query with the vector of the first row whose COLUMN prints as VALUE
    #[arg(long, value_name = "COLUMN=VALUE", allow_hyphen_values = true)]
    pub like: Option<String>,
    /// Query with the vector of the row of this row id
    #[arg(long, value_name = "ROW_ID")]
    pub row: Option<u64>,
    /// Query with these numbers: '0.1,0.2' or '[0.1, 0.2]'
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true)]
    pub vector: Option<String>,
    /// Query with each vector of this file
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// Column of vectors, in --queries and in a Lance dataset [default: as in the build, or 'vector']
    #[arg(long)]
    pub column: Option<String>,
    /// Rows to return
    #[arg(short, long, value_name = "N", default_value = "10")]
    pub k: NonZeroUsize,
    /// Candidates kept by a search: more find more and take longer (raised to k)
    #[arg(long, value_name = "N", default_value = "100")]
    pub ef: NonZeroUsize,
    /// Search among the rows that meet this condition in SQL, on columns that the index keeps
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// Columns to show with each row, of those that the index keeps
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub show: Vec<String>,
    /// Write the answer to this file: .parquet, .arrow or .csv
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Answer a query in SQL over saved indexes and collections, files and Lance datasets; it changes nothing
#[cfg(feature = "datafusion")]
#[derive(Debug, Args)]
#[command(after_help = SQL)]
pub struct SqlArguments {
    /// The query
    pub query: String,
    /// A table: a saved index or collection, or a Parquet or Arrow file
    #[cfg_attr(feature = "lance", doc = "or a Lance dataset")]
    #[arg(short, long, value_name = "NAME=PATH")]
    pub table: Vec<String>,
    /// Write the answer to this file: .parquet, .arrow or .csv
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Show what is in an index: parameters, levels, degrees, reachability, memory, files
#[derive(Debug, Args)]
#[command(after_help = INSPECT)]
pub struct InspectArguments {
    #[command(flatten)]
    pub index: IndexArguments,
}

/// Measure recall and speed for a list of ef, of an index or of one built in memory from a file
#[derive(Debug, Args)]
#[command(after_help = EVAL)]
pub struct EvalArguments {
    /// An index, or a file of any format that build reads
    pub path: PathBuf,
    /// Load the index instead of mapping its files
    #[arg(long)]
    pub in_memory: bool,
    /// File of queries [default: up to 1,000 rows of the index itself, evenly spaced]
    #[arg(long, value_name = "FILE")]
    pub queries: Option<PathBuf>,
    /// The row ids of the true neighbors of --queries, an ibin file [default: an exact scan]
    #[arg(long, value_name = "FILE", requires = "queries")]
    pub ground_truth: Option<PathBuf>,
    /// Column of vectors [default: as in the build, or 'vector']
    #[arg(long)]
    pub column: Option<String>,
    /// Neighbors per query
    #[arg(short, long, value_name = "N", default_value = "10")]
    pub k: NonZeroUsize,
    /// Search widths to measure
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "10,16,24,32,48,64,96,128,192,256,400"
    )]
    pub ef: Vec<NonZeroUsize>,
    #[command(flatten)]
    pub graph: GraphArguments,
    /// Threads to build and to search with
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
}

// No doc comments on flattened structs: clap would take them for the help of the command.
#[derive(Debug, Args)]
pub struct IndexArguments {
    #[cfg_attr(
        not(feature = "lance"),
        doc = "Directory of a saved index, a directory with graph.arrow and vectors.arrow, or either file"
    )]
    #[cfg_attr(
        feature = "lance",
        doc = "Directory of a saved index, a directory with graph.arrow and vectors.arrow, either file, or a Lance dataset (search, inspect)"
    )]
    pub index: PathBuf,
    /// Load the index instead of mapping its files
    #[arg(long)]
    pub in_memory: bool,
}

#[derive(Debug, Args)]
pub struct GraphArguments {
    /// Distance: l2 (squared), cosine (1 - cos), dot (1 - dot), l1 or hamming [default: l2]
    #[arg(long, value_name = "NAME")]
    pub metric: Option<DistanceType>,
    /// Neighbors per row on the upper levels [default: 16]
    #[arg(long, value_name = "N")]
    pub m: Option<usize>,
    /// Neighbors per row on level 0 [default: twice --m]
    #[arg(long, value_name = "N")]
    pub m0: Option<usize>,
    /// Candidates kept while a row is inserted [default: 200]
    #[arg(long, value_name = "N")]
    pub ef_construction: Option<usize>,
    /// Seed of the levels [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Compact codes, a byte per element, that searches compare first: auto, bytes or off [default: auto]
    #[arg(long, value_name = "CODES", value_parser = PossibleValuesParser::new(["auto", "bytes", "off"]).map(coding))]
    pub codes: Option<Coding>,
    /// No graph: every search compares all rows and is exact
    #[arg(long, conflicts_with_all = ["m", "m0", "ef_construction", "seed", "codes"])]
    pub flat: bool,
}

fn coding(name: String) -> Coding {
    match name.as_str() {
        "bytes" => Coding::Bytes,
        "off" => Coding::Off,
        _ => Coding::Auto,
    }
}

impl GraphArguments {
    pub fn metric(&self) -> DistanceType {
        self.metric.unwrap_or(DistanceType::L2)
    }

    /// Whether any of them was given.
    pub fn any(&self) -> bool {
        let Self { metric, m, m0, ef_construction, seed, codes, flat } = self;
        let numbers = [m, m0, ef_construction].into_iter().any(Option::is_some);
        numbers || metric.is_some() || seed.is_some() || codes.is_some() || *flat
    }

    /// The parameters of the graph, if there is to be one.
    pub fn params(&self) -> Result<Option<BuildParams>> {
        if self.flat {
            return Ok(None);
        }
        let params = BuildParams::default()
            .num_edges(self.m.unwrap_or(16))
            .ef_construction(self.ef_construction.unwrap_or(200))
            .codes(self.codes.unwrap_or_default());
        let params = self.m0.into_iter().fold(params, BuildParams::m0);
        let params = self.seed.into_iter().fold(params, BuildParams::seed);
        params.validate()?;
        Ok(Some(params))
    }
}
