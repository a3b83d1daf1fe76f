//! The files of a saved index: labels beside it, memory that they become, files of others.

use std::fs;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_ipc::reader::FileReader;
use pennon::{Error, HnswIndex};

use super::{both_of, files_of, labels, lively, names_of};
use crate::data::{build, uniform};
use crate::deletes::{L2, params};

#[test]
fn labels_are_saved_beside_the_index() {
    let home = tempfile::tempdir().unwrap();
    let (index, all) = lively(300, 15);
    let vectors = index.version().vectors();
    index.save_with_labels(home.path(), &all).unwrap();
    assert_eq!(HnswIndex::load_labels(home.path()).unwrap(), Some(all.clone()));
    let parts = ["graph", "vectors", "tombstones", "labels"];
    assert!(files_of(home.path()).into_keys().eq(names_of(1, &parts)));

    // Of the rows to come some have their labels already.
    let more = labels(vectors + 10);
    index.save_with_labels(home.path(), &more.slice(3, vectors + 7)).unwrap();
    let saved = HnswIndex::load_labels(home.path()).unwrap().unwrap();
    assert!(saved == more.slice(3, vectors));

    let before = files_of(home.path());
    let error = index.save_with_labels(home.path(), &all.slice(1, vectors - 1)).unwrap_err();
    let counts = (vectors, vectors - 1);
    assert!(matches!(error, Error::LabelCount { vectors: v, labels: l } if (v, l) == counts), "{error:?}");
    let message = format!("{vectors} vector ids need as many labels, got {}", vectors - 1);
    assert_eq!(error.to_string(), message);
    assert!(files_of(home.path()) == before, "a save that was refused wrote something");
    let nowhere = home.path().join("nowhere");
    assert!(index.save_with_labels(&nowhere, &all.slice(1, 1)).is_err() && !nowhere.exists());

    index.save(home.path()).unwrap();
    assert!(HnswIndex::load_labels(home.path()).unwrap().is_none());
    assert!(files_of(home.path()).into_keys().eq(names_of(3, &["graph", "vectors", "tombstones"])));
}

/// Where a mapped vector is, the system says; and a line of the cache starts where a batch does.
#[cfg(target_os = "linux")]
#[test]
fn mapped_vectors_lie_in_the_file() {
    use pennon::VectorSource;

    let home = tempfile::tempdir().unwrap();
    let index = build(&uniform(500, 16, 16), L2, &params(), 500);
    index.save(home.path()).unwrap();
    let [loaded, mapped] = both_of(home.path());
    let file_of = |index: &HnswIndex, id: u32| {
        let snapshot = index.snapshot();
        let address = snapshot.vector(id).as_ptr().addr();
        assert!(id > 0 || address.is_multiple_of(64), "the first vector is at {address:#x}");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
            (parse(start)..parse(end)).contains(&address)
        });
        line.unwrap().to_owned()
    };
    for id in [0, 499] {
        assert!(file_of(&mapped, id).ends_with("/vectors-1.arrow"), "{}", file_of(&mapped, id));
        assert!(!file_of(&loaded, id).ends_with(".arrow"), "{}", file_of(&loaded, id));
    }
    let bytes = files_of(home.path()).values().map(Vec::len).sum::<usize>();
    let (in_memory, in_files) = (loaded.resident_bytes(), mapped.resident_bytes());
    println!("{bytes} bytes of files: {in_memory} bytes loaded, {in_files} mapped");
    assert!(in_memory - in_files > bytes * 9 / 10 && in_memory - in_files < bytes);
}

#[test]
fn what_is_not_there_is_an_error_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    let index = build(&uniform(20, 3, 17), L2, &params(), 20);
    let file = home.path().join("notes");
    fs::write(&file, "not an index").unwrap();
    let nothing = home.path().join("nothing");
    for dir in [home.path(), nothing.as_path(), file.as_path()] {
        let errors = [HnswIndex::load(dir).err(), HnswIndex::load_mmap(dir).err()];
        for error in errors.into_iter().chain([HnswIndex::load_labels(dir).err()]) {
            let error = error.unwrap();
            let manifest = dir.join("pennon.json");
            assert!(matches!(&error, Error::Io { path, .. } if *path == manifest), "{error:?}");
            assert!(error.to_string().starts_with(dir.to_str().unwrap()), "{error}");
        }
    }
    for dir in [file.as_path(), file.join("below").as_path()] {
        let error = index.save(dir).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path == dir), "{error:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not an index");

    // Beside an index, files of others stay, whatever they are called.
    let foreign = ["graph-7.parquet", "graph-01.arrow", "labels.arrow"];
    for name in foreign {
        fs::write(home.path().join(name), "mine").unwrap();
    }
    index.save(home.path()).unwrap();
    index.save(home.path()).unwrap();
    let files = files_of(home.path());
    assert!(foreign.iter().all(|&name| files[name] == b"mine"));
    assert_eq!(files.len(), 1 + foreign.len() + names_of(2, &["graph", "vectors", "tombstones"]).len());
    assert_eq!(HnswIndex::load(home.path()).unwrap().len(), 20);
}

#[test]
fn the_files_are_arrow_files_like_any_others() {
    let home = tempfile::tempdir().unwrap();
    let rows = uniform(50, 3, 18);
    build(&rows, L2, &params(), 50).save(home.path()).unwrap();
    let file = fs::File::open(home.path().join("vectors-1.arrow")).unwrap();
    let batches: Vec<RecordBatch> = FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
    let vectors = batches[0]["flat"].as_fixed_size_list();
    assert_eq!(vectors.values().as_primitive::<Float32Type>().values().to_vec(), rows.values);
}
