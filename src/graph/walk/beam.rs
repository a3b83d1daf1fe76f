//! The beam: the nearest nodes met so far, sorted, and which of them were expanded.

/// Set in a key of the beam whose node was expanded. Keys of the beam are those of `search::scored` with the id one
/// bit higher, so that the order is that of distance, then id: ids are below 2^31.
const EXPANDED: u64 = 1;

#[inline(always)]
fn to_entry(key: u64) -> u64 {
    (key & !0xffff_ffff) | u64::from(key as u32) << 1
}

#[inline(always)]
fn to_key(entry: u64) -> u64 {
    (entry & !0xffff_ffff) | u64::from(entry as u32 >> 1)
}

/// A sorted pool of keys. Newcomers are merged in at once, hop by hop.
#[derive(Default)]
pub(crate) struct Beam {
    /// The first `len` are the beam; behind them is room for what a hop adds.
    entries: Vec<u64>,
    len: usize,
    capacity: usize,
    /// No entry before this one is unexpanded.
    next: usize,
    /// Newcomers of this hop, unsorted.
    fresh: Vec<u64>,
}

impl Beam {
    /// Empties the beam, for the nearest `capacity` nodes.
    pub fn start(&mut self, capacity: usize) {
        self.len = 0;
        self.capacity = capacity.max(1);
        self.next = 0;
        self.fresh.clear();
    }

    /// The key that a newcomer must be below.
    #[inline(always)]
    pub fn bound(&self) -> u64 {
        if self.len < self.capacity {
            u64::MAX
        } else {
            self.entries.get(self.len - 1).map_or(u64::MAX, |&entry| to_key(entry))
        }
    }

    /// Adds a key below [`bound`](Self::bound); it is in the beam after [`merge`](Self::merge).
    #[inline(always)]
    pub fn offer(&mut self, key: u64) {
        self.fresh.push(to_entry(key));
    }

    /// Merges what was offered.
    #[inline(always)]
    pub fn merge(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        sort_few(&mut self.fresh);
        let added = self.fresh.len();
        let total = self.len + added;
        if self.entries.len() < total {
            // As needed: a capacity may be an importer's word.
            self.entries.resize(total.max(2 * self.entries.len()).max(128), 0);
        }
        // From the back: the larger of the two ends goes last.
        let entries = &mut self.entries[..total];
        let (mut old, mut new, mut at) = (self.len, added, total);
        while new > 0 {
            at -= 1;
            let newcomer = self.fresh[new - 1];
            if old > 0 && entries[old - 1] > newcomer {
                entries[at] = entries[old - 1];
                old -= 1;
            } else {
                entries[at] = newcomer;
                new -= 1;
            }
        }
        // `at` is where the nearest newcomer is.
        self.next = self.next.min(at);
        self.len = total.min(self.capacity);
        self.fresh.clear();
    }

    /// The nearest node that was not expanded; it is from now on.
    #[inline(always)]
    pub fn expand_next(&mut self) -> Option<u64> {
        let beam = self.entries.get_mut(self.next..self.len)?;
        for (ahead, entry) in beam.iter_mut().enumerate() {
            if *entry & EXPANDED == 0 {
                let key = to_key(*entry);
                *entry |= EXPANDED;
                self.next += ahead + 1;
                return Some(key);
            }
        }
        self.next = self.len;
        None
    }

    /// The node that [`expand_next`](Self::expand_next) would give, if nothing nearer comes.
    #[inline(always)]
    pub fn peek_next(&self) -> Option<u64> {
        let beam = self.entries.get(self.next..self.len)?;
        beam.iter().find(|&&entry| entry & EXPANDED == 0).map(|&entry| to_key(entry))
    }

    /// Entries in the beam.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All keys, nearest first.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = u64> + Clone + '_ {
        self.entries[..self.len].iter().map(|&entry| to_key(entry))
    }

    pub fn resident_bytes(&self) -> usize {
        (self.entries.capacity() + self.fresh.capacity()) * size_of::<u64>()
    }
}

/// Sorts what one hop brings: a few keys, for which nothing beats insertion.
#[inline(always)]
fn sort_few(keys: &mut [u64]) {
    if keys.len() > 24 {
        keys.sort_unstable();
        return;
    }
    for end in 1..keys.len() {
        let key = keys[end];
        let mut at = end;
        while at > 0 && keys[at - 1] > key {
            keys[at] = keys[at - 1];
            at -= 1;
        }
        keys[at] = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_smallest_and_expands_each_once_nearest_first() {
        let mut beam = Beam::default();
        let mut state = 1_u64;
        for capacity in [1, 2, 7, 64] {
            beam.start(capacity);
            let (mut all, mut expanded) = (Vec::new(), Vec::new());
            for step in 0..500 {
                for _ in 0..step % 40 {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // Ids use 31 bits, distances all of 32.
                    let key = state >> 32 << 32 | state >> 33;
                    if key < beam.bound() {
                        beam.offer(key);
                    }
                    all.push(key);
                }
                beam.merge();
                if step % 3 == 0 {
                    expanded.extend(beam.expand_next());
                }
            }
            all.sort_unstable();
            assert!(beam.keys().eq(all[..capacity].iter().copied()));
            assert_eq!(beam.len(), capacity);
            let mut last = 0;
            while let Some(peeked) = beam.peek_next() {
                assert_eq!(beam.expand_next(), Some(peeked));
                assert!(peeked > last, "not nearest first");
                last = peeked;
                expanded.push(peeked);
            }
            assert_eq!(beam.expand_next(), None);
            let met = expanded.len();
            expanded.sort_unstable();
            expanded.dedup();
            assert_eq!(expanded.len(), met, "an entry was expanded twice");
            assert!(all[..capacity].iter().all(|key| expanded.contains(key)));
        }
    }

    #[test]
    fn few_and_many_keys_are_sorted() {
        for len in 0..60_u64 {
            let mut keys: Vec<u64> = (0..len).map(|i| (i * 37) % 61).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            sort_few(&mut keys);
            assert_eq!(keys, expected);
        }
    }
}
