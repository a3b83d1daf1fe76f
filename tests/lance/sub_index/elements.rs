//! Graphs over other elements than `f32`: Lance loads each, and its search over the exported vectors finds what
//! pennon's finds, in Lance's own storage of these elements where it has one, and over the same numbers as `f32`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int8Array, RecordBatch, UInt8Array,
};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field};
use half::{bf16, f16};
use lance_index::vector::flat::index::FlatMetadata;
use lance_index::vector::flat::storage::{FlatBinStorage, FlatFloatStorage};
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_index::vector::quantizer::QuantizerStorage;
use lance_index::vector::storage::{DistCalculator, VectorStore};
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::lance::{FLAT_COLUMN, ROW_ID_COLUMN};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, ElementType, HnswGraph, Index, SearchParams,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::kit::pair;
use crate::sub_index::data::{EF, K, METRICS, Vectors, close, lance_metric, lance_query, lance_storage};
use crate::sub_index::laws::assert_lawful;
use crate::sub_index::layout::Layout;

const ROWS: usize = 2_000;
const QUERIES: usize = 100;
const DIM: usize = 24;

/// A column of a type: fractions that no type holds exactly, and bytes from all over their range.
fn column(element: ElementType, vectors: &Vectors) -> FixedSizeListArray {
    // These are between -1.4 and 1.4.
    let values = vectors.rows().flatten().copied();
    let (values, data_type): (ArrayRef, DataType) = match element {
        ElementType::Float16 => {
            (Arc::new(Float16Array::from_iter_values(values.map(f16::from_f32))), DataType::Float16)
        }
        ElementType::BFloat16 => {
            let bytes: Vec<u8> = values.flat_map(|x| bf16::from_f32(x).to_le_bytes()).collect();
            let pairs = FixedSizeBinaryArray::new(2, Buffer::from_vec(bytes), None);
            (Arc::new(pairs), DataType::FixedSizeBinary(2))
        }
        ElementType::Float32 => (Arc::new(Float32Array::from_iter_values(values)), DataType::Float32),
        ElementType::Float64 => {
            let values = values.map(|x| f64::from(x) / 3.0);
            (Arc::new(Float64Array::from_iter_values(values)), DataType::Float64)
        }
        ElementType::Int8 => {
            let values = values.map(|x| (80.0 * x).round() as i8);
            (Arc::new(Int8Array::from_iter_values(values)), DataType::Int8)
        }
        ElementType::UInt8 => {
            let values = values.map(|x| (80.0 * (x + 1.5)).round() as u8);
            (Arc::new(UInt8Array::from_iter_values(values)), DataType::UInt8)
        }
        other => panic!("an element type that is not tested: {other}"),
    };
    let item = Field::new("item", data_type, true);
    let name = HashMap::from([("ARROW:extension:name".to_string(), "lance.bfloat16".to_string())]);
    let item = if element == ElementType::BFloat16 { item.with_metadata(name) } else { item };
    FixedSizeListArray::try_new(Arc::new(item), vectors.dim as i32, values, None).unwrap()
}

/// Rows of bits: an eighth of those of 32 clusters is flipped.
fn bits(rows: usize) -> FixedSizeListArray {
    let mut rng = SmallRng::seed_from_u64(63);
    let centers: Vec<u8> = (0..32 * DIM).map(|_| rng.random()).collect();
    let mut values = Vec::with_capacity(rows * DIM);
    for _ in 0..rows {
        let start = rng.random_range(0..32) * DIM;
        for center in &centers[start..start + DIM] {
            values.push(center ^ (rng.random::<u8>() & rng.random::<u8>() & rng.random::<u8>()));
        }
    }
    let item = Arc::new(Field::new("item", DataType::UInt8, true));
    FixedSizeListArray::try_new(item, DIM as i32, Arc::new(UInt8Array::from(values)), None).unwrap()
}

/// The elements as `f32`, which holds all of them but doubles exactly.
fn floats(values: &ArrayRef) -> Vec<f32> {
    match values.data_type() {
        DataType::Float16 => {
            values.as_primitive::<Float16Type>().values().iter().map(|x| x.to_f32()).collect()
        }
        DataType::Float32 => values.as_primitive::<Float32Type>().values().to_vec(),
        DataType::Float64 => {
            values.as_primitive::<Float64Type>().values().iter().map(|&x| x as f32).collect()
        }
        DataType::Int8 => values.as_primitive::<Int8Type>().values().iter().map(|&x| f32::from(x)).collect(),
        DataType::UInt8 => {
            values.as_primitive::<UInt8Type>().values().iter().map(|&x| f32::from(x)).collect()
        }
        _ => {
            let pairs = values.as_fixed_size_binary();
            let bytes = (0..pairs.len()).map(|at| [pairs.value(at)[0], pairs.value(at)[1]]);
            bytes.map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect()
        }
    }
}

fn widened(vectors: &FixedSizeListArray) -> FixedSizeListArray {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values = Arc::new(Float32Array::from(floats(vectors.values())));
    FixedSizeListArray::try_new(item, vectors.value_length(), values, None).unwrap()
}

/// The storage batch with its vectors as `f32`.
fn widened_storage(batch: &RecordBatch) -> RecordBatch {
    let vectors: ArrayRef = Arc::new(widened(batch[FLAT_COLUMN].as_fixed_size_list()));
    let row_ids = batch[ROW_ID_COLUMN].clone();
    RecordBatch::try_from_iter([(ROW_ID_COLUMN, row_ids), (FLAT_COLUMN, vectors)]).unwrap()
}

/// An exported index, and queries of its elements and as `f32`.
struct Exported {
    index: Index,
    graph: RecordBatch,
    vectors: RecordBatch,
    queries: FixedSizeListArray,
    wide_queries: FixedSizeListArray,
}

impl Exported {
    fn new(element: ElementType, metric: DistanceType) -> Self {
        let all = match metric {
            DistanceType::Hamming => bits(ROWS + QUERIES),
            _ => column(element, &Vectors::clustered(ROWS + QUERIES, DIM, 61)),
        };
        let index =
            Index::builder(DIM, metric).element_type(element).params(BuildParams::default()).build().unwrap();
        for start in (0..ROWS).step_by(800) {
            let rows = all.slice(start, 800.min(ROWS - start));
            index.append(&rows, 5_000 + start as u64).unwrap();
        }
        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let queries = all.slice(ROWS, QUERIES);
        let wide_queries = widened(&queries);
        Self { index, graph, vectors, queries, wide_queries }
    }

    /// Lance's search over `storage`, asked with rows of `queries`, finds what the index finds, at the same distances.
    fn assert_found_by_lance(&self, storage: &impl VectorStore, queries: &FixedSizeListArray, case: &str) {
        let hnsw = HNSW::load(self.graph.clone()).unwrap();
        assert_eq!((hnsw.len(), storage.len()), (ROWS, ROWS), "{case}");
        let (mut ours, mut lances) = (0, 0);
        for row in 0..QUERIES {
            let query = floats(&self.queries.value(row));
            let exact = self.index.search_exact(&query, &SearchParams::new(ROWS)).unwrap().into_vec();
            let limit = exact[K - 1].distance;
            let is_near =
                |id: u32| exact.iter().take_while(|hit| hit.distance <= limit).any(|hit| hit.id == id);
            let found = self.index.search(&query, &SearchParams::new(K).ef(EF)).unwrap().into_vec();
            ours += found.iter().filter(|hit| is_near(hit.id)).count();

            let found = hnsw.search_basic(queries.value(row), K, &lance_query(EF), None, storage).unwrap();
            assert_eq!(found.len(), K, "{case}");
            lances += found.iter().filter(|node| is_near(node.id)).count();
            for node in found {
                let hit = exact.iter().find(|hit| hit.id == node.id).unwrap();
                assert!(close(node.dist.0, hit.distance), "{case}: {hit:?}, Lance {}", node.dist.0);
                assert_eq!(storage.row_id(node.id), hit.row_id, "{case}");
                assert_eq!(hit.row_id, 5_000 + u64::from(node.id), "{case}");
            }
        }
        let wanted = (K * QUERIES) as f64;
        let (ours, lances) = (ours as f64 / wanted, lances as f64 / wanted);
        println!("{case}: recall@{K} at ef {EF}: Lance {lances:.4}, pennon {ours:.4}");
        assert!((ours - lances).abs() <= 0.01, "{case}: Lance {lances}, pennon {ours}");
        // The inner product is no metric, and its graphs find less at the same ef.
        let least = if case.ends_with("dot") { 0.90 } else { 0.95 };
        assert!(lances >= least, "{case}: {lances}");
    }
}

/// Lance loads every edge, each as long as Lance's own kernel says it is, and searches over the numbers as `f32`.
fn assert_exported(element: ElementType) {
    for metric in METRICS {
        let exported = Exported::new(element, metric);
        let wide = widened_storage(&exported.vectors);
        assert_lawful(&exported.graph, &Vectors::of_storage(&wide), metric, exported.index.params().unwrap());
        let case = format!("{element} as f32, {metric}");
        exported.assert_found_by_lance(&lance_storage(wide, DIM, metric), &exported.wide_queries, &case);
    }
}

/// The same over Lance's storage of the exported column as it is.
fn assert_exported_to_lances_storage(element: ElementType) {
    for metric in METRICS {
        let exported = Exported::new(element, metric);
        let storage = lance_storage(exported.vectors.clone(), DIM, metric);
        exported.assert_found_by_lance(&storage, &exported.queries, &format!("{element}, {metric}"));
    }
}

#[test]
fn lance_searches_an_export_of_f16() {
    assert_exported(ElementType::Float16);
    assert_exported_to_lances_storage(ElementType::Float16);
}

#[test]
fn lance_searches_an_export_of_bf16() {
    assert_exported(ElementType::BFloat16);
}

#[test]
fn lance_searches_an_export_of_f32() {
    assert_exported(ElementType::Float32);
    assert_exported_to_lances_storage(ElementType::Float32);
}

#[test]
fn lance_searches_an_export_of_f64() {
    assert_exported(ElementType::Float64);
    assert_exported_to_lances_storage(ElementType::Float64);
}

#[test]
fn lance_searches_an_export_of_i8() {
    assert_exported(ElementType::Int8);
}

#[test]
fn lance_searches_an_export_of_u8() {
    assert_exported(ElementType::UInt8);
}

#[test]
fn lance_searches_an_export_of_bits() {
    let exported = Exported::new(ElementType::UInt8, DistanceType::Hamming);
    let metric = lance_metric(DistanceType::Hamming);
    let metadata = FlatMetadata { dim: DIM };
    let storage = FlatBinStorage::try_from_batch(exported.vectors.clone(), &metadata, metric, None).unwrap();
    let layout = Layout::decode(&exported.graph);
    assert_eq!(layout.reachable(), ROWS);
    exported.assert_found_by_lance(&storage, &exported.queries, "bits, hamming");
}

/// What the documentation of `to_record_batch` says of elements that Lance does not search: the batch is for the way
/// back.
#[test]
fn lance_takes_elements_that_it_does_not_search() {
    let metric = DistanceType::L2;
    for element in [ElementType::BFloat16, ElementType::Int8, ElementType::UInt8] {
        let exported = Exported::new(element, metric);
        let storage = lance_storage(exported.vectors.clone(), DIM, metric);
        assert_eq!(storage.len(), ROWS);
        let query = exported.queries.value(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(storage.dist_calculator(query, 0.0))));
        let panic = outcome.unwrap_err();
        let message = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(message.contains("does not support data type"), "{element}: {message:?}");
    }

    let exported = Exported::new(ElementType::UInt8, metric);
    let (vectors, metadata) = (exported.vectors.clone(), FlatMetadata { dim: DIM });
    let storage = FlatBinStorage::try_from_batch(vectors, &metadata, lance_metric(metric), None).unwrap();
    let query = exported.queries.value(0);
    let row = exported.vectors[FLAT_COLUMN].as_fixed_size_list().value(7);
    let pairs = floats(&query).into_iter().zip(floats(&row));
    let bits: u32 = pairs.map(|(x, y)| (x as u8 ^ y as u8).count_ones()).sum();
    assert_eq!(storage.dist_calculator(query, 0.0).distance(7), bits as f32);
}

/// A graph that Lance built over elements of its own storage is searched, grows, and is as good as one of pennon's.
#[test]
fn graphs_of_lance_over_other_elements_are_adopted() {
    for element in [ElementType::Float16, ElementType::Float64] {
        for metric in METRICS {
            let all = column(element, &Vectors::clustered(ROWS + 500 + QUERIES, DIM, 62));
            let storage = FlatFloatStorage::new(all.slice(0, ROWS), lance_metric(metric));
            let hnsw = HNSW::index_vectors(&storage, HnswBuildParams::default()).unwrap();
            let graph = HnswGraph::from_lance_hnsw_batch(&hnsw.to_batch().unwrap()).unwrap();
            let store = ArrowFixedSizeListVectorStore::try_with_elements(element, DIM, metric).unwrap();
            let store = Arc::new(store);
            store.append_batch(Arc::new(all.slice(0, ROWS)), 0).unwrap();

            let ours = Index::builder(DIM, metric)
                .element_type(element)
                .params(BuildParams::default())
                .build()
                .unwrap();
            ours.append(&all.slice(0, ROWS), 0).unwrap();
            let recall = || {
                let mut hits = 0;
                for row in ROWS + 500..ROWS + 500 + QUERIES {
                    let query = floats(&all.value(row));
                    let exact = ours.search_exact(&query, &SearchParams::new(K)).unwrap().into_vec();
                    let found = graph
                        .search(&query, &SearchParams::new(K).ef(EF), &store.snapshot())
                        .unwrap()
                        .into_vec();
                    assert_eq!(found.len(), K);
                    hits += found.iter().filter(|hit| hit.distance <= exact[K - 1].distance).count();
                }
                hits as f64 / (K * QUERIES) as f64
            };
            let adopted = recall();
            let ids = store.append_batch(Arc::new(all.slice(ROWS, 500)), ROWS as u64).unwrap();
            graph.insert_batch(ids, &store.snapshot()).unwrap();
            ours.append(&all.slice(ROWS, 500), ROWS as u64).unwrap();
            let grown = recall();
            println!("{element}, {metric}: a graph of Lance's: recall@{K} {adopted:.4}, grown {grown:.4}");
            let least = if metric == DistanceType::Dot { 0.85 } else { 0.95 };
            assert!(adopted >= least && grown >= least, "{element}, {metric}: {adopted}, grown {grown}");
            assert_eq!(graph.health().unreachable(), 0);
        }
    }
}
