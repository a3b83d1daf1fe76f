//! Saved indexes: what comes back, in memory and mapped, and what can be done with it.

mod beside;
mod damage;
mod files;
mod fixture;
pub mod forged;
mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float64Array,
    Int8Array, RecordBatch, StringArray, UInt8Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use half::f16;
use pennon::{
    BuildParams, DistanceType, ElementType, Error, GraphHealth, Hit, Index, IndexVersion, Reader,
    SearchParams, VectorSource,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{METRICS, Rows, build, clustered, import, load, load_labels, open_mapped, pair, uniform};
use crate::deletes::{L2, array_of, contents, params};

/// Everything of an index that can be seen, dead rows included.
#[derive(Debug, PartialEq)]
pub struct View {
    graph: Option<RecordBatch>,
    rows: Vec<(u64, Vec<f32>)>,
    answers: Vec<Vec<Hit>>,
    /// Vector ids, live and dead rows.
    counts: [usize; 3],
    params: BuildParams,
    kind: (ElementType, usize, DistanceType),
    health: GraphHealth,
}

impl View {
    pub fn of(index: &Index) -> Self {
        let snapshot = index.reader().snapshot();
        let rows: Vec<(u64, Vec<f32>)> = (0..snapshot.len() as u32)
            .map(|id| (snapshot.row_id(id), snapshot.widened(id).into_owned()))
            .collect();
        let mut answers = Vec::new();
        for query in rows.iter().step_by(97).map(|row| row.1.clone()).chain([vec![3.0; index.dim()]]) {
            answers.push(index.search(&query, &SearchParams::new(10).ef(64)).unwrap().into_vec());
            answers.push(index.search_exact(&query, &SearchParams::new(usize::MAX)).unwrap().into_vec());
        }
        Self {
            // Under L1 there is none, and the answers have to do.
            graph: index.reader().graph().unwrap().to_lance_hnsw_batch().ok(),
            rows,
            answers,
            counts: [index.version().vectors(), index.len(), index.tombstones()],
            params: index.params().unwrap().clone(),
            kind: (index.element_type(), index.dim(), index.distance_type()),
            health: index.health().unwrap(),
        }
    }
}

/// Prints what differs, and not what it is: that would be long.
pub fn assert_same(actual: &Index, expected: &View, case: &str) {
    let actual = View::of(actual);
    assert_eq!(actual.counts, expected.counts, "{case}: vector ids, live, dead");
    assert!(actual.rows == expected.rows, "{case}: other rows");
    assert!(actual.graph == expected.graph, "{case}: another graph");
    assert!(actual == *expected, "{case}: other answers");
}

/// An index from memory, and one from the mapped files.
pub fn both_of(dir: &Path) -> [Index; 2] {
    [load(dir).unwrap(), open_mapped(dir).unwrap()]
}

/// The files of a directory, but for the lock.
pub fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    named
        .filter(|(name, _)| name != "pennon.lock")
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

pub fn file_name(part: &str, generation: u64) -> String {
    format!("pennon-{part}-{generation}.arrow")
}

/// Puts a file in the place of another, which may be read-only as those of a save are.
pub fn replace(file: &Path, content: impl AsRef<[u8]>) {
    let _ = fs::remove_file(file);
    fs::write(file, content).unwrap();
}

pub fn names_of(generation: u64, parts: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = parts.iter().map(|part| file_name(part, generation)).collect();
    names.push("pennon.json".to_owned());
    names.sort();
    names
}

/// An index with rows that were deleted and replaced, row ids all over the place, and labels for it.
pub fn lively(rows: usize, seed: u64) -> (Index, RecordBatch) {
    let data = uniform(rows + rows / 4, 6, seed);
    let scattered: Vec<usize> = (0..rows).map(|row| row.wrapping_mul(0x9e37_79b9) % 100_003).collect();
    let index = Index::hnsw(6, L2, params().num_edges(4).seed(seed)).unwrap();
    index.append(&data.part(0..rows).array(), array_of(scattered.iter().copied())).unwrap();
    let replaced = scattered.iter().copied().step_by(4).take(rows / 4);
    index.upsert(&data.part(rows..rows + rows / 4).array(), array_of(replaced)).unwrap();
    for row in (0..rows).step_by(6) {
        index.delete(scattered[row] as u64).unwrap();
    }
    let labels = labels(index.version().vectors());
    (index, labels)
}

/// A text and a repeated word for each row.
pub fn labels(rows: usize) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("row {row}"))));
    let kinds: DictionaryArray<Int32Type> =
        (0..rows).map(|row| (row % 5 > 0).then_some(["odd", "even"][row % 2])).collect();
    let kinds: ArrayRef = Arc::new(kinds);
    RecordBatch::try_from_iter_with_nullable([("name", names, false), ("kind", kinds, true)]).unwrap()
}

fn vectors_of(element_type: ElementType, rows: &Rows) -> FixedSizeListArray {
    let values = || rows.values.iter().map(|x| x * 100.0);
    let mut item = Field::new("item", DataType::FixedSizeBinary(2), true);
    let array: ArrayRef = match element_type {
        ElementType::Float16 => Arc::new(Float16Array::from_iter_values(values().map(f16::from_f32))),
        ElementType::Float64 => Arc::new(Float64Array::from_iter_values(values().map(f64::from))),
        ElementType::Int8 => Arc::new(Int8Array::from_iter_values(values().map(|x| x as i8))),
        ElementType::UInt8 => Arc::new(UInt8Array::from_iter_values(values().map(|x| x as i8 as u8))),
        ElementType::BFloat16 => {
            let halves = values().map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes());
            Arc::new(FixedSizeBinaryArray::try_from_iter(halves).unwrap())
        }
        _ => return rows.array(),
    };
    if element_type == ElementType::BFloat16 {
        item = item.with_metadata([("ARROW:extension:name".into(), "lance.bfloat16".into())].into());
    }
    let item = item.with_data_type(array.data_type().clone());
    FixedSizeListArray::try_new(Arc::new(item), rows.dim as i32, array, None).unwrap()
}

fn cases() -> Vec<(String, Index)> {
    let mut cases = Vec::new();
    let mut case = |name: &str, index| cases.push((name.to_owned(), index));
    case("empty", Index::hnsw(3, L2, params().seed(9).max_level(3)).unwrap());
    case("one row", build(&uniform(1, 3, 1), L2, &params(), 1));
    for metric in METRICS.into_iter().chain([DistanceType::L1]) {
        case(&metric.to_string(), build(&clustered(1_200, 8, 64, 2).0, metric, &params(), 250));
    }
    for element_type in [
        ElementType::Float16,
        ElementType::BFloat16,
        ElementType::Float64,
        ElementType::Int8,
        ElementType::UInt8,
    ] {
        let is_bits = element_type == ElementType::UInt8;
        let metric = if is_bits { DistanceType::Hamming } else { DistanceType::Dot };
        let new = || Index::builder(9, metric).element_type(element_type).params(params()).build().unwrap();
        case(&format!("empty of {element_type}"), new());
        let index = new();
        index.append(&vectors_of(element_type, &uniform(700, 9, 3)), 5u64).unwrap();
        case(&format!("{element_type} under {metric}"), index);
    }
    // Three batches in the file.
    case("long vectors", build(&uniform(600, 10_000, 4), L2, &params().ef_construction(20), 600));
    case("lively", lively(900, 5).0);

    let index = build(&uniform(200, 4, 6), L2, &params(), 50);
    (0..200).for_each(|row| index.delete(row).unwrap());
    case("all dead", index);
    let (graph, vectors) =
        build(&uniform(800, 5, 7), L2, &params(), 800).to_lance_batches().map(pair).unwrap();
    case("imported", import(&graph, &vectors).unwrap());
    case("compacted", lively(900, 8).0.reader().compacted().unwrap());
    cases
}

#[test]
fn what_is_saved_is_what_loads() {
    let home = tempfile::tempdir().unwrap();
    for (at, (case, index)) in cases().into_iter().enumerate() {
        let dir = home.path().join(format!("made/for/{at}"));
        let view = View::of(&index);
        index.save(&dir).unwrap();
        assert_same(&index, &view, &format!("{case}, after its save"));
        let parts = ["codes", "graph", "vectors", "tombstones"];
        let parts = if index.stats().bytes.codes > 0 { &parts[..] } else { &parts[1..] };
        assert!(files_of(&dir).into_keys().eq(names_of(1, parts)), "{case}");
        assert!(load_labels(&dir).unwrap().is_none(), "{case}");
        let [loaded, mapped] = both_of(&dir);
        assert_same(&loaded, &view, &format!("{case}, loaded"));
        assert_same(&mapped, &view, &format!("{case}, mapped"));
        drop(index);
        // From memory and from the files once more, over the files that are mapped.
        for again in [&loaded, &mapped] {
            again.save(&dir).unwrap();
            both_of(&dir).iter().for_each(|index| assert_same(index, &view, &format!("{case}, again")));
        }
        assert_same(&mapped, &view, &format!("{case}, mapped, with its files removed"));
        assert!(files_of(&dir).into_keys().eq(names_of(3, parts)), "{case}");
    }
}

/// The levels of new nodes, the next ids and the row ids that are free are those of an index that was never saved.
#[test]
fn changes_go_on_where_they_stopped() {
    let home = tempfile::tempdir().unwrap();
    let rows = uniform(1_000, 8, 11);
    let index = build(&rows.part(0..600), L2, &params().num_edges(5).seed(77), 150);
    index.upsert(&rows.part(600..620).array(), 100u64).unwrap();
    index.delete(7).unwrap();
    index.delete(105).unwrap();
    index.save(home.path()).unwrap();
    let loaded = load(home.path()).unwrap();
    let pinned = loaded.version();
    let before = contents(&loaded);
    assert!(before == contents(&index));

    for index in [&index, &loaded] {
        for (row_id, is_live) in [(6, true), (7, false), (104, true), (105, false), (119, true), (600, false)]
        {
            assert_eq!(index.contains(row_id), is_live, "row id {row_id}");
        }
        for row_id in [7, 105] {
            let error = index.delete(row_id).unwrap_err();
            assert!(matches!(error, Error::UnknownRowId { row_id: named } if named == row_id), "{error:?}");
        }
        for row_id in [6_u64, 104] {
            let error = index.append(&rows.part(620..621).array(), row_id).unwrap_err();
            assert!(matches!(error, Error::DuplicateRowId { row: 0, .. }), "{error:?}");
        }
        assert_eq!(index.append(&rows.part(620..622).array(), array_of([7, 105])).unwrap(), 620..622);
        assert_eq!(index.append(&rows.part(622..950).array(), 5_000u64).unwrap(), 622..950);
        assert_eq!(index.upsert(&rows.part(950..1_000).array(), 90u64).unwrap(), 950..1_000);
        index.delete(104).unwrap();
        index.delete(599).unwrap();
    }
    assert!(contents(&loaded) == contents(&index));
    assert_eq!((loaded.len(), loaded.tombstones()), (index.len(), index.tombstones()));
    assert_eq!(loaded.version().vectors(), index.version().vectors());
    let (health, expected) = (loaded.health().unwrap(), index.health().unwrap());
    assert!(health.is_healthy(), "{health}");
    assert_eq!(health.level_nodes, expected.level_nodes);

    // The version of the load stays what it was.
    let then = loaded
        .reader_at(pinned)
        .unwrap()
        .search_exact(&[0.0; 8], &SearchParams::new(usize::MAX))
        .unwrap()
        .into_vec();
    let mut row_ids: Vec<u64> = then.iter().map(|result| result.row_id).collect();
    row_ids.sort_unstable();
    assert!(row_ids.into_iter().eq(before.into_keys()));
}

/// A version of the index that was saved is none of the index that loads, nor is one that its index never had.
#[test]
fn versions_of_before_the_save_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let rows = uniform(200, 6, 20);
    let index = build(&rows.part(0..120), L2, &params(), 30);
    let mut older = vec![index.version()];
    (0..60).for_each(|row_id| index.delete(row_id).unwrap());
    older.push(index.version());
    index.save(home.path()).unwrap();

    let indexes = both_of(home.path());
    let [loaded, _] = &indexes;
    for index in &indexes {
        for &version in &older {
            let error = index.reader_at(version).unwrap_err();
            let numbers = matches!(error, Error::StaleVersion { version: v, current } if v == version && current == index.version());
            assert!(numbers, "{error:?}");
            assert!(error.to_string().contains(&version.generation().to_string()), "{error}");
        }
        assert_alive(&index.reader_at(index.version()).unwrap(), 60..120);
    }
    // What dies after the load was alive before, and what was dead before was never alive.
    let first = loaded.reader();
    loaded.delete(60).unwrap();
    loaded.append(&rows.part(120..200).array(), 120u64).unwrap();
    assert_alive(&first, 60..120);
    assert_alive(&loaded.reader(), 61..200);
    let written = serde_json::to_value(loaded.version()).unwrap();
    let read = |member: &str, value: u64| -> IndexVersion {
        let mut written = written.clone();
        written[member] = value.into();
        serde_json::from_value(written).unwrap()
    };
    assert_alive(&loaded.reader_at(read("vectors", 200)).unwrap(), 61..200);
    assert_alive(&loaded.reader_at(read("deletes", 60)).unwrap(), 60..200);
    for (member, value) in
        [("vectors", 201), ("deletes", 59), ("deletes", 62), ("deletes", 0), ("generation", 1)]
    {
        let error = loaded.reader_at(read(member, value)).unwrap_err();
        assert!(matches!(error, Error::StaleVersion { .. }), "{member} = {value}: {error:?}");
    }
}

/// Panics unless the live rows are those, whatever way they are asked for.
fn assert_alive(reader: &Reader, expected: Range<u64>) {
    let params = SearchParams::new(1_000).ef(1_000);
    let query = [0.25; 6];
    let batch = reader.search_batch(&Rows { dim: 6, values: query.to_vec() }.array(), &params).unwrap();
    let answers: [(&str, Vec<u64>); 6] = [
        ("search", reader.search(&query, &params).unwrap().row_ids().collect()),
        ("search_exact", reader.search_exact(&query, &params).unwrap().row_ids().collect()),
        ("cursor", reader.cursor(&query, &params).unwrap().map(|hit| hit.row_id).collect()),
        ("search_batch", batch[0].row_ids().collect()),
        ("live_row_ids", reader.live_row_ids().values().to_vec()),
        ("contains", (0..300).filter(|&row_id| reader.contains(row_id)).collect()),
    ];
    for (way, mut alive) in answers {
        alive.sort_unstable();
        assert!(alive.iter().copied().eq(expected.clone()), "{way}, {}: {alive:?}", reader.version());
    }
    let live = (expected.end - expected.start) as usize;
    assert_eq!((reader.live_ids().count_set_bits(), reader.len()), (live, live));
}

#[test]
fn a_mapped_index_is_read_only_and_its_compaction_is_not() {
    let home = tempfile::tempdir().unwrap();
    let (index, _) = lively(300, 12);
    index.save(home.path()).unwrap();
    let mapped = open_mapped(home.path()).unwrap();
    let view = View::of(&index);
    let one = uniform(1, 6, 13).array();
    let live = *contents(&index).keys().next().unwrap();
    let errors = [
        mapped.append(&one, 1_000_000u64).unwrap_err(),
        mapped.append_unique(&one, 1_000_000u64).unwrap_err(),
        mapped.upsert(&one, live).unwrap_err(),
        mapped.delete(live).unwrap_err(),
        mapped.delete(1_000_000).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::ReadOnly), "{error:?}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    assert!(mapped.contains(live) && !mapped.contains(1_000_000));
    assert_same(&mapped, &view, "after changes that were refused");

    let copy = mapped.reader().compacted().unwrap();
    mapped.compact().unwrap();
    for compacted in [copy, mapped] {
        assert!(contents(&compacted) == contents(&index));
        compacted.upsert(&one, live).unwrap();
        compacted.delete(live).unwrap();
        assert_eq!((compacted.len(), compacted.contains(live)), (index.len() - 1, false));
    }
}

/// Days of work and nights on disk, against a model of row ids.
#[test]
fn a_long_life_with_many_saves() {
    let home = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(14);
    let mut index = Index::hnsw(4, L2, params().num_edges(4)).unwrap();
    let mut model: BTreeMap<u64, Vec<f32>> = BTreeMap::new();
    for day in 0..40u64 {
        for _ in 0..6 {
            let rows = uniform(rng.random_range(1..30), 4, rng.random());
            let mut given: Vec<u64> = (0..rows.len()).map(|_| rng.random_range(0..400)).collect();
            if rng.random_bool(0.3) {
                given = (given[0]..).take(rows.len()).collect();
            }
            let row_ids = UInt64Array::from(given.clone());
            let mut seen = given.clone();
            seen.sort_unstable();
            seen.dedup();
            let is_new = seen.len() == given.len() && !given.iter().any(|id| model.contains_key(id));
            let outcome = index.append(&rows.array(), &row_ids);
            assert_eq!(outcome.is_ok(), is_new, "day {day}: {given:?}, {outcome:?}");
            if !is_new {
                index.upsert(&rows.array(), &row_ids).unwrap();
            }
            model.extend(given.into_iter().zip(rows.iter().map(<[f32]>::to_vec)));
            for _ in 0..rng.random_range(0..12) {
                let row_id = rng.random_range(0..400);
                let is_live = model.remove(&row_id).is_some();
                assert_eq!(index.delete(row_id).is_ok(), is_live, "day {day}: {row_id}");
            }
        }
        assert!(contents(&index) == model, "day {day}, before the night");
        index.save(home.path()).unwrap();
        let [loaded, mapped] = both_of(home.path());
        assert!(contents(&mapped) == model, "day {day}, mapped");
        for row_id in 0..400 {
            assert_eq!(mapped.contains(row_id), model.contains_key(&row_id), "day {day}: {row_id}");
        }
        assert!(loaded.health().unwrap().is_healthy(), "day {day}");
        // Some nights it is compacted too, from memory or from the files.
        index = match day % 5 {
            3 => mapped.reader().compacted().unwrap(),
            4 => loaded.reader().compacted().unwrap(),
            _ => loaded,
        };
        assert!(contents(&index) == model, "day {day}, after the night");
    }
}
