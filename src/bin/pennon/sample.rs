//! Evenly spaced samples, the same ones on every run.

/// `wanted` numbers below `total` (all of them if there are fewer), evenly spaced, ascending.
pub fn evenly_spaced(total: usize, wanted: usize) -> impl Iterator<Item = usize> {
    let count = wanted.min(total);
    (0..count).map(move |position| position * total / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_distinct_and_spread() {
        assert_eq!(evenly_spaced(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(evenly_spaced(3, 10).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(evenly_spaced(0, 10).count(), 0);
    }
}
