//! A collection of recipes: vectors with their other columns, replaced by key, filtered, saved and loaded.
//!
//! ```sh
//! cargo run --release --example collection
//! ```

use std::error::Error;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Int32Array, RecordBatch, StringArray};
use pennon::{Collection, CollectionSearch, ColumnQuery, DistanceType, Filter, Fusion};

/// Recipes by name: minutes, taste (sweet, sour, hot) and looks (color, size).
fn recipes(rows: &[(&str, i32, [f32; 3], [f32; 2])]) -> Result<RecordBatch, Box<dyn Error>> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let minutes: ArrayRef = Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.1)));
    let taste = rows.iter().map(|row| Some(row.2.map(Some)));
    let taste: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(taste, 3));
    let looks = rows.iter().map(|row| Some(row.3.map(Some)));
    let looks: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(looks, 2));
    Ok(RecordBatch::try_from_iter([
        ("name", names),
        ("minutes", minutes),
        ("taste", taste),
        ("looks", looks),
    ])?)
}

fn names(batch: &RecordBatch) -> Vec<&str> {
    batch["name"].as_string::<i32>().iter().flatten().collect()
}

/// Appends, replaces, searches, saves and loads.
pub fn main() -> Result<(), Box<dyn Error>> {
    let batch = recipes(&[
        ("lemon tart", 90, [0.8, 0.9, 0.0], [0.9, 0.3]),
        ("chili", 120, [0.2, 0.1, 0.9], [0.2, 0.8]),
        ("salsa", 10, [0.3, 0.5, 0.7], [0.3, 0.2]),
        ("sorbet", 30, [0.9, 0.6, 0.0], [0.8, 0.2]),
    ])?;
    let collection = Collection::builder(batch.schema())
        .vectors("taste", DistanceType::Cosine)
        .vectors("looks", DistanceType::L2)
        .key("name")
        .build()?;
    collection.append(&batch)?;
    let written = collection.upsert(&recipes(&[
        ("salsa", 15, [0.2, 0.6, 0.6], [0.3, 0.2]),
        ("curry", 45, [0.4, 0.2, 0.8], [0.7, 0.7]),
    ])?)?;
    println!("{} replaced, {} recipes", written.replaced, collection.len());

    let hot = [0.1, 0.2, 0.9];
    let hits = collection.search(&hot, &CollectionSearch::new(2).columns(["name"]))?;
    println!("hot:            {:?}", names(&hits));
    assert_eq!(names(&hits), ["chili", "curry"]);

    // Held, it evaluates each batch once.
    let quick = Filter::new(|batch| {
        Ok(BooleanArray::from_unary(batch["minutes"].as_primitive::<Int32Type>(), |minutes| minutes <= 60))
    });
    let search = CollectionSearch::new(2).columns(["name", "minutes"]).filter(&quick);
    let hits = collection.search(&hot, &search)?;
    println!("hot and quick:  {:?}", names(&hits));
    assert_eq!(names(&hits), ["curry", "salsa"]);

    let queries = [ColumnQuery::new("taste", hot), ColumnQuery::new("looks", [0.3, 0.2]).weight(2.0)];
    let hits = collection.search_fused(&queries, Fusion::WeightedSum, &search)?;
    println!("and looks:      {:?}", names(&hits));
    assert_eq!(names(&hits), ["salsa", "curry"]);

    collection.delete(["chili"])?;
    let dir = tempfile::tempdir()?;
    collection.save(dir.path())?;
    let loaded = Collection::load(dir.path())?;
    println!("loaded:         {} recipes", loaded.len());
    assert!(loaded.get("chili")?.is_none() && loaded.get("salsa")?.is_some());
    Ok(())
}
