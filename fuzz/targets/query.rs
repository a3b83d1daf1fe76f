//! Queries and parameters: any bits as floats, any numbers; an error, or an answer that keeps its promises.
#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use kit::{DIM, check_order, list, start, vectors};
use libfuzzer_sys::fuzz_target;
use pennon::{BuildParams, DistanceType, Index, RowMask, SearchParams};
use roaring::RoaringTreemap;

const ROWS: u64 = 300;
const METRICS: [DistanceType; 4] =
    [DistanceType::L2, DistanceType::Cosine, DistanceType::Dot, DistanceType::L1];

#[derive(Arbitrary, Debug)]
enum Mask {
    None,
    Range { start: u64, end: u64 },
    Every { of: u8, rest: u8 },
    Bitmap(Vec<u16>),
    And(Box<Mask>, Box<Mask>),
    Or(Box<Mask>, Box<Mask>),
    Not(Box<Mask>),
}

impl Mask {
    fn mask(&self, depth: usize) -> Option<RowMask> {
        let inner = |mask: &Mask| mask.mask(depth + 1).unwrap_or_else(|| RowMask::row_id_range(..));
        if depth > 6 {
            return None;
        }
        Some(match self {
            Self::None => return None,
            &Self::Range { start, end } => RowMask::row_id_range(start % (2 * ROWS)..end % (2 * ROWS)),
            &Self::Every { of, rest } => {
                RowMask::predicate(move |row_id| row_id % (u64::from(of) + 1) == u64::from(rest))
            }
            Self::Bitmap(row_ids) => {
                row_ids.iter().map(|&id| u64::from(id)).collect::<RoaringTreemap>().into()
            }
            Self::And(a, b) => inner(a).and(inner(b)),
            Self::Or(a, b) => inner(a).or(inner(b)),
            Self::Not(a) => inner(a).not(),
        })
    }

    fn holds(&self, row_id: u64, depth: usize) -> bool {
        if depth > 6 {
            return true;
        }
        let inner = |mask: &Mask| mask.holds(row_id, depth + 1);
        match self {
            Self::None => true,
            &Self::Range { start, end } => (start % (2 * ROWS)..end % (2 * ROWS)).contains(&row_id),
            &Self::Every { of, rest } => row_id % (u64::from(of) + 1) == u64::from(rest),
            Self::Bitmap(row_ids) => row_ids.iter().any(|&id| u64::from(id) == row_id),
            Self::And(a, b) => inner(a) && inner(b),
            Self::Or(a, b) => inner(a) || inner(b),
            Self::Not(a) => !inner(a),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Asked {
    index: u8,
    query: Vec<u32>,
    k: u64,
    few: bool,
    ef: u64,
    max_row_id: Option<u64>,
    range: Option<(f32, f32)>,
    mask: Mask,
    max_distances: Option<u64>,
    deadline: Option<i8>,
    exact: bool,
}

fn indexes() -> Vec<Index> {
    let params = BuildParams::default().num_edges(6).ef_construction(24);
    let indexes = METRICS
        .iter()
        .flat_map(|&metric| [Index::hnsw(DIM, metric, params.clone()), Index::flat(DIM, metric)]);
    indexes
        .map(|index| {
            let index = index.expect("parameters of an index");
            index.append(&list(vectors(0..ROWS), DIM), 0).expect("rows");
            let dead: Vec<u64> =
                (0..ROWS).filter(|row_id| row_id % 7 == 3 && index.contains(*row_id)).collect();
            index.delete_batch(&dead).expect("rows that are there");
            index
        })
        .collect()
}

thread_local! {
    static INDEXES: Vec<Index> = indexes();
}

fn check(index: &Index, asked: &Asked) {
    let query: Vec<f32> = asked.query.iter().copied().map(f32::from_bits).collect();
    let k = if asked.few { asked.k % 50 } else { asked.k } as usize;
    let mut params = SearchParams::new(k).ef(if asked.few { asked.ef % 300 } else { asked.ef } as usize);
    params.max_row_id = asked.max_row_id;
    params.mask = asked.mask.mask(0);
    params.distance_range = asked.range.map(|(start, end)| start..end);
    params.max_distances = asked.max_distances;
    params.deadline = asked.deadline.and_then(|millis| {
        let after = Duration::from_millis(u64::from(millis.unsigned_abs()));
        if millis < 0 { Instant::now().checked_sub(after) } else { Some(Instant::now() + after) }
    });
    let hits = if asked.exact { index.search_exact(&query, &params) } else { index.search(&query, &params) };
    let usable = query.len() == index.dim() && query.iter().all(|x| x.is_finite());
    let Ok(hits) = hits else {
        let plain = params.distance_range.as_ref().is_none_or(|range| range.start <= range.end);
        let zero = query.iter().all(|&x| x == 0.0) && index.distance_type() == DistanceType::Cosine;
        // Squares beyond `f32` under cosine are refused too.
        let large = query.iter().any(|x| !(1e-15..1e15).contains(&x.abs()));
        assert!(!usable || !plain || zero || large, "refused: {query:?} {params:?}");
        return;
    };
    assert!(usable, "answered: {query:?}");
    check_order(&hits, k);
    let admits =
        |row_id: u64| params.max_row_id.is_none_or(|most| row_id <= most) && asked.mask.holds(row_id, 0);
    for hit in &hits {
        assert!(index.contains(hit.row_id) && admits(hit.row_id), "{hit:?} is none of these");
        assert!(params.distance_range.as_ref().is_none_or(|range| range.contains(&hit.distance)), "{hit:?}");
    }
    if hits.complete() && params.distance_range.is_none() {
        let rows = (0..ROWS).filter(|&row_id| index.contains(row_id) && admits(row_id)).count();
        assert_eq!(hits.len(), rows.min(k), "of {rows} rows, {params:?}");
    }
}

fuzz_target!(|asked: Asked| {
    start();
    INDEXES.with(|indexes| {
        let index = &indexes[usize::from(asked.index) % indexes.len()];
        check(index, &asked);
        // With a query of the right length too, whatever it is made of.
        let mut asked = asked;
        asked.query.resize(DIM, 0x3f00_0000);
        check(index, &asked);
    });
});
