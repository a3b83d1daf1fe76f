//! Files that somebody made, with checksums that are right: an error or an index, never a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow_ipc::writer::FileWriter;
use pennon::{Error, SaveOptions, SearchParams};
use serde_json::{Value, json};

use super::{View, assert_same, both_of, file_name, files_of, lively, replace};
use crate::data::{build, load, open_mapped, uniform};
use crate::deletes::{L2, params};

pub fn manifest_of(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("pennon.json")).unwrap()).unwrap()
}

/// Writes a manifest with the checksum that it should have.
pub fn seal(dir: &Path, mut manifest: Value) {
    manifest.as_object_mut().unwrap().remove("crc32");
    let json = serde_json::to_string_pretty(&manifest).unwrap();
    let summed = format!("{},\n", json.strip_suffix("\n}").unwrap());
    let end = format!("  \"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(summed.as_bytes()));
    fs::write(dir.join("pennon.json"), summed + &end).unwrap();
}

/// Puts a file in the place of another, and its length and checksum into the manifest.
fn forge(dir: &Path, part: &str, content: &[u8]) {
    replace(&dir.join(file_name(part, 1)), content);
    let mut manifest = manifest_of(dir);
    manifest["files"][part] = json!({ "bytes": content.len(), "crc32": crc32fast::hash(content) });
    seal(dir, manifest);
}

fn arrow_file(columns: &[(&str, ArrayRef)], batches: usize) -> Vec<u8> {
    let columns = columns.iter().map(|(name, array)| (*name, Arc::clone(array)));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = FileWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    (0..batches).for_each(|_| writer.write(&batch).unwrap());
    writer.into_inner().unwrap()
}

fn assert_refused(dir: &Path, part: &str, case: &str) {
    for outcome in [load(dir), open_mapped(dir)] {
        let error = outcome.err().unwrap_or_else(|| panic!("{case}: was accepted"));
        let named = |file: &Path| {
            let name = file.file_name().unwrap().to_str().unwrap();
            name.strip_prefix("pennon-").unwrap_or(name).starts_with(part)
        };
        assert!(matches!(&error, Error::CorruptIndex { file, .. } if named(file)), "{case}: {error:?}");
        println!("{case}: {error}");
    }
}

#[test]
fn a_manifest_that_does_not_fit_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let (index, labels) = lively(40, 1);
    index.save_with(dir, &SaveOptions::new().labels(labels.clone())).unwrap();
    let honest = manifest_of(dir);
    let view = View::of(&index);
    seal(dir, honest.clone());
    both_of(dir).iter().for_each(|index| assert_same(index, &view, "sealed again"));

    for (pointer, value, blamed) in [
        ("/format", json!(0), "pennon.json"),
        ("/format", json!(3), "pennon.json"),
        ("/format", json!("1"), "pennon.json"),
        ("/generation", json!(2), "graph-2"),
        ("/generation", json!(-1), "pennon.json"),
        ("/distance_type", json!("chebyshev"), "pennon.json"),
        ("/distance_type", json!("hamming"), "vectors"),
        ("/dim", json!(7), "vectors"),
        ("/dim", json!(0), "vectors"),
        ("/vectors", json!(51), "vectors"),
        ("/vectors", json!(0), "vectors"),
        ("/tombstones", json!(0), "tombstones"),
        ("/params/m", json!(0), "graph"),
        ("/params/m", json!(100_000), "graph"),
        ("/params/ef_construction", json!(1), "graph"),
        ("/params/max_level", json!(70_000), "pennon.json"),
        ("/params", json!(null), "pennon.json"),
        ("/files/graph", json!(null), "pennon.json"),
        ("/files/vectors/bytes", json!(u64::MAX), "vectors"),
    ] {
        let mut manifest = honest.clone();
        *manifest.pointer_mut(pointer).unwrap() = value.clone();
        seal(dir, manifest);
        assert_refused(dir, blamed, &format!("{pointer} = {value}"));
    }
    seal(dir, honest.clone());
    let files = files_of(dir);
    forge(dir, "labels", &arrow_file(&[("name", Arc::new(UInt32Array::from(vec![1; 49])) as ArrayRef)], 1));
    assert_refused(dir, "labels", "49 labels for 50 vectors");
    files.iter().for_each(|(name, content)| replace(&dir.join(name), content));

    // What is not known is passed over: a later version may say more.
    let mut manifest = honest.clone();
    manifest["comment"] = json!("by hand");
    seal(dir, manifest);
    both_of(dir).iter().for_each(|index| assert_same(index, &view, "with a comment"));

    // And an earlier one less: parameters that it did not have are as it built, which is their default.
    let mut manifest = honest.clone();
    for later in ["selection", "extend_candidates", "keep_pruned", "prune"] {
        assert!(manifest["params"].as_object_mut().unwrap().remove(later).is_some(), "{later}");
    }
    seal(dir, manifest);
    both_of(dir).iter().for_each(|index| assert_same(index, &view, "with fewer parameters"));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    lively(40, 2).0.save(dir).unwrap();
    let files = files_of(dir);
    let restore = || files.iter().for_each(|(name, content)| replace(&dir.join(name), content));

    let other = tempfile::tempdir().unwrap();
    let vectors_of = |rows, dim| {
        build(&uniform(rows, dim, 3), L2, &params(), rows).save(other.path()).unwrap();
        let generation = manifest_of(other.path())["generation"].as_u64().unwrap();
        let read = |part: &str| fs::read(other.path().join(file_name(part, generation))).unwrap();
        (read("graph"), read("vectors"))
    };
    for (rows, dim) in [(49, 6), (51, 6), (50, 5), (50, 7)] {
        let (graph, vectors) = vectors_of(rows, dim);
        if rows != 50 {
            forge(dir, "graph", &graph);
            assert_refused(dir, "graph", &format!("the graph of {rows} rows"));
            restore();
        }
        forge(dir, "vectors", &vectors);
        assert_refused(dir, "vectors", &format!("{rows} vectors of {dim} elements"));
        restore();
    }
    for (part, from) in
        [("graph", "vectors"), ("graph", "tombstones"), ("vectors", "graph"), ("tombstones", "graph")]
    {
        forge(dir, part, &files[&file_name(from, 1)]);
        assert_refused(dir, part, &format!("{from} for {part}"));
        restore();
    }

    let dead = manifest_of(dir)["tombstones"].as_u64().unwrap() as u32;
    let ids = |ids: &[u32]| -> ArrayRef { Arc::new(UInt32Array::from(ids.to_vec())) };
    let all: Vec<u32> = (0..dead).collect();
    let with_last = |id: u32| [&all[..all.len() - 1], &[id][..]].concat();
    let wide: ArrayRef = Arc::new(UInt64Array::from_iter_values(all.iter().map(|&id| u64::from(id))));
    let null: ArrayRef = Arc::new(UInt32Array::from_iter((0..dead).map(|id| (id > 0).then_some(id))));
    for (case, name, column, batches) in [
        ("one dead row too few", "__vector_id", ids(&all[1..]), 1),
        ("a dead row that is not there", "__vector_id", ids(&with_last(50)), 1),
        ("the reserved id", "__vector_id", ids(&with_last(u32::MAX)), 1),
        ("a dead row twice", "__vector_id", ids(&with_last(dead - 2)), 1),
        ("dead rows out of order", "__vector_id", ids(&with_last(0)), 1),
        ("a column of another name", "id", ids(&all), 1),
        ("ids of 64 bits", "__vector_id", wide, 1),
        ("a null id", "__vector_id", null, 1),
        ("no batch", "__vector_id", ids(&all), 0),
        ("two batches", "__vector_id", ids(&all), 2),
    ] {
        forge(dir, "tombstones", &arrow_file(&[(name, column)], batches));
        assert_refused(dir, "tombstones", case);
        restore();
    }
    forge(dir, "tombstones", &arrow_file(&[("__vector_id", ids(&all))], 1));
    let index = load(dir).unwrap();
    let live = index.search_exact(&[0.0; 6], &SearchParams::new(usize::MAX)).unwrap().into_vec();
    assert_eq!((live.len(), live.iter().map(|hit| hit.id).min()), (50 - dead as usize, Some(dead)));
}

/// Files with one bit flipped at any byte, or cut off, and checksums as if it had to be so.
#[test]
fn nothing_that_a_checksum_lets_pass_panics() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let (index, labels) = lively(16, 4);
    index.save_with(dir, &SaveOptions::new().labels(labels.clone())).unwrap();
    let files = files_of(dir);
    let (mut accepted, mut refused) = (0, 0);
    for part in ["codes", "graph", "vectors", "tombstones", "labels"] {
        let honest = &files[&file_name(part, 1)];
        for at in 0..honest.len() {
            let mut flipped = honest.clone();
            flipped[at] ^= 1 << (at * 5 % 8);
            for content in [&flipped[..], &honest[..at]].into_iter().take(if at % 16 == 0 { 2 } else { 1 }) {
                forge(dir, part, content);
                for outcome in [load(dir), open_mapped(dir)] {
                    match outcome {
                        Ok(index) => {
                            accepted += 1;
                            let results =
                                index.search(&[0.5; 6], &SearchParams::new(30).ef(30)).unwrap().into_vec();
                            assert!(results.len() <= index.len(), "{part}, byte {at}: {results:?}");
                        }
                        Err(Error::CorruptIndex { .. }) => refused += 1,
                        Err(error) => panic!("{part}, byte {at}: {error:?}"),
                    }
                }
            }
        }
        files.iter().for_each(|(name, content)| replace(&dir.join(name), content));
    }
    println!("{accepted} forgeries accepted, {refused} refused");
    assert!(accepted > 0 && refused > 0);
}
