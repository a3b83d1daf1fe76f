//! Pennon beside Lance's built-in HNSW as the index of a MemTable: puts, searches, memory, and the way to a flushed
//! index.
//!
//! Puts and searches are driven through `MemIndex`, as a writer drives it. In a put of a real writer the write-ahead
//! log comes first, takes milliseconds and is the same for both; it would hide them. Both indexes get the same batches
//! in turns, with the parameters of Lance's MemTables (m = 16, ef_construction = 100), and are searched with the `ef`
//! that each has by default (80 and 64). The flush goes through a table in a temporary directory.
//!
//! `cargo bench --features lance --bench memwal`; without `--bench` among the arguments the sizes are those of a test.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Float32Array, Int64Array, RecordBatch, RecordBatchIterator};
use arrow_schema::{DataType, Field, Schema};
use lance::Dataset;
use lance::dataset::mem_wal::index::{HnswMemIndex, MemIndex, SearchContext, VectorMemQuery};
use lance::dataset::mem_wal::write::StoredBatch;
use lance::dataset::mem_wal::{DatasetMemWalExt, MemIndexRegistry, ShardWriterConfig};
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use lance_index::vector::hnsw::builder::HnswBuildParams;
use lance_linalg::distance::{DistanceType as LanceMetric, l2_f32};
use pennon::DistanceType;
use pennon::lance::{PennonMemIndex, PennonMemIndexParams, PennonMemIndexPlugin, Quantizer};
use uuid::Uuid;

const DIM: usize = 128;
const K: usize = 10;
const INDEX: &str = "vec_idx";

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Sizes {
    /// Rows in the MemTable before anything is measured.
    memtables: &'static [usize],
    /// Rows of a put, and puts of a round.
    puts: &'static [(usize, usize)],
    rounds: usize,
    queries: usize,
    searches: usize,
    /// Rows of the MemTable that is flushed.
    flushed: usize,
}

const FULL: Sizes = Sizes {
    memtables: &[10_000, 100_000],
    puts: &[(1, 100), (100, 5), (1_000, 1)],
    rounds: 3,
    queries: 200,
    searches: 10_000,
    flushed: 100_000,
};
const TEST: Sizes = Sizes {
    memtables: &[500],
    puts: &[(1, 5), (100, 1)],
    rounds: 1,
    queries: 10,
    searches: 50,
    flushed: 500,
};

fn main() -> Fallible<()> {
    let sizes = if std::env::args().any(|argument| argument == "--bench") { FULL } else { TEST };
    println!("{DIM} dimensions, l2; pennon, then Lance's built-in index");
    for &rows in sizes.memtables {
        memtable(&sizes, rows)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(flushes(sizes.flushed))
}

/// An index and how far it is filled.
struct Contender {
    name: &'static str,
    index: Arc<dyn MemIndex>,
    rows: usize,
    batches: usize,
}

impl Contender {
    fn both(capacity: usize) -> Fallible<[Self; 2]> {
        let params = PennonMemIndexParams::default();
        let ours = PennonMemIndex::try_new("vec", 1, DIM, DistanceType::L2, params)?;
        let params = HnswBuildParams::default().num_edges(16).ef_construction(100);
        let metric = LanceMetric::L2;
        let theirs = HnswMemIndex::with_capacity(1, "vec".into(), metric, params, capacity, capacity);
        let of = |name, index: Arc<dyn MemIndex>| Self { name, index, rows: 0, batches: 0 };
        Ok([of("pennon", Arc::new(ours)), of("built-in", Arc::new(theirs))])
    }

    /// Time of one put.
    fn put(&mut self, rows: RecordBatch) -> Fallible<Duration> {
        let put = [StoredBatch::new(rows, self.rows as u64, self.batches)];
        let start = Instant::now();
        self.index.insert_batches(&put)?;
        let elapsed = start.elapsed();
        (self.rows, self.batches) = (self.rows + put[0].num_rows, self.batches + 1);
        Ok(elapsed)
    }
}

/// Rows `id`, `vec`; the ids count up from 0.
fn table(values: Vec<f32>) -> Fallible<RecordBatch> {
    let ids = Int64Array::from_iter_values(0..(values.len() / DIM) as i64);
    let key = [("lance-schema:unenforced-primary-key".to_string(), "true".to_string())];
    let vectors = support::array(values, DIM);
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false).with_metadata(key.into()),
        Field::new("vec", DataType::FixedSizeList(item, DIM as i32), true),
    ]);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(vectors)])?)
}

/// Everything that is measured of one MemTable in memory.
fn memtable(sizes: &Sizes, rows: usize) -> Fallible<()> {
    let measured: usize = sizes.puts.iter().map(|(put, puts)| put * puts * sizes.rounds).sum();
    // What a writer may append while searches are measured.
    let beside = rows.min(40_000);
    let capacity = rows + measured + beside;
    let values = support::clustered(capacity, DIM, 1);
    let all = table(values.clone())?;
    let mut contenders = Contender::both(capacity)?;

    println!("\n{rows} rows");
    let reserved = contenders.each_ref().map(|contender| contender.index.resident_bytes());
    for start in (0..rows).step_by(1_000) {
        for contender in &mut contenders {
            contender.put(all.slice(start, (rows - start).min(1_000)))?;
        }
    }
    for (contender, reserved) in contenders.iter().zip(reserved) {
        let resident = contender.index.resident_bytes();
        let (name, per_row) = (contender.name, resident / rows);
        println!("{name:<10} resident: {resident} bytes ({per_row} a row), {reserved} before the first row");
        assert!(resident > rows * 16);
    }
    puts(sizes, &all, &mut contenders)?;
    searches(sizes, &values, &all, &mut contenders)
}

fn puts(sizes: &Sizes, all: &RecordBatch, contenders: &mut [Contender; 2]) -> Fallible<()> {
    for &(put, count) in sizes.puts {
        let mut seconds = [(); 2].map(|()| Vec::with_capacity(sizes.rounds));
        for _ in 0..sizes.rounds {
            for (contender, seconds) in contenders.iter_mut().zip(&mut seconds) {
                let mut elapsed = Duration::ZERO;
                for _ in 0..count {
                    elapsed += contender.put(all.slice(contender.rows, put))?;
                }
                seconds.push(elapsed.as_secs_f64());
            }
        }
        for (contender, mut seconds) in contenders.iter().zip(seconds) {
            seconds.sort_by(f64::total_cmp);
            let rate = (put * count) as f64 / seconds[seconds.len() / 2];
            println!("{:<10} puts of {put:>5}: {rate:>9.0} rows/s", contender.name);
        }
    }
    assert_eq!(contenders[0].rows, contenders[1].rows);
    Ok(())
}

/// The nearest `K` of the first `rows` rows, by a scan with Lance's kernel.
fn nearest(values: &[f32], rows: usize, query: &[f32]) -> Vec<u64> {
    let row = values.chunks_exact(DIM).take(rows);
    let mut all: Vec<(f32, u64)> = row.map(|row| l2_f32(query, row)).zip(0..).collect();
    let k = K.min(all.len());
    all.select_nth_unstable_by(k - 1, |left, right| left.0.total_cmp(&right.0));
    all[..k].iter().map(|row| row.1).collect()
}

/// With the positions of the nearest rows.
type Query = (VectorMemQuery, Vec<u64>);

/// Searches per second, share of the nearest rows found, share of the rows wanted that came back.
struct Searched {
    rate: f64,
    recall: f64,
    returned: f64,
}

impl Searched {
    fn of(index: &dyn MemIndex, rows: usize, queries: &[Query], searches: usize) -> Fallible<Self> {
        let visible = SearchContext::new(rows as u64 - 1);
        let (mut right, mut returned, mut elapsed) = (0, 0, Duration::ZERO);
        for (query, exact) in queries.iter().cycle().take(searches) {
            let start = Instant::now();
            let answer = index.search(query, &visible)?;
            elapsed += start.elapsed();
            let found = answer.as_ref().and_then(|answer| answer.as_ranked()).ok_or("not answered")?;
            assert!(found.iter().all(|row| row.position <= visible.max_visible));
            right += found.iter().filter(|row| exact.contains(&row.position)).count();
            returned += found.len();
        }
        let wanted = (searches * K) as f64;
        let rate = searches as f64 / elapsed.as_secs_f64();
        Ok(Self { rate, recall: right as f64 / wanted, returned: returned as f64 / wanted })
    }

    fn print(&self, name: &str, what: &str) {
        let Self { rate, recall, returned } = self;
        println!("{name:<10} {what}: {rate:>7.0} searches/s, recall {recall:.4}, {returned:.3} returned");
    }
}

/// One reader, first alone, then beside a writer of puts of 100 rows; its position is that of the start.
fn searches(
    sizes: &Sizes,
    values: &[f32],
    all: &RecordBatch,
    contenders: &mut [Contender; 2],
) -> Fallible<()> {
    let rows = contenders[0].rows;
    let queries: Vec<Query> = support::clustered(sizes.queries, DIM, 2)
        .chunks_exact(DIM)
        .map(|query| {
            let vector = support::array(query.to_vec(), DIM);
            let exact = nearest(values, rows, query);
            (VectorMemQuery { vector, k: K, ef: None, distance_type: None }, exact)
        })
        .collect();
    let mut idle = Vec::new();
    for contender in contenders.iter() {
        let searched = Searched::of(contender.index.as_ref(), rows, &queries, sizes.searches)?;
        searched.print(contender.name, "idle");
        idle.push(searched);
    }
    assert_eq!(idle[0].returned, 1.0);
    assert!(idle[0].recall >= 0.85, "recall {}", idle[0].recall);

    for contender in contenders.iter_mut() {
        let (name, index) = (contender.name, Arc::clone(&contender.index));
        let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (searched, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> Fallible<f64> {
                let mut elapsed = Duration::ZERO;
                while !done.load(Ordering::Relaxed) && contender.rows + 100 <= all.num_rows() {
                    elapsed += contender.put(all.slice(contender.rows, 100))?;
                    started.store(true, Ordering::Relaxed);
                }
                Ok((contender.rows - rows) as f64 / elapsed.as_secs_f64())
            });
            while !started.load(Ordering::Relaxed) && !writer.is_finished() {
                std::thread::yield_now();
            }
            let searched = Searched::of(index.as_ref(), rows, &queries, sizes.searches);
            done.store(true, Ordering::Relaxed);
            let written = writer.join().map_err(|_| "the writer panicked")??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((searched?, written))
        })?;
        searched.print(name, "writing");
        println!("{name:<10} meanwhile: {written:.0} rows/s");
        if name == "pennon" {
            assert_eq!(searched.returned, 1.0);
            assert!(searched.recall >= 0.85, "recall {}", searched.recall);
        }
    }
    Ok(())
}

/// From the freeze of a MemTable to the index on disk, twice each.
async fn flushes(rows: usize) -> Fallible<()> {
    println!("\na MemTable of {rows} rows, from the freeze to the flushed index");
    let values = support::clustered(rows, DIM, 3);
    let rows = table(values.clone())?;
    let dir = tempfile::tempdir()?;
    let uri = dir.path().join("table").to_str().ok_or("a path that is no text")?.to_string();
    let base = table(support::clustered(512, DIM, 4))?;
    let schema = base.schema();
    let mut dataset =
        Dataset::write(RecordBatchIterator::new([Ok(base)], schema), uri.as_str(), None).await?;
    let params = VectorIndexParams::ivf_flat(1, LanceMetric::L2);
    dataset.create_index(&["vec"], IndexType::Vector, Some(INDEX.into()), &params, true).await?;
    dataset.initialize_mem_wal().maintained_indexes([INDEX]).execute().await?;

    let mut registry = MemIndexRegistry::default();
    registry.replace_plugin(Arc::new(PennonMemIndexPlugin::default()))?;
    let config = || ShardWriterConfig::new(Uuid::new_v4()).with_max_memtable_rows(2 * rows.num_rows());
    let quantized = |quantizer| {
        let settings = PennonMemIndexParams::default().quantizer(quantizer);
        config().with_mem_index_registry(registry.clone()).with_index_override(INDEX, settings)
    };
    for _ in 0..2 {
        flush("pennon, SQ", &uri, &dataset, quantized(Quantizer::Sq), &rows, &values).await?;
        flush("built-in, SQ", &uri, &dataset, config(), &rows, &values).await?;
        flush("pennon, FLAT", &uri, &dataset, quantized(Quantizer::Flat), &rows, &values).await?;
    }
    Ok(())
}

async fn flush(
    name: &str,
    uri: &str,
    dataset: &Dataset,
    config: ShardWriterConfig,
    rows: &RecordBatch,
    values: &[f32],
) -> Fallible<()> {
    let shard = config.shard_id;
    let writer = dataset.mem_wal_writer(shard, config).await?;
    for start in (0..rows.num_rows()).step_by(1_000) {
        writer.put(vec![rows.slice(start, (rows.num_rows() - start).min(1_000))]).await?;
    }
    let start = Instant::now();
    writer.force_freeze_active().await?.wait().await?;
    let seconds = start.elapsed().as_secs_f64();

    let manifest = writer.manifest().await?.ok_or("no manifest")?;
    assert_eq!(manifest.sstables.len(), 1);
    let generation = Dataset::open(&format!("{uri}/_mem_wal/{shard}/{}", manifest.sstables[0].path)).await?;
    let (mut right, mut wanted) = (0, 0);
    for query in support::clustered(20, DIM, 5).chunks_exact(DIM) {
        let mut scan = generation.scan();
        scan.nearest("vec", &Float32Array::from(query.to_vec()), K)?.ef(64).with_row_id();
        let found = scan.try_into_batch().await?;
        let row_ids = found.column_by_name("_rowid").ok_or("no row ids")?;
        let row_ids = row_ids.as_primitive::<UInt64Type>().values();
        let exact = nearest(values, rows.num_rows(), query);
        right += row_ids.iter().filter(|row| exact.contains(row)).count();
        wanted += exact.len();
    }
    let recall = right as f64 / wanted as f64;
    println!("{name:<13} {seconds:>6.2} s, recall {recall:.3} with ef 64");
    assert!(recall >= 0.7, "{name}: recall {recall}");
    writer.close().await?;
    Ok(())
}
