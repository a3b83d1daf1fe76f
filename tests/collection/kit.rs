//! Rows of a seeded generator, and a table that does everything the slow way.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pennon::{
    BuildParams, Collection, CollectionReader, CollectionSearch, DistanceType, Filter, SearchParams,
};
use rand::Rng;
use rand::rngs::StdRng;

pub const DIM: usize = 8;

/// One row. A vector may be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: i64,
    pub word: Option<String>,
    pub a: Option<Vec<f32>>,
    pub b: Option<Vec<f32>>,
}

pub fn schema() -> SchemaRef {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let vectors = DataType::FixedSizeList(item, DIM as i32);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("a", vectors.clone(), true),
        Field::new("word", DataType::Utf8, true),
        Field::new("b", vectors, true),
    ]))
}

pub fn vector(rng: &mut StdRng) -> Vec<f32> {
    (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A row with an id; every fifth has no word, every eleventh no vector in `b`.
pub fn row(rng: &mut StdRng, id: i64) -> Row {
    let word = rng.random_range(0..5);
    let word = (word > 0).then(|| ["", "red", "green", "blue", "gray"][word].to_string());
    let b = (rng.random_range(0..11) > 0).then(|| vector(rng));
    Row { id, word, a: Some(vector(rng)), b }
}

pub fn rows(rng: &mut StdRng, ids: std::ops::Range<i64>) -> Vec<Row> {
    ids.map(|id| row(rng, id)).collect()
}

fn lists<'a>(vectors: impl Iterator<Item = &'a Option<Vec<f32>>>) -> ArrayRef {
    let rows = vectors.map(|row| row.as_ref().map(|row| row.iter().copied().map(Some).collect::<Vec<_>>()));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, DIM as i32))
}

pub fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)));
    let words: StringArray = rows.iter().map(|row| row.word.as_deref()).collect();
    let columns = vec![
        ids,
        lists(rows.iter().map(|row| &row.a)),
        Arc::new(words),
        lists(rows.iter().map(|row| &row.b)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// The rows of a batch with all columns.
pub fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let vectors = |name: &str, at: usize| {
        let lists = batch[name].as_fixed_size_list();
        lists.is_valid(at).then(|| lists.value(at).as_primitive::<Float32Type>().values().to_vec())
    };
    let words = batch["word"].as_string::<i32>();
    let row = |at: usize| Row {
        id: batch["id"].as_primitive::<Int64Type>().value(at),
        word: words.is_valid(at).then(|| words.value(at).to_string()),
        a: vectors("a", at),
        b: vectors("b", at),
    };
    (0..batch.num_rows()).map(row).collect()
}

pub fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch["id"].as_primitive::<Int64Type>().values().to_vec()
}

/// Two columns of vectors, with graphs or flat.
pub fn collection(flat: bool) -> Collection {
    let builder = Collection::builder(schema())
        .vectors("a", DistanceType::L2)
        .vectors("b", DistanceType::Cosine)
        .key("id");
    let builder = if flat { builder.flat() } else { builder.params(BuildParams::default().num_edges(8)) };
    builder.build().unwrap()
}

pub fn words(wanted: &'static str) -> Filter {
    Filter::new(move |batch| {
        let words = batch["word"].as_string::<i32>();
        Ok(words.iter().map(|word| word.map(|word| word == wanted)).collect::<BooleanArray>())
    })
}

pub fn l2(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

pub fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}

/// Rows by id.
#[derive(Clone, Debug, Default)]
pub struct Naive(pub BTreeMap<i64, Row>);

impl Naive {
    pub fn put(&mut self, rows: &[Row]) {
        self.0.extend(rows.iter().map(|row| (row.id, row.clone())));
    }

    /// The distances of all rows that pass and have a vector in the column, nearest first.
    pub fn nearest(&self, column: &str, query: &[f32], passes: impl Fn(&Row) -> bool) -> Vec<(f64, i64)> {
        let mut nearest: Vec<(f64, i64)> = self
            .0
            .values()
            .filter(|row| passes(row))
            .filter_map(|row| {
                let distance = match column {
                    "a" => l2(query, row.a.as_ref()?),
                    _ => cosine(query, row.b.as_ref()?),
                };
                Some((distance, row.id))
            })
            .collect();
        nearest.sort_by(|x, y| x.0.total_cmp(&y.0));
        nearest
    }

    /// Checks that a reader has these rows, by scan, by key and by exact searches with and without a filter.
    pub fn check(&self, reader: &CollectionReader, rng: &mut StdRng) {
        assert_eq!(reader.len(), self.0.len());
        let scanned = reader.scan(None, &[]).unwrap().flat_map(|batch| rows_of(&batch.unwrap()));
        let scanned: BTreeMap<i64, Row> = scanned.map(|row| (row.id, row)).collect();
        assert_eq!(scanned, self.0);
        for _ in 0..5 {
            let id = rng.random_range(0..1_500);
            let got = reader.get(id).unwrap().map(|batch| rows_of(&batch));
            assert_eq!(got, self.0.get(&id).map(|row| vec![row.clone()]), "{id}");
        }
        for column in ["a", "b"] {
            for word in [None, Some("red")] {
                let query = vector(rng);
                let k = rng.random_range(1..40);
                let mut search = CollectionSearch::from(SearchParams::new(k)).vector_column(column).exact();
                if let Some(word) = word {
                    search = search.filter(&words(word));
                }
                let hits = reader.search(&query, &search).unwrap();
                let passes = |row: &Row| word.is_none() || row.word.as_deref() == word;
                let nearest = self.nearest(column, &query, passes);
                let expected: Vec<i64> = nearest.iter().take(k).map(|row| row.1).collect();
                assert_eq!(ids(&hits), expected, "{column}, {word:?}");
                let distances = hits["_distance"].as_primitive::<Float32Type>().values();
                for (distance, (expected, _)) in distances.iter().zip(nearest) {
                    assert!((f64::from(*distance) - expected).abs() < 1e-5, "{distance} {expected}");
                }
                let columns: Vec<&str> =
                    hits.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
                assert_eq!(columns, ["id", "a", "word", "b", "_distance"]);
                for row in rows_of(&hits) {
                    assert_eq!(self.0.get(&row.id), Some(&row));
                }
            }
        }
    }
}
