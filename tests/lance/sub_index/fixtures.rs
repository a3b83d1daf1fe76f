//! Graphs that lance-index 14.0.2 and 7.0.0 wrote, and one of our own that must stay as it is.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{FixedSizeListArray, RecordBatch};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use lance_index::vector::hnsw::HNSW;
use lance_index::vector::v3::subindex::IvfSubIndex;
use pennon::lance::{FLAT_COLUMN, HNSW_METADATA_KEY};
use pennon::{BuildParams, Coding, DistanceType, Index, SearchParams};

use crate::kit::{import, pair};
use crate::sub_index::data::{lance_ids, lance_storage};

const ROWS: usize = 600;
const DIM: usize = 32;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn read(path: PathBuf) -> RecordBatch {
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut batches = FileReader::try_new(file, None).unwrap();
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none(), "one batch");
    batch
}

fn rows(vectors: &RecordBatch) -> Vec<Vec<f32>> {
    let array: &FixedSizeListArray = vectors[FLAT_COLUMN].as_fixed_size_list();
    let values = array.values().as_primitive::<Float32Type>().values();
    values.chunks_exact(DIM).map(<[f32]>::to_vec).collect()
}

/// The share of the true ten nearest that a search finds, over queries between the rows.
fn recall(index: &Index, rows: &[Vec<f32>], search: impl Fn(&[f32]) -> Vec<u32>) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for pair in rows.windows(2).step_by(5) {
        let query: Vec<f32> = pair[0].iter().zip(&pair[1]).map(|(a, b)| (a + b) / 2.0).collect();
        let truth = index.search_exact(&query, &SearchParams::new(10)).unwrap().into_vec();
        let found = search(&query);
        hits += truth.iter().filter(|row| found.contains(&row.id)).count();
        wanted += truth.len();
    }
    hits as f64 / wanted as f64
}

#[test]
fn graphs_of_lance_are_read_searched_appended_to_and_written_back() {
    for version in ["14.0.2", "7.0.0"] {
        let graph = read(fixture(&format!("lance-{version}/graph.arrow")));
        let vectors = read(fixture(&format!("lance-{version}/vectors.arrow")));
        assert_eq!(vectors.num_rows(), ROWS);
        let index = import(&graph, &vectors).unwrap();
        let health = index.health().unwrap();
        assert_eq!((health.nodes, health.unreachable()), (ROWS, 0), "{version}: {health}");
        assert_eq!(index.params().map(|params| (params.m, params.ef_construction)), Some((8, 60)));

        let all = rows(&vectors);
        let ours = |query: &[f32]| {
            index
                .search(query, &SearchParams::new(10).ef(64))
                .unwrap()
                .into_vec()
                .iter()
                .map(|r| r.id)
                .collect()
        };
        let before = recall(&index, &all, ours);
        println!("lance {version}: recall {before:.4} as it came");
        assert!(before >= 0.95, "{version}: {before}");

        // Twice the rows, a little aside.
        let aside: Vec<f32> = all.iter().flatten().map(|x| x + 0.01).collect();
        let item =
            std::sync::Arc::new(arrow_schema::Field::new_list_field(arrow_schema::DataType::Float32, true));
        let values = std::sync::Arc::new(arrow_array::Float32Array::from(aside));
        let aside = FixedSizeListArray::try_new(item, DIM as i32, values, None).unwrap();
        index.append(&aside, 10_000).unwrap();
        assert_eq!((index.len(), index.health().unwrap().unreachable()), (2 * ROWS, 0), "{version}");

        let (graph, vectors) = index.to_lance_batches().map(pair).unwrap();
        let hnsw = HNSW::load(graph).unwrap();
        let storage = lance_storage(vectors, DIM, DistanceType::L2);
        let lances = recall(&index, &all, |query| lance_ids(&hnsw, &storage, query));
        println!("lance {version}: recall {lances:.4} by Lance 14.0.2, after as many appends");
        assert!(lances >= 0.95, "{version}: {lances}");
    }
}

/// What is written must not change unseen: files of today are read by tomorrow's Lance, and the other way round.
#[test]
fn our_own_batch_stays_as_it_is() {
    let vectors = read(fixture("lance-14.0.2/vectors.arrow"));
    // Codes, which are the index's own, may get better.
    let params = BuildParams::default().num_edges(8).ef_construction(60).codes(Coding::Off);
    let index = Index::hnsw(DIM, DistanceType::L2, params).unwrap();
    index.append(vectors[FLAT_COLUMN].as_fixed_size_list(), 0).unwrap();
    let graph = index.reader().graph().unwrap().to_lance_hnsw_batch().unwrap();
    let path = fixture("golden/graph.arrow");
    if std::env::var_os("PENNON_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = FileWriter::try_new(std::fs::File::create(&path).unwrap(), &graph.schema()).unwrap();
        writer.write(&graph).unwrap();
        writer.finish().unwrap();
    }
    let golden = read(path);
    let metadata = &golden.schema_ref().metadata()[HNSW_METADATA_KEY];
    assert_eq!(
        metadata,
        r#"{"entry_point":33,"params":{"max_level":7,"m":8,"ef_construction":60,"prefetch_distance":2},"level_offsets":[0,600,681,695,697,697,697,697]}"#
    );
    let fields: Vec<String> = golden
        .schema_ref()
        .fields()
        .iter()
        .map(|f| format!("{}: {}{}", f.name(), f.data_type(), if f.is_nullable() { "" } else { " not null" }))
        .collect();
    assert_eq!(fields.join("; "), "__vector_id: UInt32; __neighbors: List(UInt32); _distance: List(Float32)");
    let hnsw = HNSW::load(golden.clone()).unwrap();
    let storage = lance_storage(vectors.clone(), DIM, DistanceType::L2);
    let lances = recall(&index, &rows(&vectors), |query| lance_ids(&hnsw, &storage, query));
    println!("golden batch: recall {lances:.4} by Lance 14.0.2");
    assert!(lances >= 0.95, "{lances}");

    // Distances are sums in the order of the instruction set; where two are close, graphs differ by a few edges.
    assert_eq!(graph.schema(), golden.schema());
    let ours = import(&golden, &vectors).unwrap();
    let same = recall(&ours, &rows(&vectors), |query| {
        ours.search(query, &SearchParams::new(10).ef(64)).unwrap().into_vec().iter().map(|r| r.id).collect()
    });
    assert!(same >= 0.95, "{same}");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        assert!(graph == golden, "another graph than the golden one");
    }
}
