//! Deletes, compaction, export and import: the elements stay what they are.

use arrow_array::cast::AsArray;
use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use arrow_schema::DataType;
use pennon::lance::{DISTANCE_TYPE_KEY, FLAT_COLUMN};
use pennon::{BuildParams, DistanceType, ElementType, Hit, Index, SearchParams};

use super::columns::{column, index_of, oracle, pairs, query, stored, tolerance};
use crate::data::{assert_sorted, import};

const DIM: usize = 12;
/// Rows 0 to 599 are appended and every seventh is deleted, 600 to 619 are queries, the rest is appended later.
const ROWS: usize = 760;

/// What Lance has a name for.
fn exportable() -> impl Iterator<Item = (ElementType, DistanceType)> {
    pairs().filter(|pair| pair.1 != DistanceType::L1)
}

struct Case {
    name: String,
    element: ElementType,
    distance_type: DistanceType,
    all: FixedSizeListArray,
    index: Index,
}

impl Case {
    fn new((element, distance_type): (ElementType, DistanceType)) -> Self {
        let all = column(element, distance_type, ROWS, DIM, 12);
        let index = index_of(element, distance_type, &all.slice(0, 600), 250);
        (0..600).step_by(7).for_each(|row_id| index.delete(row_id).unwrap());
        Self { name: format!("{element}, {distance_type}"), element, distance_type, all, index }
    }

    fn live() -> Vec<usize> {
        (0..600).filter(|row| row % 7 != 0).collect()
    }

    fn answers(&self, index: &Index) -> Vec<Vec<Hit>> {
        let search = |row| index.search(&query(&self.all, row), &SearchParams::new(10)).unwrap().into_vec();
        (600..620).map(search).collect()
    }

    /// Panics unless an index is of these elements and answers an exact search as f64 does, and a search for everything
    /// likewise. Row ids are positions; those appended later start at 10,000 instead of 620.
    fn check(&self, index: &Index, rows: usize) {
        let kind = (index.element_type(), index.distance_type(), index.dim(), index.len());
        assert_eq!(kind, (self.element, self.distance_type, DIM, rows), "{}", self.name);
        assert_eq!(index.health().unwrap().unreachable(), 0, "{}", self.name);
        let all = stored(&self.all);
        for row in 600..605 {
            let query = query(&self.all, row);
            let found = index.search_exact(&query, &SearchParams::new(rows)).unwrap().into_vec();
            assert_eq!(found.len(), rows, "{}", self.name);
            assert_sorted(&found, &self.name);
            for result in &found {
                let row_id = result.row_id as usize;
                let row = &all[if row_id < 600 { row_id } else { row_id - 10_000 + 620 }];
                let exact = oracle(self.distance_type, &query, row);
                let allowed = tolerance(self.element, self.distance_type, &query, row);
                let off = (f64::from(result.distance) - exact).abs();
                assert!(off <= allowed, "{}: {result:?}, not {exact}", self.name);
            }
            let met = index.search(&query, &SearchParams::new(rows).ef(2 * rows)).unwrap().into_vec();
            assert_eq!(met, found, "{}", self.name);
        }
    }

    /// Panics unless the storage is a column of the same type with exactly these rows.
    fn check_storage(&self, vectors: &RecordBatch, rows: &[usize]) {
        let flat = vectors[FLAT_COLUMN].as_fixed_size_list();
        assert_eq!(ElementType::of_vectors(flat.data_type()).unwrap(), (self.element, DIM), "{}", self.name);
        assert_eq!(flat.values().data_type(), self.all.values().data_type(), "{}", self.name);
        assert_eq!(flat.null_count() + flat.values().null_count(), 0, "{}", self.name);
        assert_eq!(vectors.schema().metadata()[DISTANCE_TYPE_KEY], self.distance_type.to_string());
        let all = stored(&self.all);
        let expected: Vec<_> = rows.iter().map(|&row| all[row].clone()).collect();
        assert_eq!(stored(flat), expected, "{}", self.name);
    }
}

#[test]
fn a_compacted_index_has_the_same_elements() {
    for pair in pairs() {
        let case = Case::new(pair);
        let live = Case::live().len();
        case.check(&case.index, live);
        let compacted = case.index.reader().compacted().unwrap();
        assert_eq!((compacted.len(), compacted.tombstones()), (live, 0), "{}", case.name);
        case.check(&compacted, live);
        compacted.append(&case.all.slice(620, 140), 10_000).unwrap();
        case.check(&compacted, live + 140);
        case.check(&case.index, live);
    }
}

#[test]
fn out_to_lance_and_back_and_on() {
    for pair in exportable() {
        let case = Case::new(pair);
        let live = Case::live();
        let compacted = case.index.reader().compacted().unwrap();
        let (graph, vectors) = case.index.to_lance_batches().map(crate::data::pair).unwrap();
        case.check_storage(&vectors, &live);

        let back = import(&graph, &vectors).unwrap();
        assert_eq!(case.answers(&back), case.answers(&compacted), "{}", case.name);
        case.check(&back, live.len());
        assert!(back.to_lance_batches().unwrap().vectors == vectors, "{}: exported twice", case.name);

        // More rows, deletes and another round.
        let added = back.append(&case.all.slice(620, 140), 10_000).unwrap();
        assert_eq!(added, live.len() as u32..live.len() as u32 + 140, "{}", case.name);
        case.check(&back, live.len() + 140);
        back.delete(10_000).unwrap();
        case.check(&back, live.len() + 139);
        let (graph, vectors) = back.to_lance_batches().map(crate::data::pair).unwrap();
        case.check_storage(&vectors, &[live, (621..760).collect()].concat());
        let second = import(&graph, &vectors).unwrap();
        case.check(&second, back.len());
    }
}

/// Lance knows bfloat16 by the name of the extension in the field of the list's items.
#[test]
fn bfloat16_leaves_with_its_name() {
    let case = Case::new((ElementType::BFloat16, DistanceType::L2));
    let (_, vectors) = case.index.to_lance_batches().map(crate::data::pair).unwrap();
    let schema = vectors.schema();
    let flat = schema.field_with_name(FLAT_COLUMN).unwrap();
    let DataType::FixedSizeList(item, 12) = flat.data_type() else { panic!("{flat:?}") };
    assert_eq!(*item.data_type(), DataType::FixedSizeBinary(2));
    assert_eq!(item.metadata()["ARROW:extension:name"], "lance.bfloat16");
}

#[test]
fn an_empty_index_keeps_its_elements() {
    for (element, distance_type) in exportable() {
        let empty = Index::builder(DIM, distance_type)
            .element_type(element)
            .params(BuildParams::default())
            .build()
            .unwrap();
        let (graph, vectors) = empty.to_lance_batches().map(crate::data::pair).unwrap();
        let back = import(&graph, &vectors).unwrap();
        let kind = (back.element_type(), back.distance_type(), back.dim(), back.len());
        assert_eq!(kind, (element, distance_type, DIM, 0));
        let rows = column(element, distance_type, 30, DIM, 13);
        assert_eq!(back.append(&rows, 0).unwrap(), 0..30, "{element}, {distance_type}");
        assert_eq!(back.search(&query(&rows, 3), &SearchParams::new(5)).unwrap().into_vec().len(), 5);
    }
}

/// Replaced rows are of the same elements too.
#[test]
fn updates_take_the_place_of_rows() {
    for pair in pairs() {
        let case = Case::new(pair);
        let live = case.index.len();
        let replaced = case.index.upsert(&case.all.slice(620, 100), 100).unwrap();
        assert_eq!(replaced.len(), 100, "{}", case.name);
        // Of the row ids 100 to 199, some were deleted before.
        let deleted = (100..200).filter(|row_id| row_id % 7 == 0).count();
        assert_eq!(case.index.len(), live + deleted, "{}", case.name);
        let (query, all) = (query(&case.all, 600), stored(&case.all));
        for result in case.index.search_exact(&query, &SearchParams::new(live + deleted)).unwrap().into_vec()
        {
            let row_id = result.row_id as usize;
            let row = &all[if (100..200).contains(&row_id) { row_id + 520 } else { row_id }];
            let exact = oracle(case.distance_type, &query, row);
            let allowed = tolerance(case.element, case.distance_type, &query, row);
            assert!((f64::from(result.distance) - exact).abs() <= allowed, "{}: {result:?}", case.name);
        }
    }
}
