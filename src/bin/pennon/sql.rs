//! `pennon sql`: queries over saved collections and indexes, files and Lance datasets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow_array::RecordBatch;
use arrow_cast::pretty::pretty_format_batches;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, StreamExt};
use pennon::{Collection, sql};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::arguments::SqlArguments;
use crate::input::Input;
use crate::open::Location;
use crate::output::{self, Format, Report};

pub fn run(arguments: &SqlArguments, json: bool) -> Result<()> {
    if let Some(out) = &arguments.out {
        Format::of(out)?;
    }
    let context = SessionContext::new();
    for table in &arguments.table {
        let Some((name, path)) = table.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("--table has to be NAME=PATH, got '{table}'")
        };
        register(&context, name, Path::new(path)).with_context(|| format!("table {name}"))?;
    }
    let answer =
        Runtime::new().context("cannot start threads")?.block_on(answer(&context, &arguments.query))?;
    if let Some(out) = &arguments.out {
        Format::of(out)?.write(out, &answer)?;
        let mut report = Report::default();
        report.add("rows", answer.num_rows());
        report.add("written_to", out.display().to_string());
        return report.print(json);
    }
    if json {
        return output::print_json(&json!({ "rows": output::json_rows(&answer)? }));
    }
    output::print(&format!("{}\n", pretty_format_batches(&[answer])?))
}

/// The rows of a query that only reads.
async fn answer(context: &SessionContext, query: &str) -> Result<RecordBatch> {
    let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = context.sql_with_options(query, reads).await?;
    let schema = Arc::clone(frame.schema().inner());
    let batches = frame.collect().await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

fn register(context: &SessionContext, name: &str, path: &Path) -> Result<()> {
    match Location::of(path)? {
        Location::Saved => {
            sql::register_collection(context, name, Arc::new(Collection::load(path)?))?;
        }
        #[cfg(feature = "lance")]
        Location::Dataset => {
            sql::register_dataset(context, name, Arc::new(crate::dataset::open(path)?))?;
        }
        _ => {
            let rows = Rows(Input::open(path)?);
            let schema = Arc::clone(rows.schema());
            context.register_table(name, Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))?;
        }
    }
    Ok(())
}

/// A file that is read anew for each query.
struct Rows(Input);

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        self.0.schema()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let failed = |error: anyhow::Error| DataFusionError::External(error.into());
        let columns = self.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
        let batches = match self.0.batches(&columns) {
            Ok(batches) => stream::iter(batches.map(move |batch| batch.map_err(failed))).boxed(),
            Err(error) => stream::iter([Err(failed(error))]).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), batches))
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.path().display())
    }
}
