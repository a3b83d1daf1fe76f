//! Readers beside a writer, and writers beside each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use lance::dataset::mem_wal::index::MemIndex;
use pennon::DistanceType;
use pennon::lance::{HNSW_METADATA_KEY, LanceHnswMetadata, NEIGHBORS_COLUMN, PennonMemIndex};

use crate::memwal::data::{METRICS, close, distance, index, rows, search, vectors};

const ROWS: usize = 1_500;
const PUT: usize = 5;

/// Tells the readers that the writer has ended, one way or the other.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Rows that edges of level 0 lead to from the entry point, read off the batch that Lance would read.
fn reachable(index: &PennonMemIndex) -> usize {
    let (graph, _) = index.index().unwrap().to_lance_batches().map(crate::kit::pair).unwrap();
    let json = &graph.schema_ref().metadata()[HNSW_METADATA_KEY];
    let metadata: LanceHnswMetadata = serde_json::from_str(json).unwrap();
    let neighbors = graph[NEIGHBORS_COLUMN].as_list::<i32>();
    let mut seen = vec![false; metadata.level_offsets[1]];
    let mut pending = vec![metadata.entry_point];
    seen[metadata.entry_point as usize] = true;
    while let Some(id) = pending.pop() {
        for &next in neighbors.value(id as usize).as_primitive::<UInt32Type>().values().iter() {
            if !std::mem::replace(&mut seen[next as usize], true) {
                pending.push(next);
            }
        }
    }
    seen.iter().filter(|seen| **seen).count()
}

/// Rows that a search for their own vector finds.
fn found_by_themselves(index: &PennonMemIndex, all: &[Vec<f32>]) -> usize {
    let own = |(position, vector): &(u64, &Vec<f32>)| search(index, vector, 1, u64::MAX)[0].0 == *position;
    (0..).zip(all).filter(own).count()
}

#[test]
fn a_search_beside_a_writer_is_complete_up_to_its_position() {
    let (all, queries) = (vectors(ROWS, 1), vectors(20, 2));
    for metric in METRICS {
        let index = index(metric);
        let (visible, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let read = || {
            let mut searches = 0;
            // Once more when the last row is there.
            let mut last_round = false;
            while !last_round {
                last_round = ended.load(Ordering::Acquire);
                let rows = visible.load(Ordering::Acquire);
                if rows == 0 {
                    thread::yield_now();
                    continue;
                }
                let query = &queries[searches % queries.len()];
                let found = search(&index, query, 10, rows - 1);
                assert_eq!(found.len() as u64, rows.min(10), "{metric}");
                assert!(found.is_sorted_by(|a, b| a.1 <= b.1));
                for &(position, score) in &found {
                    assert!(position < rows);
                    assert!(close(score, distance(metric, query, &all[position as usize])));
                }
                searches += 1;
            }
            searches
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ended = Ended(&ended);
                for (put, part) in all.chunks(PUT).enumerate() {
                    index.insert(&rows(part), (put * PUT) as u64).unwrap();
                    visible.store((put * PUT + part.len()) as u64, Ordering::Release);
                }
            });
            for reader in [scope.spawn(read), scope.spawn(read)] {
                assert!(reader.join().unwrap() > 0);
            }
        });
        assert_eq!(reachable(&index), ROWS, "{metric}");
        assert!(index.index().unwrap().health().unwrap().is_healthy());
        if metric != DistanceType::Dot {
            let found = found_by_themselves(&index, &all);
            assert!(found * 1_000 >= ROWS * 995, "{metric}: {found} of {ROWS} rows find themselves");
        }
    }
}

#[test]
fn every_row_of_concurrent_puts_is_reachable_and_at_its_position() {
    const WRITERS: usize = 4;
    let all = vectors(1_200, 3);
    let index = index(DistanceType::L2);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (index, all) = (&index, &all);
            // Positions arrive in no order.
            scope.spawn(move || {
                for (put, part) in all.chunks(3).enumerate().skip(writer).step_by(WRITERS) {
                    index.insert(&rows(part), put as u64 * 3).unwrap();
                }
            });
        }
    });
    assert_eq!(index.index().unwrap().len(), all.len());
    assert_eq!(reachable(&index), all.len());
    let found = found_by_themselves(&index, &all);
    assert!(found * 1_000 >= all.len() * 995, "{found} of {} rows find themselves", all.len());
    for (visible, query) in [0, 7, 599, 1_199].into_iter().zip(&vectors(4, 4)) {
        let seen = search(&index, query, 10, visible);
        assert_eq!(seen.len() as u64, (visible + 1).min(10));
        assert!(seen.iter().all(|hit| hit.0 <= visible));
    }
}
