//! Every instruction set against a naive sum in the same order, to the bit; lance-linalg, with a tolerance; and a
//! digest that every CPU must come to.

use half::f16;

use super::element::Element;
use super::isa::Isa;
use super::{DistanceType, PreparedQuery};

const FLOAT_METRICS: [DistanceType; 4] =
    [DistanceType::L2, DistanceType::Dot, DistanceType::Cosine, DistanceType::L1];

/// Numbers that are the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn vector<T: Made>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::made(self.next())).collect()
    }
}

/// An element, of 64 random bits.
trait Made: Element {
    fn made(bits: u64) -> Self;
}

impl Made for f32 {
    /// 24 bits, from -8 to 8.
    fn made(bits: u64) -> Self {
        ((bits >> 40) as i32 - (1 << 23)) as f32 / (1 << 20) as f32
    }
}

impl Made for f64 {
    fn made(bits: u64) -> Self {
        (bits as i64 >> 11) as f64 / (1_u64 << 49) as f64
    }
}

impl Made for f16 {
    /// Below 2, subnormal ones among them.
    fn made(bits: u64) -> Self {
        f16::from_bits(bits as u16 & 0xbfff)
    }
}

impl Made for [u8; 2] {
    fn made(bits: u64) -> Self {
        ((f32::made(bits).to_bits() >> 16) as u16).to_le_bytes()
    }
}

impl Made for u8 {
    /// The extreme ones are frequent.
    fn made(bits: u64) -> Self {
        if bits & 7 == 0 { 255 * (bits >> 8 & 1) as u8 } else { (bits >> 56) as u8 }
    }
}

impl Made for i8 {
    fn made(bits: u64) -> Self {
        u8::made(bits) as i8
    }
}

/// The sum in the order of the module `sums`, as it is written there.
fn ordered(x: &[f32], y: &[f32], step: fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = vec![0.0; 32];
    for i in 0..x.len().min(y.len()).next_multiple_of(32) {
        let inside = i < x.len().min(y.len());
        let (x, y) = if inside { (x[i], y[i]) } else { (0.0, 0.0) };
        sums[i % 32] = step(sums[i % 32], x, y);
    }
    while sums.len() > 1 {
        let upper = sums.split_off(sums.len() / 2);
        sums.iter_mut().zip(upper).for_each(|(sum, upper)| *sum += upper);
    }
    sums[0]
}

fn product(sum: f32, x: f32, y: f32) -> f32 {
    x.mul_add(y, sum)
}

/// The distance as it should be, of a query and a row in `f32`.
fn expected(query: &[f32], row: &[f32], distance_type: DistanceType) -> f32 {
    match distance_type {
        DistanceType::L2 => ordered(query, row, |sum, x, y| (x - y).mul_add(x - y, sum)),
        DistanceType::L1 => ordered(query, row, |sum, x, y| sum + (x - y).abs()),
        DistanceType::Dot => 1.0 - ordered(query, row, product),
        DistanceType::Cosine => {
            let row = &row[..row.len().min(query.len())];
            let squares = [ordered(query, query, product), ordered(row, row, product)];
            if squares.iter().all(|square| (1.0e-30..1.0e30).contains(square)) {
                return 1.0 - ordered(query, row, product) / (squares[0].sqrt() * squares[1].sqrt());
            }
            let wide = |x: &[f32], y: &[f32]| -> f64 {
                x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
            };
            let query = &query[..row.len()];
            (1.0 - wide(query, row) / (wide(query, query).sqrt() * wide(row, row).sqrt())) as f32
        }
        DistanceType::Hamming => {
            let bits = query.iter().zip(row).map(|(&x, &y)| (x as u8 ^ y as u8).count_ones());
            bits.sum::<u32>() as f32
        }
    }
}

/// The distance of a query in integers to a row of them, exact but for its last rounding.
fn expected_in_integers(query: &[f32], row: &[f32], distance_type: DistanceType) -> f32 {
    let sum = |x: &[f32], y: &[f32], f: fn(i64, i64) -> i64| -> f32 {
        x.iter().zip(y).map(|(&x, &y)| f(x as i64, y as i64)).sum::<i64>() as f32
    };
    match distance_type {
        DistanceType::L2 => sum(query, row, |x, y| (x - y) * (x - y)),
        DistanceType::L1 => sum(query, row, |x, y| (x - y).abs()),
        DistanceType::Dot => 1.0 - sum(query, row, |x, y| x * y),
        DistanceType::Cosine => {
            let row = &row[..row.len().min(query.len())];
            let squares = [sum(query, query, |x, y| x * y), sum(row, row, |x, y| x * y)];
            if squares.contains(&0.0) {
                return f32::NAN;
            }
            1.0 - sum(query, row, |x, y| x * y) / (squares[0].sqrt() * squares[1].sqrt())
        }
        DistanceType::Hamming => expected(query, row, distance_type),
    }
}

fn prepared<T: Element>(isa: Isa, query: &[f32], distance_type: DistanceType) -> PreparedQuery<'_> {
    PreparedQuery::for_isa(isa, query, distance_type).with_integers(T::integers(query, distance_type))
}

fn widened<T: Element>(row: &[T]) -> Vec<f32> {
    row.iter().map(|x| x.widen()).collect()
}

/// Scores `rows` on every instruction set, in one call and one by one, and compares with `oracle` to the bit.
fn check<T: Element>(
    query: &[f32],
    rows: &[&[T]],
    distance_type: DistanceType,
    oracle: fn(&[f32], &[f32], DistanceType) -> f32,
) {
    let expected: Vec<f32> = rows.iter().map(|row| oracle(query, &widened(row), distance_type)).collect();
    let same = |found: f32, expected: f32| {
        found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
    };
    for isa in Isa::available() {
        let prepared = prepared::<T>(isa, query, distance_type);
        let mut found = vec![-1.0; rows.len()];
        T::score(&prepared, rows, &mut found);
        for (at, row) in rows.iter().enumerate() {
            let case = format!("{isa:?} {distance_type}, {} x {}, row {at}", query.len(), row.len());
            assert!(same(found[at], expected[at]), "{case}: {}, not {}", found[at], expected[at]);
            let mut one = [-1.0];
            T::score(&prepared, &[*row], &mut one);
            assert!(same(one[0], expected[at]), "{case} alone: {}, not {}", one[0], expected[at]);
        }
    }
}

/// Lengths with every tail, and a few long ones.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=700).chain([1023, 1024, 1025, 1536, 2049, 4100])
}

/// Every length, at unaligned starts: two groups of rows and a rest.
fn check_lengths<T: Made>(
    metrics: &[DistanceType],
    query: impl Fn(&mut Numbers, usize) -> Vec<f32>,
    oracle: fn(&[f32], &[f32], DistanceType) -> f32,
) {
    let mut numbers = Numbers(1);
    let values: Vec<T> = numbers.vector(11 * 4200);
    for len in lengths() {
        let query = query(&mut numbers, len);
        let rows: Vec<&[T]> = (0..11).map(|r| &values[r * 4101 + (len * 7 + r * 5) % 89..][..len]).collect();
        for &distance_type in metrics {
            check(&query, &rows, distance_type, oracle);
        }
    }
}

#[test]
fn every_instruction_set_sums_floats_in_the_one_order() {
    let query = |numbers: &mut Numbers, len| numbers.vector::<f32>(len);
    check_lengths::<f32>(&FLOAT_METRICS, query, expected);
    check_lengths::<f64>(&FLOAT_METRICS, query, expected);
    check_lengths::<f16>(&FLOAT_METRICS, query, expected);
    check_lengths::<[u8; 2]>(&FLOAT_METRICS, query, expected);
    check_lengths::<u8>(&FLOAT_METRICS, query, expected);
    check_lengths::<i8>(&FLOAT_METRICS, query, expected);
}

#[test]
fn every_instruction_set_sums_bytes_exactly() {
    let unsigned = |numbers: &mut Numbers, len| widened(&numbers.vector::<u8>(len));
    let negated = |numbers: &mut Numbers, len| {
        numbers.vector::<u8>(len).iter().map(|&x| -f32::from(x)).collect::<Vec<f32>>()
    };
    check_lengths::<u8>(&FLOAT_METRICS, unsigned, expected_in_integers);
    check_lengths::<i8>(&FLOAT_METRICS, unsigned, expected_in_integers);
    check_lengths::<u8>(&FLOAT_METRICS, negated, expected_in_integers);
    check_lengths::<i8>(&FLOAT_METRICS, negated, expected_in_integers);
}

#[test]
fn sums_of_bytes_beyond_32_bits_are_exact() {
    let len = 20 * super::bytes::CHUNK + 3;
    let rows = (vec![255_u8; len], vec![-128_i8; len]);
    for distance_type in FLOAT_METRICS {
        check(&vec![-255.0; len], &[&rows.0[..]; 5], distance_type, expected_in_integers);
        check(&vec![255.0; len], &[&rows.1[..]; 5], distance_type, expected_in_integers);
    }
}

#[test]
fn bits_are_counted_on_every_length() {
    let any = |numbers: &mut Numbers, len| {
        let mut query = widened(&numbers.vector::<u8>(len));
        // What is no byte counts as the nearest.
        query.iter_mut().step_by(5).for_each(|x| *x = *x * 2.0 - 100.5);
        query
    };
    check_lengths::<u8>(&[DistanceType::Hamming], any, expected);
    check_lengths::<i8>(&[DistanceType::Hamming], any, expected);
    check_lengths::<f32>(&[DistanceType::Hamming], any, expected);
    check(&[f32::NAN, 1.0e9], &[&[3_u8, 0][..]], DistanceType::Hamming, |_, _, _| 10.0);
}

#[test]
fn slices_of_unequal_length_are_read_to_the_end_of_the_shorter() {
    let mut numbers = Numbers(2);
    let (query, row) = (numbers.vector::<f32>(130), numbers.vector::<f32>(130));
    let bytes = numbers.vector::<u8>(130);
    let whole_bytes = widened(&numbers.vector::<u8>(130));
    for lens in [[0, 130, 1, 64, 5], [130, 130, 129, 130, 0], [31, 32, 33, 100, 130], [130; 5]] {
        for len in [0, 1, 31, 32, 33, 64, 100, 130] {
            for distance_type in FLOAT_METRICS {
                check(&query[..len], &lens.map(|len| &row[..len]), distance_type, expected);
                let rows = lens.map(|len| &bytes[..len]);
                check(&query[..len], &rows, distance_type, expected);
                check(&whole_bytes[..len], &rows, distance_type, expected_in_integers);
            }
            check(&query[..len], &lens.map(|len| &row[..len]), DistanceType::Hamming, expected);
        }
    }
}

#[test]
fn the_public_methods_agree_for_any_number_of_rows() {
    let mut numbers = Numbers(3);
    let rows: Vec<Vec<f32>> = (0..80).map(|_| numbers.vector(45)).collect();
    for distance_type in FLOAT_METRICS {
        let query = PreparedQuery::new(&rows[0], distance_type);
        for n in 0..rows.len() {
            let mut found = vec![-1.0; n];
            query.distances(|i| &rows[rows.len() - 1 - i], &mut found);
            for (i, found) in found.into_iter().enumerate() {
                let row = &rows[rows.len() - 1 - i];
                assert_eq!(found.to_bits(), query.distance(row).to_bits(), "{distance_type} {n}, row {i}");
                let back = PreparedQuery::new(row, distance_type).distance(&rows[0]);
                assert_eq!(found.to_bits(), back.to_bits(), "{distance_type}: row {i} as the query");
            }
        }
    }
}

#[test]
fn distances_are_lances_but_for_rounding() {
    use lance_linalg::distance::{cosine_distance, dot_distance, l2_f32};
    let mut numbers = Numbers(4);
    for len in lengths().skip(1) {
        let (query, row) = (numbers.vector::<f32>(len), numbers.vector::<f32>(len));
        // The error of a sum is relative to the sum of the magnitudes.
        let scale: f32 = query.iter().zip(&row).map(|(x, y)| (x * y).abs()).sum();
        let l2 = l2_f32(&query, &row);
        for (distance_type, theirs, scale) in [
            (DistanceType::L2, l2, l2),
            (DistanceType::Dot, dot_distance(&query, &row), scale + 1.0),
            (DistanceType::Cosine, cosine_distance(&query, &row), 1.0),
        ] {
            for isa in Isa::available() {
                let ours = PreparedQuery::for_isa(isa, &query, distance_type).distance(&row);
                let off = (ours - theirs).abs();
                assert!(off <= 3.0e-6 * scale, "{isa:?} {distance_type} {len}: {ours}, Lance {theirs}");
            }
        }
    }
}

/// FNV-1a.
fn digest(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A digest of distances between vectors of some elements.
fn digest_of<T: Made>(isa: Isa, hash: u64, metrics: &[DistanceType]) -> u64 {
    let mut hash = hash;
    for dim in [1, 7, 24, 32, 45, 100, 384, 700] {
        let mut numbers = Numbers(dim as u64);
        let rows: Vec<Vec<T>> = (0..11).map(|_| numbers.vector(dim)).collect();
        let slices: Vec<&[T]> = rows.iter().map(|row| &row[..]).collect();
        let mut queries = vec![widened(&rows[3]), numbers.vector::<f32>(dim)];
        queries.push(queries[1].iter().map(|x| x * f32::from_bits(0x1e80_0000)).collect());
        for query in &queries {
            for &distance_type in metrics {
                let mut distances = [0.0; 11];
                T::score(&prepared::<T>(isa, query, distance_type), &slices, &mut distances);
                for distance in distances {
                    // NaN, of a row of zeros, has no bits of its own.
                    let bits = if distance.is_nan() { u32::MAX } else { distance.to_bits() };
                    hash = digest(hash, &bits.to_le_bytes());
                }
            }
        }
    }
    hash
}

/// Whatever runs this test must come to this constant, on any CPU.
#[test]
fn distances_are_the_same_bits_on_every_cpu() {
    for isa in Isa::available() {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        hash = digest_of::<f32>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<f64>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<f16>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<[u8; 2]>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<i8>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<u8>(isa, hash, &FLOAT_METRICS);
        hash = digest_of::<u8>(isa, hash, &[DistanceType::Hamming]);
        assert_eq!(hash, 0xa1ae_881b_fa0d_b7c6, "{isa:?}: {hash:#018x}");
    }
}
