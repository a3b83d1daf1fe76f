//! A Lance table with a vector index, and writers of its MemWAL with ours or Lance's own index in their MemTables.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Int64Array, RecordBatch, RecordBatchIterator};
use arrow_schema::{DataType, Field, Schema};
use lance::Dataset;
use lance::dataset::mem_wal::{
    DatasetMemWalExt, LsmScanner, MemIndexRegistry, ShardSnapshot, ShardWriter, ShardWriterConfig,
};
use lance::deps::datafusion::physical_plan::displayable;
use lance::index::DatasetIndexExt;
use lance::index::vector::VectorIndexParams;
use lance_index::IndexType;
use pennon::lance::live_index;
use pennon::{DistanceType, Index};
use tempfile::TempDir;
use uuid::Uuid;

use crate::memwal::data::{lance_metric, list_of};

pub const INDEX: &str = "vec_idx";

/// Lance's index kinds, with ours in the place of its HNSW.
pub fn with_pennon() -> MemIndexRegistry {
    pennon::lance::registry().unwrap()
}

/// A table of `id`, `vec` in a directory of its own.
pub struct Table {
    pub dataset: Dataset,
    pub uri: String,
    _dir: TempDir,
}

impl Table {
    /// Writes the rows and builds an index on `vec`.
    pub async fn create(rows: RecordBatch, index: VectorIndexParams) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let uri = dir.path().join("table").to_str().unwrap().to_string();
        let schema = rows.schema();
        let rows = RecordBatchIterator::new([Ok(rows)], schema);
        let mut dataset = Dataset::write(rows, uri.as_str(), None).await.unwrap();
        let name = Some(INDEX.to_string());
        dataset.create_index(&["vec"], IndexType::Vector, name, &index, true).await.unwrap();
        Self { dataset, uri, _dir: dir }
    }

    /// Gives the table a MemWAL whose MemTables maintain the index.
    pub async fn initialize(&mut self) -> lance_core::Result<()> {
        let builder = self.dataset.initialize_mem_wal().maintained_indexes([INDEX]);
        builder.mem_index_registry(with_pennon()).execute().await
    }

    /// The configuration of a writer of a new shard, for MemTables of up to 4,000 rows.
    pub fn config(registry: MemIndexRegistry) -> ShardWriterConfig {
        let config = ShardWriterConfig::new(Uuid::new_v4()).with_mem_index_registry(registry);
        config.with_max_memtable_rows(4_000).with_max_memtable_batches(200)
    }
}

/// A writer and the rows it holds: one shard of a table.
pub struct Shard {
    pub id: Uuid,
    pub writer: ShardWriter,
    dataset: Arc<Dataset>,
    uri: String,
    metric: DistanceType,
    config: ShardWriterConfig,
}

impl Shard {
    /// A writer of a new shard.
    pub async fn open(uri: &str, metric: DistanceType, registry: MemIndexRegistry) -> Self {
        Self::open_with(uri, metric, Table::config(registry)).await
    }

    /// A writer of the shard that `config` names; if there are rows of it in the WAL, they are replayed.
    pub async fn open_with(uri: &str, metric: DistanceType, config: ShardWriterConfig) -> Self {
        let (id, dataset) = (config.shard_id, Arc::new(Dataset::open(uri).await.unwrap()));
        let writer = dataset.mem_wal_writer(id, config.clone()).await.unwrap();
        Self { id, writer, dataset, uri: uri.to_string(), metric, config }
    }

    /// Ends the writer without a flush, as a crash would, and opens another one.
    pub async fn crash_and_reopen(self) -> Self {
        let Self { writer, uri, metric, config, .. } = self;
        writer.abort().await.unwrap();
        drop(writer);
        Self::open_with(&uri, metric, config).await
    }

    pub async fn delete(&self, ids: impl IntoIterator<Item = i64>) {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        let ids = Arc::new(Int64Array::from_iter_values(ids));
        self.writer.delete(vec![RecordBatch::try_new(Arc::new(schema), vec![ids]).unwrap()]).await.unwrap();
    }

    /// Writes the MemTable to a generation.
    pub async fn flush(&self) {
        self.writer.force_freeze_active().await.unwrap().wait().await.unwrap();
    }

    /// The generations as tables, oldest first.
    pub async fn generations(&self) -> Vec<Dataset> {
        let mut generations = Vec::new();
        for table in self.writer.manifest().await.unwrap().unwrap().sstables {
            let uri = format!("{}/_mem_wal/{}/{}", self.uri, self.id, table.path);
            generations.push(Dataset::open(&uri).await.unwrap());
        }
        generations
    }

    async fn snapshot(&self) -> ShardSnapshot {
        let mut snapshot = ShardSnapshot::new(self.id);
        if let Some(manifest) = self.writer.manifest().await.unwrap() {
            snapshot = snapshot.with_current_generation(manifest.current_generation);
            for table in manifest.sstables {
                snapshot = snapshot.with_sstable(table.generation, table.path);
            }
        }
        snapshot
    }

    async fn nearest(&self, scanner: LsmScanner, query: &[f32], k: usize) -> LsmScanner {
        let memtables = self.writer.in_memory_memtable_refs().await.unwrap();
        let DataType::FixedSizeList(item, _) = self.dataset.schema().field("vec").unwrap().data_type() else {
            panic!("no vectors")
        };
        // Without the list Lance takes nothing but Float32.
        let query = list_of(item.data_type(), &[query.to_vec()]);
        scanner
            .with_in_memory_memtables(self.id, memtables)
            .with_overfetch_factor(2.0)
            .nearest("vec", &query, k)
            .unwrap()
            .distance_metric(lance_metric(self.metric))
            .nprobes(8)
    }

    /// A search of the base table, the generations and the MemTable.
    async fn scanner(&self, query: &[f32], k: usize) -> LsmScanner {
        let base = Arc::clone(&self.dataset);
        let scanner = LsmScanner::new(base, vec![self.snapshot().await], vec!["id".to_string()]);
        // Candidates of quantized vectors, with the distances of the vectors themselves.
        self.nearest(scanner, query, k).await.refine(3)
    }

    pub async fn search(&self, query: &[f32], k: usize) -> Vec<(i64, f32)> {
        answer(&self.scanner(query, k).await).await
    }

    /// The same without the base table, and with the distances as the generations report them.
    pub async fn search_fresh(&self, query: &[f32], k: usize) -> Vec<(i64, f32)> {
        let schema: Schema = self.dataset.schema().into();
        let (snapshot, key) = (self.snapshot().await, vec!["id".to_string()]);
        let scanner = LsmScanner::without_base_table(Arc::new(schema), self.uri.clone(), vec![snapshot], key);
        answer(&self.nearest(scanner, query, k).await).await
    }

    pub async fn plan(&self, query: &[f32], k: usize) -> String {
        let plan = self.scanner(query, k).await.create_plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    }

    /// The index of the active MemTable, which has a row.
    pub async fn index(&self) -> Arc<Index> {
        live_index(&self.writer, INDEX).await.unwrap().unwrap()
    }
}

/// Ids and distances, nearest first.
async fn answer(scanner: &LsmScanner) -> Vec<(i64, f32)> {
    let rows = scanner.try_into_batch().await.unwrap();
    let ids = rows["id"].as_primitive::<Int64Type>().values();
    let distances = rows["_distance"].as_primitive::<Float32Type>().values();
    let mut found: Vec<(i64, f32)> = ids.iter().copied().zip(distances.iter().copied()).collect();
    found.sort_by(|left, right| left.1.total_cmp(&right.1).then(left.0.cmp(&right.0)));
    found
}
