//! Arrow arrays of every layout: what is read, what is skipped, and that nothing is copied.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};
use pennon::lance::{FLAT_COLUMN, ROW_ID_COLUMN};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, Index, SearchParams, SkippedRows, VectorSource,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::data::{METRICS, Rows, clustered, list, pair, recall, uniform};
use crate::export::{bytes, push_bytes};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    NullRow,
    NullElement,
    NotANumber,
    Infinite,
    Zero,
}

/// An array: the kind of each row, and how it lies in memory.
#[derive(Clone, Debug)]
struct Layout {
    kinds: Vec<Kind>,
    child: &'static str,
    nullable: bool,
    /// Null bitmaps even if nothing is null.
    bitmaps: bool,
    /// Elements in the buffer before the first row.
    lead: usize,
    /// Rows cut off before and after.
    cut: (usize, usize),
    seed: u64,
}

impl Layout {
    fn array(&self, dim: usize) -> FixedSizeListArray {
        let mut values = uniform(self.lead + self.kinds.len() * dim, 1, self.seed).values;
        let mut row_valid = vec![true; self.kinds.len()];
        let mut valid = vec![true; values.len()];
        for (row, &kind) in self.kinds.iter().enumerate() {
            let first = self.lead + row * dim;
            let at = first + (self.seed as usize).wrapping_add(row * 7) % dim;
            match kind {
                Kind::Good => {}
                Kind::NullRow => {
                    row_valid[row] = false;
                    values[at] = f32::NAN;
                    valid[at] = row % 2 == 0;
                }
                Kind::NullElement if self.nullable => {
                    valid[at] = false;
                    values[at] = if row % 2 == 0 { f32::NAN } else { 0.5 };
                }
                Kind::NotANumber => values[at] = f32::NAN,
                Kind::NullElement => {}
                Kind::Infinite => values[at] = if row % 2 == 0 { f32::INFINITY } else { f32::NEG_INFINITY },
                Kind::Zero => values[first..first + dim].fill(if row % 2 == 0 { 0.0 } else { -0.0 }),
            }
        }
        let bitmap =
            |valid: Vec<bool>| (self.bitmaps || valid.contains(&false)).then(|| NullBuffer::from(valid));
        let rows = self.kinds.len();
        let child = Float32Array::new(ScalarBuffer::from(values), bitmap(valid)).slice(self.lead, rows * dim);
        let array = list(child, dim, self.child, self.nullable, bitmap(row_valid));
        let start = self.cut.0.min(rows);
        array.slice(start, rows - start - self.cut.1.min(rows - start))
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    let kind = prop_oneof![
        6 => Just(Kind::Good),
        1 => Just(Kind::NullRow),
        1 => Just(Kind::NullElement),
        1 => Just(Kind::NotANumber),
        1 => Just(Kind::Infinite),
        1 => Just(Kind::Zero),
    ];
    let child = prop_oneof![Just("item"), Just("element"), Just("l"), Just("")];
    let flags = (any::<bool>(), any::<bool>());
    let kinds = prop_oneof![
        1 => proptest::collection::vec(Just(Kind::Good), 0..70),
        4 => proptest::collection::vec(kind, 0..70),
    ];
    (kinds, child, flags, 0usize..20, (0usize..12, 0usize..12), any::<u64>()).prop_map(
        |(kinds, child, (nullable, bitmaps), lead, cut, seed)| Layout {
            kinds,
            child,
            nullable,
            bitmaps,
            lead,
            cut,
            seed,
        },
    )
}

/// Reads an array one value at a time: (position, row) of the rows that can be searched.
fn naive(array: &FixedSizeListArray, distance_type: DistanceType) -> (Vec<(usize, Vec<f32>)>, SkippedRows) {
    let mut good = Vec::new();
    let mut skipped = SkippedRows::default();
    for position in 0..array.len() {
        let value = array.value(position);
        let row = value.as_primitive::<Float32Type>();
        if array.is_null(position) {
            skipped.null += 1;
        } else if row.null_count() > 0 {
            skipped.null_element += 1;
        } else if !row.values().iter().all(|value| value.is_finite()) {
            skipped.non_finite += 1;
        } else if distance_type == DistanceType::Cosine && row.values().iter().all(|&value| value == 0.0) {
            skipped.zero_norm += 1;
        } else {
            good.push((position, row.values().to_vec()));
        }
    }
    (good, skipped)
}

fn add(total: &mut SkippedRows, more: &SkippedRows) {
    total.null += more.null;
    total.null_element += more.null_element;
    total.non_finite += more.non_finite;
    total.zero_norm += more.zero_norm;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_layout_is_read_as_the_naive_reader_reads_it(
        dim in 1usize..12,
        metric in 0usize..3,
        with_row_ids in any::<bool>(),
        layouts in proptest::collection::vec(layout(), 1..5),
    ) {
        let distance_type = METRICS[metric];
        let store = Arc::new(ArrowFixedSizeListVectorStore::try_new(dim, distance_type).unwrap());
        let index = Index::hnsw(dim, distance_type, BuildParams::default()).unwrap();
        let mut expected: Vec<(u64, Vec<f32>, usize)> = Vec::new();
        let mut skipped = SkippedRows::default();
        for (number, layout) in layouts.iter().enumerate() {
            let array = layout.array(dim);
            let (good, bad) = naive(&array, distance_type);
            add(&mut skipped, &bad);
            let start = 1_000 * number as u64;
            let given = UInt64Array::from_iter_values((0..array.len() as u64).map(|row| 5_000 - 3 * row + start));
            let range = expected.len() as u32..(expected.len() + good.len()) as u32;
            let base = array.values().as_primitive::<Float32Type>().values().as_ptr() as usize;
            for (position, row) in good {
                let row_id = if with_row_ids { given.value(position) } else { start + position as u64 };
                expected.push((row_id, row, base + position * dim * size_of::<f32>()));
            }
            if with_row_ids {
                assert_eq!(store.append_batch_with_row_ids(Arc::new(array.clone()), &given).unwrap(), range);
                assert_eq!(index.append(&array, &given).unwrap(), range);
            } else {
                assert_eq!(store.append_batch(Arc::new(array.clone()), start).unwrap(), range);
                assert_eq!(index.append(&array, start).unwrap(), range);
            }
        }
        assert_eq!((store.skipped(), index.skipped()), (skipped, skipped));
        assert_eq!((store.committed_len(), index.len()), (expected.len(), expected.len()));
        for snapshot in [store.snapshot(), index.reader().snapshot()] {
            assert_eq!(snapshot.len(), expected.len());
            for (id, (row_id, row, address)) in expected.iter().enumerate() {
                let id = id as u32;
                assert_eq!(snapshot.vector(id), row.as_slice(), "id {id}");
                assert_eq!(snapshot.row_id(id), *row_id, "id {id}");
                assert_eq!(snapshot.vector(id).as_ptr() as usize, *address, "id {id} was copied");
            }
        }
        if let Some((_, query, _)) = expected.last() {
            let all = expected.len();
            let found = index.search(query, &SearchParams::new(all + 1).ef(all)).unwrap().into_vec();
            assert_eq!(found.len(), all);
            assert_eq!(found, index.search_exact(query, &SearchParams::new(all)).unwrap().into_vec());
            assert!(found.iter().all(|r| r.row_id == expected[r.id as usize].0));
        }
    }
}

#[test]
fn batches_without_a_usable_row_get_no_ids() {
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    let nulls = FixedSizeListArray::new_null(field, 4, 10);
    let nan = Rows { dim: 4, values: vec![f32::NAN; 40] }.array();
    let infinite = Rows { dim: 4, values: vec![f32::NEG_INFINITY; 40] }.array();
    let zero = Rows { dim: 4, values: vec![-0.0; 40] }.array();
    let index = Index::hnsw(4, DistanceType::Cosine, BuildParams::default()).unwrap();
    let good = uniform(30, 4, 1);
    for len in [0, 30, 60] {
        for bad in [&nulls, &nan, &infinite, &zero, &nulls.slice(3, 0)] {
            assert_eq!(index.append_unique(bad, 0).unwrap(), len..len);
        }
        assert_eq!((index.len(), index.is_empty()), (len as usize, len == 0));
        assert_eq!(
            index.search(good.row(0), &SearchParams::new(100).ef(10)).unwrap().into_vec().len(),
            len as usize
        );
        assert_eq!(index.append_unique(&good.array(), 0).unwrap(), len..len + 30);
    }
    assert_eq!(index.skipped(), SkippedRows { null: 30, null_element: 0, non_finite: 60, zero_norm: 30 });
    assert_eq!(index.skipped().total(), 120);
    assert!(index.health().unwrap().is_healthy());
}

/// Rows of `clean` with a bad one after every ninth, and the positions the clean ones got.
fn with_bad_rows(clean: &Rows, cosine: bool) -> (FixedSizeListArray, Vec<u64>) {
    let (mut values, mut row_valid, mut valid, mut positions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, row) in clean.iter().enumerate() {
        positions.push(row_valid.len() as u64);
        values.extend_from_slice(row);
        valid.extend(vec![true; clean.dim]);
        row_valid.push(true);
        if number % 9 == 8 {
            let kind = (number / 9) % if cosine { 5 } else { 4 };
            let (mut bad, mut bad_valid) = (row.to_vec(), vec![true; clean.dim]);
            match kind {
                0 => bad[number % clean.dim] = f32::NAN,
                1 => bad[number % clean.dim] = f32::INFINITY,
                2 => bad_valid[number % clean.dim] = false,
                3 => {}
                _ => bad.fill(0.0),
            }
            values.extend(bad);
            valid.extend(bad_valid);
            row_valid.push(kind != 3);
        }
    }
    let child = Float32Array::new(ScalarBuffer::from(values), Some(NullBuffer::from(valid)));
    (list(child, clean.dim, "element", true, Some(NullBuffer::from(row_valid))), positions)
}

fn flat_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    push_bytes(&mut out, &batch[FLAT_COLUMN]);
    out
}

#[test]
fn bad_rows_change_nothing_for_the_others() {
    let all = clustered(3_050, 12, 64, 2).0;
    let (rows, queries) = (all.part(0..3_000), all.part(3_000..3_050));
    for distance_type in METRICS {
        let clean = Index::hnsw(12, distance_type, BuildParams::default()).unwrap();
        let dirty = Index::hnsw(12, distance_type, BuildParams::default()).unwrap();
        let mut row_ids = Vec::new();
        for start in (0..3_000).step_by(250) {
            let part = rows.part(start..start + 250);
            let (array, positions) = with_bad_rows(&part, distance_type == DistanceType::Cosine);
            let first = 10_000 * start as u64;
            clean.append(&part.array(), first).unwrap();
            dirty.append(&array, first).unwrap();
            row_ids.extend(positions.iter().map(|position| first + position));
        }
        assert_eq!(dirty.skipped().total(), 12 * (250 / 9), "{distance_type}: {}", dirty.skipped());
        assert_eq!(clean.skipped(), SkippedRows::default());
        let ((clean_graph, clean_rows), (graph, vectors)) =
            (clean.to_lance_batches().map(pair).unwrap(), dirty.to_lance_batches().map(pair).unwrap());
        assert!(bytes(&clean_graph) == bytes(&graph), "{distance_type}: the bad rows changed the graph");
        assert!(
            flat_bytes(&clean_rows) == flat_bytes(&vectors),
            "{distance_type}: the bad rows changed the vectors"
        );
        let exported = vectors[ROW_ID_COLUMN].as_primitive::<UInt64Type>();
        assert_eq!(exported.values().to_vec(), row_ids, "{distance_type}: row ids");
        let recall = recall(&rows, &queries, distance_type, 10, |query| {
            let found = dirty.search(query, &SearchParams::new(10).ef(100)).unwrap().into_vec();
            assert!(found.iter().all(|r| r.row_id == row_ids[r.id as usize]));
            found
        });
        println!(
            "{distance_type}: recall@10 {recall:.4} among injected NaN, infinite, zero and half-null rows"
        );
        // Inner products are not a metric: their graph is held to less.
        let floor = if distance_type == DistanceType::Dot { 0.8 } else { 0.97 };
        assert!(recall >= floor, "{distance_type}: recall {recall}");
    }
}
