//! The calls of a sequence, and the batches they write.

use arrow_array::{FixedSizeListArray, Float32Array, UInt64Array};
use arrow_buffer::NullBuffer;
use pennon::{DistanceType, RowIds};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::DIM;
use crate::data::list;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    Null,
    NotANumber,
}

/// Where the row ids of a batch come from; what a batch is too short for is `Fresh`.
#[derive(Clone, Debug)]
enum Ids {
    Fresh,
    FreshBackwards,
    /// Counting up from one that a live row has.
    FromLive(Index),
    OneTaken(Index, Index),
    OneTwice(Index, Index),
    TooFew,
    OneNull(Index),
    Overflow,
}

#[derive(Clone, Debug)]
pub struct Draft {
    kinds: Vec<Kind>,
    ids: Ids,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Mask {
    None,
    /// Row ids with this remainder, by a test or by a bitmap.
    Predicate(u64, u64),
    Bitmap(u64, u64),
    /// The vector ids whose bit is set, 64 by 64.
    Ids(u64),
}

#[derive(Clone, Debug)]
pub struct Look {
    pub seed: u64,
    pub k: usize,
    pub ef: usize,
    pub mask: Mask,
    pub max_row_id: Option<u64>,
    pub pin: Option<Index>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Append,
    /// `append_unique` if the row ids are, else `append`.
    Unique,
    Upsert,
}

#[derive(Clone, Debug)]
pub enum Op {
    Write(How, Draft),
    Delete(Vec<Index>),
    Search(Look),
    Pin,
    Refused(usize),
    OutAndIn,
    SaveAndLoad,
    Compact,
}

fn draft() -> impl Strategy<Value = Draft> {
    let kind = prop_oneof![12 => Just(Kind::Good), 1 => Just(Kind::Null), 1 => Just(Kind::NotANumber)];
    let at = any::<Index>;
    let ids = prop_oneof![
        6 => Just(Ids::Fresh),
        3 => Just(Ids::FreshBackwards),
        3 => at().prop_map(Ids::FromLive),
        2 => (at(), at()).prop_map(|(to, from)| Ids::OneTaken(to, from)),
        2 => (at(), at()).prop_map(|(to, from)| Ids::OneTwice(to, from)),
        1 => Just(Ids::TooFew),
        1 => at().prop_map(Ids::OneNull),
        1 => Just(Ids::Overflow),
    ];
    (vec(kind, 0..60), ids, any::<u64>()).prop_map(|(kinds, ids, seed)| Draft { kinds, ids, seed })
}

fn look() -> impl Strategy<Value = Look> {
    let residue = || (1..6_u64, 0..5_u64);
    let mask = prop_oneof![
        2 => Just(Mask::None),
        1 => residue().prop_map(|(of, residue)| Mask::Predicate(of, residue)),
        1 => residue().prop_map(|(of, residue)| Mask::Bitmap(of, residue)),
        1 => any::<u64>().prop_map(Mask::Ids),
    ];
    let k = prop_oneof![3 => 0..80_usize, 1 => Just(usize::MAX)];
    let max_row_id = option::weighted(0.3, 0..800_u64);
    (any::<u64>(), k, 0..100_usize, mask, max_row_id, option::of(any::<Index>()))
        .prop_map(|(seed, k, ef, mask, max_row_id, pin)| Look { seed, k, ef, mask, max_row_id, pin })
}

pub fn op() -> impl Strategy<Value = Op> {
    let how = select(vec![How::Append, How::Append, How::Unique, How::Upsert]);
    prop_oneof![
        8 => (how, draft()).prop_map(|(how, draft)| Op::Write(how, draft)),
        5 => vec(any::<Index>(), 1..25).prop_map(Op::Delete),
        6 => look().prop_map(Op::Search),
        2 => Just(Op::Pin),
        1 => (0..8_usize).prop_map(Op::Refused),
        1 => Just(Op::OutAndIn),
        1 => Just(Op::SaveAndLoad),
        1 => Just(Op::Compact),
    ]
}

/// A batch: for each row its id, and its vector if it is usable.
pub struct Batch {
    pub array: FixedSizeListArray,
    pub row_ids: RowIds,
    pub ids: Vec<u64>,
    pub vectors: Vec<Option<Vec<f32>>>,
    /// The error that the row ids alone deserve.
    pub refused: Option<&'static str>,
}

/// Small whole numbers: distances are exact, except for cosine, and many rows are equally far.
pub fn whole_numbers(rng: &mut StdRng) -> Vec<f32> {
    (0..DIM).map(|_| rng.random_range(-2..=2_i32) as f32).collect()
}

impl Batch {
    pub fn of(draft: &Draft, distance_type: DistanceType, fresh: u64, live: &[u64]) -> Self {
        let n = draft.kinds.len();
        let mut rng = StdRng::seed_from_u64(draft.seed);
        let (mut values, mut vectors) = (Vec::new(), Vec::new());
        for &kind in &draft.kinds {
            let mut vector = whole_numbers(&mut rng);
            if kind == Kind::NotANumber {
                vector[rng.random_range(0..DIM)] = f32::NAN;
            }
            values.extend_from_slice(&vector);
            let zero = distance_type == DistanceType::Cosine && vector.iter().all(|&x| x == 0.0);
            vectors.push((kind == Kind::Good && !zero).then_some(vector));
        }
        let valid = NullBuffer::from(draft.kinds.iter().map(|&kind| kind != Kind::Null).collect::<Vec<_>>());
        let array = list(Float32Array::from(values), DIM, "item", true, Some(valid));

        let mut each: Vec<Option<u64>> = (fresh..fresh + n as u64).map(Some).collect();
        let (mut from, mut refused) = (None, None);
        match &draft.ids {
            Ids::FreshBackwards => each.reverse(),
            Ids::FromLive(at) if !live.is_empty() => {
                let start = *at.get(live);
                from = Some(start);
                each = (start..start + n as u64).map(Some).collect();
            }
            Ids::OneTaken(to, at) if n > 0 && !live.is_empty() => each[to.index(n)] = Some(*at.get(live)),
            Ids::OneTwice(to, at) if n > 1 => each[to.index(n)] = each[at.index(n)],
            Ids::TooFew => {
                if each.pop().is_none() {
                    each.push(Some(fresh));
                }
                refused = Some("RowIdCount");
            }
            Ids::OneNull(at) if n > 0 => {
                each[at.index(n)] = None;
                refused = Some("NullRowId");
            }
            Ids::Overflow if n > 1 => {
                from = Some(u64::MAX - n as u64 + 2);
                refused = Some("RowIdOverflow");
            }
            _ => from = Some(fresh),
        }
        let row_ids = match from {
            Some(start) => RowIds::StartingAt(start),
            None => RowIds::Each(UInt64Array::from(each.clone())),
        };
        Self { array, row_ids, ids: each.into_iter().flatten().collect(), vectors, refused }
    }
}
