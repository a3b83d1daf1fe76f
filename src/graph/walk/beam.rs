//! The beam: the nearest `ef` nodes met so far, sorted, and which of them were expanded.

/// Sorted pool of keys. Good up to some hundred entries, where moving them is cheaper than a heap.
#[derive(Default)]
pub(crate) struct Pool {
    keys: Vec<u64>,
    expanded: Vec<bool>,
    capacity: usize,
    /// No entry before this one is unexpanded.
    next: usize,
}

impl Pool {
    pub fn start(&mut self, capacity: usize) {
        self.keys.clear();
        self.expanded.clear();
        self.capacity = capacity;
        self.next = 0;
    }

    /// The key that a newcomer must be below.
    #[inline(always)]
    pub fn bound(&self) -> u64 {
        if self.keys.len() < self.capacity { u64::MAX } else { self.keys.last().copied().unwrap_or(0) }
    }

    /// Adds a key below [`bound`](Self::bound).
    #[inline(always)]
    pub fn insert(&mut self, key: u64) {
        let at = self.keys.partition_point(|&k| k < key);
        if self.keys.len() < self.capacity {
            self.keys.push(0);
            self.expanded.push(false);
        }
        let last = self.keys.len() - 1;
        self.keys.copy_within(at..last, at + 1);
        self.expanded.copy_within(at..last, at + 1);
        self.keys[at] = key;
        self.expanded[at] = false;
        self.next = self.next.min(at);
    }

    /// The nearest entry that was not expanded; it is from now on.
    #[inline(always)]
    pub fn expand_next(&mut self) -> Option<u64> {
        while let Some(expanded) = self.expanded.get_mut(self.next) {
            self.next += 1;
            if !std::mem::replace(expanded, true) {
                return self.keys.get(self.next - 1).copied();
            }
        }
        None
    }

    /// The entry that [`expand_next`](Self::expand_next) would give, if nothing nearer comes.
    #[inline(always)]
    pub fn peek_next(&self) -> Option<u64> {
        let ahead = self.expanded.get(self.next..)?.iter().position(|&expanded| !expanded)?;
        self.keys.get(self.next + ahead).copied()
    }

    /// All entries, nearest first.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    pub fn resident_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<u64>() + self.expanded.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_smallest_and_expands_each_once_nearest_first() {
        let mut pool = Pool::default();
        let mut state = 1_u64;
        for capacity in [1, 2, 7, 64] {
            pool.start(capacity);
            let (mut all, mut expanded) = (Vec::new(), Vec::new());
            for step in 0..500 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let key = state >> 20;
                if key < pool.bound() {
                    pool.insert(key);
                }
                all.push(key);
                if step % 3 == 0 {
                    expanded.extend(pool.expand_next());
                }
            }
            all.sort_unstable();
            assert_eq!(pool.keys(), &all[..capacity]);
            while let Some(key) = pool.expand_next() {
                expanded.push(key);
            }
            let met = expanded.len();
            expanded.sort_unstable();
            expanded.dedup();
            assert_eq!(expanded.len(), met, "an entry was expanded twice");
            assert!(all[..capacity].iter().all(|key| expanded.contains(key)));
        }
    }
}
