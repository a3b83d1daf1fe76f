//! Writes that are cancelled, refused for want of memory or not waited for; and that the collection is as it was then.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pennon::{Collection, Control, DistanceType, Error, Progress, Stage};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::kit::*;

/// Does something, and cancels it at the report of a number.
fn stopped_at<T>(report: usize, call: impl FnOnce(&Control<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let (stop, reports) = (AtomicBool::new(false), AtomicUsize::new(0));
    let observe = |_: Progress| {
        if reports.fetch_add(1, Ordering::Relaxed) == report {
            stop.store(true, Ordering::Relaxed);
        }
    };
    call(&Control::new().on_progress(&observe).cancelled_by(&stop))
}

#[test]
fn writes_that_are_cancelled_leave_no_trace() {
    let mut rng = StdRng::seed_from_u64(21);
    for flat in [false, true] {
        let (collection, mut naive) = (collection(flat), Naive::default());
        let first = rows(&mut rng, 0..400);
        collection.append(&batch(&first)).unwrap();
        naive.put(&first);
        // The first column of vectors takes some of the reports, the second the others.
        for report in 0..14 {
            let new = rows(&mut rng, 300..900);
            let ended = stopped_at(report, |control| collection.upsert_controlled(&batch(&new), control));
            match ended {
                Ok(_) => naive.put(&new),
                Err(Error::Cancelled { operation: "append", .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            assert!(report > 2 || ended.is_err(), "report {report}");
            naive.check(&collection.reader(), &mut rng);
            let next = rows(&mut rng, 1_000 + report as i64..1_001 + report as i64);
            let fails = stopped_at(0, |control| collection.append_controlled(&batch(&next), control));
            assert!(matches!(fails, Err(Error::Cancelled { .. })));
            collection.append(&batch(&next)).unwrap();
            naive.put(&next);
            naive.check(&collection.reader(), &mut rng);
        }
        let home = tempfile::tempdir().unwrap();
        collection.save(home.path()).unwrap();
        naive.check(&Collection::load(home.path()).unwrap().reader(), &mut rng);
        let cancelled = stopped_at(1, |control| collection.compact_controlled(control)).unwrap_err();
        assert!(matches!(cancelled, Error::Cancelled { operation: "compaction", .. }), "{cancelled:?}");
        naive.check(&collection.reader(), &mut rng);
        collection.compact().unwrap();
        naive.check(&collection.reader(), &mut rng);

        // Each report of a save: the older collection is what loads.
        let old = naive.clone();
        let more = rows(&mut rng, 1_100..1_200);
        collection.append(&batch(&more)).unwrap();
        naive.put(&more);
        let mut report = 0;
        while let Err(error) = stopped_at(report, |control| collection.save_controlled(home.path(), control))
        {
            assert!(matches!(error, Error::Cancelled { operation: "save", .. }), "{error:?}");
            old.check(&Collection::load(home.path()).unwrap().reader(), &mut rng);
            let names = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            let directories =
                names.filter(|name| name.to_string_lossy().starts_with("pennon-column")).count();
            assert_eq!(directories, 1, "what was begun is removed");
            report += 1;
        }
        assert!(report >= 6, "{report}");
        naive.check(&Collection::load(home.path()).unwrap().reader(), &mut rng);
    }
}

#[test]
fn progress_is_that_of_one_column_after_the_other() {
    let mut rng = StdRng::seed_from_u64(22);
    let collection = collection(false);
    let seen = std::sync::Mutex::new(Vec::new());
    let observe = |progress: Progress| seen.lock().unwrap().push(progress);
    collection
        .append_controlled(&batch(&rows(&mut rng, 0..300)), &Control::new().on_progress(&observe))
        .unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|progress| progress.stage == Stage::Append && progress.done <= progress.total));
    let begun = seen.windows(2).filter(|pair| pair[1].done < pair[0].done).count();
    assert_eq!(begun, 1, "{seen:?}");
}

#[test]
fn nobody_has_to_wait_for_a_writer() {
    let mut rng = StdRng::seed_from_u64(23);
    let collection = collection(false);
    let (one, two) = (batch(&rows(&mut rng, 0..100)), batch(&rows(&mut rng, 100..101)));
    let refused = AtomicUsize::new(0);
    let observe = |_: Progress| {
        assert!(matches!(collection.try_append(&two), Err(Error::Busy)));
        let no_wait = Control::new().no_wait();
        assert!(matches!(collection.upsert_controlled(&two, &no_wait), Err(Error::Busy)));
        refused.fetch_add(1, Ordering::Relaxed);
    };
    collection.append_controlled(&one, &Control::new().on_progress(&observe)).unwrap();
    assert!(refused.into_inner() > 2);
    assert_eq!(collection.len(), 100);
    collection.try_append(&two).unwrap();
    collection.compact_controlled(&Control::new().no_wait()).unwrap();
    assert_eq!(collection.len(), 101);
}

#[test]
fn a_limit_of_memory_is_that_of_all_columns() {
    let mut rng = StdRng::seed_from_u64(24);
    let limit = 1_500_000;
    let builder = Collection::builder(schema()).vectors("a", DistanceType::L2).vectors("b", DistanceType::L2);
    let collection = builder.key("id").memory_limit(limit).build().unwrap();
    assert_eq!(collection.memory_limit(), Some(limit));
    let mut naive = Naive::default();
    let mut next = 0;
    let error = loop {
        let new = rows(&mut rng, next..next + 100);
        match collection.append(&batch(&new)) {
            Ok(_) => naive.put(&new),
            Err(error) => break error,
        }
        next += 100;
        let resident = collection.resident_bytes();
        assert!(resident <= limit, "{resident} after {next} rows");
        assert!(next < 100_000, "never refused");
    };
    println!("{next} rows, {error}");
    let resident = collection.resident_bytes();
    assert!(matches!(error, Error::MemoryLimit { limit: named, resident: in_use, needed }
            if named == limit && in_use == resident && resident + needed > limit));
    assert!(resident > limit / 2, "refused at {resident}");
    assert_eq!(collection.len(), next as usize);
    collection.delete(0..next * 3 / 4).unwrap();
    collection.compact().unwrap();
    collection.upsert(&batch(&rows(&mut rng, next..next + 100))).unwrap();
    collection.set_memory_limit(Some(1));
    assert!(matches!(collection.append(&batch(&rows(&mut rng, 0..1))), Err(Error::MemoryLimit { .. })));
    collection.set_memory_limit(None);
    collection.append(&batch(&rows(&mut rng, 0..1))).unwrap();
}
