//! A neighbor as one word: order-preserving bits of its distance above its id.
//!
//! Comparing words compares distances, ties go to the smaller id, and there is no NaN to fall over.

use std::collections::BinaryHeap;

/// Packs a distance and an id. NaN counts as infinitely far, -0.0 as 0.0.
#[inline(always)]
pub(crate) fn key(distance: f32, id: u32) -> u64 {
    let distance = if distance.is_nan() { f32::INFINITY } else { distance + 0.0 };
    let bits = distance.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(id)
}

#[inline(always)]
pub(crate) fn id(key: u64) -> u32 {
    key as u32
}

#[inline(always)]
pub(crate) fn distance(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

/// Adds a key to the `capacity` smallest.
#[inline]
pub(crate) fn keep_nearest(nearest: &mut BinaryHeap<u64>, capacity: usize, key: u64) {
    if nearest.len() < capacity {
        nearest.push(key);
    } else if let Some(mut worst) = nearest.peek_mut().filter(|worst| **worst > key) {
        *worst = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_by_distance_then_id() {
        let ascending = [
            f32::NEG_INFINITY,
            -3.5,
            -1.0e-40,
            0.0,
            1.0e-40,
            1.0,
            1.0 + f32::EPSILON,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in ascending.windows(2) {
            assert!(key(pair[0], u32::MAX) < key(pair[1], 0), "{pair:?}");
        }
        for d in ascending {
            assert!(key(d, 3) < key(d, 4));
            assert_eq!((id(key(d, 9)), distance(key(d, 9))), (9, d));
        }
        assert_eq!(key(-0.0, 1), key(0.0, 1));
        assert_eq!(key(f32::NAN, 1), key(f32::INFINITY, 1));
        assert_eq!(key(-f32::NAN, 1), key(f32::INFINITY, 1));
    }
}
