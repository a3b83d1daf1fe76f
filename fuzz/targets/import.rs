//! `lance:hnsw` batches: of any lists, and of any bytes that Arrow reads as a batch.
#![no_main]

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use arrow_array::{ArrayRef, Float32Array, ListArray, RecordBatch, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use kit::{DIM, check_all_found, list, start, vectors};
use libfuzzer_sys::fuzz_target;
use pennon::lance::{DISTANCE_COLUMN, HNSW_METADATA_KEY, NEIGHBORS_COLUMN, VECTOR_ID_COLUMN};
use pennon::{ArrowFixedSizeListVectorStore, DistanceType, HnswGraph, Index, LanceBatches, VectorSource};
use serde_json::json;

/// Most nodes that vectors are made for.
const MOST: usize = 2_000;

#[derive(Arbitrary, Debug)]
struct Draft {
    /// Rows of level 0: their ids are right unless `ids` says otherwise.
    nodes: u8,
    upper: Vec<(u8, u32)>,
    ids: Vec<(u8, Option<u32>)>,
    lists: Vec<(bool, Vec<Option<u16>>)>,
    with_distances: Option<Vec<f32>>,
    entry_point: u32,
    level_offsets: Option<Vec<usize>>,
    m: u16,
    m0: Option<u16>,
    ef_construction: u32,
    max_level: u16,
}

impl Draft {
    fn batch(&self) -> Option<RecordBatch> {
        let nodes = usize::from(self.nodes);
        let upper: Vec<u32> = self
            .upper
            .iter()
            .map(|&(level, id)| if level > 240 { id } else { id % (nodes as u32 + 1) })
            .collect();
        let mut ids: Vec<Option<u32>> = (0..nodes as u32).chain(upper).map(Some).collect();
        for &(row, id) in &self.ids {
            if let Some(cell) = ids.get_mut(usize::from(row)) {
                *cell = id;
            }
        }
        let rows = ids.len();
        let mut levels: Vec<usize> = vec![0, nodes];
        // Each row that does not stay on its level starts the next one.
        for &(level, _) in &self.upper {
            let at = levels.last().copied()? + 1;
            if level % 4 == 0 || levels.len() == 2 { levels.push(at) } else { *levels.last_mut()? = at }
        }
        let levels = self.level_offsets.clone().unwrap_or(levels);
        let list_of = |row: usize| self.lists.get(row % self.lists.len().max(1));
        let neighbors: Vec<Option<u32>> = (0..rows)
            .filter_map(list_of)
            .flat_map(|list| &list.1)
            .map(|id| {
                id.map(|id| if id > 60_000 { u32::from(id) } else { u32::from(id) % (nodes as u32 + 1) })
            })
            .collect();
        let lengths: Vec<usize> = (0..rows).map(|row| list_of(row).map_or(0, |list| list.1.len())).collect();
        let valid: Vec<bool> = (0..rows).map(|row| list_of(row).is_none_or(|list| !list.0)).collect();
        let column = |item: DataType, values: ArrayRef, nulls: Option<NullBuffer>| -> Option<ArrayRef> {
            let field: FieldRef = Arc::new(Field::new("item", item, true));
            let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
            Some(Arc::new(ListArray::try_new(field, offsets, values, nulls).ok()?))
        };
        let distances = self.with_distances.as_ref().map(|distances| {
            let distance =
                |at: usize| distances.get(at % distances.len().max(1)).copied().unwrap_or(f32::NAN);
            Arc::new(Float32Array::from_iter_values((0..neighbors.len()).map(distance)))
        });
        let ids: ArrayRef = Arc::new(UInt32Array::from(ids));
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        let neighbors = column(DataType::UInt32, Arc::new(UInt32Array::from(neighbors)), nulls)?;
        let mut columns = vec![(VECTOR_ID_COLUMN, ids), (NEIGHBORS_COLUMN, neighbors)];
        if let Some(distances) = distances {
            columns.push((DISTANCE_COLUMN, column(DataType::Float32, distances, None)?));
        }
        let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        let metadata = json!({
            "entry_point": self.entry_point,
            "params": {
                "max_level": self.max_level,
                "m": self.m,
                "m0": self.m0,
                "ef_construction": self.ef_construction,
                "prefetch_distance": 2,
            },
            "level_offsets": levels,
        });
        let metadata = [(HNSW_METADATA_KEY.to_string(), metadata.to_string())].into();
        let schema = Schema::new_with_metadata(fields, metadata);
        RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|column| column.1).collect()).ok()
    }
}

fn read(bytes: &[u8]) -> Option<RecordBatch> {
    // What Arrow does at bytes that are no stream is Arrow's.
    catch_unwind(AssertUnwindSafe(|| StreamReader::try_new(Cursor::new(bytes), None).ok()?.next()?.ok()))
        .ok()?
}

fn check(graph: &RecordBatch) {
    let Ok(imported) = HnswGraph::from_lance_hnsw_batch(graph) else { return };
    let nodes = imported.len();
    assert_eq!(imported.health().unreachable(), 0, "{:?}", imported.health());
    assert!(imported.resident_bytes() < (64 << 20) + 128 * (graph.get_array_memory_size() + (1 << 17)));
    if nodes > MOST {
        return;
    }
    let store = ArrowFixedSizeListVectorStore::try_new(DIM, DistanceType::L2).expect("parameters of a store");
    let values = vectors(0..nodes as u64);
    store.append_batch(Arc::new(list(values, DIM)), 0).expect("a batch of vectors");
    let vectors_of_all = Arc::new(store).snapshot();
    assert_eq!(vectors_of_all.len(), nodes);
    let batches =
        LanceBatches::new(Some(graph.clone()), vectors_of_all.to_record_batch().expect("a flat batch"));
    let index = Index::from_lance_batches(&batches).expect("the graph was imported before");
    check_all_found(&index, &[0.5; DIM]);
    index.append(&list(vectors(5_000..5_030), DIM), 5_000).expect("rows with new ids");
    check_all_found(&index, &[0.5; DIM]);
    if nodes > 0 {
        index.delete(0).expect("row 0 is there");
        index.compact().expect("a compaction");
        check_all_found(&index, &[0.5; DIM]);
    }
    let exported = index.to_lance_batches().expect("an export");
    let again = Index::from_lance_batches(&exported).expect("an export is valid");
    check_all_found(&again, &[0.5; DIM]);
}

fuzz_target!(|bytes: &[u8]| {
    start();
    match bytes.split_first() {
        Some((0, stream)) => {
            if let Some(batch) = read(stream) {
                check(&batch);
            }
        }
        Some((_, draft)) => {
            if let Some(batch) = Draft::arbitrary(&mut Unstructured::new(draft)).ok().and_then(|d| d.batch())
            {
                check(&batch);
            }
        }
        None => {}
    }
});
