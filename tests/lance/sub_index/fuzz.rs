//! Random damage to a good batch: refused by name, or a graph that breaks no law.

use arrow_array::RecordBatch;
use pennon::{Error, HnswGraph};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use crate::sub_index::draft::Draft;
use crate::sub_index::malformed::{N, exercise, fixture};
use crate::sub_index::probe::with_metadata;

#[derive(Clone, Debug)]
enum Damage {
    Id { row: Index, id: Option<u32> },
    Neighbor { row: Index, edge: Index, id: Option<u32> },
    Distance { row: Index, edge: Index, distance: f32 },
    NoList { row: Index, of_distances: bool },
    Truncate { row: Index, to: Index, of_distances: bool },
    Swap { left: Index, right: Index },
    InsertRow { at: Index, id: u32 },
    RemoveRow { at: Index },
    Number { which: Index, value: Value },
    Character { at: Index, character: u8 },
    Slice { start: Index, len: Index },
}

fn ids() -> impl Strategy<Value = u32> {
    let edge = vec![0, 1, N as u32 - 1, N as u32, N as u32 + 1, u32::MAX - 1, u32::MAX];
    prop_oneof![select(edge), any::<u32>(), 0..N as u32]
}

fn numbers() -> impl Strategy<Value = Value> {
    let edge = [0, 1, 3, N as u64 - 1, N as u64, N as u64 + 1, 65_535, 65_536, 1_000_000_000];
    let wide = [u64::from(u32::MAX), 1 << 32, i64::MAX as u64, u64::MAX];
    let mut values: Vec<Value> = edge.into_iter().chain(wide).map(Value::from).collect();
    values.extend([json!(-1), json!(0.5), json!(1e300), json!("0"), json!([]), Value::Null]);
    prop_oneof![select(values), (0..1_000_u64).prop_map(Value::from)]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let id = || proptest::option::weighted(0.9, ids());
    prop_oneof![
        (at(), id()).prop_map(|(row, id)| Damage::Id { row, id }),
        (at(), at(), id()).prop_map(|(row, edge, id)| Damage::Neighbor { row, edge, id }),
        (at(), at(), any::<u32>().prop_map(f32::from_bits))
            .prop_map(|(row, edge, distance)| { Damage::Distance { row, edge, distance } }),
        (at(), any::<bool>()).prop_map(|(row, of_distances)| Damage::NoList { row, of_distances }),
        (at(), at(), any::<bool>()).prop_map(|(row, to, of_distances)| Damage::Truncate {
            row,
            to,
            of_distances
        }),
        (at(), at()).prop_map(|(left, right)| Damage::Swap { left, right }),
        (at(), ids()).prop_map(|(at, id)| Damage::InsertRow { at, id }),
        at().prop_map(|at| Damage::RemoveRow { at }),
        (at(), numbers()).prop_map(|(which, value)| Damage::Number { which, value }),
        (at(), b' '..=b'~').prop_map(|(at, character)| Damage::Character { at, character }),
        (at(), at()).prop_map(|(start, len)| Damage::Slice { start, len }),
    ]
}

/// Where the metadata holds a number.
fn number<'a>(metadata: &'a mut Value, which: &Index) -> Option<&'a mut Value> {
    let offsets = metadata["level_offsets"].as_array().map_or(0, Vec::len);
    let mut paths: Vec<String> = (0..offsets).map(|at| format!("/level_offsets/{at}")).collect();
    // As often as all offsets together.
    for _ in 0..offsets.max(1).div_ceil(4) {
        for key in ["params/m", "params/max_level", "params/ef_construction", "entry_point"] {
            paths.push(format!("/{key}"));
        }
    }
    metadata.pointer_mut(which.get(&paths).as_str())
}

/// Damages the rows and numbers of `draft`; text and slices come after it is a batch.
fn damage_draft(draft: &mut Draft, damage: &Damage) {
    let rows = draft.ids.len();
    match damage {
        Damage::Id { row, id } => draft.ids[row.index(rows)] = *id,
        Damage::Neighbor { row, edge, id } => {
            if let Some(list) = draft.neighbors[row.index(rows)].as_mut().filter(|l| !l.is_empty()) {
                let edge = edge.index(list.len());
                list[edge] = *id;
            }
        }
        Damage::Distance { row, edge, distance } => {
            if let Some(list) = draft.distances[row.index(rows)].as_mut().filter(|l| !l.is_empty()) {
                let edge = edge.index(list.len());
                list[edge] = Some(*distance);
            }
        }
        Damage::NoList { row, of_distances: true } => draft.distances[row.index(rows)] = None,
        Damage::NoList { row, of_distances: false } => draft.neighbors[row.index(rows)] = None,
        Damage::Truncate { row, to, of_distances: true } => {
            if let Some(list) = &mut draft.distances[row.index(rows)] {
                list.truncate(to.index(list.len() + 1));
            }
        }
        Damage::Truncate { row, to, of_distances: false } => {
            if let Some(list) = &mut draft.neighbors[row.index(rows)] {
                list.truncate(to.index(list.len() + 1));
            }
        }
        Damage::Swap { left, right } => draft.swap_rows(left.index(rows), right.index(rows)),
        Damage::InsertRow { at, id } => draft.insert_row(at.index(rows + 1), *id, &[(*id, 0.5)]),
        Damage::RemoveRow { at } => {
            let at = at.index(rows);
            draft.ids.remove(at);
            draft.neighbors.remove(at);
            draft.distances.remove(at);
        }
        Damage::Number { which, value } => {
            if let Some(number) = number(&mut draft.metadata, which) {
                *number = value.clone();
            }
        }
        Damage::Character { .. } | Damage::Slice { .. } => {}
    }
}

fn damaged(damages: &[Damage]) -> RecordBatch {
    let mut draft = fixture().good.clone();
    for damage in damages {
        damage_draft(&mut draft, damage);
    }
    let mut text = draft.metadata.to_string().into_bytes();
    let mut batch = draft.batch();
    for damage in damages {
        if let Damage::Character { at, character } = damage {
            let at = at.index(text.len());
            text[at] = *character;
        }
        if let Damage::Slice { start, len } = damage {
            let start = start.index(batch.num_rows() + 1);
            batch = batch.slice(start, len.index(batch.num_rows() - start + 1));
        }
    }
    with_metadata(&batch, String::from_utf8(text).unwrap())
}

/// Imports `batch` and, if it is read, searches the graph and appends to it.
fn assert_refused_or_lawful(batch: &RecordBatch) {
    match HnswGraph::from_lance_hnsw_batch(batch) {
        Ok(graph) => {
            exercise(graph, fixture());
        }
        Err(Error::InvalidBatch { problem, .. }) => assert!(!problem.is_empty()),
        Err(error) => panic!("not InvalidBatch: {error:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_damage_is_refused_or_harmless(damages in vec(damage(), 1..6)) {
        assert_refused_or_lawful(&damaged(&damages));
    }

    /// One kind of damage alone survives the import more often than a mixture does.
    #[test]
    fn damaged_neighbors_alone_are_refused_or_harmless(
        edges in vec((any::<Index>(), any::<Index>(), ids()), 1..200),
    ) {
        let damages: Vec<Damage> = edges
            .into_iter()
            .map(|(row, edge, id)| Damage::Neighbor { row, edge, id: Some(id) })
            .collect();
        assert_refused_or_lawful(&damaged(&damages));
    }

    #[test]
    fn damaged_numbers_alone_are_refused_or_harmless(
        values in vec((any::<Index>(), numbers()), 1..3),
    ) {
        let damages: Vec<Damage> =
            values.into_iter().map(|(which, value)| Damage::Number { which, value }).collect();
        assert_refused_or_lawful(&damaged(&damages));
    }
}
