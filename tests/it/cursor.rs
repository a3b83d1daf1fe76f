//! Page after page of a search: nothing twice, nothing lost, and one version of the index throughout.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrow_buffer::BooleanBuffer;
use pennon::{BuildParams, Cursor, DistanceType, Error, Hit, Index, RowMask, SearchParams};
use roaring::RoaringTreemap;

use crate::data::{
    METRICS, Rows, Shape, assert_sorted, build, clustered, exact_distance, ids, recall, uniform,
};

/// All pages of `size` rows; each is in order, and full but for the last.
fn pages(mut cursor: Cursor, size: usize) -> Vec<Hit> {
    let mut all = Vec::new();
    loop {
        let page = cursor.next_k(size);
        assert_sorted(&page, "a page");
        assert!(page.len() <= size, "{} rows in a page of {size}", page.len());
        let last = page.len() < size;
        all.extend(page);
        assert!(all.len() <= 100_000, "the pages do not end");
        if last {
            assert!(cursor.next_k(size).is_empty(), "rows after the last page of {size}");
            return all;
        }
    }
}

fn row_ids(results: &[Hit]) -> Vec<u64> {
    let mut row_ids: Vec<u64> = results.iter().map(|result| result.row_id).collect();
    row_ids.sort_unstable();
    row_ids
}

/// Panics if a result is not the row it names, at its distance. Row ids are positions in `rows`.
fn assert_true(rows: &Rows, query: &[f32], results: &[Hit]) {
    for result in results {
        let exact = exact_distance(DistanceType::L2, query, rows.row(result.row_id as usize));
        let off = (f64::from(result.distance) - exact).abs();
        assert!(off <= 1e-5 * (1.0 + exact), "{result:?}, not {exact}");
    }
}

#[test]
fn all_pages_together_are_every_row_once() {
    for shape in [Shape::Random, Shape::Clustered, Shape::Copies, Shape::Grid, Shape::OutlierLast] {
        let rows = shape.rows(1_200, 6, 41);
        let params = BuildParams::default().num_edges(8).ef_construction(40);
        let index = build(&rows, DistanceType::L2, &params, 400);
        let before = index.reader();
        (0..1_200).step_by(7).for_each(|row| index.delete(row).unwrap());
        let alive = |row: u64| !row.is_multiple_of(7);
        let expect =
            |wanted: &dyn Fn(u64) -> bool| (0..1_200).filter(|&row| wanted(row)).collect::<Vec<u64>>();
        let few = RoaringTreemap::from_iter((0..1_200_u64).filter(|row| row % 100 == 1));
        let even = before.mask(BooleanBuffer::collect_bool(1_200, |id| id % 2 == 0)).unwrap();
        let now = index.reader();
        let top = SearchParams::new(3).ef(30);
        for (name, reader, params, expected) in [
            ("live rows", &now, top.clone(), expect(&alive)),
            ("an older version", &before, top.clone(), expect(&|_| true)),
            ("a watermark", &now, top.clone().max_row_id(600), expect(&|row| alive(row) && row <= 600)),
            (
                "a mask of a third",
                &now,
                top.clone().mask(RowMask::predicate(|row| row % 3 == 1)),
                expect(&|row| alive(row) && row % 3 == 1),
            ),
            (
                "a mask of a hundredth",
                &now,
                top.clone().mask(few),
                expect(&|row| alive(row) && row % 100 == 1),
            ),
            ("a mask of none", &now, top.clone().mask(RowMask::predicate(|_| false)), Vec::new()),
            (
                "all of it",
                &before,
                top.clone().mask(even).max_row_id(1_000),
                expect(&|row| row % 2 == 0 && row <= 1_000),
            ),
        ] {
            let query = uniform(1, 6, 42).values;
            for size in [1, 10, 333, 1_200, usize::MAX] {
                let all = pages(reader.cursor(&query, &params).unwrap(), size);
                assert_eq!(row_ids(&all), expected, "{shape:?}, {name}, pages of {size}");
                assert_true(&rows, &query, &all);
            }
        }
    }
}

#[test]
fn a_page_of_no_rows_loses_nothing() {
    let rows = clustered(900, 8, 64, 43).0;
    let index = build(&rows, DistanceType::L2, &BuildParams::default(), 300);
    let query = uniform(1, 8, 44).values;
    let mut plain = index.cursor(&query, &SearchParams::new(10)).unwrap();
    let mut halting = index.cursor(&query, &SearchParams::new(10)).unwrap();
    for size in [0, 1, 0, 0, 50, 7, 0, 800, 100, 0, 5] {
        assert!(halting.next_k(0).is_empty());
        assert_eq!(halting.next_k(size), plain.next_k(size), "a page of {size}");
    }
    let all = pages(index.cursor(&query, &SearchParams::new(10)).unwrap(), 90);
    assert_eq!(row_ids(&all), (0..900).collect::<Vec<u64>>());
}

#[test]
fn the_first_pages_are_the_nearest_rows() {
    for distance_type in [DistanceType::L2, DistanceType::Cosine] {
        let all = clustered(5_050, 16, 64, 45).0;
        let (rows, queries) = (all.part(0..5_000), all.part(5_000..5_050));
        let index = build(&rows, distance_type, &BuildParams::default(), 5_000);
        let cursor = |query: &[f32]| index.cursor(query, &SearchParams::new(10)).unwrap();
        let first = recall(&rows, &queries, distance_type, 10, |query| cursor(query).next_k(10));
        let ten = recall(&rows, &queries, distance_type, 100, |query| {
            let mut cursor = cursor(query);
            let mut found: Vec<Hit> = (0..10).flat_map(|_| cursor.next_k(10)).collect();
            found.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
            found
        });
        println!("{distance_type}: recall@10 {first:.4} of a page, recall@100 {ten:.4} of ten pages");
        assert!(first >= 0.95, "{distance_type}: recall@10 {first} of the first page");
        assert!(ten >= 0.95, "{distance_type}: recall@100 {ten} of ten pages");
    }
}

#[test]
fn an_index_without_live_rows_has_no_pages() {
    let rows = uniform(30, 4, 46);
    let index = Index::hnsw(4, DistanceType::L2, BuildParams::default()).unwrap();
    let empty = || index.cursor(rows.row(0), &SearchParams::new(5)).unwrap();
    let mut early = empty();
    assert!(early.next_k(5).is_empty());
    index.append(&rows.array(), 0).unwrap();
    assert!(early.next_k(5).is_empty(), "rows that came after the cursor");
    (0..30).for_each(|row| index.delete(row).unwrap());
    assert!(empty().next_k(usize::MAX).is_empty());
}

#[test]
fn a_cursor_is_refused_what_a_search_is_refused() {
    for distance_type in METRICS {
        let rows = uniform(30, 4, 47);
        let index = build(&rows, distance_type, &BuildParams::default(), 30);
        let error = |query: &[f32], params| index.cursor(query, &params).err().unwrap();
        let top = || SearchParams::new(5);
        assert!(matches!(error(&[0.5; 3], top()), Error::DimensionMismatch { expected: 4, actual: 3 }));
        let nan = error(&[0.5, f32::NAN, 0.5, 0.5], top());
        assert!(matches!(nan, Error::UnusableQuery { position: 1, .. }), "{nan:?}");
        let mask = build(&rows.part(0..29), distance_type, &BuildParams::default(), 30).reader();
        let other = error(rows.row(0), top().mask(mask.mask(BooleanBuffer::new_set(29)).unwrap()));
        assert!(matches!(other, Error::StaleMask { .. }), "{other:?}");
        let older = index.reader();
        index.append(&uniform(1, 4, 50).array(), 30).unwrap();
        let short = error(rows.row(0), top().mask(older.mask(BooleanBuffer::new_set(30)).unwrap()));
        assert!(matches!(short, Error::MaskLength { expected: 31, actual: 30 }), "{short:?}");
    }
}

/// Between two pages rows come, go and are replaced: those given out before, and those still to come.
#[test]
fn a_cursor_sees_one_version() {
    let rows = uniform(3_000, 6, 48);
    let index = build(&rows.part(0..800), DistanceType::L2, &BuildParams::default(), 200);
    (0..800).step_by(11).for_each(|row| index.delete(row).unwrap());
    let expected: Vec<u64> = (0..800).filter(|row| row % 11 != 0).collect();
    let query = rows.row(2_000);
    let mut cursor = index.cursor(query, &SearchParams::new(10).ef(40)).unwrap();
    let (mut all, mut next, mut step) = (Vec::new(), 800, 0);
    loop {
        let page = cursor.next_k(40);
        assert_sorted(&page, "a page");
        all.extend_from_slice(&page);
        if page.len() < 40 {
            break;
        }
        // The nearest and the farthest row of the page, and some that are still to come.
        for row in [page[0].row_id, page[39].row_id].into_iter().filter(|&row| index.contains(row)) {
            index.delete(row).unwrap();
        }
        let known = row_ids(&all);
        let later: Vec<u64> =
            expected.iter().copied().filter(|row| known.binary_search(row).is_err()).step_by(29).collect();
        for row in later.into_iter().filter(|&row| index.contains(row)) {
            if row % 2 == 0 {
                index.delete(row).unwrap();
            } else {
                let at = row as usize + 800;
                index.upsert(&rows.part(at..at + 1).array(), row).unwrap();
            }
        }
        let batch = rows.part(next..next + 50).array();
        index.append(&batch, next as u64).unwrap();
        (next, step) = (next + 50, step + 1);
    }
    println!("{step} pages of 40, {} rows deleted or replaced meanwhile", index.tombstones());
    assert!(step >= 10 && index.tombstones() > 100);
    assert_eq!(row_ids(&all), expected);
    assert!(ids(&all).iter().all(|&id| id < 800), "a row that came later");
    assert_true(&rows, query, &all);
}

/// Raises the flag when it goes, also in a panic: or the reader would never end.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Rows come in order, 50 at a time, and the oldest go one by one: every version is a run of row ids.
#[test]
fn a_cursor_sees_one_version_while_a_writer_is_at_work() {
    let rows = uniform(4_000, 8, 49);
    let index = build(&rows.part(0..500), DistanceType::L2, &BuildParams::default(), 500);
    let (done, start) = (AtomicBool::new(false), Barrier::new(2));
    let (cursors, versions) = thread::scope(|scope| {
        scope.spawn(|| {
            let _raise = Raise(&done);
            start.wait();
            for batch in 10..80 {
                let array = rows.part(batch * 50..(batch + 1) * 50).array();
                index.append(&array, batch as u64 * 50).unwrap();
                let oldest = (batch as u64 - 10) * 40;
                (oldest..oldest + 40).for_each(|row| index.delete(row).unwrap());
            }
        });
        start.wait();
        let (mut cursors, mut versions) = (0, Vec::new());
        loop {
            let last = done.load(Ordering::Acquire);
            let query = rows.row(cursors * 7 % 4_000);
            let version = index.version();
            for is_pinned in [false, true] {
                let reader = if is_pinned { index.reader_at(version).unwrap() } else { index.reader() };
                let all = pages(reader.cursor(query, &SearchParams::new(10)).unwrap(), 37 + cursors % 100);
                assert_true(&rows, query, &all);
                let found = row_ids(&all);
                let (first, end) = (found[0], found[found.len() - 1] + 1);
                assert!(found.iter().copied().eq(first..end), "{first}..{end} has gaps: {found:?}");
                assert_eq!(end % 50, 0, "a part of a batch");
                let live = (end - first) as usize;
                assert!((500..=550 + 10 * 70).contains(&live), "{live} rows");
                if is_pinned {
                    assert_eq!(end as usize, version.vectors());
                }
            }
            versions.push(version.vectors());
            cursors += 2;
            if last {
                return (cursors, versions);
            }
        }
    });
    assert_eq!(versions.last(), Some(&4_000));
    versions.iter().zip(&versions[1..]).for_each(|(a, b)| assert!(a <= b, "{a} vectors, then {b}"));
    println!("{cursors} cursors of {} to 4,000 vectors", versions[0]);
}
