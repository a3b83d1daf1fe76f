//! One writer, readers and compactions at once: a reader sees whole changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pennon::CollectionSearch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kit::*;

const GROUP: i64 = 20;
const GROUPS: i64 = 10;

/// All rows of a group are replaced at once, and their words say which change it was: in no version are there two words in
/// a group, or fewer rows than there were.
#[test]
fn readers_see_whole_changes() {
    let collection = collection(false);
    let mut rng = StdRng::seed_from_u64(1);
    let group = |rng: &mut StdRng, group: i64, change: usize| {
        let mut rows = rows(rng, group * GROUP..(group + 1) * GROUP);
        rows.iter_mut().for_each(|row| row.word = Some(format!("{change}")));
        batch(&rows)
    };
    for number in 0..GROUPS {
        collection.append(&group(&mut rng, number, 0)).unwrap();
    }
    let done = AtomicBool::new(false);
    let check = |seed: u64| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut looks = 0;
        while !done.load(Ordering::Relaxed) || looks < 20 {
            let reader = collection.reader();
            let search = CollectionSearch::new(usize::MAX).columns(["id", "word"]);
            let hits = reader.search(&vector(&mut rng), &search).unwrap();
            let mut found: Vec<(i64, String)> = (ids(&hits).into_iter())
                .zip(hits["word"].as_string::<i32>().iter().map(|word| word.unwrap().to_string()))
                .collect();
            found.sort();
            assert_eq!(found.len() as i64, GROUP * GROUPS);
            for rows in found.chunks(GROUP as usize) {
                assert!(rows.iter().all(|row| row.1 == rows[0].1), "{rows:?}");
            }
            // Keys, scans and other columns tell the same.
            let id = rng.random_range(0..GROUP * GROUPS);
            let row = reader.get(id).unwrap().unwrap();
            assert_eq!(row["word"].as_string::<i32>().value(0), found[id as usize].1);
            assert_eq!(row["id"].as_primitive::<Int64Type>().value(0), id);
            let scanned: usize = reader.scan(None, &[]).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(scanned, found.len());
            looks += 1;
        }
        looks
    };
    let looks: usize = thread::scope(|scope| {
        let readers = [scope.spawn(|| check(2)), scope.spawn(|| check(3))];
        let compactor = scope.spawn(|| {
            let mut compactions = 0;
            while !done.load(Ordering::Relaxed) {
                collection.compact().unwrap();
                compactions += 1;
            }
            compactions
        });
        for change in 1..200 {
            let number = rng.random_range(0..GROUPS);
            let written = collection.upsert(&group(&mut rng, number, change)).unwrap();
            assert_eq!(written.replaced as i64, GROUP);
        }
        done.store(true, Ordering::Relaxed);
        assert!(compactor.join().unwrap() > 0);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    println!("{looks} looks");
    assert_eq!(collection.len() as i64, GROUP * GROUPS);
}
