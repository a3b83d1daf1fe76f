//! What the index of a MemTable says through `tracing`: when Lance compares all rows instead of asking it, when it
//! answers, and what a flush wrote.

use arrow_array::RecordBatch;
use lance::dataset::mem_wal::index::{MemIndex, SearchContext, VectorMemQuery};
use lance::index::vector::VectorIndexParams;
use lance_linalg::distance::DistanceType as LanceMetric;
use pennon::DistanceType;
use tokio::runtime::Builder;

use crate::collected::{assert_one, during};
use crate::memwal::data::{DIM, batch, index, list, null_list, query, rows, search, vectors};
use crate::memwal::table::{INDEX, Shard, Table, with_pennon};

#[test]
fn the_first_search_that_is_declined_for_a_reason_is_a_warning() {
    let index = index(DistanceType::Cosine);
    index.insert(&rows(&vectors(20, 1)), 0).unwrap();
    let in_l2 = VectorMemQuery { distance_type: Some(LanceMetric::L2), ..query(&vectors(1, 2)[0], 3) };
    let (answers, lines) = during(|| {
        let planned = [index.can_answer(&in_l2), index.can_answer(&in_l2)];
        (planned, index.search(&in_l2, &SearchContext::new(u64::MAX)).unwrap().is_some())
    });
    assert_eq!(answers, ([false; 2], false));
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, level) in lines.iter().zip(["WARN", "DEBUG", "DEBUG"]) {
        let says = "Lance compares all rows of the MemTable column=\"vec\" metric=cosine";
        assert!(line.starts_with(level) && line.contains(says), "{line}");
        assert!(line.contains("another metric: call distance_metric(..)"), "{line}");
    }

    // Each other reason has a warning of its own.
    for (vector, reason) in [
        (list(&[vec![0.0; DIM]]), "zero"),
        (list(&[vec![f32::INFINITY; DIM]]), "not finite"),
        (list(&[vec![1.0; DIM - 1]]), "another dimension"),
        (null_list(1), "null"),
    ] {
        let asked = VectorMemQuery { vector, k: 3, ef: None, distance_type: None };
        let (answers, lines) = during(|| index.can_answer(&asked));
        assert!(!answers);
        assert_one(&lines, &["WARN", reason]);
    }
}

#[test]
fn a_search_that_the_index_answers_is_traced() {
    let index = index(DistanceType::L2);
    index.insert(&rows(&vectors(300, 1)), 0).unwrap();
    let (found, lines) = during(|| search(&index, &vectors(1, 2)[0], 5, u64::MAX));
    assert_eq!(found.len(), 5);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_one(&lines, &["TRACE", "searched the MemTable's index", "k=5", "ef=80", "rows=300", "found=5"]);
}

/// What a writer says that puts some batches and flushes them: on one thread, so that nothing else is among it.
fn lines_of_a_flush(batches: Vec<RecordBatch>) -> Vec<String> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let write = async {
        let index = VectorIndexParams::ivf_flat(1, LanceMetric::L2);
        let mut table = Table::create(rows(&vectors(256, 1)), index).await;
        table.initialize().await.unwrap();
        let shard = Shard::open(&table.uri, DistanceType::L2, with_pennon()).await;
        shard.writer.put(batches).await.unwrap();
        shard.flush().await;
        assert_eq!(shard.generations().await.len(), 1);
        shard.writer.close().await.unwrap();
    };
    during(|| runtime.block_on(write)).1
}

#[test]
fn a_flush_says_what_it_wrote() {
    let lines = lines_of_a_flush(vec![batch(1_000, list(&vectors(60, 2))), batch(2_000, null_list(4))]);
    assert_one(&lines, &["INFO", "wrote the MemTable's graph", "rows=60", "of=64", "kind=IVF_HNSW_FLAT"]);
    assert!(lines.iter().any(|line| line.contains("made an index") && line.contains(INDEX)), "{lines:#?}");

    let lines = lines_of_a_flush(vec![batch(2_000, null_list(4))]);
    assert_one(&lines, &["DEBUG", "nothing to flush"]);
}
