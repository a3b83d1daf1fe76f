//! The set of nodes one walk has seen: a one-byte stamp per node.

/// Starting over costs nothing but a new epoch, except every 255th time.
#[derive(Default)]
pub(crate) struct Visited {
    stamps: Vec<u8>,
    epoch: u8,
}

impl Visited {
    /// Empties the set and makes room for ids below `len`.
    pub fn start(&mut self, len: usize) {
        if self.stamps.len() < len {
            // Anew, without a copy of what is of no use any more.
            *self = Self { stamps: vec![0; with_headroom(len)], epoch: 0 };
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.stamps.fill(0);
            self.epoch = 1;
        }
    }

    /// Makes room for ids below `len`, keeping the set.
    pub fn grow(&mut self, len: usize) {
        if self.stamps.len() < len {
            // Epoch 0 is never current.
            self.stamps.resize(with_headroom(len), 0);
        }
    }

    /// Adds an id; false if it was there, or is out of range.
    #[inline(always)]
    pub fn insert(&mut self, id: u32) -> bool {
        let Some(stamp) = self.stamps.get_mut(id as usize) else { return false };
        std::mem::replace(stamp, self.epoch) != self.epoch
    }

    pub fn resident_bytes(&self) -> usize {
        self.stamps.capacity()
    }
}

/// A little ahead, so that a growing graph does not reallocate for every search.
fn with_headroom(len: usize) -> usize {
    len + len / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_do_not_leak_into_each_other() {
        let mut visited = Visited::default();
        for round in 0..1000_u32 {
            visited.start(300);
            let id = round % 300;
            assert!(visited.insert(id), "round {round}");
            assert!(!visited.insert(id));
        }
        assert!(!visited.insert(1_000_000));
    }
}
