//! Every search, append, delete and compaction counts once, however many threads do them.

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use arrow_array::{FixedSizeListArray, types::Float32Type};
use pennon::{CompactionStep, Counters, DistanceType, Index, RowMask, SearchParams, SearchPlan, SearchStats};

use crate::data::uniform;
use crate::deletes::{L2, array_of, params};

/// The part of the counters that searches make.
#[derive(Debug, Default, PartialEq)]
struct Searched([u64; 9]);

impl Searched {
    fn of(counters: &Counters) -> Self {
        let c = counters;
        let ways = [c.searches, c.graph_searches, c.filtered_searches, c.scans, c.incomplete_searches];
        let [searches, graph, filtered, scans, incomplete] = ways;
        Self([searches, graph, filtered, scans, incomplete, c.distances, c.estimates, c.reranked, c.nodes])
    }

    fn add(&mut self, stats: &SearchStats) {
        let is = |plan| u64::from(stats.plan == plan);
        let added = [
            1,
            is(SearchPlan::Graph),
            is(SearchPlan::FilteredGraph),
            is(SearchPlan::Scan),
            u64::from(!stats.complete),
            stats.distances,
            stats.estimates,
            stats.reranked,
            stats.nodes,
        ];
        self.0.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
    }
}

/// More threads than there are copies of the counters, through readers of two generations.
#[test]
fn searches_of_many_threads_add_up() {
    const THREADS: usize = 70;
    let rows = uniform(2_000, 8, 1);
    for index in [Index::hnsw(8, L2, params()).unwrap(), Index::flat(8, L2).unwrap()] {
        index.append(&rows.array(), 0u64).unwrap();
        (0..500).for_each(|row_id| index.delete(3 * row_id).unwrap());
        let older = index.reader();
        index.compact().unwrap();
        let newer = index.reader();
        assert_ne!(older.version().generation(), newer.version().generation());
        assert_eq!(Searched::of(&index.counters()), Searched::default());

        let ways = [
            SearchParams::new(5).ef(40),
            SearchParams::new(5).ef(40).mask(RowMask::row_id_range(0..900)),
            SearchParams::new(5).ef(40).mask(RowMask::row_id_range(0..9)),
            SearchParams::new(5).ef(40).max_distances(20),
        ];
        let barrier = Barrier::new(THREADS);
        let search = |thread: usize| {
            barrier.wait();
            let mut done = Searched::default();
            for (at, params) in ways.iter().enumerate() {
                let query = rows.row((31 * thread + at) % rows.len());
                let answers = [
                    older.search(query, params).unwrap(),
                    newer.search(query, params).unwrap(),
                    index.search(query, params).unwrap(),
                    newer.search_exact(query, params).unwrap(),
                ];
                answers.iter().for_each(|hits| done.add(hits.stats()));
            }
            newer.search(&[f32::NAN; 8], &ways[0]).unwrap_err();
            done
        };
        let mut expected = Searched::default();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || search(thread))).collect();
            for thread in threads {
                let Searched(sums) = thread.join().unwrap();
                expected.0.iter_mut().zip(sums).for_each(|(sum, added)| *sum += added);
            }
        });
        let counted = Searched::of(&index.counters());
        println!("{counted:?}");
        assert_eq!(counted, expected);
        assert_eq!(counted.0[0], (THREADS * ways.len() * 4) as u64);
        assert!(counted.0[3] > 0 && counted.0[4] > 0, "{counted:?}");
        if index.params().is_some() {
            assert!(counted.0[..5].iter().all(|&count| count > 0), "{counted:?}");
        }
        // A copy is another index.
        let copy = newer.compacted().unwrap();
        let _ = copy.search(rows.row(0), &ways[0]).unwrap();
        assert_eq!((copy.counters().searches, index.counters().searches), (1, counted.0[0]));
    }
}

#[test]
fn batches_count_by_query_and_cursors_by_themselves() {
    let rows = uniform(300, 8, 2);
    for index in [Index::hnsw(8, L2, params()).unwrap(), Index::flat(8, L2).unwrap()] {
        index.append(&rows.array(), 0u64).unwrap();
        let points = [Some(vec![Some(0.5); 8]), None, Some(vec![Some(0.1); 8])];
        let queries = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 8);
        let answers = index.search_batch(&queries, &SearchParams::new(3)).unwrap();
        assert_eq!(answers.len(), 3);
        assert_eq!(index.counters().searches, 2, "a null query is none");
        let cursor = index.cursor(rows.row(1), &SearchParams::new(7)).unwrap();
        assert_eq!(cursor.count(), 300);
        let counters = index.counters();
        assert_eq!((counters.searches, counters.cursors), (2, 1));
    }
}

#[test]
fn changes_count_with_their_rows() {
    let rows = uniform(200, 2, 3);
    let index = Index::hnsw(2, DistanceType::Cosine, params()).unwrap();
    assert_eq!(index.counters(), Counters::default());
    index.append(&rows.part(0..100).array(), 0u64).unwrap();
    index
        .append_batches_unique(&[(rows.part(100..120).array(), 100), (rows.part(120..130).array(), 120)])
        .unwrap();
    index.append(&rows.part(0..1).array(), 7u64).unwrap_err();
    index.append(&uniform(1, 3, 1).array(), 900u64).unwrap_err();
    index.upsert(&rows.part(130..140).array(), array_of((0..5).chain(200..205))).unwrap();
    index.delete_batch(&[10, 11, 12]).unwrap();
    index.delete(10).unwrap_err();
    let vector = |x: f32| Some([Some(x), Some(1.0)]);
    let unusable = [vector(1.0), None, vector(f32::NAN), Some([Some(1.0), None]), Some([Some(0.0); 2])];
    let unusable = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(unusable, 2);
    index.append_unique(&unusable, 300u64).unwrap();

    let check = |counters: Counters| {
        assert_eq!((counters.appends, counters.failed_appends, counters.appended_rows), (4, 2, 141));
        assert_eq!((counters.replaced_rows, counters.deletes, counters.deleted_rows), (5, 1, 3));
        let skipped = counters.skipped;
        assert_eq!(skipped, index.skipped());
        let by_reason = [skipped.null, skipped.non_finite, skipped.null_element, skipped.zero_norm];
        assert_eq!(by_reason, [1; 4]);
        assert_eq!((counters.writer_waits, counters.writer_wait_nanos), (0, 0));
    };
    check(index.counters());
    assert_eq!((index.counters().compactions, index.counters().removed_rows), (0, 0));
    index.compact().unwrap();
    index.compact().unwrap();
    check(index.counters());
    assert_eq!((index.counters().compactions, index.counters().removed_rows), (2, 8));

    // They are stored and printed as they are.
    let text = serde_json::to_string(&index.counters()).unwrap();
    assert!(text.contains(r#""appended_rows":141"#), "{text}");
    assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), index.counters());
}

/// An append that comes while another writer is at work, as often as it takes until one is seen to wait.
#[test]
fn waits_for_another_writer_are_timed() {
    let rows = uniform(1, 4, 4);
    let index = Index::flat(4, L2).unwrap();
    let mut appends = 0;
    while index.counters().writer_waits == 0 {
        thread::scope(|scope| {
            // The last step of a compaction holds the lock.
            index
                .compact_watched(&mut |step| {
                    if step == CompactionStep::LastRows {
                        let (index, rows) = (&index, &rows);
                        let (started, is_started) = mpsc::channel();
                        scope.spawn(move || {
                            started.send(()).unwrap();
                            index.append(&rows.array(), appends).unwrap();
                        });
                        is_started.recv().unwrap();
                        thread::sleep(Duration::from_millis(5));
                    }
                    true
                })
                .unwrap();
        });
        appends += 1;
    }
    let counters = index.counters();
    println!("{counters:?}");
    assert_eq!((counters.appends, counters.writer_waits, counters.compactions), (appends, 1, appends));
    assert!(counters.writer_wait_nanos > 0);
}
