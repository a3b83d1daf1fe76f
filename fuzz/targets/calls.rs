//! Sequences of calls, compared with a map from row id to vector.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use arrow_array::UInt64Array;
use kit::{DIM, check_order, list, start};
use libfuzzer_sys::fuzz_target;
use pennon::{BuildParams, DistanceType, Index, Reader, RowMask, SearchParams};
use roaring::RoaringTreemap;

#[derive(Arbitrary, Debug)]
enum Call {
    Append {
        first: u8,
        rows: Vec<[i8; DIM]>,
    },
    AppendEach {
        row_ids: Vec<u8>,
        vector: [i8; DIM],
    },
    Upsert {
        row_ids: Vec<u8>,
        vector: [i8; DIM],
    },
    /// A row that cannot be used among others that can.
    AppendUnusable {
        first: u8,
        rows: u8,
        unusable: u8,
    },
    Delete {
        row_id: u8,
    },
    DeleteMany {
        row_ids: Vec<u8>,
    },
    Search {
        query: [i8; DIM],
        k: u8,
        ef: u8,
    },
    Mask {
        query: [i8; DIM],
        k: u8,
        row_ids: Vec<u8>,
        negated: bool,
    },
    Hold,
    Compact,
    SaveAndLoad,
    ThroughLance,
}

#[derive(Arbitrary, Debug)]
struct Sequence {
    flat: bool,
    m: u8,
    calls: Vec<Call>,
}

type Rows = BTreeMap<u64, [f32; DIM]>;

fn vector(of: [i8; DIM]) -> [f32; DIM] {
    of.map(f32::from)
}

fn distance(a: &[f32; DIM], b: &[f32; DIM]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn row_ids(of: &[u8]) -> Vec<u64> {
    of.iter().map(|&row_id| u64::from(row_id)).collect()
}

/// The rows of a reader that a mask lets through: an answer as long as it must be, with true distances, and with the
/// nearest where all are wanted.
fn check_search(
    reader: &Reader,
    rows: &Rows,
    query: [f32; DIM],
    params: SearchParams,
    admits: impl Fn(u64) -> bool,
) {
    let qualify = rows.keys().filter(|&&row_id| admits(row_id)).count();
    for exact in [false, true] {
        let hits = if exact { reader.search_exact(&query, &params) } else { reader.search(&query, &params) };
        let hits = hits.expect("a plain query");
        check_order(&hits, params.k);
        assert_eq!(hits.len(), qualify.min(params.k), "exact: {exact}, {params:?}");
        for hit in &hits {
            let row = rows.get(&hit.row_id).filter(|_| admits(hit.row_id));
            assert_eq!(row.map(|row| distance(row, &query)), Some(hit.distance), "{hit:?}");
        }
        if exact {
            let mut nearest: Vec<f32> =
                rows.iter().filter(|row| admits(*row.0)).map(|row| distance(row.1, &query)).collect();
            nearest.sort_by(f32::total_cmp);
            assert!(
                hits.iter().zip(&nearest).all(|(hit, nearest)| hit.distance == *nearest),
                "not the nearest"
            );
        }
    }
}

struct State {
    index: Index,
    rows: Rows,
    held: Vec<(Reader, Rows)>,
}

impl State {
    fn write(&mut self, ids: &[u64], vectors: Vec<f32>, upsert: bool) {
        let array = list(vectors.clone(), DIM);
        let row_ids = UInt64Array::from(ids.to_vec());
        let fresh =
            ids.iter().enumerate().all(|(at, id)| !self.rows.contains_key(id) && !ids[..at].contains(id));
        let outcome =
            if upsert { self.index.upsert(&array, row_ids) } else { self.index.append(&array, row_ids) };
        assert_eq!(outcome.is_ok(), upsert || fresh, "{ids:?}: {:?}", outcome.err());
        if upsert || fresh {
            for (id, row) in ids.iter().zip(vectors.as_chunks::<DIM>().0) {
                self.rows.insert(*id, *row);
            }
        }
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Append { first, rows } => {
                let ids: Vec<u64> = (u64::from(*first)..).take(rows.len()).collect();
                self.write(&ids, rows.iter().flat_map(|&row| vector(row)).collect(), false);
            }
            Call::AppendEach { row_ids: ids, vector: row } | Call::Upsert { row_ids: ids, vector: row } => {
                let ids = row_ids(ids);
                let vectors = (0..ids.len()).flat_map(|at| vector(*row).map(|x| x + at as f32)).collect();
                self.write(&ids, vectors, matches!(call, Call::Upsert { .. }));
            }
            &Call::AppendUnusable { first, rows, unusable } => {
                let (rows, at) = (usize::from(rows % 20) + 1, usize::from(unusable));
                let ids: Vec<u64> = (300 + u64::from(first)..).take(rows).collect();
                let mut vectors: Vec<f32> = (0..rows * DIM).map(|x| x as f32).collect();
                vectors[at % (rows * DIM)] = f32::NAN;
                let fresh = ids.iter().all(|id| !self.rows.contains_key(id));
                let outcome = self.index.append(&list(vectors.clone(), DIM), UInt64Array::from(ids.clone()));
                assert_eq!(outcome.is_ok(), fresh);
                for (id, row) in ids.iter().zip(vectors.as_chunks::<DIM>().0).filter(|_| fresh) {
                    if row.iter().all(|x| x.is_finite()) {
                        self.rows.insert(*id, *row);
                    }
                }
            }
            &Call::Delete { row_id } => {
                let row_id = u64::from(row_id);
                assert_eq!(self.index.delete(row_id).is_ok(), self.rows.remove(&row_id).is_some());
            }
            Call::DeleteMany { row_ids: ids } => {
                let ids = row_ids(ids);
                let outcome = self.index.delete_batch(&ids);
                // All of them, or none if one is not there.
                if ids.iter().all(|id| self.rows.contains_key(id)) {
                    let before = self.rows.len();
                    self.rows.retain(|row_id, _| !ids.contains(row_id));
                    assert_eq!(outcome.ok(), Some(before - self.rows.len()));
                } else {
                    assert!(outcome.is_err(), "{ids:?}");
                }
            }
            &Call::Search { query, k, ef } => {
                let k = if k == u8::MAX { usize::MAX } else { usize::from(k) };
                let params = SearchParams::new(k).ef(usize::from(ef));
                check_search(&self.index.reader(), &self.rows, vector(query), params, |_| true);
            }
            Call::Mask { query, k, row_ids: ids, negated } => {
                let ids = row_ids(ids);
                let mask: RowMask = ids.iter().copied().collect::<RoaringTreemap>().into();
                let mask = if *negated { mask.not() } else { mask };
                let params = SearchParams::new(usize::from(*k)).mask(mask);
                let admits = |row_id| ids.contains(&row_id) != *negated;
                check_search(&self.index.reader(), &self.rows, vector(*query), params, admits);
            }
            Call::Hold => {
                if self.held.len() < 4 {
                    self.held.push((self.index.reader(), self.rows.clone()));
                }
            }
            Call::Compact => {
                self.index.compact().expect("a compaction");
                assert_eq!(self.index.tombstones(), 0);
            }
            Call::SaveAndLoad => {
                let dir = tempfile::tempdir().expect("a directory");
                self.index.save(dir.path()).expect("a save");
                self.index = Index::load(dir.path()).expect("what was saved").index;
            }
            Call::ThroughLance => {
                let batches = self.index.reader().to_lance_batches().expect("an export");
                let index = Index::from_lance_batches(&batches).expect("an export");
                check_search(&index.reader(), &self.rows, [0.5; DIM], SearchParams::new(9), |_| true);
            }
        }
        assert_eq!(self.index.len(), self.rows.len(), "after {call:?}");
    }
}

fuzz_target!(|sequence: Sequence| {
    start();
    let m = usize::from(sequence.m % 13) + 4;
    let params = BuildParams::default().num_edges(m).ef_construction(2 * m);
    let index = if sequence.flat {
        Index::flat(DIM, DistanceType::L2)
    } else {
        Index::hnsw(DIM, DistanceType::L2, params)
    };
    let index = index.expect("parameters of an index");
    let mut state = State { index, rows: Rows::new(), held: Vec::new() };
    for call in sequence.calls.iter().take(60) {
        state.call(call);
    }
    let all = |reader: &Reader, rows: &Rows| {
        check_search(reader, rows, [0.5; DIM], SearchParams::new(usize::MAX), |_| true);
        check_search(reader, rows, [0.5; DIM], SearchParams::new(3).ef(3), |_| true);
    };
    all(&state.index.reader(), &state.rows);
    // Readers of old versions see what they saw.
    state.held.iter().for_each(|(reader, rows)| all(reader, rows));
});
