//! Does a scan of columns that leaves rows out early (PDX, `Index::freeze`) beat one that compares every row?
//!
//! `cargo bench --bench pdx [-- DATA]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends in `-l2` or
//! `-cosine`; without it the rows are clustered ones of several dimensions, half a MB, 1 MB and 128 MB of them, under
//! each metric. Columns are not used with fewer than 1,024 rows, which those of 784 elements in 1 MB are: there, and
//! where not all rows are searched among, the ratio should be 1.
//! The 10 nearest by an exact search on one thread: medians of single searches, in turn, whose answers are compared.
//! `rows` is the scan of the rows as they lie, which `Index::search_exact` is too. Below all of the rows, a half
//! and a tenth of them by chance, as a mask.

mod support;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use arrow_buffer::BooleanBuffer;
use pennon::{DistanceType, Hit, Index, SearchParams};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const K: usize = 10;
const QUERIES: usize = 50;
const DIMS: [usize; 4] = [16, 100, 128, 784];
/// Values of the rows that fit in a cache, and of those that do not. The least of them are 1,024 rows of 128 elements,
/// which is where columns begin to be used, and 167 rows of 784.
const VALUES: [usize; 3] = [1 << 17, 1 << 18, 1 << 25];
const METRICS: [DistanceType; 3] = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];
/// Percent of the rows that are searched among.
const SHARES: [u32; 3] = [100, 50, 10];

fn main() -> Result<()> {
    // With `cargo test` next to nothing.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let sizes: &[usize] = if is_bench { &VALUES } else { &[1 << 14] };
    let rounds = if is_bench { 5 } else { 1 };
    println!(
        "{:<20}{:>5}{:>9}{:>8}{:>6}{:>12}{:>12}{:>8}{:>10}",
        "data", "dim", "rows", "metric", "%", "rows us", "columns us", "ratio", "freeze s"
    );
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    one_thread.install(|| -> Result<()> {
        // Cargo passes options of its own.
        if let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
            let (data, distance_type) = Data::read(folder.trim_end_matches('/'))?;
            return compare(&data, distance_type, rounds);
        }
        for values in sizes {
            for dim in DIMS {
                let (name, rows) = ("clustered".into(), values / dim);
                let (values, queries) =
                    (support::clustered(rows, dim, 1), support::clustered(QUERIES, dim, 2));
                let data = Data { name, dim, values, queries };
                METRICS.into_iter().try_for_each(|distance_type| compare(&data, distance_type, rounds))?;
            }
        }
        Ok(())
    })
}

/// Rows and queries.
struct Data {
    name: String,
    dim: usize,
    values: Vec<f32>,
    queries: Vec<f32>,
}

impl Data {
    fn read(folder: &str) -> Result<(Self, DistanceType)> {
        let distance_type = match folder.rsplit_once('-') {
            Some((_, "l2")) => DistanceType::L2,
            Some((_, "cosine")) => DistanceType::Cosine,
            _ => return Err(format!("{folder}: the name ends in neither -l2 nor -cosine").into()),
        };
        let path = Path::new(folder);
        let (dim, values) = support::fbin::read(&path.join("base.fbin"))?;
        let (query_dim, mut queries) = support::fbin::read(&path.join("query.fbin"))?;
        if query_dim != dim {
            return Err(format!("{folder}: rows have {dim} elements, queries {query_dim}").into());
        }
        queries.truncate(QUERIES * dim);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((Self { name, dim, values, queries }, distance_type))
    }
}

/// One data set under one metric.
fn compare(data: &Data, distance_type: DistanceType, rounds: usize) -> Result<()> {
    let array = support::array(data.values.clone(), data.dim);
    let index = || -> Result<Index> {
        let index = Index::flat(data.dim, distance_type)?;
        index.append_unique(&array, 0)?;
        Ok(index)
    };
    let (plain, frozen) = (index()?, index()?);
    let start = Instant::now();
    let laid_out = frozen.build_columns();
    let freeze = start.elapsed().as_secs_f64();
    let vectors = plain.version().vectors();
    assert_eq!(laid_out, vectors / 64 * 64);

    let mut rng = StdRng::seed_from_u64(3);
    for share in SHARES {
        let bits: BooleanBuffer = (0..vectors).map(|_| rng.random_range(0..100) < share).collect();
        let params_of = |index: &Index| -> Result<SearchParams> {
            let params = SearchParams::new(K);
            Ok(if share < 100 { params.mask(index.reader().mask(bits.clone())?) } else { params })
        };
        let search = |index: &Index, query: &[f32]| -> Result<(Vec<Hit>, f64)> {
            let params = params_of(index)?;
            let start = Instant::now();
            let hits = index.search(query, &params)?.into_vec();
            Ok((hits, start.elapsed().as_secs_f64() * 1e6))
        };
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for (number, query) in data.queries.chunks_exact(data.dim).enumerate() {
                let (by_rows, by_columns) = if (round + number) % 2 == 0 {
                    let by_rows = search(&plain, query)?;
                    (by_rows, search(&frozen, query)?)
                } else {
                    let by_columns = search(&frozen, query)?;
                    (search(&plain, query)?, by_columns)
                };
                assert_eq!(by_rows.0, by_columns.0, "query {number}");
                rows.push(by_rows.1);
                columns.push(by_columns.1);
            }
        }
        let (rows, columns) = (median(rows), median(columns));
        println!(
            "{:<20}{:>5}{vectors:>9}{:>8}{share:>6}{rows:>12.1}{columns:>12.1}{:>8.2}{freeze:>10.2}",
            data.name,
            data.dim,
            distance_type.to_string(),
            rows / columns
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
