//! The files of a saved index: labels beside it, memory that they become, files of others.

use std::collections::BTreeSet;
use std::fs;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_ipc::reader::FileReader;
use pennon::{Error, Index, SaveOptions};
use serde_json::json;

use super::forged::{manifest_of, seal};
use super::{View, assert_same, both_of, file_name, files_of, labels, lively, names_of};
use crate::data::{build, load, load_labels, open_mapped, uniform};
use crate::deletes::{L2, params};

#[test]
fn labels_are_saved_beside_the_index() {
    let home = tempfile::tempdir().unwrap();
    let (index, all) = lively(300, 15);
    let vectors = index.version().vectors();
    index.save_with(home.path(), &SaveOptions::new().labels(all.clone())).unwrap();
    assert_eq!(load_labels(home.path()).unwrap(), Some(all.clone()));
    let parts = ["codes", "graph", "vectors", "tombstones", "labels"];
    assert!(files_of(home.path()).into_keys().eq(names_of(1, &parts)));

    // Of the rows to come some have their labels already.
    let more = labels(vectors + 10);
    index.save_with(home.path(), &SaveOptions::new().labels(more.slice(3, vectors + 7).clone())).unwrap();
    let saved = load_labels(home.path()).unwrap().unwrap();
    assert!(saved == more.slice(3, vectors));

    let before = files_of(home.path());
    let error = index
        .save_with(home.path(), &SaveOptions::new().labels(all.slice(1, vectors - 1).clone()))
        .unwrap_err();
    let counts = (vectors, vectors - 1);
    assert!(matches!(error, Error::LabelCount { vectors: v, labels: l } if (v, l) == counts), "{error:?}");
    let message = format!("{vectors} vector ids need as many labels, got {}", vectors - 1);
    assert_eq!(error.to_string(), message);
    assert!(files_of(home.path()) == before, "a save that was refused wrote something");
    let nowhere = home.path().join("nowhere");
    assert!(
        index.save_with(&nowhere, &SaveOptions::new().labels(all.slice(1, 1).clone())).is_err()
            && !nowhere.exists()
    );

    index.save(home.path()).unwrap();
    assert!(load_labels(home.path()).unwrap().is_none());
    assert!(files_of(home.path()).into_keys().eq(names_of(3, &["codes", "graph", "vectors", "tombstones"])));
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
    let file_of = |index: &Index, id: u32| {
        let snapshot = index.reader().snapshot();
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
        assert!(file_of(&mapped, id).ends_with("/pennon-vectors-1.arrow"), "{}", file_of(&mapped, id));
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
        let errors = [load(dir).err(), open_mapped(dir).err()];
        for error in errors.into_iter().chain([load_labels(dir).err()]) {
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

    index.save(home.path()).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "not an index");
    assert_eq!(load(home.path()).unwrap().len(), 20);
}

const PARTS: [&str; 4] = ["codes", "graph", "vectors", "tombstones"];

/// Files that are no index's, some of them with names that come close, and files that a killed save may have left, or
/// somebody who knows the names put there: those go, but not before a save has put an index in their place.
#[test]
fn a_save_removes_files_with_names_of_its_own_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let index = build(&uniform(20, 3, 19), L2, &params(), 20);
    let view = View::of(&index);
    let foreign = [
        "vectors-1.arrow",
        "graph-1.arrow",
        "tombstones-2.arrow",
        "labels-3.arrow",
        "graph-18446744073709551615.arrow",
        "graph-7.parquet",
        "pennon-graph.arrow",
        "pennon-graph-01.arrow",
        "pennon-graph-18446744073709551616.arrow",
        "pennon-vectors-1.parquet",
        "pennon-notes-1.arrow",
        "my-pennon-graph-1.arrow",
    ];
    let left = ["pennon-graph-1.arrow", "pennon-vectors-3.arrow", "pennon-labels-18446744073709551615.arrow"];
    for name in foreign.iter().chain(&left) {
        fs::write(dir.join(name), name).unwrap();
    }
    let before = files_of(dir);
    assert_eq!(before.len(), foreign.len() + left.len());

    // A save that fails when its files are there already.
    fs::create_dir(dir.join("pennon.json.new")).unwrap();
    let error = index.save(dir).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("pennon.json.new")), "{error:?}");
    fs::remove_dir(dir.join("pennon.json.new")).unwrap();
    assert!(files_of(dir) == before, "{:?}", files_of(dir).keys());

    let assert_saved = |generation: u64| {
        let files = files_of(dir);
        let own = names_of(generation, &PARTS);
        let expected: BTreeSet<&str> = own.iter().map(String::as_str).chain(foreign).collect();
        assert!(files.keys().map(String::as_str).eq(expected), "{:?}", files.keys());
        assert!(foreign.iter().all(|&name| files[name] == name.as_bytes()));
        both_of(dir).iter().for_each(|index| assert_same(index, &view, &format!("generation {generation}")));
    };
    // Numbers that are taken are passed over.
    index.save(dir).unwrap();
    assert_saved(2);
    fs::write(dir.join("pennon-graph-18446744073709551615.arrow"), "half a gra").unwrap();
    fs::write(dir.join("pennon-labels-3.arrow"), "half of la").unwrap();
    index.save(dir).unwrap();
    assert_saved(4);

    // After the last number comes the first.
    for part in PARTS {
        fs::rename(dir.join(file_name(part, 4)), dir.join(file_name(part, u64::MAX))).unwrap();
    }
    let mut manifest = manifest_of(dir);
    manifest["generation"] = json!(u64::MAX);
    seal(dir, manifest);
    assert_saved(u64::MAX);
    index.save(dir).unwrap();
    assert_saved(1);
}

#[cfg(unix)]
#[test]
fn files_that_can_be_mapped_are_read_only_and_are_replaced_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let (index, labels) = lively(30, 21);
    for generation in 1..4 {
        index.save_with(home.path(), &SaveOptions::new().labels(labels.clone())).unwrap();
        let names: Vec<String> = files_of(home.path()).into_keys().collect();
        assert_eq!(names, names_of(generation, &["codes", "graph", "vectors", "tombstones", "labels"]));
        for name in names {
            let permissions = fs::metadata(home.path().join(&name)).unwrap().permissions();
            assert_eq!(permissions.readonly(), name.ends_with(".arrow"), "{name}");
        }
    }
}

#[test]
fn the_files_are_arrow_files_like_any_others() {
    let home = tempfile::tempdir().unwrap();
    let rows = uniform(50, 3, 18);
    build(&rows, L2, &params(), 50).save(home.path()).unwrap();
    let file = fs::File::open(home.path().join(file_name("vectors", 1))).unwrap();
    let batches: Vec<RecordBatch> = FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
    let vectors = batches[0]["flat"].as_fixed_size_list();
    assert_eq!(vectors.values().as_primitive::<Float32Type>().values().to_vec(), rows.values);
}
