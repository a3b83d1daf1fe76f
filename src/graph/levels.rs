//! The level of a node: a pure function of the seed and the id.

/// Levels no graph exceeds: with `m >= 4` a 64-bit hash distinguishes at most 32.
pub(super) const MAX_LEVELS: usize = 33;

/// Draws node levels with the distribution of the paper (Algorithm 1, line 4): a node is on level
/// `l` with probability `m^-l`.
pub(super) struct Levels {
    seed: u64,
    m: u64,
    /// Highest level a node may have.
    highest: usize,
}

impl Levels {
    pub fn new(seed: u64, m: usize, max_level: u16) -> Self {
        Self { seed, m: m as u64, highest: (usize::from(max_level).max(1) - 1).min(MAX_LEVELS - 1) }
    }

    /// The highest level `id` is on. In integers, so that it is the same on every machine.
    pub fn target_level(&self, id: u32) -> usize {
        let hash = mix(self.seed ^ mix(u64::from(id)));
        let mut threshold = u64::MAX / self.m;
        let mut level = 0;
        while level < self.highest && hash < threshold {
            level += 1;
            threshold /= self.m;
        }
        level
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood 2014): every bit of `x` decides every bit of the result.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_thin_out_by_m() {
        let (n, m) = (200_000_u32, 16);
        let levels = Levels::new(7, m, 7);
        let mut on_level = [0_usize; 7];
        for id in 0..n {
            for count in &mut on_level[..=levels.target_level(id)] {
                *count += 1;
            }
        }
        assert_eq!(on_level[0], n as usize);
        for (l, &count) in on_level.iter().enumerate().take(4).skip(1) {
            let expected = f64::from(n) / (m as f64).powi(l as i32);
            let deviation = (count as f64 - expected).abs() / expected.sqrt();
            assert!(deviation < 5.0, "level {l}: {count} nodes, {expected} expected");
        }
    }

    #[test]
    fn max_level_is_a_count() {
        assert!((0..10_000).all(|id| Levels::new(1, 4, 1).target_level(id) == 0));
        assert_eq!((0..10_000).map(|id| Levels::new(1, 4, 3).target_level(id)).max(), Some(2));
    }
}
