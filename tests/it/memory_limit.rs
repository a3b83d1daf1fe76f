//! A limit of memory: it is honored, what it refuses has changed nothing, and all else goes on.

use arrow_array::UInt64Array;
use pennon::{Coding, Error, Index, IndexBuilder, SearchParams};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{in_pool, uniform};
use crate::deletes::{L2, contents, params};

/// With a limit that some thousand rows or more exceed.
fn kinds() -> [(&'static str, IndexBuilder, usize); 4] {
    let builder = || Index::builder(8, L2);
    [
        ("graph", builder().params(params()), 2_000_000),
        ("graph without codes", builder().params(params()).codes(Coding::Off), 2_000_000),
        ("flat", builder().flat(), 2_000_000),
        ("flat without codes", builder().flat().codes(Coding::Off), 200_000),
    ]
}

/// The numbers of a refusal.
fn refused(error: Error) -> (usize, usize, usize) {
    let text = error.to_string();
    let Error::MemoryLimit { limit, resident, needed } = error else { panic!("{error:?}") };
    assert_eq!(
        text,
        format!(
            "the memory limit is {limit} bytes: {resident} are in use, and the rows to append may need {needed}"
        )
    );
    assert!(resident + needed > limit, "{text}");
    (limit, resident, needed)
}

#[test]
fn a_limit_is_honored_and_what_it_refuses_changes_nothing() {
    for (kind, builder, limit) in kinds() {
        for threads in [1, 3] {
            let index = builder.clone().memory_limit(limit).build().unwrap();
            assert_eq!(index.memory_limit(), Some(limit));
            let batch = |at: usize| uniform(500, 8, at as u64);
            let mut appended = 0;
            let error = loop {
                let start = 500 * appended as u64;
                match in_pool(threads, || index.append(&batch(appended).array(), start)) {
                    Ok(_) => appended += 1,
                    Err(error) => break error,
                }
                let resident = index.resident_bytes();
                assert!(resident <= limit, "{kind}, {threads} threads: {resident} after {appended} batches");
                assert!(appended < 1_000, "{kind}: never refused");
            };
            let resident = index.resident_bytes();
            println!("{kind}, {threads} threads: {appended} batches, {error}");
            let (named, in_use, _) = refused(error);
            assert_eq!((named, in_use), (limit, resident));
            assert!(resident > limit / 2, "{kind}: refused at {resident}");

            let (version, skipped) = (index.version(), index.counters().failed_appends);
            let before = contents(&index);
            // So many rows that they are refused though the searches above have taken what an append foresees for them.
            let large = |seed| uniform(20_000, 8, seed).array();
            let _ = refused(index.upsert(&large(0), 0u64).unwrap_err());
            let list = (large(1), 9_000_000u64);
            let _ = refused(index.append_batches_unique(&[list]).unwrap_err());
            assert_eq!((index.version(), index.counters().failed_appends), (version, skipped + 2), "{kind}");
            assert!(contents(&index) == before, "{kind}");

            // Searches and deletes go on; a compaction makes room.
            let gone: Vec<u64> = (0..250 * appended as u64).collect();
            index.delete_batch(&gone).unwrap();
            assert_eq!(index.search(&[0.5; 8], &SearchParams::new(5)).unwrap().len(), 5);
            index.compact().unwrap();
            assert_eq!(index.memory_limit(), Some(limit), "{kind}");
            index.append(&batch(0).array(), 9_000_000u64).unwrap();

            index.set_memory_limit(Some(0));
            let _ = refused(index.append(&batch(1).part(0..1).array(), 9_100_000u64).unwrap_err());
            index.set_memory_limit(None);
            assert_eq!(index.memory_limit(), None);
            index.append(&batch(1).array(), 9_100_000u64).unwrap();
        }
    }
}

/// What is said to be needed is never less than what is used then.
#[test]
fn what_is_needed_is_foreseen() {
    let mut rng = StdRng::seed_from_u64(1);
    for (kind, builder, _) in kinds() {
        for threads in [1, 2] {
            let index = builder.clone().build().unwrap();
            let (mut foreseen, mut used) = (0, 0);
            for round in 0..60 {
                let rows = uniform([1, 7, 300, 900][rng.random_range(0..4)], 8, rng.random());
                let row_ids: Vec<u64> = match rng.random_bool(0.5) {
                    true => (round * 1_000_000..).take(rows.len()).collect(),
                    false => (0..rows.len()).map(|_| rng.random()).collect(),
                };
                let array = rows.array();
                let upserts = rng.random_bool(0.4);
                let append = || match upserts {
                    true => index.upsert(&array, UInt64Array::from(row_ids.clone())),
                    false => index.append(&array, UInt64Array::from(row_ids.clone())),
                };
                let before = index.resident_bytes();
                index.set_memory_limit(Some(0));
                let (_, resident, needed) = refused(in_pool(threads, append).unwrap_err());
                assert_eq!((resident, index.resident_bytes()), (before, before), "{kind}, round {round}");
                index.set_memory_limit(None);
                in_pool(threads, append).unwrap();
                let grown = index.resident_bytes().saturating_sub(before);
                assert!(
                    grown <= needed,
                    "{kind}, round {round}: {grown} used, {needed} foreseen for {}",
                    rows.len()
                );
                (foreseen, used) = (foreseen + needed, used + grown);
                if rng.random_bool(0.3) {
                    let live: Vec<u64> =
                        index.reader().live_row_ids().values().iter().copied().step_by(9).collect();
                    index.delete_batch(&live).unwrap();
                }
            }
            println!("{kind}, {threads} threads: {used} used, {foreseen} foreseen");
        }
    }
}
