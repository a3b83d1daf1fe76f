//! Any sequence of calls against a naive model: a list of rows, each with the times of its birth and death.
//!
//! The fuzz target of the whole interface; `PROPTEST_CASES=10000` makes it a longer run. Errors are among the
//! calls: after each call, refused or not, the index is compared with the model in full.

mod era;
mod ops;

use std::env;
use std::mem::replace;

use pennon::{BuildParams, DistanceType, Index};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};
use proptest::sample::select;

use crate::data::{METRICS, import, load, open_mapped, pair};
use era::Era;
use ops::{Batch, Look, Mask, Op, op};

const DIM: usize = 4;

fn run(distance_type: DistanceType, ops: &[Op]) {
    let params = BuildParams::default().num_edges(4).ef_construction(16);
    let everything = Look { seed: 1, k: usize::MAX, ef: 10, mask: Mask::None, max_row_id: None, pin: None };
    // All saves are into one directory: each takes the files away that the last one may have mapped.
    let home = tempfile::tempdir().unwrap();
    let mut past: Vec<Era> = Vec::new();
    let mut era = Era::of(Index::hnsw(DIM, distance_type, params).unwrap());
    let mut fresh = 10;
    for op in ops {
        let next = match op {
            Op::Write(how, draft) => {
                let batch = Batch::of(draft, distance_type, fresh, &era.live_row_ids());
                fresh = batch.ids.iter().map(|id| id + 1).fold(fresh, u64::max);
                era.write(*how, batch);
                None
            }
            Op::Delete(picks) => {
                era.delete(picks);
                None
            }
            Op::Search(look) => {
                let pin = look.pin.filter(|_| !era.pins.is_empty()).map(|at| at.get(&era.pins));
                era.look(look, pin);
                None
            }
            Op::Pin => {
                era.pins.push((era.index.reader_at(era.index.version()).unwrap(), era.now));
                None
            }
            Op::Refused(which) => {
                era.assert_refused(*which);
                None
            }
            Op::OutAndIn => {
                let (graph, vectors) = era.index.to_lance_batches().map(pair).unwrap();
                assert_eq!(vectors.num_rows(), era.index.len());
                Some(Era::of(import(&graph, &vectors).unwrap()))
            }
            Op::SaveAndLoad => {
                era.index.save(home.path()).unwrap();
                let mapped = era.reloaded(open_mapped(home.path()).unwrap());
                let loaded = era.reloaded(load(home.path()).unwrap());
                mapped.assert_read_only();
                mapped.check();
                for (reloaded, what) in [(&mapped, "mapped"), (&loaded, "loaded")] {
                    assert_eq!(reloaded.answers(), era.answers(), "{what}");
                }
                past.push(mapped);
                Some(loaded)
            }
            Op::Compact => Some(Era::of(era.index.reader().compacted().unwrap())),
        };
        if let Some(next) = next {
            assert_eq!(next.contents(), era.contents(), "{op:?}");
            past.push(replace(&mut era, next));
        }
        era.check();
        era.look(&everything, None);
    }
    past.push(era);
    for era in &past {
        era.check();
        era.look(&everything, None);
        era.pins.iter().for_each(|pin| era.look(&everything, Some(pin)));
    }
}

/// As many cases as `PROPTEST_CASES` says, or 96.
fn config() -> ProptestConfig {
    match env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(96),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_sequence_of_calls_agrees_with_the_model(
        metric in select(METRICS.to_vec()),
        ops in vec(op(), 1..40),
    ) {
        run(metric, &ops);
    }
}
