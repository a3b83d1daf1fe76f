//! Appends, updates, deletes and compactions give what a naive table gives, in every version.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use pennon::{BuildParams, Collection, CollectionSearch, DistanceType, Error};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kit::*;

#[test]
fn a_collection_is_a_table_in_every_version() {
    for flat in [true, false] {
        let mut rng = StdRng::seed_from_u64(1);
        let (collection, mut naive) = (collection(flat), Naive::default());
        let mut versions = vec![(collection.reader(), naive.clone())];
        let (mut next, mut compactions) = (0, 0);
        for step in 0..60 {
            let count = rng.random_range(0..60);
            match rng.random_range(0..10) {
                0..4 => {
                    let rows = rows(&mut rng, next..next + count);
                    next += count;
                    let written = collection.append(&batch(&rows)).unwrap();
                    assert_eq!(written.row_ids.end - written.row_ids.start, count as u64);
                    assert_eq!((written.replaced, written.vectors.len()), (0, 2));
                    let without = rows.iter().filter(|row| row.b.is_none()).count();
                    assert_eq!(written.vectors[1].skipped().count(), without);
                    naive.put(&rows);
                }
                4..7 => {
                    // Some are new, some are there, some come twice.
                    let rows: Vec<Row> = (0..count)
                        .map(|_| {
                            let id = rng.random_range(0..next + 20);
                            row(&mut rng, id)
                        })
                        .collect();
                    let before = naive.0.len();
                    let distinct: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
                    let written = collection.upsert(&batch(&rows)).unwrap();
                    naive.put(&rows);
                    next = next.max(distinct.last().map_or(0, |last| last + 1));
                    assert_eq!(written.replaced, before + distinct.len() - naive.0.len());
                }
                7..9 => {
                    let mut doomed: Vec<i64> =
                        naive.0.keys().copied().filter(|_| rng.random_range(0..6) == 0).collect();
                    naive.0.retain(|id, _| !doomed.contains(id));
                    let count = doomed.len();
                    doomed.extend(doomed.clone());
                    assert_eq!(collection.delete(doomed).unwrap(), count);
                }
                _ => {
                    let reports = collection.compact().unwrap();
                    let live = naive.0.len();
                    assert_eq!((reports.len(), reports[0].kept), (2, live));
                    compactions += 1;
                }
            }
            assert_eq!(
                (collection.len(), collection.is_empty()),
                (naive.0.len(), naive.0.is_empty()),
                "{step}"
            );
            versions.push((collection.reader(), naive.clone()));
            let at = rng.random_range(0..versions.len());
            versions[at].1.check(&versions[at].0, &mut rng);
        }
        assert!(compactions > 1 && naive.0.len() > 100, "{compactions} compactions, {} rows", naive.0.len());
        for (reader, naive) in &versions {
            naive.check(reader, &mut rng);
        }
    }
}

/// With graphs, nearly all of the nearest rows are found, and always as many as there are.
#[test]
fn searches_through_graphs_find_the_nearest() {
    let mut rng = StdRng::seed_from_u64(2);
    let (collection, mut naive) = (collection(false), Naive::default());
    for start in (0..3_000).step_by(500) {
        let rows = rows(&mut rng, start..start + 500);
        collection.append(&batch(&rows)).unwrap();
        naive.put(&rows);
    }
    let red = words("red");
    let (mut found, mut wanted) = (0, 0);
    for _ in 0..40 {
        let query = vector(&mut rng);
        let search = CollectionSearch::new(10).ef(80).filter(&red).columns(["id", "_rowid"]);
        let hits = collection.search(&query, &search).unwrap();
        assert!(hits.complete());
        assert_eq!(hits.num_columns(), 3);
        assert_eq!(hits["_rowid"].as_primitive::<UInt64Type>().values(), hits.row_ids());
        let nearest = naive.nearest("a", &query, |row| row.word.as_deref() == Some("red"));
        let nearest: Vec<i64> = nearest.iter().take(10).map(|row| row.1).collect();
        assert_eq!(hits.num_rows(), 10);
        found += ids(&hits).iter().filter(|id| nearest.contains(id)).count();
        wanted += 10;
    }
    println!("{found} of {wanted}");
    assert!(found * 100 >= wanted * 95, "{found} of {wanted}");
}

/// Strings as keys, batches of `List` vectors and with columns in another order, one column of vectors.
#[test]
fn keys_can_be_strings() {
    let mut rng = StdRng::seed_from_u64(3);
    let named = |names: &[&str], rng: &mut StdRng| {
        let rows = rows(rng, 0..names.len() as i64);
        let all = batch(&rows);
        let lists = all["a"].as_fixed_size_list();
        let item = Arc::new(arrow_schema::Field::new_list_field(arrow_schema::DataType::Float32, true));
        let offsets = OffsetBuffer::from_lengths(vec![DIM; names.len()]);
        let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, lists.values().clone(), None));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter([("a", lists), ("id", all["id"].clone()), ("name", names)]).unwrap()
    };
    let fields = [schema().field(1).clone(), schema().field(0).clone()];
    let name = arrow_schema::Field::new("name", arrow_schema::DataType::Utf8, false);
    let schema = Arc::new(arrow_schema::Schema::new([vec![name], fields.to_vec()].concat()));
    let collection =
        Collection::builder(schema.clone()).vectors("a", DistanceType::L2).key("name").build().unwrap();
    assert_eq!((collection.key(), collection.schema().fields().len()), (Some("name"), 3));
    collection.append(&named(&["x", "y", "z"], &mut rng)).unwrap();
    collection.upsert(&named(&["w", "y"], &mut rng)).unwrap();
    let id = |name: &str| {
        let row = collection.get(name).unwrap()?;
        Some(row["id"].as_primitive::<Int64Type>().value(0))
    };
    assert_eq!([id("w"), id("x"), id("y"), id("z"), id("v")], [Some(0), Some(0), Some(1), Some(2), None]);
    assert_eq!(collection.delete(["z", "x"]).unwrap(), 2);
    assert_eq!((id("z"), collection.len()), (None, 2));
    // A deleted key can come again.
    collection.append(&named(&["z"], &mut rng)).unwrap();
    assert_eq!(id("z"), Some(0));

    // Without a key, row ids are all there is.
    let keyless = Collection::try_new(schema, "a", DistanceType::L2, BuildParams::default()).unwrap();
    let rows = named(&["x", "x", "y"], &mut rng);
    assert_eq!(keyless.append(&rows).unwrap().row_ids, 0..3);
    assert_eq!(keyless.append(&rows).unwrap().row_ids, 3..6);
    assert!(matches!(keyless.upsert(&rows), Err(Error::NoKey)));
    assert!(matches!(keyless.get("x"), Err(Error::NoKey)));
    assert!(matches!(keyless.delete(["x"]), Err(Error::NoKey)));
    assert!(matches!(keyless.delete_rows(&[1, 7]), Err(Error::UnknownRowId { row_id: 7 })));
    assert_eq!((keyless.len(), keyless.delete_rows(&[1, 4, 1]).unwrap(), keyless.len()), (6, 2, 4));
    let taken = keyless.reader().take(&[5, 1, 0], Some(["name", "_rowid"])).unwrap();
    assert_eq!(taken["_rowid"].as_primitive::<UInt64Type>().values(), &[5, 0]);
    assert_eq!(taken["name"].as_string::<i32>().value(0), "y");
}
