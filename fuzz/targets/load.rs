//! Saved directories: files with any bytes changed, with checksums that are wrong or made right again.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use arbitrary::Arbitrary;
use kit::{DIM, check_order, list, start, vectors};
use libfuzzer_sys::fuzz_target;
use pennon::{BuildParams, DistanceType, Index, SearchParams};
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Arbitrary, Debug)]
enum Edit {
    Byte {
        at: u16,
        byte: u8,
    },
    Word {
        at: u16,
        word: u32,
    },
    CutAt {
        at: u16,
    },
    Insert {
        at: u16,
        bytes: Vec<u8>,
    },
    /// Of one file over another.
    Copy {
        from: u8,
    },
}

#[derive(Arbitrary, Debug)]
struct Damage {
    flat: bool,
    edits: Vec<(u8, Edit)>,
    /// A value in the manifest: its number among all of them, and another one.
    manifest: Vec<(u8, Replacement)>,
    sealed: bool,
}

#[derive(Arbitrary, Debug)]
enum Replacement {
    Number(i64),
    Unsigned(u64),
    Text(String),
    Null,
    List,
}

type Files = Vec<(String, Vec<u8>)>;

/// The files of an index with nine live rows and a dead one, the manifest last.
fn saved(flat: bool) -> Files {
    let index = if flat {
        Index::flat(DIM, DistanceType::L2)
    } else {
        Index::hnsw(DIM, DistanceType::L2, BuildParams::default().num_edges(4).ef_construction(8))
    };
    let index = index.expect("parameters of an index");
    index.append(&list(vectors(0..10), DIM), 0).expect("ten rows");
    index.delete(3).expect("row 3 is there");
    let dir = tempfile::tempdir().expect("a directory");
    index.save(dir.path()).expect("a save");
    let mut files: Files = fs::read_dir(dir.path())
        .expect("the directory")
        .map(|entry| entry.expect("a file"))
        .map(|entry| {
            (entry.file_name().into_string().expect("a name"), fs::read(entry.path()).expect("a file"))
        })
        .collect();
    files.sort();
    files.sort_by_key(|file| file.0.ends_with(".json"));
    files
}

fn apply(files: &mut Files, file: u8, edit: &Edit) {
    let arrows = files.len() - 1;
    let file = usize::from(file) % arrows;
    if let Edit::Copy { from } = edit {
        files[file].1 = files[usize::from(*from) % arrows].1.clone();
        return;
    }
    let bytes = &mut files[file].1;
    let place = |at: u16| usize::from(at) % (bytes.len() + 1);
    match edit {
        &Edit::Byte { at, byte } => {
            let at = place(at);
            bytes.get_mut(at..).and_then(|rest| rest.first_mut()).into_iter().for_each(|cell| *cell = byte);
        }
        &Edit::Word { at, word } => {
            let at = place(at) & !3;
            if let Some(cell) = bytes.get_mut(at..at + 4) {
                cell.copy_from_slice(&word.to_le_bytes());
            }
        }
        &Edit::CutAt { at } => {
            let at = place(at);
            bytes.truncate(at);
        }
        Edit::Insert { at, bytes: inserted } => {
            let at = place(*at);
            drop(bytes.splice(at..at, inserted.iter().copied()));
        }
        Edit::Copy { .. } => {}
    }
}

/// The values of a manifest in their order.
fn leaves(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(map) => map.values_mut().flat_map(leaves).collect(),
        Value::Array(list) => list.iter_mut().flat_map(leaves).collect(),
        leaf => vec![leaf],
    }
}

/// Lengths and checksums as they should be, then the changes to the manifest, and its own checksum.
fn seal(files: &mut Files, changes: &[(u8, Replacement)]) {
    let manifest = files.last().map(|file| file.1.clone()).unwrap_or_default();
    let mut manifest: Value = serde_json::from_slice(&manifest).expect("the manifest is as it was");
    for (name, content) in &files[..files.len() - 1] {
        let part = name.trim_start_matches("pennon-").split('-').next().unwrap_or_default();
        manifest["files"][part] = json!({ "bytes": content.len(), "crc32": crc32fast::hash(content) });
    }
    manifest.as_object_mut().expect("an object").remove("crc32");
    for (at, replacement) in changes {
        let mut leaves = leaves(&mut manifest);
        let at = usize::from(*at) % leaves.len();
        *leaves[at] = match replacement {
            Replacement::Number(number) => json!(number),
            Replacement::Unsigned(number) => json!(number),
            Replacement::Text(text) => json!(text),
            Replacement::Null => Value::Null,
            Replacement::List => json!([]),
        };
    }
    let json = serde_json::to_string_pretty(&manifest).expect("JSON");
    let summed = format!("{},\n", json.strip_suffix("\n}").expect("an object"));
    let end = format!("  \"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(summed.as_bytes()));
    if let Some(file) = files.last_mut() {
        file.1 = (summed + &end).into_bytes();
    }
}

fn check(dir: &Path) {
    // SAFETY: nobody writes to the files before the index is dropped.
    let mapped = unsafe { Index::load_mmap(dir) };
    for loaded in [Index::load(dir), mapped] {
        let Ok(loaded) = loaded else { continue };
        let index = loaded.index;
        let query = vec![0.5; index.dim()];
        let _ = (index.stats(), index.health(), index.to_lance_batches().is_ok());
        // A forged index has rows, not necessarily those that were saved.
        for hits in
            [index.search(&query, &SearchParams::new(5)), index.search_exact(&query, &SearchParams::new(5))]
        {
            if let Ok(hits) = hits {
                check_order(&hits, 5);
            }
        }
        let row = list(vec![1.5; index.dim()], index.dim());
        let _ = index.append(&row, 1 << 40);
        let _ = index.delete(1);
        let _ = index.reader().compacted();
        let _ = index.search(&query, &SearchParams::new(usize::MAX));
    }
}

thread_local! {
    static SAVED: [Files; 2] = [saved(false), saved(true)];
    static DIR: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|damage: Damage| {
    start();
    let mut files = SAVED.with(|saved| saved[usize::from(damage.flat)].clone());
    damage.edits.iter().for_each(|(file, edit)| apply(&mut files, *file, edit));
    if damage.sealed {
        seal(&mut files, &damage.manifest);
    }
    DIR.with_borrow_mut(|dir| {
        let dir = dir.get_or_insert_with(|| tempfile::tempdir().expect("a directory"));
        for (name, content) in &files {
            fs::write(dir.path().join(name), content).expect("a file is written");
        }
        check(dir.path());
        for entry in fs::read_dir(dir.path()).expect("the directory") {
            fs::remove_file(entry.expect("a file").path()).expect("a file is removed");
        }
    });
});
