//! Conditions on the other columns of the rows, by Arrow's own kernels, as masks.

use std::sync::Arc;

use arrow_array::StringArray;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_ord::cmp::{eq, gt_eq, lt};
use arrow_schema::ArrowError;
use pennon::{
    BuildParams, DistanceType, Error, Index, Metadata, Reader, RowIds, RowMask, SearchParams, VectorSource,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::data::{Rows, clustered, list, uniform};

const DIM: usize = 8;

/// The numbers of rows from `start` on, and a word of each; the word of every fifth row is null.
fn columns(start: i64, rows: usize) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(start..start + rows as i64);
    let words = numbers.values().iter().map(|n| (n % 5 != 0).then(|| ["red", "blue"][*n as usize % 2]));
    let words: StringArray = words.collect();
    let (numbers, words): (ArrayRef, ArrayRef) = (Arc::new(numbers), Arc::new(words));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("word", words, true)]).unwrap()
}

type Condition<'a> = &'a dyn Fn(i64) -> bool;

fn kinds() -> [(&'static str, Index); 2] {
    let graph = Index::hnsw(DIM, DistanceType::Cosine, BuildParams::default()).unwrap();
    [("graph", graph), ("flat", Index::flat(DIM, DistanceType::Cosine).unwrap())]
}

/// The rows of a mask, by vector id. All of them must be alive.
fn bits(reader: &Reader, mask: &RowMask) -> Vec<bool> {
    let mut bits = vec![false; reader.version().vectors()];
    let all = SearchParams::new(usize::MAX).mask(mask);
    for hit in reader.search_exact(&[1.0; DIM], &all).unwrap() {
        bits[hit.id as usize] = true;
    }
    bits
}

fn at_least(low: i64) -> impl FnMut(&RecordBatch) -> Result<BooleanArray, ArrowError> {
    move |batch| gt_eq(&batch["n"], &Int64Array::new_scalar(low))
}

/// Rows of which some have no usable vector, in every way: null, a null element, not finite, zero.
fn with_unusable(rows: &Rows, rng: &mut StdRng) -> (FixedSizeListArray, Vec<bool>) {
    let mut values = rows.values.clone();
    let (mut valid, mut valid_values) = (vec![true; rows.len()], vec![true; values.len()]);
    let mut usable = vec![true; rows.len()];
    for row in 0..rows.len() {
        let elements = row * DIM..(row + 1) * DIM;
        match rng.random_range(0..8) {
            0 => valid[row] = false,
            1 => valid_values[elements.start + 3] = false,
            2 => values[elements.start + 5] = f32::NAN,
            3 => values[elements].fill(0.0),
            _ => continue,
        }
        usable[row] = false;
    }
    let values = Float32Array::new(values.into(), Some(NullBuffer::from(valid_values)));
    (list(values, DIM, "item", true, Some(NullBuffer::from(valid))), usable)
}

/// Rows are those that meet the condition, whichever rows got no id, in batches of any size.
#[test]
fn conditions_know_their_rows() {
    let rows = clustered(2_000, DIM, 64, 1).0;
    let queries = clustered(5, DIM, 64, 2).0;
    for (kind, index) in kinds() {
        let mut rng = StdRng::seed_from_u64(3);
        let metadata = Metadata::new(&index.reader());
        let mut numbers = Vec::new();
        let mut start = 0;
        while start < rows.len() {
            let end = (start + rng.random_range(0..150)).min(rows.len());
            let part = rows.part(start..end);
            let (vectors, usable) = if start < 300 {
                (part.array(), vec![true; end - start])
            } else {
                with_unusable(&part, &mut rng)
            };
            let appended = index.append(&vectors, RowIds::StartingAt(start as u64)).unwrap();
            metadata.append(&appended, &columns(start as i64, end - start)).unwrap();
            assert!(
                appended.skipped().eq((0..end - start).filter(|&row| !usable[row])),
                "rows {start} to {end}"
            );
            numbers.extend((start..end).zip(usable).filter(|(_, usable)| *usable).map(|(n, _)| n as i64));
            assert_eq!((metadata.len(), metadata.is_empty()), (numbers.len(), numbers.is_empty()));
            start = end;
        }
        assert!(numbers.len() < 1_500, "{} rows of 2,000", numbers.len());
        let reader = index.reader();
        assert_eq!(reader.version().vectors(), numbers.len());

        let blue = StringArray::new_scalar("blue");
        let is_blue = |n: i64| n % 5 != 0 && n % 2 == 1;
        let conditions: [(&str, RowMask, Condition); 4] = [
            ("n >= 1,700", metadata.mask(&reader, at_least(1_700)).unwrap(), &|n| n >= 1_700),
            (
                "n < 40",
                metadata.mask(&reader, |batch| lt(&batch["n"], &Int64Array::new_scalar(40))).unwrap(),
                &|n| n < 40,
            ),
            ("blue", metadata.mask(&reader, |batch| eq(&batch["word"], &blue)).unwrap(), &is_blue),
            (
                "by hand",
                metadata
                    .mask(&reader, |batch| {
                        let n = batch["n"].as_primitive::<Int64Type>();
                        Ok(BooleanArray::from_unary(n, |n| n % 97 == 1))
                    })
                    .unwrap(),
                &|n| n % 97 == 1,
            ),
        ];
        for (name, mask, holds) in conditions {
            let expected: Vec<bool> = numbers.iter().map(|&n| holds(n)).collect();
            assert!(bits(&reader, &mask) == expected, "{kind}, {name}");
            let matches = expected.iter().filter(|holds| **holds).count();
            assert!(matches > 0, "{name}");
            for query in queries.iter() {
                let params = SearchParams::new(30).ef(100).mask(mask.clone());
                let hits = reader.search(query, &params).unwrap();
                assert_eq!(hits.len(), matches.min(30), "{kind}, {name}");
                for hit in hits {
                    assert_eq!(hit.row_id, numbers[hit.id as usize] as u64, "{kind}, {name}: {hit:?}");
                    assert!(holds(hit.row_id as i64), "{kind}, {name}: {hit:?}");
                }
            }
        }
    }
}

/// Batches in any order, ids without columns, versions before and after.
#[test]
fn a_mask_is_as_long_as_the_version() {
    let index = Index::flat(DIM, DistanceType::L2).unwrap();
    let metadata = Metadata::new(&index.reader());
    let rows = uniform(100, DIM, 4);
    let mut batches = Vec::new();
    let mut readers = vec![index.reader()];
    for (start, vectors) in rows.batches(20) {
        let appended = index.append(&vectors, start).unwrap();
        batches.push((appended, columns(start as i64, 20)));
        readers.push(index.reader());
    }
    for reader in &readers {
        let mask = metadata.mask(reader, at_least(0)).unwrap();
        assert_eq!(bits(reader, &mask), vec![false; reader.version().vectors()]);
    }
    let mut known = [false; 100];
    for number in [3, 0, 4, 1] {
        let (appended, columns) = &batches[number];
        metadata.append(appended, columns).unwrap();
        known[number * 20..(number + 1) * 20].fill(true);
        for reader in &readers {
            let version = reader.version();
            let expected: Vec<bool> = (0..version.vectors()).map(|id| known[id] && id >= 33).collect();
            let mask = metadata.mask(reader, at_least(33)).unwrap();
            assert_eq!(bits(reader, &mask), expected, "batch {number}, {version:?}");
            let hits = reader.search(rows.row(0), &SearchParams::new(100).mask(mask)).unwrap();
            assert_eq!(hits.len(), expected.iter().filter(|bit| **bit).count());
        }
    }
    assert_eq!(metadata.len(), 80);
}

#[test]
fn an_updated_row_has_the_columns_of_its_batch() {
    let index = Index::hnsw(DIM, DistanceType::L2, BuildParams::default()).unwrap();
    let metadata = Metadata::new(&index.reader());
    let rows = uniform(60, DIM, 5);
    let (old, new) = (rows.part(0..50).array(), rows.part(50..60).array());
    metadata.append(&index.append(&old, 0).unwrap(), &columns(0, 50)).unwrap();
    let before = index.reader();
    // Rows 20 to 29 come again, with numbers from 1,000 on.
    metadata.append(&index.upsert(&new, 20).unwrap(), &columns(1_000, 10)).unwrap();
    let row_ids = |reader: &Reader, low| {
        let mask = metadata.mask(reader, at_least(low)).unwrap();
        let hits = reader.search(rows.row(0), &SearchParams::new(100).mask(mask)).unwrap();
        let mut found: Vec<u64> = hits.row_ids().collect();
        found.sort_unstable();
        found
    };
    assert_eq!(row_ids(&before, 25), (25..50).collect::<Vec<_>>());
    assert!(row_ids(&before, 1_000).is_empty());
    assert_eq!(row_ids(&index.reader(), 1_005), (25..30).collect::<Vec<_>>());
    assert_eq!(row_ids(&index.reader(), 25), (20..50).collect::<Vec<_>>());
}

#[test]
fn compacted_columns_follow_their_rows() {
    let rows = uniform(200, DIM, 6);
    let mut rng = StdRng::seed_from_u64(7);
    let index = Index::flat(DIM, DistanceType::Cosine).unwrap();
    let metadata = Metadata::new(&index.reader());
    for (start, array) in rows.batches(40) {
        let (vectors, _) = with_unusable(&rows.part(start as usize..start as usize + 40), &mut rng);
        // The second batch has no columns.
        let vectors = if start == 40 { array } else { vectors };
        let appended = index.append(&vectors, start).unwrap();
        if start != 40 {
            metadata.append(&appended, &columns(start as i64, 40)).unwrap();
        }
    }
    for row_id in (0..200).filter(|row_id| row_id % 3 == 0 || (120..160).contains(row_id)) {
        if index.contains(row_id) {
            index.delete(row_id).unwrap();
        }
    }
    let live = index.len();
    let compaction = index.compact().unwrap();
    let followed = metadata.compacted(&compaction).unwrap();
    let reader = index.reader();
    assert_eq!(reader.version().vectors(), live);
    let mask = followed.mask(&reader, |batch| lt(&batch["n"], &Int64Array::new_scalar(170))).unwrap();
    let snapshot = reader.snapshot();
    let numbers: Vec<u64> = (0..snapshot.len() as u32).map(|id| snapshot.row_id(id)).collect();
    let expected: Vec<bool> = numbers.iter().map(|n| *n < 170 && !(40..80).contains(n)).collect();
    assert_eq!(bits(&reader, &mask), expected);
    assert!(expected.contains(&true) && followed.len() < numbers.len());

    // New rows go on from there.
    let more = uniform(10, DIM, 8).array();
    followed.append(&index.append(&more, 1_000).unwrap(), &columns(1_000, 10)).unwrap();
    let reader = index.reader();
    let mask = followed.mask(&reader, at_least(1_000)).unwrap();
    let set: Vec<bool> = (0..numbers.len() + 10).map(|id| id >= numbers.len()).collect();
    assert_eq!(bits(&reader, &mask), set);

    // What belongs to the generation of before is refused.
    let (from, to) = (compaction.from.generation(), compaction.to.generation());
    let stale = [metadata.mask(&reader, at_least(0)).err(), followed.compacted(&compaction).err()];
    for (error, (expected, actual)) in stale.into_iter().zip([(from, to), (to, from)]) {
        let error = error.unwrap();
        let numbers =
            matches!(error, Error::StaleIds { expected: e, actual: a, .. } if (e, a) == (expected, actual));
        assert!(numbers, "{error:?}");
        assert!(error.to_string().contains(&from.to_string()), "{error}");
    }
    (0..2_000).filter(|row_id| index.contains(*row_id)).for_each(|row_id| index.delete(row_id).unwrap());
    let none = followed.compacted(&index.compact().unwrap()).unwrap();
    assert_eq!((none.len(), none.is_empty()), (0, true));
}

#[test]
fn what_does_not_fit_is_refused() {
    let rows = uniform(10, DIM, 9);
    let index = Index::flat(DIM, DistanceType::L2).unwrap();
    let metadata = Metadata::new(&index.reader());
    let says = |outcome: Result<(), Error>, part: &str| {
        let error = outcome.err().unwrap_or_else(|| panic!("accepted: {part}"));
        assert!(matches!(error, Error::InvalidBatch { kind: "metadata", .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}, not {part:?}");
    };
    index.append(&uniform(5, DIM, 10).array(), 0).unwrap();
    let appended = index.append(&rows.array(), 100).unwrap();
    metadata.append(&appended, &columns(0, 10)).unwrap();
    says(metadata.append(&appended, &columns(0, 10)), "ids 5..15");
    let appended = index.append(&rows.array(), 200).unwrap();
    says(metadata.append(&appended, &columns(0, 9)), "9 rows for 10 vectors");
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    let others = RecordBatch::try_from_iter([("m", numbers)]).unwrap();
    says(metadata.append(&appended, &others), r#"columns ["m"] after columns ["n", "word"]"#);
    // A batch without a usable row takes no place, whatever its columns.
    let not_vectors = list(Float32Array::from(vec![f32::NAN; 80]), DIM, "item", true, None);
    let appended = index.append(&not_vectors, 300).unwrap();
    metadata.append(&appended, &others).unwrap();
    assert_eq!(metadata.len(), 10);

    let reader = index.reader();
    says(metadata.mask(&reader, |_| Ok(BooleanArray::from(vec![true; 3]))).map(drop), "3 values for 10 rows");
    let failed = metadata.mask(&reader, |_| Err(ArrowError::ComputeError("as this test wants".into())));
    let error = failed.unwrap_err();
    assert!(matches!(error, Error::Arrow(ArrowError::ComputeError(_))), "{error:?}");
    let mask = metadata.mask(&reader, at_least(9)).unwrap();
    assert_eq!(bits(&reader, &mask).iter().position(|bit| *bit), Some(14));

    let another = Index::flat(DIM, DistanceType::L2).unwrap();
    let error = metadata.append(&another.append(&rows.array(), 0).unwrap(), &columns(0, 10)).unwrap_err();
    assert!(matches!(error, Error::StaleIds { .. }), "{error:?}");
}
