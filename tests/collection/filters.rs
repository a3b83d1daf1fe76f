//! Filters see each batch once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, Int64Array};
use arrow_ord::cmp::gt_eq;
use arrow_schema::ArrowError;
use pennon::{CollectionSearch, Error, Filter, RowMask};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::kit::*;

/// A filter of ids from `low` on, and the batches and rows that it was asked about.
fn counted(low: i64) -> (Filter, impl Fn() -> (usize, usize)) {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counting = Arc::clone(&counts);
    let filter = Filter::new(move |batch| {
        assert!(batch.column_by_name("a").is_none() && batch.num_columns() == 2);
        counting[0].fetch_add(1, Ordering::Relaxed);
        counting[1].fetch_add(batch.num_rows(), Ordering::Relaxed);
        gt_eq(&batch["id"], &Int64Array::new_scalar(low))
    });
    let of = move || (counts[0].swap(0, Ordering::Relaxed), counts[1].swap(0, Ordering::Relaxed));
    (filter, of)
}

#[test]
fn a_search_beside_a_writer_evaluates_what_is_new() {
    let mut rng = StdRng::seed_from_u64(1);
    let collection = collection(false);
    let (filter, calls) = counted(100);
    let search = CollectionSearch::new(10).filter(&filter);
    let other = search.clone().vector_column("b");
    let empty = collection.search(&[0.1; DIM], &search).unwrap();
    assert_eq!((empty.num_rows(), calls()), (0, (0, 0)));
    for start in 0..20 {
        let rows = rows(&mut rng, start * 2_000..(start + 1) * 2_000);
        collection.append(&batch(&rows)).unwrap();
        let query = vector(&mut rng);
        for _ in 0..3 {
            let hits = collection.search(&query, &search).unwrap();
            assert!(hits.num_rows() == 10 && ids(&hits).iter().all(|id| *id >= 100));
            let hits = collection.search(&query, &other).unwrap();
            assert!(hits.num_rows() == 10 && ids(&hits).iter().all(|id| *id >= 100));
        }
        assert_eq!(calls(), (1, 2_000), "batch {start}");
    }
    // A version from before the last batches needs nothing new, and neither do deletes.
    collection.delete((0..40_000).step_by(3)).unwrap();
    let red = words("red");
    let hits = collection.search(&vector(&mut rng), &search.clone().filter(&red)).unwrap();
    assert!(ids(&hits).iter().all(|id| id % 3 != 0));
    for row in rows_of(&hits) {
        assert_eq!(row.word.as_deref(), Some("red"));
    }
    assert_eq!(calls(), (0, 0));

    // Batches outlive a compaction, and so does what is known of them; the vector ids are others.
    collection.compact().unwrap();
    let hits = collection.search(&vector(&mut rng), &search).unwrap();
    assert!(hits.num_rows() == 10 && ids(&hits).iter().all(|id| *id >= 100 && id % 3 != 0));
    assert_eq!(calls(), (0, 0));
    // Batches that were copied are new.
    collection.delete((0..40_000).filter(|id| id % 3 != 0 && id % 10 != 1)).unwrap();
    collection.compact().unwrap();
    let hits = collection.search(&vector(&mut rng), &search).unwrap();
    assert!(ids(&hits).iter().all(|id| *id >= 100 && id % 3 != 0 && id % 10 == 1));
    assert_eq!(calls(), (1, collection.len()));
    // Clones share what is known, other filters do not.
    let _ = collection.search(&vector(&mut rng), &CollectionSearch::new(1).filter(&filter.clone())).unwrap();
    assert_eq!(calls(), (0, 0));
}

/// A mask has one bit for each vector id, in every version, and can be combined and used with the index.
#[test]
fn a_mask_is_that_of_a_reader() {
    let mut rng = StdRng::seed_from_u64(2);
    let collection = collection(true);
    let (filter, _) = counted(250);
    let mut readers = vec![collection.reader()];
    for start in (0..500).step_by(50) {
        collection.append(&batch(&rows(&mut rng, start..start + 50))).unwrap();
        readers.push(collection.reader());
    }
    // From the last to the first: what is known is longer than the version.
    for reader in readers.iter().rev().chain(&readers) {
        for column in ["a", "b"] {
            let index = reader.index(column).unwrap();
            let mask = reader.mask(column, &filter).unwrap();
            let params = pennon::SearchParams::new(usize::MAX).mask(mask.and(RowMask::row_id_range(..400)));
            let mut found: Vec<u64> = index.search(&[0.5; DIM], &params).unwrap().row_ids().collect();
            found.sort_unstable();
            // Row ids are ids here.
            let expected: Vec<u64> =
                index.live_row_ids().values().iter().copied().filter(|id| (250..400).contains(id)).collect();
            assert_eq!(found, expected);
        }
    }
    // A mask of the caller's is narrowed by filters.
    let even = RowMask::predicate(|row_id| row_id % 2 == 0);
    let params = pennon::SearchParams::new(usize::MAX).mask(even);
    let hits = collection.search(&[0.5; DIM], &CollectionSearch::from(params).filter(&filter)).unwrap();
    let mut found = ids(&hits);
    found.sort_unstable();
    assert_eq!(found, (250..500).step_by(2).collect::<Vec<_>>());
    let (filtered, _) = counted(498);
    let scanned = collection.reader().scan(Some(&["id".to_string()]), &[filtered]).unwrap();
    let scanned: Vec<i64> = scanned
        .flat_map(|batch| batch.unwrap()["id"].as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(scanned, [498, 499]);
}

#[test]
fn a_filter_that_fails_is_an_error_and_is_asked_again() {
    let mut rng = StdRng::seed_from_u64(3);
    let collection = collection(true);
    collection.append(&batch(&rows(&mut rng, 0..10))).unwrap();
    let search = |filter: &Filter| collection.search(&[0.5; DIM], &CollectionSearch::new(3).filter(filter));
    let short = Filter::new(|_| Ok(BooleanArray::from(vec![true; 3])));
    let error = search(&short).unwrap_err();
    assert_eq!(error.to_string(), "not a valid filter batch: the filter gave 3 values for 10 rows");
    let asked = AtomicUsize::new(0);
    let second = Filter::new(move |batch| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Err(ArrowError::ComputeError("as this test wants".into())),
        _ => Ok(BooleanArray::from(vec![true; batch.num_rows()])),
    });
    assert!(matches!(search(&second), Err(Error::Arrow(ArrowError::ComputeError(_)))));
    assert_eq!(search(&second).unwrap().num_rows(), 3);
}
