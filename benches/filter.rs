//! What does it cost to search among some of the rows, those of a mask or those that are alive, and to be rid of the
//! others?
//!
//! `cargo bench --bench filter [-- DATA]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends in `-l2`
//! or `-cosine`; without it the rows are clustered ones. One thread; medians of single searches, in turn with what they
//! are compared with; m = 16, ef_construction = 200, and the smallest `ef` that is enough without a mask.

mod support;

use std::time::Instant;

use arrow_array::{FixedSizeListArray, UInt64Array};
use arrow_buffer::BooleanBuffer;
use pennon::{BuildParams, Hit, Index, Reader, SearchParams, SearchPlan};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use support::measured::{Data, Result};

const K: usize = 10;
const QUERIES: usize = 200;
/// Of an exact search, a search and one without the mask.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
/// Times each query is searched for in other comparisons.
const ROUNDS: usize = 3;
const EFS: [usize; 9] = [64, 96, 128, 192, 256, 384, 512, 768, 1_024];
/// Recall@10 without a mask.
const ENOUGH: f64 = 0.97;
/// Recall@10 under any mask, among any live rows, and after compaction.
const LEAST: f64 = 0.95;
/// Percent of the rows that masks admit.
const SELECTIVITIES: [f64; 9] = [90.0, 50.0, 30.0, 20.0, 10.0, 5.0, 1.0, 0.1, 0.01];
/// Rows appended, and rows replaced, in batches of each size.
const WRITTEN: usize = 2_000;

fn main() -> Result<()> {
    let data = Data::load(100_000, 100, QUERIES)?;
    let index = index_for(&data)?;
    index.append(&support::array(data.values.clone(), data.dim), 0)?;
    assert_eq!(index.len(), data.rows(), "rows skipped: {}", index.skipped());
    let is_enough = |&ef: &usize| support::recall(&index, &data.queries, ef) >= ENOUGH;
    let ef = EFS.into_iter().find(is_enough).ok_or("no ef is enough without a mask")?;
    println!("{}: {} rows x {}, ef {ef}; microseconds", data.name, data.rows(), data.dim);

    // In this order they die.
    let mut order: Vec<u64> = (0..data.rows() as u64).collect();
    order.shuffle(&mut StdRng::seed_from_u64(5));
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    one_thread.install(|| {
        masks(&index, &data, ef)?;
        deletes(&index, &data, ef, &order)?;
        let compacted = compaction(&index, &data, ef, &order)?;
        drop(index);
        writes(&compacted, &data, &order)
    })
}

fn row_of(data: &Data, row: usize) -> &[f32] {
    &data.values[row * data.dim..(row + 1) * data.dim]
}

/// An index without rows.
fn index_for(data: &Data) -> pennon::Result<Index> {
    Index::hnsw(data.dim, data.distance_type, BuildParams::default().ef_construction(200))
}

/// New rows, each halfway between two.
fn new_rows(data: &Data, rows: usize, rng: &mut StdRng) -> FixedSizeListArray {
    let mut values = Vec::with_capacity(rows * data.dim);
    for _ in 0..rows {
        let one = row_of(data, rng.random_range(0..data.rows()));
        let other = row_of(data, rng.random_range(0..data.rows()));
        values.extend(one.iter().zip(other).map(|(a, b)| (a + b) / 2.0));
    }
    support::array(values, data.dim)
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[derive(Default)]
struct Recall {
    found: usize,
    wanted: usize,
}

impl Recall {
    fn count(&mut self, hits: &[Hit], truth: &[Hit]) {
        assert_eq!(hits.len(), truth.len(), "rows found, and rows that there are");
        self.found += hits.iter().filter(|hit| truth.iter().any(|t| t.id == hit.id)).count();
        self.wanted += truth.len();
    }

    fn value(&self) -> f64 {
        self.found as f64 / self.wanted as f64
    }

    fn of(reader: &Reader, data: &Data, params: &SearchParams) -> Result<f64> {
        let mut recall = Self::default();
        for query in data.queries() {
            let truth = reader.search_exact(query, params)?;
            recall.count(&reader.search(query, params)?, &truth);
        }
        Ok(recall.value())
    }
}

/// Searches under masks of one kind and selectivity.
#[derive(Default)]
struct Masked {
    search: Vec<f64>,
    exact: Vec<f64>,
    /// A search without the mask.
    unmasked: Vec<f64>,
    recall: Recall,
    /// Searches by plan: graph, filtered graph, scan.
    plans: [usize; 3],
}

impl Masked {
    fn measure(&mut self, index: &Index, query: &[f32], mask: &BooleanBuffer, ef: usize) -> Result<()> {
        let params = SearchParams::new(K).ef(ef).mask(index.reader().mask(mask.clone())?);
        // In every order: who goes after another finds rows in the caches.
        for order in ORDERS {
            let (mut hits, mut truth) = (Vec::new(), Vec::new());
            for step in order {
                let start = Instant::now();
                match step {
                    0 => {
                        truth = index.search_exact(query, &params)?.into_vec();
                        self.exact.push(micros(start));
                    }
                    1 => {
                        let found = index.search(query, &params)?;
                        self.search.push(micros(start));
                        self.plans[match found.stats().plan {
                            SearchPlan::Graph => 0,
                            SearchPlan::FilteredGraph => 1,
                            _ => 2,
                        }] += 1;
                        hits = found.into_vec();
                    }
                    _ => {
                        index.search(query, &SearchParams::new(K).ef(ef))?.into_vec();
                        self.unmasked.push(micros(start));
                    }
                }
            }
            assert_eq!(truth.len(), K.min(mask.count_set_bits()));
            self.recall.count(&hits, &truth);
        }
        Ok(())
    }
}

/// Search beside an exact search, under masks by chance, of the rows nearest to the query, and of the farthest.
fn masks(index: &Index, data: &Data, ef: usize) -> Result<()> {
    let rows = index.len();
    let mut random: Vec<u32> = (0..rows as u32).collect();
    let mut rng = StdRng::seed_from_u64(4);
    let mut measured: [[Masked; SELECTIVITIES.len()]; 3] = Default::default();
    for query in data.queries() {
        let all = index.search_exact(query, &SearchParams::new(rows))?.into_vec();
        let near: Vec<u32> = all.iter().map(|hit| hit.id).collect();
        let far: Vec<u32> = near.iter().rev().copied().collect();
        random.shuffle(&mut rng);
        for (order, measured) in [&random, &near, &far].into_iter().zip(&mut measured) {
            for (percent, masked) in SELECTIVITIES.iter().zip(measured) {
                let mut admitted = vec![false; rows];
                for &id in &order[..matches(rows, *percent)] {
                    admitted[id as usize] = true;
                }
                masked.measure(index, query, &BooleanBuffer::from(admitted), ef)?;
            }
        }
    }
    println!(
        "\n{:<8}{:>7}{:>9}{:>11}{:>11}{:>8}{:>11}{:>8}{:>8}  graph/filtered/scan",
        "mask", "%", "rows", "search", "exact", "ratio", "unmasked", "ratio", "recall"
    );
    for (kind, measured) in ["random", "near", "far"].into_iter().zip(&mut measured) {
        for (percent, masked) in SELECTIVITIES.iter().zip(measured) {
            let (search, exact) = (median(&mut masked.search), median(&mut masked.exact));
            let unmasked = median(&mut masked.unmasked);
            let (rows, ratio, recall) = (matches(rows, *percent), search / exact, masked.recall.value());
            let times = search / unmasked;
            let [graph, filtered, scan] = masked.plans;
            println!(
                "{kind:<8}{percent:>7}{rows:>9}{search:>11.1}{exact:>11.1}{ratio:>8.3}{unmasked:>11.1}{times:>8.2}\
                 {recall:>8.4}  {graph}/{filtered}/{scan}"
            );
        }
    }
    for masked in measured.iter().flatten() {
        assert!(masked.recall.value() >= LEAST, "recall {} under a mask", masked.recall.value());
    }
    Ok(())
}

/// Rows that a mask of this selectivity admits.
fn matches(rows: usize, percent: f64) -> usize {
    ((rows as f64 * percent / 100.0).round() as usize).max(1)
}

/// Searches of versions with more and more dead rows, in turn: older versions stay as they were.
fn deletes(index: &Index, data: &Data, ef: usize, order: &[u64]) -> Result<()> {
    let rows = index.len();
    let mut versions = vec![(0, index.reader())];
    let mut per_delete = 0.0;
    for until in [1, rows / 100, rows / 10] {
        let dying = &order[index.tombstones()..until];
        let start = Instant::now();
        dying.iter().try_for_each(|&row_id| index.delete(row_id))?;
        per_delete = micros(start) / dying.len() as f64;
        versions.push((until, index.reader()));
    }
    let (mut measured, mut first) = (vec![Vec::new(); versions.len()], 0);
    for query in data.queries().cycle().take(ROUNDS * QUERIES) {
        // Each is the first one in turn: it finds the rows out of the caches.
        first = (first + 1) % versions.len();
        for at in (first..versions.len()).chain(0..first) {
            let ((dead, reader), measured) = (&versions[at], &mut measured[at]);
            let params = SearchParams::new(K).ef(ef);
            let start = Instant::now();
            let hits = reader.search(query, &params)?;
            measured.push(micros(start));
            assert_eq!(hits.len(), K.min(rows - dead));
        }
    }
    println!("\n{:<12}{:>11}{:>8}{:>8}", "dead rows", "search", "ratio", "recall");
    let mut without = None;
    for ((dead, reader), measured) in versions.iter().zip(&mut measured) {
        let search = median(measured);
        let ratio = search / *without.get_or_insert(search);
        let recall = Recall::of(reader, data, &SearchParams::new(K).ef(ef))?;
        println!("{dead:<12}{search:>11.1}{ratio:>8.3}{recall:>8.4}");
        assert!(recall >= LEAST, "recall {recall} with {dead} rows dead");
    }
    println!("a delete, row ids ascending: {per_delete:.2}");
    assert_eq!((index.len(), index.tombstones()), (rows - rows / 10, rows / 10));
    Ok(())
}

/// An index without its dead rows beside one that is built of the others. Returns the last one without.
fn compaction(index: &Index, data: &Data, ef: usize, order: &[u64]) -> Result<Index> {
    println!(
        "\n{:<8}{:>9}{:>12}{:>10}{:>8}{:>18}{:>14}",
        "dead %", "rows", "compact s", "build s", "ratio", "recall compacted", "recall built"
    );
    let mut last = None;
    for percent in [10, 30, 50] {
        let until = order.len() * percent / 100;
        order[index.tombstones()..until].iter().try_for_each(|&row_id| index.delete(row_id))?;
        let mut live = order[until..].to_vec();
        live.sort_unstable();

        let start = Instant::now();
        let compacted = index.reader().compacted()?;
        let compact = start.elapsed().as_secs_f64();

        let values: Vec<f32> = live.iter().flat_map(|&row| row_of(data, row as usize)).copied().collect();
        let (vectors, row_ids) = (support::array(values, data.dim), UInt64Array::from(live));
        let start = Instant::now();
        let built = index_for(data)?;
        built.append_unique(&vectors, row_ids)?;
        let build = start.elapsed().as_secs_f64();

        let rows = order.len() - until;
        assert_eq!((compacted.len(), compacted.tombstones(), built.len()), (rows, 0, rows));
        let params = SearchParams::new(K).ef(ef);
        let (ours, theirs) =
            (Recall::of(&compacted.reader(), data, &params)?, Recall::of(&built.reader(), data, &params)?);
        let ratio = build / compact;
        println!("{percent:<8}{rows:>9}{compact:>12.2}{build:>10.2}{ratio:>8.2}{ours:>18.4}{theirs:>14.4}");
        assert!(ours.min(theirs) >= LEAST, "recall {ours} compacted, {theirs} built");
        last = Some(compacted);
    }
    last.ok_or_else(|| "nothing was compacted".into())
}

/// Updates beside appends of as many rows, in turn.
fn writes(index: &Index, data: &Data, order: &[u64]) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(6);
    let live = &order[order.len() - index.len()..];
    let (mut replaced, mut next) = (0, order.len() as u64);
    println!("\n{:<16}{:>16}{:>16}", "rows per batch", "appended per s", "replaced per s");
    for size in [1, 100, 1_000] {
        let (mut appending, mut replacing) = (0.0, 0.0);
        for _ in 0..WRITTEN / size {
            let (new, newer) = (new_rows(data, size, &mut rng), new_rows(data, size, &mut rng));
            let row_ids = UInt64Array::from(live[replaced..replaced + size].to_vec());
            let start = Instant::now();
            index.append(&new, next)?;
            appending += start.elapsed().as_secs_f64();
            let start = Instant::now();
            index.upsert(&newer, row_ids)?;
            replacing += start.elapsed().as_secs_f64();
            (next, replaced) = (next + size as u64, replaced + size);
        }
        let (appends, updates) = (WRITTEN as f64 / appending, WRITTEN as f64 / replacing);
        println!("{size:<16}{appends:>16.0}{updates:>16.0}");
    }
    assert_eq!((index.len(), index.tombstones()), (live.len() + replaced, replaced));

    let start = Instant::now();
    live[..replaced].iter().try_for_each(|&row_id| index.delete(row_id))?;
    println!("a delete, row ids in any order: {:.2}", micros(start) / replaced as f64);
    assert_eq!((index.len(), index.tombstones()), (live.len(), 2 * replaced));
    Ok(())
}
