//! `pennon build`: an index of one vector column, written to a directory.

use rayon::prelude::*;

use pennon::{DistanceType, HnswIndex, SearchParams, VectorSource};

use crate::arguments::BuildArguments;
#[cfg(feature = "lance")]
use crate::dataset;
use crate::failure::{Result, fail};
use crate::ingest::{Built, Source, skipped_reasons};
use crate::report::{Facts, grouped, levels, print};
use crate::staging::OutputDirectory;
use crate::table::Table;
use crate::truth::Truth;
use crate::{index_dir, pool, sample};

const SAMPLE_ROWS: usize = 200;
const SAMPLE_K: usize = 10;
const SAMPLE_EF: usize = 100;

pub fn run(arguments: &BuildArguments) -> Result<()> {
    #[cfg(feature = "lance")]
    if dataset::is_meant(arguments) {
        return dataset::run(arguments);
    }
    let params = arguments.graph.params()?;
    let Some(directory) = &arguments.output else {
        return fail("a build of a file needs --output DIR or --lance DIR");
    };
    let output = OutputDirectory::check(directory, index_dir::FILES)?;
    let table = Table::open(&arguments.file)?;
    let column = table.vector_column(&arguments.column);
    let source = Source::check(&table, column, arguments.row_id.as_deref())?;
    let distance_type = DistanceType::from(arguments.metric);
    pool::install(arguments.threads, || {
        let built = source.build(distance_type, &params)?;
        let mut facts = facts(&built);
        let (rows, recall) = sampled_recall(&built.index)?;
        facts.add(
            format!("recall@{SAMPLE_K}"),
            format!("{recall:.4} (ef {SAMPLE_EF}, {rows} rows as queries, against an exact scan)"),
        );
        index_dir::save(&built.index, &output)?;
        facts.add("written to", directory.display().to_string());
        print(&facts.to_string())
    })
}

fn facts(built: &Built) -> Facts {
    let index = &built.index;
    let health = index.health();
    let seconds = built.elapsed.as_secs_f64();
    let graph_bytes = index.graph().resident_bytes() as f64 / index.len() as f64;
    let mut facts = Facts::default();
    facts.add("rows", grouped(built.rows));
    facts.add("indexed", grouped(index.len() as u64));
    facts.add("skipped", skipped_reasons(index));
    facts.add("dimension", index.dim().to_string());
    facts.add("metric", index.distance_type().to_string());
    facts.add("levels", levels(&health.level_nodes));
    facts.add(
        "seconds",
        format!("{seconds:.2} ({} rows per second)", grouped((built.rows as f64 / seconds.max(1e-9)) as u64)),
    );
    facts.add("graph bytes per row", format!("{graph_bytes:.1}"));
    facts
}

/// The mean recall of searches for evenly spaced rows, and how many there were. A row is part
/// of its own answer, of the true one as of the found one.
fn sampled_recall(index: &HnswIndex) -> Result<(usize, f64)> {
    let snapshot = index.snapshot();
    let ids: Vec<usize> = sample::evenly_spaced(index.len(), SAMPLE_ROWS).collect();
    let recall = |id: &usize| -> Result<f64> {
        let query = snapshot.vector(*id as u32);
        let truth = Truth::exact(index, query, SAMPLE_K)?;
        let found = index.search(query, SearchParams::new(SAMPLE_K, SAMPLE_EF))?;
        Ok(truth.recall(&found))
    };
    let recalls = ids.par_iter().map(recall).collect::<Result<Vec<f64>>>()?;
    let mean = recalls.iter().sum::<f64>() / recalls.len().max(1) as f64;
    Ok((recalls.len(), mean))
}
