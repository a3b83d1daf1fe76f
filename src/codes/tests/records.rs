//! Laws of records: their bytes, their memory, and who sees them when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arrow_buffer::Buffer;

use super::*;

#[test]
fn records_have_the_same_bytes_on_every_instruction_set() {
    let mut rng = Rng(13);
    for dim in dims() {
        for kind in KINDS {
            let mut row = vector(kind, dim, &mut rng);
            // Either zero may be the smallest element.
            row.iter_mut().filter(|x| **x < 0.0 && dim % 2 == 0).for_each(|x| *x = -0.0);
            for distance_type in METRICS {
                let Some(shape) = Shape::new(dim, distance_type) else { continue };
                let encoded = |isa: Isa| {
                    let mut record = vec![0; shape.record_len()];
                    record::encode(isa, shape, &row, &mut record);
                    record
                };
                let expected = encoded(Isa::PORTABLE);
                assert!(record::is_record(shape, &expected), "{distance_type} {kind:?} {dim}");
                for isa in Isa::available() {
                    assert_eq!(encoded(isa), expected, "{isa:?} {distance_type} {kind:?} {dim}");
                }
            }
        }
    }
}

fn from_records(dim: usize, distance_type: DistanceType, records: &[u8]) -> Option<Codes> {
    let codes = Codes::new(dim, distance_type)?;
    codes.add_records(records).then_some(codes)
}

#[test]
fn records_are_read_where_they_were_saved() {
    let mut rng = Rng(80);
    for count in [1, 31, 32, 33, 64, 70] {
        let rows = vectors(Kind::Gaussian, 77, count, &mut rng);
        let codes = codes_of(&rows, DistanceType::L2);
        let part = |start: u32| {
            let mut bytes = Vec::new();
            codes.read_records(start..start + 32, &mut bytes);
            Buffer::from(bytes)
        };
        let parts: Vec<Buffer> = (0..count as u32).step_by(32).map(part).collect();
        let saved = Codes::saved(77, DistanceType::L2, parts.clone(), 5).unwrap();
        let query = codes.prepare(&rows[0]);
        assert_eq!(saved.len(), count as u32);
        assert_eq!(estimates(&saved, &query), estimates(&codes, &query));
        assert_eq!(saved.resident_bytes(), Codes::new(77, DistanceType::L2).unwrap().resident_bytes());
        saved.prefetch(count as u32);
        saved.extend(count as u32 + 1, |_| Cow::Borrowed(&rows[0]));
        assert_eq!(saved.len(), count as u32, "there are no others");
        // Parts that are not of as many records, and a part of half a record.
        assert!(Codes::saved(77, DistanceType::L2, parts.clone(), 4).is_none() || count < 17);
        assert!(count < 33 || Codes::saved(77, DistanceType::L2, parts.clone(), 6).is_none());
        assert!(Codes::saved(77, DistanceType::L2, vec![parts[0].slice(1)], 5).is_none());
        assert!(Codes::saved(78, DistanceType::L1, parts, 5).is_none());
    }
    assert!(Codes::saved(77, DistanceType::L2, Vec::new(), 5).is_none());
}

#[test]
fn records_come_back_from_bytes_and_others_are_refused() {
    let mut rng = Rng(8);
    for distance_type in METRICS {
        for kind in KINDS {
            let rows = vectors(kind, 77, 70, &mut rng);
            let codes = codes_of(&rows, distance_type);
            let mut bytes = Vec::new();
            codes.read_records(0..40, &mut bytes);
            codes.read_records(40..1000, &mut bytes);
            assert_eq!(bytes.len(), 70 * codes.record_len());
            let back = from_records(77, distance_type, &bytes).unwrap();
            let query = codes.prepare(&rows[3]);
            assert_eq!(back.len(), 70);
            assert_eq!(estimates(&back, &query), estimates(&codes, &query), "{kind:?}");
            assert_eq!(near(&back, &query, 1.0), near(&codes, &query, 1.0), "{kind:?}");
            // A row that has no codes is a record too.
            let odd = codes_of(&[vec![f32::NAN; 77]], distance_type);
            let mut bytes = Vec::new();
            odd.read_records(0..1, &mut bytes);
            assert!(from_records(77, distance_type, &bytes).is_some());
        }
        let codes = codes_of(&vectors(Kind::Gaussian, 77, 3, &mut rng), distance_type);
        let mut bytes = Vec::new();
        codes.read_records(0..3, &mut bytes);
        assert!(from_records(77, distance_type, &bytes[1..]).is_none());
        assert!(from_records(70, distance_type, &bytes).is_none());
        assert!(from_records(200, distance_type, &bytes).is_none());
        assert!(from_records(0, distance_type, &bytes).is_none());
        assert!(from_records(77, DistanceType::L1, &bytes).is_none());
        for at in (0..bytes.len()).filter(|at| !(0..8).contains(&(at % codes.record_len()))) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            // An error that is larger by little is an error too, unless its share changes.
            let in_error = (16..20).contains(&(at % codes.record_len()));
            assert!(in_error || from_records(77, distance_type, &changed).is_none(), "byte {at}");
        }
        for nan in [0, 4, 16] {
            let mut changed = bytes.clone();
            changed[nan..nan + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            assert!(from_records(77, distance_type, &changed).is_none(), "byte {nan}");
        }
    }
    let none = from_records(5, DistanceType::L2, &[]).unwrap();
    assert_eq!(none.len(), 0);
}

#[test]
fn retained_records_are_those_of_their_rows() {
    let rows = vectors(Kind::Gaussian, 50, 3000, &mut Rng(9));
    let codes = codes_of(&rows, DistanceType::Cosine);
    let ids: Vec<u32> = (0..3000).rev().step_by(3).collect();
    let kept = codes.retain(&ids);
    let query = codes.prepare(&rows[17]);
    let all = estimates(&codes, &query);
    let expected: Vec<f32> = ids.iter().map(|&id| all[id as usize]).collect();
    assert_eq!(estimates(&kept, &query), expected);
    assert_eq!(codes.retain(&[4, 5, 3000, 6]).len(), 2);
}

#[test]
fn memory_is_what_was_asked_for_and_a_third_or_less() {
    let rows = vectors(Kind::Gaussian, 30, 2000, &mut Rng(10));
    for count in [0, 1, 64, 65, 1024, 1025, 2000] {
        let codes = Codes::new(30, DistanceType::L2).unwrap();
        codes.extend(count, |id| Cow::Borrowed(&rows[id as usize]));
        assert_eq!(codes.resident_bytes(), Codes::bytes_for(30, count), "{count} rows");
    }
    // A new chunk has just begun: never is more of the memory unused.
    let count = (1 << 20) - 1024 + 1;
    let share = |dim: usize| Codes::bytes_for(dim, count) as f64 / (dim as f64 * 4.0 * f64::from(count));
    println!("128: {:.4}, 384: {:.4}, 784: {:.4}", share(128), share(384), share(784));
    assert!(share(128) <= 0.37);
    for dim in 384..=2048 {
        assert!(share(dim) <= 0.30, "{dim}: {}", share(dim));
    }
    assert_eq!(Codes::new(128, DistanceType::L2).unwrap().record_len(), 160);
}

#[test]
fn any_number_of_threads_writes_the_same_records() {
    let rows = vectors(Kind::Gaussian, 33, 5000, &mut Rng(11));
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let codes = Codes::new(33, DistanceType::Dot).unwrap();
        pool.install(|| {
            for end in [1, 100, 2001, 2000, 5000] {
                codes.extend(end, |id| Cow::Owned(rows[id as usize].clone()));
            }
        });
        let mut bytes = Vec::new();
        codes.read_records(0..u32::MAX, &mut bytes);
        (codes.len(), bytes)
    };
    let expected = bytes(1);
    assert_eq!(expected.0, 5000);
    for threads in [2, 3, 8] {
        assert!(bytes(threads) == expected, "{threads} threads");
    }
}

#[test]
fn a_panic_publishes_nothing_and_the_next_call_codes_again() {
    let rows = vectors(Kind::Gaussian, 9, 1000, &mut Rng(12));
    let codes = Codes::new(9, DistanceType::L2).unwrap();
    let row = |id: u32| Cow::Borrowed(&rows[id as usize][..]);
    codes.extend(10, row);
    let broken = |id: u32| {
        assert!(id != 700, "broken");
        Cow::Owned(vec![0.0; 9])
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| codes.extend(1000, broken)));
    assert!(result.is_err());
    assert_eq!(codes.len(), 10);
    codes.extend(1000, row);
    let query = codes.prepare(&rows[500]);
    assert_eq!(estimates(&codes, &query), estimates(&codes_of(&rows, DistanceType::L2), &query));
}

#[test]
fn readers_beside_a_writer_see_whole_records_only() {
    const ROWS: u32 = 6000;
    let rows = vectors(Kind::Gaussian, 45, ROWS as usize, &mut Rng(13));
    let expected = codes_of(&rows, DistanceType::L2);
    let query = expected.prepare(&rows[0]);
    let expected = estimates(&expected, &query);
    let codes = Codes::new(45, DistanceType::L2).unwrap();
    let done = AtomicBool::new(false);
    let read = || {
        let ids: Vec<u32> = (0..ROWS).collect();
        let mut out = vec![0.0; ids.len()];
        loop {
            let last = done.load(Ordering::Acquire);
            let before = codes.len() as usize;
            codes.estimate(&query, &ids, &mut out);
            let coded = out.iter().position(|estimate| *estimate == f32::INFINITY).unwrap_or(out.len());
            assert!(before <= coded && coded <= codes.len() as usize);
            assert_eq!(out[..coded], expected[..coded]);
            assert!(out[coded..].iter().all(|estimate| *estimate == f32::INFINITY));
            if last {
                return coded;
            }
        }
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        let row = |id: u32| Cow::Borrowed(&rows[id as usize][..]);
        for end in (0..=ROWS).step_by(7).chain([ROWS]) {
            codes.extend(end, row);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), ROWS as usize);
        }
    });
}
