//! The level of a node: a pure function of the seed and the id.

use crate::util::hash::mix;

/// Levels no graph exceeds: with `m >= 4` a 64-bit hash distinguishes at most 32.
pub(crate) const MAX_LEVELS: usize = 33;

/// Draws node levels with the distribution of the paper (Algorithm 1, line 4): a node is on level
/// `l` with probability `m^-l`.
pub(crate) struct Levels {
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
