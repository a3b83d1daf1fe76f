//! What do vectors of other elements than `f32` cost, and what do they lose? The same rows built and searched in each
//! element type, and the kernel of each type beside lance-linalg's.
//!
//! `cargo bench --bench elements [-- DATA]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends in
//! `-l2` or `-cosine`; without it the rows are clustered ones. m = 16, ef_construction = 200, the smallest `ef` that is
//! enough for `f32`; builds on all threads, medians of single searches on one, in turn. Bytes are the rows scaled to
//! fill their range and rounded, queries are scaled and not rounded; `u8` is shifted too, which leaves L2 as it is and
//! changes angles. Recall@10 is counted twice: among the rounded rows, and among the rows as they were.

mod support;

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeBinaryArray, FixedSizeListArray, PrimitiveArray,
};
use arrow_buffer::Buffer;
use arrow_schema::Field;
use half::{bf16, f16};
use lance_linalg::distance::hamming::hamming;
use lance_linalg::distance::{Cosine, DistanceType as LanceMetric, Dot, L2};
use pennon::{
    ArrowFixedSizeListVectorStore, BuildParams, DistanceType, ElementType, Hit, Hits, Index, SearchParams,
    VectorSource,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// `f32` first: the others are compared with it.
/// Scores rows into a slice.
type Score = Box<dyn Fn(&mut [f32])>;

const ELEMENTS: [ElementType; 6] = [
    ElementType::Float32,
    ElementType::Float16,
    ElementType::BFloat16,
    ElementType::Float64,
    ElementType::Int8,
    ElementType::UInt8,
];
const K: usize = 10;
const EFS: [usize; 8] = [48, 64, 96, 128, 192, 256, 384, 512];
/// Recall@10 of `f32`.
const ENOUGH: f64 = 0.97;
/// Recall@10 of the others among the rows as they are stored.
const LEAST: f64 = 0.95;
const DIMS: [usize; 4] = [100, 384, 768, 1536];
/// Rows per call of a kernel, all in the first-level or second-level cache.
const ROWS: usize = 32;

/// How much is measured: with `cargo test` next to nothing.
struct Sizes {
    rows: usize,
    queries: usize,
    rounds: usize,
    calls: usize,
}

const FULL: Sizes = Sizes { rows: 100_000, queries: 500, rounds: 5, calls: 2_000 };
const TEST: Sizes = Sizes { rows: 2_000, queries: 50, rounds: 1, calls: 2 };

fn main() -> Result<()> {
    let sizes = if std::env::args().any(|argument| argument == "--bench") { FULL } else { TEST };
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    one_thread.install(|| kernels(&sizes))?;

    let data = Data::load(&sizes)?;
    let mut built = Vec::with_capacity(ELEMENTS.len());
    for element in ELEMENTS {
        built.push(Built::new(element, &data)?);
    }
    one_thread.install(|| searches(&data, &mut built, &sizes))
}

/// Rows and queries, and what fills the range of a byte.
struct Data {
    name: String,
    dim: usize,
    distance_type: DistanceType,
    values: Vec<f32>,
    queries: Vec<f32>,
    low: f32,
    high: f32,
}

impl Data {
    fn load(sizes: &Sizes) -> Result<Self> {
        // Cargo passes options of its own.
        let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let (name, distance_type, dim, values, mut queries) = match folder {
            Some(folder) => {
                let distance_type = support::fbin::metric(&folder)?;
                let (dim, values) = support::fbin::read(&Path::new(&folder).join("base.fbin"))?;
                let (query_dim, queries) = support::fbin::read(&Path::new(&folder).join("query.fbin"))?;
                if query_dim != dim {
                    return Err(format!("{folder}: rows have {dim} elements, queries {query_dim}").into());
                }
                (folder, distance_type, dim, values, queries)
            }
            None => {
                let (rows, queries) =
                    (support::clustered(sizes.rows, 100, 1), support::clustered(sizes.queries, 100, 2));
                ("clustered-l2".to_owned(), DistanceType::L2, 100, rows, queries)
            }
        };
        queries.truncate(sizes.queries * dim);
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        println!("\n{name}: {} rows x {dim}, elements from {low} to {high}", values.len() / dim);
        Ok(Self { name, dim, distance_type, values, queries, low, high })
    }

    /// Values as they are before they are rounded to elements of a type.
    fn scaled(&self, element: ElementType, values: &[f32]) -> Vec<f32> {
        let largest = self.high.max(-self.low).max(f32::MIN_POSITIVE);
        let range = (self.high - self.low).max(f32::MIN_POSITIVE);
        match element {
            ElementType::Int8 => values.iter().map(|x| x * (127.0 / largest)).collect(),
            ElementType::UInt8 => values.iter().map(|x| (x - self.low) * (255.0 / range)).collect(),
            _ => values.to_vec(),
        }
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &[f32], nearest: fn(f32) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values.iter().map(|&x| nearest(x))))
}

fn column(element: ElementType, values: &[f32], dim: usize) -> Result<FixedSizeListArray> {
    let name = HashMap::from([("ARROW:extension:name".to_owned(), "lance.bfloat16".to_owned())]);
    let (child, metadata) = match element {
        ElementType::Float16 => (primitive::<Float16Type>(values, f16::from_f32), HashMap::new()),
        ElementType::BFloat16 => {
            let bytes: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
            (Arc::new(FixedSizeBinaryArray::try_new(2, Buffer::from_vec(bytes), None)?) as ArrayRef, name)
        }
        ElementType::Float32 => (primitive::<Float32Type>(values, |x| x), HashMap::new()),
        ElementType::Float64 => (primitive::<Float64Type>(values, f64::from), HashMap::new()),
        ElementType::Int8 => (primitive::<Int8Type>(values, |x| x.round() as i8), HashMap::new()),
        ElementType::UInt8 => (primitive::<UInt8Type>(values, |x| x.round() as u8), HashMap::new()),
        other => return Err(format!("no values of {other}").into()),
    };
    let item = Field::new("item", child.data_type().clone(), true).with_metadata(metadata);
    Ok(FixedSizeListArray::try_new(Arc::new(item), dim as i32, child, None)?)
}

/// An index of all rows in one type.
struct Built {
    element: ElementType,
    index: Index,
    queries: Vec<f32>,
    bytes_per_row: usize,
    seconds: f64,
    micros: Vec<f64>,
}

impl Built {
    fn new(element: ElementType, data: &Data) -> Result<Self> {
        let rows = column(element, &data.scaled(element, &data.values), data.dim)?;
        let bytes_per_row = rows.values().to_data().buffers()[0].len() / rows.len();
        let params = BuildParams::default().ef_construction(200);
        let index =
            Index::builder(data.dim, data.distance_type).element_type(element).params(params).build()?;
        let start = Instant::now();
        index.append_unique(&rows, 0)?;
        let seconds = start.elapsed().as_secs_f64();
        let (kept, skipped) = (index.len(), index.skipped());
        if kept != rows.len() {
            return Err(format!("{}, {element}: rows skipped: {skipped}", data.name).into());
        }
        let queries = data.scaled(element, &data.queries);
        Ok(Self { element, index, queries, bytes_per_row, seconds, micros: Vec::new() })
    }

    fn query(&self, number: usize) -> &[f32] {
        &self.queries[number * self.index.dim()..][..self.index.dim()]
    }

    fn exact(&self, number: usize) -> pennon::Result<Vec<Hit>> {
        self.index.search_exact(self.query(number), &SearchParams::new(K)).map(Hits::into_vec)
    }
}

fn hits(found: &[Hit], truth: &[Hit]) -> usize {
    found.iter().filter(|hit| truth.iter().any(|other| other.id == hit.id)).count()
}

fn searches(data: &Data, built: &mut [Built], sizes: &Sizes) -> Result<()> {
    let queries = data.queries.len() / data.dim;
    let is_enough = |&ef: &usize| support::recall(&built[0].index, &data.queries, ef) >= ENOUGH;
    let ef = EFS.into_iter().find(is_enough).ok_or("no ef is enough for f32")?;
    for _ in 0..sizes.rounds {
        for number in 0..queries {
            for built in &mut *built {
                let start = Instant::now();
                let found = built.index.search(built.query(number), &SearchParams::new(K).ef(ef))?.into_vec();
                built.micros.push(start.elapsed().as_secs_f64() * 1e6);
                assert_eq!(found.len(), K.min(built.index.len()));
            }
        }
    }
    let truth: Vec<Vec<Hit>> =
        (0..queries).map(|number| built[0].exact(number)).collect::<pennon::Result<_>>()?;
    println!(
        "ef {ef}\n{:<10}{:>12}{:>10}{:>8}{:>12}{:>10}{:>8}{:>10}{:>10}",
        "elements", "bytes/row", "build s", "ratio", "search us", "per s", "ratio", "recall", "as f32"
    );
    let (mut build_of_f32, mut search_of_f32) = (None, None);
    for built in built {
        let (mut own, mut original, mut wanted) = (0, 0, 0);
        for (number, truth) in truth.iter().enumerate() {
            let found = built.index.search(built.query(number), &SearchParams::new(K).ef(ef))?.into_vec();
            own += hits(&found, &built.exact(number)?);
            original += hits(&found, truth);
            wanted += truth.len();
        }
        let (own, original) = (own as f64 / wanted as f64, original as f64 / wanted as f64);
        let micros = median(&mut built.micros);
        println!(
            "{:<10}{:>12}{:>10.2}{:>8.2}{:>12.1}{:>10.0}{:>8.2}{:>10.4}{:>10.4}",
            built.element.to_string(),
            built.bytes_per_row,
            built.seconds,
            built.seconds / *build_of_f32.get_or_insert(built.seconds),
            micros,
            1e6 / micros,
            micros / *search_of_f32.get_or_insert(micros),
            own,
            original
        );
        assert!(own >= LEAST, "{}: recall {own} among its own rows", built.element);
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the kernels score: integers from 0 to 127, which every type holds exactly.
struct Scored {
    dim: usize,
    rows: Vec<f32>,
    query: Vec<f32>,
}

impl Scored {
    fn new(dim: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(dim as u64);
        let mut integers =
            |n: usize| -> Vec<f32> { (0..n).map(|_| f32::from(rng.random_range(0..=127_u8))).collect() };
        Self { dim, rows: integers(ROWS * dim), query: integers(dim) }
    }

    /// Lance's kernel over the rows as `T`, into `out`.
    fn lance<T>(&self, convert: fn(f32) -> T, kernel: fn(&[T], &[T]) -> f32) -> impl Fn(&mut [f32]) + use<T> {
        let rows: Vec<T> = self.rows.iter().map(|&x| convert(x)).collect();
        let query: Vec<T> = self.query.iter().map(|&x| convert(x)).collect();
        let dim = self.dim;
        move |out: &mut [f32]| {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(dim)) {
                *out = kernel(&query, row);
            }
        }
    }

    /// The same for the metrics that lance-linalg has for a type.
    fn of<T: L2 + Dot + Cosine + 'static>(&self, metric: LanceMetric, convert: fn(f32) -> T) -> Score {
        Box::new(self.lance(convert, metric.func::<T>()))
    }

    /// lance-linalg's kernel of a type and a metric, if it has one.
    fn theirs(&self, element: ElementType, metric: DistanceType) -> Option<Score> {
        let metric = LanceMetric::try_from(metric.to_string().as_str()).ok()?;
        match element {
            ElementType::UInt8 if metric == LanceMetric::Hamming => {
                Some(Box::new(self.lance(|x| x as u8, hamming)))
            }
            ElementType::Float16 => Some(self.of(metric, f16::from_f32)),
            ElementType::BFloat16 => Some(self.of(metric, bf16::from_f32)),
            ElementType::Float32 => Some(self.of(metric, |x| x)),
            ElementType::Float64 => Some(self.of(metric, f64::from)),
            ElementType::UInt8 => Some(self.of(metric, |x| x as u8)),
            _ => None,
        }
    }
}

/// Nanoseconds per distance: ours through a store, with its look-up of ids, beside lance-linalg's on a plain slice,
/// which under cosine finds the norm of the query each time.
fn kernels(sizes: &Sizes) -> Result<()> {
    use DistanceType::{Cosine, Dot, Hamming, L1, L2};
    println!("{:<10}{:>9}{:>7}{:>10}{:>14}{:>8}", "elements", "metric", "dim", "ns", "lance-linalg", "ratio");
    for element in ELEMENTS {
        let metrics: &[_] = if element == ElementType::UInt8 {
            &[L2, Dot, Cosine, L1, Hamming]
        } else {
            &[L2, Dot, Cosine, L1]
        };
        for &metric in metrics {
            for dim in DIMS {
                kernel(element, metric, &Scored::new(dim), sizes)?;
            }
        }
    }
    Ok(())
}

fn kernel(element: ElementType, metric: DistanceType, scored: &Scored, sizes: &Sizes) -> Result<()> {
    let dim = scored.dim;
    let store = Arc::new(ArrowFixedSizeListVectorStore::try_with_elements(element, dim, metric)?);
    store.append_batch(Arc::new(column(element, &scored.rows, dim)?), 0)?;
    let snapshot = store.snapshot();
    let query = snapshot.prepare(&scored.query);
    let ids: Vec<u32> = (0..ROWS as u32).collect();
    let ours = |out: &mut [f32]| snapshot.distances_to(&query, &ids, out);
    let theirs = scored.theirs(element, metric);

    let (mut found, mut expected) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    ours(&mut found);
    if let Some(theirs) = &theirs {
        theirs(&mut expected);
        for (&ours, &theirs) in found.iter().zip(&expected) {
            let close = (ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0);
            assert!(close, "{element}, {metric}, dim {dim}: {ours}, lance-linalg {theirs}");
        }
    }
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        our_rounds.push(nanos(&ours, &mut found, sizes));
        if let Some(theirs) = &theirs {
            their_rounds.push(nanos(theirs, &mut expected, sizes));
        }
    }
    let (ours, name, metric) = (median(&mut our_rounds), element.to_string(), metric.to_string());
    match theirs {
        Some(_) => {
            let theirs = median(&mut their_rounds);
            println!("{name:<10}{metric:>9}{dim:>7}{ours:>10.1}{theirs:>14.1}{:>8.2}", ours / theirs);
        }
        None => println!("{name:<10}{metric:>9}{dim:>7}{ours:>10.1}{:>14}", "-"),
    }
    Ok(())
}

/// Nanoseconds per distance of one round of calls.
fn nanos(score: &impl Fn(&mut [f32]), out: &mut [f32], sizes: &Sizes) -> f64 {
    let start = Instant::now();
    for _ in 0..sizes.calls {
        score(black_box(&mut *out));
    }
    start.elapsed().as_secs_f64() * 1e9 / (sizes.calls * out.len()) as f64
}
