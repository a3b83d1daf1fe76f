//! The JSON of `lance:hnsw`: entry point, params, level offsets.

use arrow_array::RecordBatch;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use serde_json::{Value, json};

use super::{Case, Fixture, N, either, either_at, refused, works};
use crate::sub_index::draft::Draft;
use crate::sub_index::probe::with_metadata;

fn field(good: &Draft, key: &str, value: Value) -> RecordBatch {
    good.edit(|draft| draft.metadata[key] = value)
}

fn param(good: &Draft, key: &str, value: Value) -> RecordBatch {
    good.edit(|draft| draft.metadata["params"][key] = value)
}

/// The batch without `key` in its metadata or in the params of it.
fn without(good: &Draft, key: &str) -> RecordBatch {
    good.edit(|draft| {
        draft.metadata.as_object_mut().unwrap().remove(key);
        if let Some(params) = draft.metadata.get_mut("params") {
            params.as_object_mut().unwrap().remove(key);
        }
    })
}

/// Params of any size may be stated, so none of them may size an allocation by itself.
fn params(good: &Draft) -> Vec<Case> {
    let both = |m: u64, ef: u64| {
        good.edit(|draft| {
            draft.metadata["params"]["m"] = json!(m);
            draft.metadata["params"]["ef_construction"] = json!(ef);
        })
    };
    vec![
        refused("m missing", without(good, "m")),
        refused("max_level missing", without(good, "max_level")),
        refused("ef_construction missing", without(good, "ef_construction")),
        works("prefetch_distance missing", without(good, "prefetch_distance")),
        works("prefetch_distance null", param(good, "prefetch_distance", Value::Null)),
        works("prefetch_distance 0", param(good, "prefetch_distance", json!(0))),
        works("prefetch_distance usize::MAX", param(good, "prefetch_distance", json!(u64::MAX))),
        refused("prefetch_distance -1", param(good, "prefetch_distance", json!(-1))),
        works("unknown param", param(good, "seed", json!(7))),
        refused("m -1", param(good, "m", json!(-1))),
        refused("m 8.5", param(good, "m", json!(8.5))),
        refused("m a string", param(good, "m", json!("8"))),
        refused("m null", param(good, "m", Value::Null)),
        refused("max_level -1", param(good, "max_level", json!(-1))),
        refused("max_level 65536", param(good, "max_level", json!(65_536))),
        refused("ef_construction -1", param(good, "ef_construction", json!(-1))),
        refused("ef_construction 1e30", param(good, "ef_construction", json!(1e30))),
        // This line and the five after it: `HNSW::load` takes any params, and a memtable of
        // Lance may have m = 1..=3, so that reading these for search is worth more than refusing
        // them; but an index with them cannot be rebuilt.
        either("m 0", param(good, "m", json!(0))),
        either("m 1", param(good, "m", json!(1))),
        either("m 3", param(good, "m", json!(3))),
        either("m 2, ef_construction 32", both(2, 32)),
        either("ef_construction 0", param(good, "ef_construction", json!(0))),
        either("ef_construction below m", param(good, "ef_construction", json!(7))),
        // The batch has three levels, so these count fewer than there are.
        either("max_level 0", param(good, "max_level", json!(0))),
        either("max_level 1", param(good, "max_level", json!(1))),
        // More levels than the offsets pad. It is a valid count, and Lance reads it.
        works("max_level 65535", param(good, "max_level", json!(65_535))),
        // Valid for Lance's reader, useless for a build. A slot of 2m entries per node would
        // be terabytes here, and a failed allocation is an abort that no test can catch.
        either("m 1e9", both(1_000_000_000, 1_000_000_000)),
        either("m usize::MAX", both(u64::MAX, u64::MAX)),
        either("m usize::MAX / 2", both(u64::MAX / 2, u64::MAX / 2)),
        either("m usize::MAX, ef_construction as it was", param(good, "m", json!(u64::MAX))),
        either("ef_construction usize::MAX", param(good, "ef_construction", json!(u64::MAX))),
    ]
}

pub fn cases(fixture: &Fixture) -> Vec<Case> {
    let good = &fixture.good;
    let whole = good.batch();
    let text = good.metadata.to_string();
    let stated = |text: &str| with_metadata(&whole, text.to_string());
    let twice = text.replacen('{', "{\"entry_point\":0,", 1);
    let nested = format!("{{\"x\":{}{},{}", "[".repeat(5_000), "]".repeat(5_000), &text[1..]);
    let keyless = RecordBatch::try_new(HNSW::schema(), whole.columns().to_vec()).unwrap();
    let mut cases = params(good);
    cases.extend([
        refused("no lance:hnsw key", keyless),
        refused("empty text", stated("")),
        refused("truncated JSON", stated(&text[..text.len() - 1])),
        refused("text after the JSON", stated(&format!("{text}}}"))),
        refused("JSON null", stated("null")),
        refused("JSON number", stated("7")),
        refused("JSON array", stated("[]")),
        refused("empty JSON object", stated("{}")),
        // How an index file holds it: one string per IVF partition.
        refused("array of JSON strings", stated(&Value::from(vec![text.clone()]).to_string())),
        works("spaces in the JSON", stated(&format!("\n {} \t", text.replace(',', " ,\n")))),
        // An error for serde's derive; a reader by way of `Value` takes the last.
        either("entry_point twice", stated(&twice)),
        either("5,000 nested arrays in an unknown field", stated(&nested)),
        works("unknown field", field(good, "producer", json!({"name": "test", "version": 1}))),
        refused("entry_point missing", without(good, "entry_point")),
        refused("params missing", without(good, "params")),
        refused("level_offsets missing", without(good, "level_offsets")),
        // serde's derive reads a struct from an array of its fields, in order.
        either("params an array", field(good, "params", json!([7, 8, 64, 2]))),
        refused("params an empty array", field(good, "params", json!([]))),
        refused("params null", field(good, "params", Value::Null)),
        refused("entry_point the number of nodes", field(good, "entry_point", json!(N))),
        refused("entry_point u32::MAX", field(good, "entry_point", json!(u32::MAX))),
        refused("entry_point 2^32", field(good, "entry_point", json!(1_u64 << 32))),
        refused("entry_point -1", field(good, "entry_point", json!(-1))),
        refused("entry_point 1.5", field(good, "entry_point", json!(1.5))),
        refused("entry_point a string", field(good, "entry_point", json!("1"))),
        refused("entry_point null", field(good, "entry_point", Value::Null)),
        works("entry_point on level 0", field(good, "entry_point", json!(good.bottom_node()))),
    ]);
    cases
}

pub fn level_offsets(fixture: &Fixture) -> Vec<Case> {
    let good = &fixture.good;
    let offsets = good.level_offsets();
    let rows = good.ids.len();
    let (level_1, level_2) = (offsets[2] - offsets[1], offsets[3] - offsets[2]);
    let with = |offsets: Value| field(good, "level_offsets", offsets);
    let replaced = |at: usize, value: Value| good.edit(|d| d.metadata["level_offsets"][at] = value);
    let mut unpadded = offsets.clone();
    unpadded.dedup();
    let padded = |by: usize| [offsets.clone(), vec![rows; by]].concat();
    let mut shifted = vec![0, N];
    for level in offsets[1..].windows(2) {
        let count = (level[1] - level[0]).saturating_sub(1);
        shifted.push(shifted[shifted.len() - 1] + count);
    }
    let shortened = good.edit(|draft| {
        draft.metadata["level_offsets"] = json!([0, N - 60]);
        draft.metadata["entry_point"] = json!(0);
    });
    vec![
        works("not padded to max_level + 1", with(json!(unpadded))),
        works("padded by three more", with(json!(padded(3)))),
        // More levels than a u16 counts. Lance reads it.
        either("padded by 100,000 more", with(json!(padded(100_000)))),
        works("level 0 only", with(json!([0, N]))),
        // Lance before #5156 left the entry point out of the upper counts: the upper ranges start
        // early, rows remain past the last offset, and the entry point may be on no range's level.
        works("shifted as by Lance's #5156", with(json!(shifted))),
        works("rows past the last offset", with(json!([0, N, N + level_1]))),
        refused("empty", with(json!([]))),
        refused("[0]", with(json!([0]))),
        refused("[0, 0]", with(json!([0, 0]))),
        refused("level 0 empty", with(json!([0, 0, N]))),
        refused("past the end", with(json!([0, N, 10 * N]))),
        refused("past the end by one", with(json!([0, N, rows + 1]))),
        refused("level 0 past the end", with(json!([0, 10 * N]))),
        refused("decreasing", with(json!([0, N, N - 5]))),
        refused("decreasing, then whole again", with(json!([0, N, N - 5, rows]))),
        refused("first offset 1", replaced(0, json!(1))),
        refused("level 0 longer by one", with(json!([0, N + 1, rows]))),
        refused("[0, usize::MAX]", with(json!([0, u64::MAX]))),
        refused("usize::MAX after level 0", with(json!([0, N, u64::MAX]))),
        refused("usize::MAX, then 0", with(json!([0, u64::MAX, 0]))),
        refused("2^32 + nodes", with(json!([0, (1_u64 << 32) + N as u64]))),
        refused("an offset -1", replaced(1, json!(-1))),
        refused("an offset of 600.0", replaced(1, json!(N as f64))),
        refused("an offset null", replaced(1, Value::Null)),
        refused("an offset a string", replaced(1, json!("600"))),
        refused("not an array", with(json!(N))),
        refused("nested arrays", with(json!([[0, N]]))),
        // Level 2 begins inside level 1: it has nodes that level 1 has not, and some twice.
        // Lance reads it.
        either("level 1 ends early", with(json!([0, N, N + level_2.min(level_1 - 1), rows]))),
        // The last nodes of level 0 are taken for level 1: fewer nodes, and edges that name what is
        // gone. Lance drops those edges and reads on.
        either_at(0.8, "level 0 shorter by 60", shortened),
    ]
}
