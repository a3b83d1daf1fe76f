//! Where elements lie: what is skipped among them, slices at any offset, and that nothing is copied.

use std::sync::Arc;

use arrow_array::{Array, FixedSizeListArray};
use arrow_buffer::{Buffer, NullBuffer};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, Coding, DistanceType, ElementType, Index, SearchParams,
    SkippedRows, VectorSource,
};

use super::columns::{
    ELEMENTS, child, column, graph_bytes, index_of, item, list, numbers, oracle, pairs, query, stored,
};
use crate::data::{in_pool, uniform};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Null,
    NullElement,
    NotFinite,
    /// Skipped under cosine alone.
    Zero,
}

/// Good rows among all that cannot be searched for one reason or two, and what becomes of each.
fn awkward(element: ElementType) -> (FixedSizeListArray, Vec<Fate>) {
    const NAN: f64 = f64::NAN;
    let mut rows = vec![
        (Fate::Good, [Some(1.0), Some(2.0), Some(3.0)]),
        (Fate::Null, [Some(1.0), Some(2.0), Some(3.0)]),
        (Fate::NullElement, [Some(1.0), None, Some(3.0)]),
        (Fate::Zero, [Some(0.0), Some(0.0), Some(0.0)]),
        (Fate::Zero, [Some(-0.0), Some(0.0), Some(-0.0)]),
        (Fate::Good, [Some(3.0), Some(2.0), Some(1.0)]),
        (Fate::Null, [Some(NAN), None, Some(1.0)]),
        (Fate::NullElement, [Some(NAN), Some(2.0), None]),
        (Fate::Good, [Some(0.0), Some(0.0), Some(5.0)]),
    ];
    if !matches!(element, ElementType::Int8 | ElementType::UInt8) {
        // 1e39 is infinite in all types but doubles, and in `f32`; 1e-60 is zero there.
        for bad in [NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39, f64::MIN] {
            rows.push((Fate::NotFinite, [Some(1.0), Some(bad), Some(1.0)]));
            rows.push((Fate::Good, [Some(1.0), Some(2.0), Some(2.0)]));
        }
        rows.push((Fate::Zero, [Some(1e-60), Some(-1e-60), Some(0.0)]));
    }
    rows.push((Fate::Good, [Some(2.0), Some(1.0), Some(2.0)]));
    let values: Vec<f64> = rows.iter().flat_map(|row| row.1.map(|x| x.unwrap_or(NAN))).collect();
    let valid: Vec<bool> = rows.iter().flat_map(|row| row.1.map(|x| x.is_some())).collect();
    let row_valid: Vec<bool> = rows.iter().map(|row| row.0 != Fate::Null).collect();
    let child = child(element, &values, Some(NullBuffer::from(valid)));
    let array = list(element, 3, child, Some(NullBuffer::from(row_valid)));
    (array, rows.into_iter().map(|row| row.0).collect())
}

#[test]
fn rows_that_cannot_be_searched_are_skipped_and_counted() {
    for (element, distance_type) in pairs() {
        let (array, fates) = awkward(element);
        for (start, len) in [(0, fates.len()), (1, fates.len() - 2), (3, 2)] {
            let case = format!("{element}, {distance_type}, rows {start} to {}", start + len);
            let fates = &fates[start..start + len];
            let count = |fate: Fate| fates.iter().filter(|&&f| f == fate).count() as u64;
            let cosine = distance_type == DistanceType::Cosine;
            let skipped = SkippedRows {
                null: count(Fate::Null),
                null_element: count(Fate::NullElement),
                non_finite: count(Fate::NotFinite),
                zero_norm: if cosine { count(Fate::Zero) } else { 0 },
            };
            let is_good = |fate: Fate| fate == Fate::Good || fate == Fate::Zero && !cosine;
            let row_ids: Vec<u64> =
                (100..).zip(fates).filter(|&(_, &fate)| is_good(fate)).map(|(row_id, _)| row_id).collect();

            let index = Index::builder(3, distance_type)
                .element_type(element)
                .params(BuildParams::default())
                .build()
                .unwrap();
            let appended = index.append(&array.slice(start, len), 100).unwrap();
            assert_eq!(appended, 0..row_ids.len() as u32, "{case}");
            assert_eq!(index.skipped(), skipped, "{case}");
            let found = index.search(&[1.0, 2.0, 3.0], &SearchParams::new(100)).unwrap().into_vec();
            let mut found: Vec<u64> = found.iter().map(|result| result.row_id).collect();
            found.sort_unstable();
            assert_eq!(found, row_ids, "{case}");
        }
    }
}

/// A double counts as the `f32` that it is rounded to.
#[test]
fn doubles_are_usable_up_to_the_largest_f32() {
    let largest = f64::from(f32::MAX);
    let values = [largest, -largest * (1.0 + 1e-9), largest * (1.0 + 1e-7), f64::from(f32::MIN_POSITIVE)];
    let array = list(ElementType::Float64, 1, child(ElementType::Float64, &values, None), None);
    for distance_type in [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot, DistanceType::L1] {
        let index = Index::builder(1, distance_type)
            .element_type(ElementType::Float64)
            .params(BuildParams::default())
            .build()
            .unwrap();
        assert_eq!(index.append(&array, 0).unwrap(), 0..3, "{distance_type}");
        assert_eq!(
            index.skipped(),
            SkippedRows { non_finite: 1, ..SkippedRows::default() },
            "{distance_type}"
        );
        let kept = (0..3).map(|id| index.reader().snapshot().widened(id)[0]).collect::<Vec<_>>();
        assert_eq!(kept, [f32::MAX, f32::MIN, f32::MIN_POSITIVE], "{distance_type}");
        assert!(index.contains(3) && !index.contains(2));
    }
}

/// Positions of the batches of `rows` rows: many of one row, some within a block of ids, one across several.
fn pieces(rows: usize) -> Vec<(usize, usize)> {
    let mut sizes = [vec![1; 20], vec![333, 2, 64, 1, 1]].concat();
    sizes.push(rows - sizes.iter().sum::<usize>());
    let starts = sizes.iter().scan(0, |next, size| {
        *next += size;
        Some(*next - size)
    });
    starts.zip(sizes.iter().copied()).collect()
}

#[test]
fn slices_give_what_their_copies_give() {
    const DIM: usize = 7;
    for (element, distance_type) in pairs() {
        // Five elements and three rows before the first, and bitmaps without a null.
        let mut values = vec![1.0; 5];
        values.extend(numbers(column(element, distance_type, 560, DIM, 9).values()));
        let all_valid = |len| Some(NullBuffer::new_valid(len));
        let shifted = child(element, &values, all_valid(values.len())).slice(5, 560 * DIM);
        let field = Arc::new(Arc::unwrap_or_clone(item(element)).with_name("element"));
        let sliced =
            FixedSizeListArray::try_new(field, DIM as i32, shifted, all_valid(560)).unwrap().slice(3, 550);
        let rows = stored(&sliced);

        let make = || {
            Index::builder(DIM, distance_type)
                .element_type(element)
                .params(BuildParams::default())
                .build()
                .unwrap()
        };
        let (from_slices, from_copies) = (make(), make());
        for (start, len) in pieces(550) {
            let copy = child(element, &rows[start..start + len].concat(), None);
            from_slices.append(&sliced.slice(start, len), start as u64).unwrap();
            from_copies.append(&list(element, DIM, copy, None), start as u64).unwrap();
        }
        assert_eq!((from_slices.len(), from_copies.len()), (550, 550), "{element}, {distance_type}");
        let same = graph_bytes(&from_slices) == graph_bytes(&from_copies);
        assert!(same, "{element}, {distance_type}: the graphs differ");
        let snapshot = from_slices.reader().snapshot();
        for (id, row) in (0..).zip(&rows) {
            assert_eq!(snapshot.row_id(id), u64::from(id));
            assert_eq!(snapshot.widened(id).to_vec(), row.iter().map(|&x| x as f32).collect::<Vec<_>>());
        }
        let query = query(&sliced, 17);
        let found = from_slices.search_exact(&query, &SearchParams::new(20)).unwrap().into_vec();
        assert_eq!(found, from_copies.search_exact(&query, &SearchParams::new(20)).unwrap().into_vec());
        let mut exact: Vec<f64> = rows.iter().map(|row| oracle(distance_type, &query, row)).collect();
        exact.sort_by(f64::total_cmp);
        for (result, exact) in found.iter().zip(exact) {
            let off = (f64::from(result.distance) - exact).abs();
            assert!(
                off <= 1e-5 * exact.abs().max(1.0),
                "{element}, {distance_type}: {result:?}, not {exact}"
            );
        }
    }
}

/// Bytes of an index of 1,500 rows and of a store of them, and of their column.
fn resident(element: ElementType, dim: usize) -> (usize, usize, usize) {
    let array = column(element, DistanceType::L2, 1_500, dim, 10);
    let column: Buffer = array.values().to_data().buffers()[0].clone();
    let store = ArrowFixedSizeListVectorStore::try_with_elements(element, dim, DistanceType::L2).unwrap();
    store.append_batch(Arc::new(array.clone()), 0).unwrap();
    let index = in_pool(1, || {
        let builder = Index::builder(dim, DistanceType::L2).element_type(element).codes(Coding::Off);
        let index = builder.build().unwrap();
        (0..1_500).step_by(500).for_each(|at| drop(index.append(&array.slice(at, 500), at as u64).unwrap()));
        index
    });
    let bytes = (index.resident_bytes(), store.resident_bytes(), column.len());
    drop((array, store));
    assert!(column.strong_count() > 1, "{element}: the index has let go of the caller's buffer");
    drop(index);
    assert_eq!(column.strong_count(), 1, "{element}: somebody holds the caller's buffer");
    bytes
}

#[test]
fn a_column_is_not_copied_however_wide_it_is() {
    for element in ELEMENTS {
        let (index_8, store_8, column_8) = resident(element, 8);
        let (index_256, store_256, column_256) = resident(element, 256);
        let (grown, wider) = (index_256.abs_diff(index_8), column_256 - column_8);
        println!("{element}: {grown} bytes for {wider} more of the column");
        assert_eq!(column_256, 32 * column_8, "{element}");
        assert_eq!(store_8, store_256, "{element}");
        assert!(grown < wider / 8, "{element}: {index_8} bytes, {index_256} of the wider rows");
    }
}

/// In place: what the store gives out of an `f32` column lies in the caller's buffer.
#[test]
fn f32_rows_are_given_out_where_they_lie() {
    let array = uniform(300, 5, 11).array().slice(7, 200);
    let index = index_of(ElementType::Float32, DistanceType::L1, &array, 64);
    let base = array.values().to_data().buffers()[0].as_ptr() as usize;
    for id in 0..200 {
        let address = index.reader().snapshot().vector(id).as_ptr() as usize;
        assert_eq!(address - base, id as usize * 5 * size_of::<f32>(), "row {id} was copied");
    }
}
