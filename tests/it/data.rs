//! Seeded rows in awkward shapes, Arrow arrays made of them, and the exact answers in f64.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use pennon::{BuildParams, DistanceType, Hit, Index, VectorSource};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

pub use crate::kit::{graph_of, import, load, load_labels, open_mapped, pair, with_stats};

pub const METRICS: [DistanceType; 3] = [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot];

/// `dim` numbers per row, one row after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub dim: usize,
    pub values: Vec<f32>,
}

impl Rows {
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim)
    }

    pub fn part(&self, rows: Range<usize>) -> Self {
        let values = self.values[rows.start * self.dim..rows.end * self.dim].to_vec();
        Self { dim: self.dim, values }
    }

    pub fn reordered(&self, order: &[usize]) -> Self {
        let values = order.iter().flat_map(|&row| self.row(row).iter().copied()).collect();
        Self { dim: self.dim, values }
    }

    pub fn shuffled(&self, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        self.reordered(&order)
    }

    pub fn array(&self) -> FixedSizeListArray {
        list(Float32Array::from(self.values.clone()), self.dim, "item", true, None)
    }

    /// Slices of one array, `size` rows each, with the position of their first row.
    pub fn batches(&self, size: usize) -> Vec<(u64, FixedSizeListArray)> {
        let sizes = vec![size; self.len().div_ceil(size)];
        self.batches_of(&sizes)
    }

    /// Slices of one array of the given sizes, the last cut to what is left.
    pub fn batches_of(&self, sizes: &[usize]) -> Vec<(u64, FixedSizeListArray)> {
        let array = self.array();
        let mut start = 0;
        let mut batches = Vec::with_capacity(sizes.len());
        for &size in sizes {
            let size = size.min(self.len() - start);
            batches.push((start as u64, array.slice(start, size)));
            start += size;
        }
        batches
    }
}

pub fn list(
    values: Float32Array,
    dim: usize,
    child: &str,
    nullable: bool,
    nulls: Option<NullBuffer>,
) -> FixedSizeListArray {
    let field = Arc::new(Field::new(child, DataType::Float32, nullable));
    FixedSizeListArray::try_new(field, dim as i32, Arc::new(values), nulls).unwrap()
}

/// The shapes of data that are known to break HNSW graphs, and two that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Random,
    /// Points along a curve, in order.
    Sorted,
    /// 64 clusters, in random order.
    Clustered,
    AllEqual,
    /// 1,000 copies of one vector (two thirds of the rows, if that is less) scattered among others.
    Copies,
    /// The same, with the copies first.
    CopiesFirst,
    OutlierFirst,
    OutlierLast,
    /// A lattice of small integers in order: almost every distance is tied with hundreds of others.
    Grid,
}

impl Shape {
    pub const ALL: [Self; 9] = [
        Self::Random,
        Self::Sorted,
        Self::Clustered,
        Self::AllEqual,
        Self::Copies,
        Self::CopiesFirst,
        Self::OutlierFirst,
        Self::OutlierLast,
        Self::Grid,
    ];

    pub fn distinct(self) -> bool {
        !matches!(self, Self::AllEqual | Self::Copies | Self::CopiesFirst)
    }

    pub fn rows(self, n: usize, dim: usize, seed: u64) -> Rows {
        match self {
            Self::Random => uniform(n, dim, seed),
            Self::Sorted => curve(n, dim),
            Self::Clustered => clustered(n, dim, 64, seed).0,
            Self::AllEqual => Rows { dim, values: uniform(1, dim, seed).values.repeat(n) },
            Self::Copies => Self::CopiesFirst.rows(n, dim, seed).shuffled(seed),
            Self::CopiesFirst => {
                let copies = (n * 2 / 3).min(1_000);
                let mut values = uniform(1, dim, seed).values.repeat(copies);
                values.extend(uniform(n - copies, dim, seed + 1).values);
                Rows { dim, values }
            }
            Self::OutlierFirst => outlier(n, dim, seed, 0),
            Self::OutlierLast => outlier(n, dim, seed, n - 1),
            Self::Grid => grid(n, dim),
        }
    }
}

pub fn uniform(n: usize, dim: usize, seed: u64) -> Rows {
    let mut rng = StdRng::seed_from_u64(seed);
    let values = (0..n * dim).map(|_| rng.random_range(-1.0f32..1.0)).collect();
    Rows { dim, values }
}

pub fn curve(n: usize, dim: usize) -> Rows {
    let mut values = Vec::with_capacity(n * dim);
    for row in 0..n {
        let t = row as f32 / n as f32;
        for axis in 0..dim {
            let a = axis as f32;
            values.push(if axis == 0 { 10.0 * t } else { (4.0 * a * t + a).sin() });
        }
    }
    Rows { dim, values }
}

/// Close to normal noise around `clusters` uniform centers, in random order, with the cluster of each row.
pub fn clustered(n: usize, dim: usize, clusters: usize, seed: u64) -> (Rows, Vec<usize>) {
    let centers = uniform(clusters, dim, seed ^ 0xC1A5);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(n * dim);
    let mut labels = Vec::with_capacity(n);
    for _ in 0..n {
        let cluster = rng.random_range(0..clusters);
        labels.push(cluster);
        for center in centers.row(cluster) {
            values.push(center + 0.25 * normal(&mut rng));
        }
    }
    (Rows { dim, values }, labels)
}

/// The sum of six uniform numbers, scaled to a variance of 1.
pub fn normal(rng: &mut StdRng) -> f32 {
    let sum: f32 = (0..6).map(|_| rng.random_range(-1.0f32..1.0)).sum();
    sum / 2.0f32.sqrt()
}

fn outlier(n: usize, dim: usize, seed: u64, at: usize) -> Rows {
    let mut rows = uniform(n, dim, seed);
    for value in &mut rows.values[at * dim..(at + 1) * dim] {
        *value += 1_000.0;
    }
    rows
}

fn grid(n: usize, dim: usize) -> Rows {
    let mut base = 4;
    while (base as f64).powi(dim as i32) < n as f64 {
        base += 1;
    }
    let mut values = Vec::with_capacity(n * dim);
    for row in 0..n {
        let mut rest = row;
        for _ in 0..dim {
            values.push((rest % base) as f32);
            rest /= base;
        }
    }
    Rows { dim, values }
}

/// A vector source with the required methods and nothing else.
pub struct Plain {
    pub rows: Vec<Vec<f32>>,
    pub distance_type: DistanceType,
}

impl Plain {
    pub fn new(rows: &Rows, distance_type: DistanceType) -> Self {
        Self { rows: rows.iter().map(<[f32]>::to_vec).collect(), distance_type }
    }
}

impl VectorSource for Plain {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.rows[0].len()
    }

    fn distance_type(&self) -> DistanceType {
        self.distance_type
    }

    fn row_id(&self, id: u32) -> u64 {
        u64::from(id) + 10_000
    }

    fn vector(&self, id: u32) -> &[f32] {
        &self.rows[id as usize]
    }
}

pub fn build(rows: &Rows, distance_type: DistanceType, params: &BuildParams, batch: usize) -> Index {
    let index = Index::hnsw(rows.dim, distance_type, params.clone()).unwrap();
    for (start, array) in rows.batches(batch) {
        index.append(&array, start).unwrap();
    }
    index
}

pub fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

pub fn ids(results: &[Hit]) -> Vec<u32> {
    results.iter().map(|result| result.id).collect()
}

/// Panics unless the results are sorted by distance and id, and no id comes twice.
pub fn assert_sorted(results: &[Hit], case: &str) {
    for pair in results.windows(2) {
        let order = pair[0].distance.total_cmp(&pair[1].distance).then(pair[0].id.cmp(&pair[1].id));
        assert!(order.is_lt(), "{case}: {:?} before {:?}", pair[0], pair[1]);
    }
    let mut seen = ids(results);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), results.len(), "{case}: an id came twice");
}

pub fn exact_distance(distance_type: DistanceType, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(&x, &y)| (f64::from(x), f64::from(y)));
    let dot = || pairs().map(|(x, y)| x * y).sum::<f64>();
    match distance_type {
        DistanceType::L2 => pairs().map(|(x, y)| (x - y) * (x - y)).sum(),
        DistanceType::Dot => 1.0 - dot(),
        DistanceType::Cosine => {
            let norms = pairs().fold((0.0, 0.0), |(xx, yy), (x, y)| (xx + x * x, yy + y * y));
            1.0 - dot() / (norms.0.sqrt() * norms.1.sqrt())
        }
        other => panic!("no oracle for {other}"),
    }
}

/// Share of the `k` nearest rows that `search` returns; a row as near as the k-th counts as one of them.
/// The ids must be positions in `rows`.
pub fn recall(
    rows: &Rows,
    queries: &Rows,
    distance_type: DistanceType,
    k: usize,
    search: impl Fn(&[f32]) -> Vec<Hit>,
) -> f64 {
    let mut hits = 0;
    for query in queries.iter() {
        let mut all: Vec<f64> = rows.iter().map(|row| exact_distance(distance_type, query, row)).collect();
        let (_, kth, _) = all.select_nth_unstable_by(k - 1, f64::total_cmp);
        let limit = *kth + kth.abs() * 1e-6 + 1e-9;
        let results = search(query);
        assert_eq!(results.len(), k);
        assert_sorted(&results, "recall");
        hits += results
            .iter()
            .filter(|r| exact_distance(distance_type, query, rows.row(r.id as usize)) <= limit)
            .count();
    }
    hits as f64 / (queries.len() * k) as f64
}

/// Distances of `query` to all rows.
pub fn exact_distances(rows: &Rows, distance_type: DistanceType, query: &[f32]) -> Vec<f64> {
    rows.iter().map(|row| exact_distance(distance_type, query, row)).collect()
}

/// The distance up to which a row counts as one of the `k` nearest, with room for rounding. Reorders.
pub fn limit(distances: &mut [f64], k: usize) -> f64 {
    let (_, kth, _) = distances.select_nth_unstable_by(k - 1, f64::total_cmp);
    *kth + kth.abs() * 1e-6 + 1e-9
}

/// Recall over many answers, each of which has to be complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    hits: usize,
    wanted: usize,
}

impl Tally {
    /// Counts an answer for the `k` nearest of the rows that qualify. Rows are named by their position in
    /// `distances`. Panics unless the answer is `min(k, n)` of the `n` rows that qualify, each once.
    pub fn count(
        &mut self,
        distances: &[f64],
        k: usize,
        qualifies: impl Fn(usize) -> bool,
        answer: impl IntoIterator<Item = u32>,
        case: &str,
    ) {
        let answer: Vec<usize> = answer.into_iter().map(|row| row as usize).collect();
        let mut left: Vec<f64> =
            (0..distances.len()).filter(|&row| qualifies(row)).map(|row| distances[row]).collect();
        let wanted = k.min(left.len());
        assert_eq!(answer.len(), wanted, "{case}: rows for k = {k}, where {} qualify", left.len());
        let intruder = answer.iter().find(|&&row| !qualifies(row));
        assert!(intruder.is_none(), "{case}: row {intruder:?} does not qualify");
        let mut different = answer.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), wanted, "{case}: a row came twice");
        if wanted > 0 {
            let limit = limit(&mut left, wanted);
            self.hits += answer.iter().filter(|&&row| distances[row] <= limit).count();
            self.wanted += wanted;
        }
    }

    pub fn recall(&self) -> f64 {
        if self.wanted == 0 { 1.0 } else { self.hits as f64 / self.wanted as f64 }
    }
}
