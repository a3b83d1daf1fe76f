//! Collections in directories.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray, UInt64Array};
use pennon::{Collection, CollectionSearch, DistanceType, Error, Index, SaveOptions, SearchParams};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::kit::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_loads_and_goes_on() {
    let mut rng = StdRng::seed_from_u64(1);
    for flat in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (collection, mut naive) = (collection(flat), Naive::default());
        let mut row_ids = 0;
        for round in 0..4 {
            let new = rows(&mut rng, round * 100..round * 100 + 150);
            collection.upsert(&batch(&new)).unwrap();
            naive.put(&new);
            let doomed: Vec<i64> = naive.0.keys().copied().filter(|id| id % 7 == round).collect();
            collection.delete(doomed.iter().copied()).unwrap();
            doomed.iter().for_each(|id| drop(naive.0.remove(id)));
            if round == 2 {
                collection.compact().unwrap();
            }
            collection.save(dir.path()).unwrap();
            let loaded = Collection::load(dir.path()).unwrap();
            assert_eq!((loaded.schema(), loaded.key()), (collection.schema(), Some("id")));
            naive.check(&loaded.reader(), &mut rng);
            // It goes on as the one that was saved would.
            row_ids += 150;
            let mut other = naive.clone();
            let more = rows(&mut rng, 390..520);
            assert_eq!(loaded.upsert(&batch(&more)).unwrap().row_ids, row_ids..row_ids + 130);
            other.put(&more);
            loaded.delete([519_i64]).unwrap();
            other.0.remove(&519);
            other.check(&loaded.reader(), &mut rng);
            loaded.compact().unwrap();
            other.check(&loaded.reader(), &mut rng);
        }
        // The files of one generation, and the directory of the second column.
        let files = names(dir.path());
        let directories: Vec<&String> =
            files.iter().filter(|name| name.starts_with("pennon-column-")).collect();
        assert_eq!((directories.len(), files.len()), (1, 7 + usize::from(!flat)), "{files:?}");
        // The first index is an index to those who want no more.
        let index = Index::load(dir.path()).unwrap().index;
        assert_eq!(index.len(), naive.0.len());
    }
}

/// Row ids that descend, dead rows, labels: as a collection an index answers as it did, and goes on.
#[test]
fn an_index_that_was_saved_alone_is_a_collection() {
    let mut rng = StdRng::seed_from_u64(5);
    for flat in [true, false] {
        let builder = Index::builder(DIM, DistanceType::L2);
        let index = if flat { builder.flat() } else { builder }.build().unwrap();
        let vectors: Vec<Vec<f32>> = (0..300).map(|_| vector(&mut rng)).collect();
        let lists = vectors.iter().map(|row| Some(row.iter().copied().map(Some)));
        let lists = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(lists, DIM as i32);
        let row_ids = UInt64Array::from_iter_values((0..300).map(|row| 9_000 - 10 * row));
        index.append(&lists, row_ids).unwrap();
        index.delete_batch(&[9_000, 8_500, 6_010]).unwrap();
        let words = StringArray::from_iter_values((0..300).map(|row| format!("word {row}")));
        let labels = RecordBatch::try_from_iter([("word", Arc::new(words) as ArrayRef)]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = SaveOptions::new().labels(labels.clone()).property("column", "embedding");
        index.save_with(dir.path(), &options).unwrap();

        let collection = Collection::load(dir.path()).unwrap();
        assert_eq!((collection.len(), collection.key()), (297, Some("row_id")));
        let names: Vec<&String> = collection.schema().fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["row_id", "word", "embedding"]);
        for _ in 0..20 {
            let query = vector(&mut rng);
            let expected = index.search(&query, &SearchParams::new(7)).unwrap();
            let found = collection.search(&query, &CollectionSearch::new(7)).unwrap();
            let row_ids = found["row_id"].as_primitive::<UInt64Type>().values();
            assert!(expected.row_ids().eq(row_ids.iter().copied()));
            let words = found["word"].as_string::<i32>().iter().flatten();
            assert!(words.eq(row_ids.iter().map(|id| format!("word {}", (9_000 - id) / 10))));
        }
        assert!(collection.get(8_500_u64).unwrap().is_none());
        let row = collection.get(8_490_u64).unwrap().unwrap();
        assert_eq!(
            row["embedding"].as_fixed_size_list().value(0).as_primitive::<Float32Type>().values(),
            &vectors[51][..]
        );
        assert_eq!(collection.upsert(&row).unwrap().row_ids, 300..301);
        assert_eq!(collection.delete([8_490_u64, 6_020]).unwrap(), 2);
        collection.save(dir.path()).unwrap();
        assert_eq!(Collection::load(dir.path()).unwrap().len(), 295);

        let taken = RecordBatch::try_from_iter([("row_id", labels.column(0).clone())]).unwrap();
        index.save_with(dir.path(), &SaveOptions::new().labels(taken)).unwrap();
        let message = Collection::load(dir.path()).unwrap_err().to_string();
        assert!(message.contains("there are two of that name"), "{message}");
    }
}

/// An empty collection, one without its last rows, and one over an older index.
#[test]
fn edges_of_saving() {
    let mut rng = StdRng::seed_from_u64(2);
    let dir = tempfile::tempdir().unwrap();
    let index = Index::flat(3, DistanceType::L2).unwrap();
    index.save(dir.path()).unwrap();
    assert!(Collection::load(dir.path()).unwrap().is_empty());
    let collection = collection(false);
    collection.save(dir.path()).unwrap();
    assert!(Collection::load(dir.path()).unwrap().is_empty());
    collection.append(&batch(&rows(&mut rng, 0..10))).unwrap();
    let reader = collection.reader();
    collection.delete([7_i64, 8, 9]).unwrap();
    collection.compact().unwrap();
    collection.save(dir.path()).unwrap();
    let loaded = Collection::load(dir.path()).unwrap();
    // Row ids are not given out again.
    assert_eq!(loaded.append(&batch(&rows(&mut rng, 9..10))).unwrap().row_ids, 10..11);
    // A version from before.
    reader.save(dir.path()).unwrap();
    assert_eq!(Collection::load(dir.path()).unwrap().len(), 10);
    assert!(matches!(Collection::load(dir.path().join("nothing")), Err(Error::Io { .. })));
}

/// Any file that is damaged or missing is an error.
#[test]
fn damage_is_found() {
    let mut rng = StdRng::seed_from_u64(3);
    let dir = tempfile::tempdir().unwrap();
    let collection = collection(false);
    collection.append(&batch(&rows(&mut rng, 0..30))).unwrap();
    collection.save(dir.path()).unwrap();
    let inner = names(dir.path()).into_iter().find(|name| name.starts_with("pennon-column-")).unwrap();
    let mut damaged = 0;
    for dir in [dir.path().to_path_buf(), dir.path().join(inner)] {
        for name in names(&dir).iter().filter(|name| name.ends_with(".arrow") || *name == "pennon.json") {
            let path = dir.join(name);
            let bytes = fs::read(&path).unwrap();
            let mut flipped = bytes.clone();
            let middle = bytes.len() / 2;
            flipped[middle] ^= 16;
            fs::remove_file(&path).unwrap();
            for content in [None, Some(&flipped)] {
                if let Some(content) = content {
                    fs::write(&path, content).unwrap();
                }
                let error = Collection::load(collection_root(&dir)).unwrap_err();
                assert!(matches!(error, Error::CorruptIndex { .. } | Error::Io { .. }), "{error:?}");
                damaged += 1;
            }
            fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(damaged, 22);
    assert_eq!(Collection::load(dir.path()).unwrap().len(), 30);
}

fn collection_root(dir: &Path) -> &Path {
    let is_inner = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pennon-column-"));
    dir.parent().filter(|_| is_inner).unwrap_or(dir)
}
