//! What is refused, how it is said, and that nothing has changed after it.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use pennon::{Collection, CollectionSearch, DistanceType, Error};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::kit::*;

/// What becomes of a column, by name.
type Change<'a> = &'a dyn Fn(&str, &ArrayRef) -> Option<(String, ArrayRef)>;

fn says<T>(outcome: Result<T, Error>, message: &str) {
    match outcome {
        Ok(_) => panic!("accepted, not {message:?}"),
        Err(error) => assert_eq!(error.to_string(), message),
    }
}

#[test]
fn schemas_that_cannot_be_collections() {
    let build = |schema: Schema, vectors: &[&str], key: Option<&str>| {
        let mut builder = Collection::builder(schema);
        for column in vectors {
            builder = builder.vectors(*column, DistanceType::L2);
        }
        key.into_iter().fold(builder, |builder, key| builder.key(key)).build()
    };
    let with = |field: Field| {
        let fields = schema().fields().iter().cloned().chain([Arc::new(field)]).collect::<Vec<_>>();
        Schema::new(fields)
    };
    let usual = || Schema::clone(&schema());
    says(build(usual(), &[], None), r#"column "": at least one column must be of vectors"#);
    says(build(usual(), &["c"], None), r#"column "c": there is none of that name; there are id, a, word, b"#);
    says(build(usual(), &["a", "a"], None), r#"column "a": it is named twice as a column of vectors"#);
    let error = build(usual(), &["word"], None).unwrap_err();
    assert!(matches!(error, Error::UnsupportedType { .. }), "{error}");
    says(
        build(usual(), &["a"], Some("c")),
        r#"column "c": there is none of that name; there are id, word, b"#,
    );
    let floats = with(Field::new("f", DataType::Float32, true));
    says(
        build(floats, &["a"], Some("f")),
        r#"column "f": a key is a column of integers or strings, got Float32"#,
    );
    let twice = with(Field::new("id", DataType::Float32, true));
    says(build(twice, &["a"], None), r#"column "id": there are two of that name"#);
    for name in ["_distance", "_rowid", "_score"] {
        let reserved = with(Field::new(name, DataType::Float32, true));
        says(build(reserved, &["a"], None), &format!("column {name:?}: the name is reserved for answers"));
    }
}

#[test]
fn batches_that_do_not_fit_change_nothing() {
    let mut rng = StdRng::seed_from_u64(1);
    let (collection, mut naive) = (collection(false), Naive::default());
    let good = rows(&mut rng, 0..50);
    collection.append(&batch(&good)).unwrap();
    naive.put(&good);
    let reader = collection.reader();

    let more = batch(&rows(&mut rng, 50..60));
    let columns = |change: Change| {
        let fields = more.schema();
        let columns = fields.fields().iter().zip(more.columns());
        let columns = columns.filter_map(|(field, array)| change(field.name(), array));
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    };
    let without = columns(&|name, array| (name != "word").then(|| (name.to_string(), array.clone())));
    says(collection.append(&without), r#"column "word": there is none of that name; there are id, a, b"#);
    let renamed = columns(&|name, array| Some((name.replace("word", "verb"), array.clone())));
    says(collection.append(&renamed), r#"column "verb": the collection has no such column"#);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let other_type = columns(&|name, array| {
        Some((name.to_string(), if name == "word" { ids.clone() } else { array.clone() }))
    });
    says(collection.append(&other_type), r#"column "word": it must be Utf8, got Int64"#);
    let not_vectors = columns(&|name, array| {
        Some((name.to_string(), if name == "b" { ids.clone() } else { array.clone() }))
    });
    assert!(matches!(collection.append(&not_vectors), Err(Error::UnsupportedType { .. })));
    let null: ArrayRef =
        Arc::new(Int64Array::from((0..10).map(|x| (x != 4).then_some(x + 50)).collect::<Vec<_>>()));
    let null_key = columns(&|name, array| {
        Some((name.to_string(), if name == "id" { null.clone() } else { array.clone() }))
    });
    assert!(matches!(collection.append(&null_key), Err(Error::Arrow(_))));

    let mut taken = rows(&mut rng, 60..70);
    taken[7].id = 33;
    says(collection.append(&batch(&taken)), "row 7 has key 33, which another row has already");
    taken[7].id = 62;
    says(collection.append(&batch(&taken)), "row 7 has key 62, which another row has already");
    says(collection.delete([3_i64, 99, 98]), "no live row has key 99");
    says(collection.delete(["three"]), r#"column "id": its keys are Int64, got "three""#);
    says(collection.delete_rows(&[0, 50]), "no live row has row id 50");

    let search = CollectionSearch::new(3);
    let query = vector(&mut rng);
    let named = |columns: &[&str]| collection.search(&query, &search.clone().columns(columns.to_vec()));
    says(named(&["id", "c"]), r#"column "c": there is none of that name; there are id, a, word, b"#);
    says(named(&["id", "id"]), r#"column "id": it is asked for twice"#);
    says(
        collection.search(&query, &search.clone().vector_column("word")),
        r#"column "word": it is not one of the columns of vectors: a, b"#,
    );
    assert!(matches!(collection.search(&query[1..], &search), Err(Error::DimensionMismatch { .. })));

    naive.check(&reader, &mut rng);
    naive.check(&collection.reader(), &mut rng);
    assert_eq!(collection.append(&more).unwrap().row_ids, 50..60);
}

#[test]
fn a_null_key_is_refused_where_the_schema_allows_nulls() {
    let mut rng = StdRng::seed_from_u64(2);
    let rows = batch(&rows(&mut rng, 0..10));
    let key: ArrayRef =
        Arc::new(Int64Array::from((0..10).map(|x| (x != 4).then_some(x)).collect::<Vec<_>>()));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("id", key.clone(), true), ("a", rows["a"].clone(), true)])
            .unwrap();
    let builder = Collection::builder(batch.schema()).vectors("a", DistanceType::L2).key("id");
    let collection = builder.flat().build().unwrap();
    says(collection.upsert(&batch), "the key of row 4 is null");
    assert!(collection.is_empty() && key.null_count() == 1);
}
