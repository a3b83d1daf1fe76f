//! Columns that are missing, of another type or in another order, and batches that are slices.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeListArray,
    ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{Field, Schema};
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::lance::{DISTANCE_COLUMN, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};

use super::{Case, Fixture, N, either, refused, works};

type Column = (Field, ArrayRef);

/// The metadata of `good` over other columns.
fn assemble(good: &RecordBatch, columns: Vec<Column>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Schema::new_with_metadata(fields, good.schema_ref().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

fn column(good: &RecordBatch, name: &str) -> Column {
    (good.schema_ref().field_with_name(name).unwrap().clone(), good[name].clone())
}

fn nullable(name: &str, array: ArrayRef) -> Column {
    (Field::new(name, array.data_type().clone(), true), array)
}

/// `lists` with other items under the same offsets.
fn with_items(lists: &ListArray, item: Field, items: ArrayRef) -> ListArray {
    ListArray::try_new(Arc::new(item), lists.offsets().clone(), items, None).unwrap()
}

fn list_of(lists: &ListArray, items: ArrayRef) -> ListArray {
    with_items(lists, Field::new_list_field(items.data_type().clone(), true), items)
}

fn large(lists: &ListArray) -> LargeListArray {
    let item = Arc::new(Field::new_list_field(lists.value_type(), true));
    let offsets: Vec<i64> = lists.value_offsets().iter().map(|offset| i64::from(*offset)).collect();
    let offsets = OffsetBuffer::new(offsets.into());
    LargeListArray::try_new(item, offsets, lists.values().clone(), None).unwrap()
}

pub fn cases(fixture: &Fixture) -> Vec<Case> {
    let good = fixture.good.batch();
    let rows = good.num_rows();
    let [ids, neighbors, distances] =
        [VECTOR_ID_COLUMN, NEIGHBORS_COLUMN, DISTANCE_COLUMN].map(|name| column(&good, name));
    let with = |columns: [&Column; 3]| assemble(&good, columns.map(Column::clone).into());
    let with_ids = |array: ArrayRef| with([&nullable(VECTOR_ID_COLUMN, array), &neighbors, &distances]);
    let with_neighbors = |array: ArrayRef| with([&ids, &nullable(NEIGHBORS_COLUMN, array), &distances]);
    let with_distances = |array: ArrayRef| with([&ids, &neighbors, &nullable(DISTANCE_COLUMN, array)]);

    let id_values = ids.1.as_primitive::<UInt32Type>().values();
    let lists = neighbors.1.as_list::<i32>();
    let edges = lists.values().as_primitive::<UInt32Type>().values();
    let distance_lists = distances.1.as_list::<i32>();
    let edge_distances = distance_lists.values().as_primitive::<Float32Type>().values();
    let wide = UInt64Array::from_iter_values(id_values.iter().map(|id| u64::from(*id)));
    let signed = Int32Array::from_iter_values(id_values.iter().map(|id| *id as i32));
    let wide_edges = UInt64Array::from_iter_values(edges.iter().map(|id| u64::from(*id)));
    let signed_edges = Int64Array::from_iter_values(edges.iter().map(|id| i64::from(*id)));
    let doubles = Float64Array::from_iter_values(edge_distances.iter().map(|x| f64::from(*x)));
    let item = Arc::new(Field::new_list_field(lists.value_type(), true));
    let pairs = Arc::new(UInt32Array::from_iter_values((0..rows as u32 * 2).map(|i| i % N as u32)));
    let pairs = FixedSizeListArray::try_new(item, 2, pairs, None).unwrap();

    let strict = |lists: &ListArray| {
        let item = Field::new("element", lists.value_type(), false);
        Arc::new(with_items(lists, item, lists.values().clone())) as ArrayRef
    };
    let strictly = |name: &str, array: ArrayRef| (Field::new(name, array.data_type().clone(), false), array);
    let renamed = with([
        &strictly(VECTOR_ID_COLUMN, ids.1.clone()),
        &strictly(NEIGHBORS_COLUMN, strict(lists)),
        &strictly(DISTANCE_COLUMN, strict(distance_lists)),
    ]);
    let extra = nullable("extra", Arc::new(Int32Array::from(vec![7; rows])));
    let extended = vec![extra, distances.clone(), neighbors.clone(), ids.clone()];
    let names = Arc::new(StringArray::from_iter_values(id_values.iter().map(u32::to_string)));
    let zeros = Arc::new(Float32Array::from(vec![0.0; rows]));

    vec![
        refused("no __vector_id", assemble(&good, vec![neighbors.clone(), distances.clone()])),
        refused("no __neighbors", assemble(&good, vec![ids.clone(), distances.clone()])),
        // Lance's own reader leaves this column in the file, and a search needs none of it.
        // A reader that needs the distances to append may refuse, or compute them when it does.
        either("no _distance", assemble(&good, vec![ids.clone(), neighbors.clone()])),
        works("columns reversed", with([&distances, &neighbors, &ids])),
        works("a fourth column, and the order reversed", assemble(&good, extended)),
        works("non-null fields, items named element", renamed),
        refused("__vector_id UInt64", with_ids(Arc::new(wide))),
        refused("__vector_id Int32", with_ids(Arc::new(signed))),
        refused("__vector_id Utf8", with_ids(names)),
        refused("__vector_id a list", with_ids(neighbors.1.clone())),
        refused("__neighbors LargeList<UInt32>", with_neighbors(Arc::new(large(lists)))),
        refused("__neighbors UInt32", with_neighbors(ids.1.clone())),
        refused("__neighbors FixedSizeList<UInt32>", with_neighbors(Arc::new(pairs))),
        refused("__neighbors List<UInt64>", with_neighbors(Arc::new(list_of(lists, Arc::new(wide_edges))))),
        refused("__neighbors List<Int64>", with_neighbors(Arc::new(list_of(lists, Arc::new(signed_edges))))),
        refused("__neighbors List<Float32>", with_neighbors(distances.1.clone())),
        // Lance does not look at this column when it loads, so these may be read as if it were absent.
        either("_distance List<UInt32>", with_distances(neighbors.1.clone())),
        either(
            "_distance List<Float64>",
            with_distances(Arc::new(list_of(distance_lists, Arc::new(doubles)))),
        ),
        either("_distance LargeList<Float32>", with_distances(Arc::new(large(distance_lists)))),
        either("_distance Float32", with_distances(zeros)),
        // `HNSW::load` answers any batch without rows with an empty graph.
        either("no rows, no metadata", RecordBatch::new_empty(HNSW::schema())),
        either("no rows, metadata of 600 nodes", good.slice(0, 0)),
    ]
}

/// The same lists between unused values: offsets that do not begin at 0.
fn with_gaps(lists: &ListArray) -> ListArray {
    let values = lists.values().as_primitive::<UInt32Type>().values();
    let values = [&[u32::MAX; 5][..], &values[..], &[u32::MAX; 5][..]].concat();
    let offsets: Vec<i32> = lists.value_offsets().iter().map(|offset| offset + 5).collect();
    let item = Arc::new(Field::new_list_field(lists.value_type(), true));
    let offsets = OffsetBuffer::new(offsets.into());
    ListArray::try_new(item, offsets, Arc::new(UInt32Array::from(values)), None).unwrap()
}

pub fn sliced(fixture: &Fixture) -> Vec<Case> {
    let good = fixture.good.batch();
    let rows = good.num_rows();
    let between_rows = fixture.good.edit(|draft| {
        for _ in 0..3 {
            draft.insert_row(0, 77, &[(u32::MAX, f32::NAN), (5, 0.5)]);
            draft.insert_row(draft.ids.len(), 78, &[(N as u32, -1.0)]);
        }
    });
    let gaps = |gaps: fn(&ListArray) -> ListArray| {
        let (_, lists) = column(&good, NEIGHBORS_COLUMN);
        let lists = nullable(NEIGHBORS_COLUMN, Arc::new(gaps(lists.as_list())));
        let columns = vec![column(&good, VECTOR_ID_COLUMN), lists, column(&good, DISTANCE_COLUMN)];
        assemble(&good, columns)
    };
    let null_rows = |lists: &ListArray| {
        let nulls = NullBuffer::from((0..lists.len()).map(|row| row != 7).collect::<Vec<_>>());
        let item = Arc::new(Field::new_list_field(lists.value_type(), true));
        let offsets = lists.offsets().clone();
        ListArray::try_new(item, offsets, lists.values().clone(), Some(nulls)).unwrap()
    };
    let null_id = {
        let ids = column(&good, VECTOR_ID_COLUMN).1.as_primitive::<UInt32Type>().values().clone();
        let nulls = NullBuffer::from((0..rows).map(|row| row != 5).collect::<Vec<_>>());
        let ids = nullable(VECTOR_ID_COLUMN, Arc::new(UInt32Array::new(ids, Some(nulls))));
        let columns = [NEIGHBORS_COLUMN, DISTANCE_COLUMN].map(|name| column(&good, name));
        assemble(&good, std::iter::once(ids).chain(columns).collect())
    };
    vec![
        works("a slice from between other rows", between_rows.slice(3, rows)),
        works("neighbors between unused values", gaps(with_gaps)),
        // Its offsets still span ids, so that a reader may take the row for a list or for a null.
        either("a null list over ids", gaps(null_rows)),
        either("a null over the right id", null_id),
        refused("the last row cut off", good.slice(0, rows - 1)),
        refused("the first row cut off", good.slice(1, rows - 1)),
        refused("half of level 0", good.slice(0, N / 2)),
        refused("one row", good.slice(0, 1)),
    ]
}
