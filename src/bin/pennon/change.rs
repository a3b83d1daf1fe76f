//! `pennon append` and `pennon compact`: a saved index, replaced at one instant by what becomes of it.

use anyhow::{Context, Result};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use crate::arguments::{AppendArguments, CompactArguments};
use crate::build::in_pool;
use crate::ingest::{OnDuplicate, Source};
use crate::input::Input;
use crate::open::{self, Opened};
use crate::output::Report;

pub fn append(arguments: &AppendArguments, json: bool) -> Result<()> {
    let dir = &arguments.index;
    let input = Input::open(&arguments.file)?;
    Opened::check_saved(dir)?;
    let _lock = open::lock(dir)?;
    let mut opened = Opened::to_change(dir)?;
    let keep = opened.labels.as_ref().map(RecordBatch::schema);
    let keep: Vec<String> =
        keep.iter().flat_map(|schema| schema.fields()).map(|field| field.name().clone()).collect();
    let row_id = opened.row_id(arguments.row_id.as_deref());
    // Not others than those of the index, unless the build was asked to convert: numbers may lose what they are.
    let elements = opened.properties.contains_key(open::ELEMENTS).then(|| opened.index.element_type());
    let source = Source::check(&input, opened.column(arguments.column.as_deref()), elements, row_id, &keep)?;
    let on_duplicate = if arguments.upsert { OnDuplicate::Replace } else { OnDuplicate::Refuse };
    let (before, dead) = (opened.index.len(), opened.index.tombstones());
    let first = first_row_id(&opened)?;
    let taken = in_pool(arguments.threads, || source.fill(&opened.index, first, on_duplicate))?;
    if row_id.is_none() {
        opened.properties.insert(open::NEXT_ROW_ID.to_owned(), (first + taken.rows).to_string());
    }
    if let (Some(labels), Some(new)) = (&opened.labels, taken.labels) {
        opened.labels = Some(joined(labels, &new)?);
    }
    opened.save(dir)?;

    let mut report = Report::default();
    let replaced = opened.index.tombstones() - dead;
    report.add("rows", taken.rows);
    report.add("appended", opened.index.len() + replaced - before);
    report.add("replaced", replaced);
    report.add("skipped", opened.index.skipped());
    report.add("indexed", opened.index.len());
    report.add("dead", opened.index.tombstones());
    report.add("written_to", dir.display().to_string());
    report.print(json)
}

/// The row id that the next row without one gets: what the build counted up to, or what follows the greatest.
fn first_row_id(opened: &Opened) -> Result<u64> {
    if let Some(next) = opened.properties.get(open::NEXT_ROW_ID) {
        return next.parse().with_context(|| format!("property {} is '{next}'", open::NEXT_ROW_ID));
    }
    let greatest = opened.index.reader().live_row_ids().values().iter().copied().max();
    Ok(greatest.map_or(0, |greatest| greatest.saturating_add(1)))
}

/// The labels of an index, and those of the rows after it in the same types.
fn joined(labels: &RecordBatch, new: &RecordBatch) -> Result<RecordBatch> {
    let schema = labels.schema();
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().zip(new.columns()).map(|(field, column)| {
        let column = cast_with_options(column, field.data_type(), &strict);
        column.with_context(|| {
            format!("column '{}' of the file is not one of {}", field.name(), field.data_type())
        })
    });
    let new = RecordBatch::try_new(labels.schema(), columns.collect::<Result<_>>()?)?;
    Ok(concat_batches(&schema, [labels, &new])?)
}

pub fn compact(arguments: &CompactArguments, json: bool) -> Result<()> {
    let dir = &arguments.index;
    Opened::check_saved(dir)?;
    let _lock = open::lock(dir)?;
    let mut opened = Opened::to_change(dir)?;
    let mut removed = 0;
    if opened.index.tombstones() > 0 {
        let compaction = in_pool(arguments.threads, || Ok(opened.index.compact()?))?;
        removed = compaction.removed;
        let ids = UInt32Array::from(compaction.old_ids().to_vec());
        opened.labels = opened.labels.map(|labels| take_record_batch(&labels, &ids)).transpose()?;
        opened.save(dir)?;
    }
    let mut report = Report::default();
    report.add("indexed", opened.index.len());
    report.add("removed", removed);
    report.add("written_to", dir.display().to_string());
    report.print(json)
}
