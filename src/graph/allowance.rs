//! How much memory the lists of an imported graph may take: a bounded multiple of what its batch holds.
//!
//! Rows of the graph's memory are as long as the longest list that the parameters allow, and a node on level `l` has a
//! row on each level below. So a few bytes of a foreign batch can ask for much: for 64 KiB a node with `m` at its
//! largest, or for 32 rows with an id that is on the highest level alone.

use crate::graph::BuildParams;
use crate::graph::memory::slots::SlotArena;

/// Bytes that any batch may ask for.
const FREE: usize = 64 << 20;
/// Bytes beyond these, for each byte that the batch holds. Graphs of full lists take two.
const PER_BYTE: usize = 64;
/// The shortest rows there are have one cache line: 16 slots.
const LEAST: usize = 16;

/// What a batch holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub nodes: u32,
    /// Rows on upper levels that its nodes have in a graph: one on each level up to a node's highest.
    pub upper_rows: u32,
    /// Of ids, lists and distances.
    pub bytes: usize,
}

impl Holding {
    fn asks(self, params: &BuildParams) -> usize {
        let level_0 = SlotArena::bytes_for(params.cap(0), true, self.nodes);
        level_0.saturating_add(SlotArena::bytes_for(params.cap(1), false, self.upper_rows))
    }

    /// The parameters, with `m` and `m0` halved until the lists are in proportion to what the batch holds. As they are
    /// with any graph whose lists are a fiftieth full. If even the shortest rows are too many: the bytes that these take,
    /// and the most that there may be.
    pub fn limit(self, mut params: BuildParams) -> Result<BuildParams, (usize, usize)> {
        let most = self.bytes.saturating_mul(PER_BYTE).saturating_add(FREE);
        loop {
            let asks = self.asks(&params);
            if asks <= most {
                return Ok(params);
            }
            let (m, m0) = (params.m, params.cap(0));
            if m <= LEAST && m0 <= LEAST {
                return Err((asks, most));
            }
            params.m = (m / 2).max(m.min(LEAST));
            params.m0 = Some((m0 / 2).max(LEAST).max(params.m));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(m: usize) -> BuildParams {
        BuildParams::default().num_edges(m).ef_construction(m)
    }

    #[test]
    fn full_lists_and_small_graphs_keep_their_parameters() {
        for (m, nodes) in [(4_u32, 100_000_000_u32), (16, 100_000_000), (64, 10_000_000), (4_096, 100_000)] {
            // Lists that are a fiftieth full.
            let bytes = nodes as usize * (12 + 2 * m as usize * 8 / 50);
            let params = params(m as usize);
            let limited = Holding { nodes, upper_rows: nodes / m, bytes }.limit(params.clone());
            assert_eq!(limited, Ok(params), "m = {m}");
        }
        for m in [4, 100, 4_096] {
            let small = Holding { nodes: 700, upper_rows: 30, bytes: 0 };
            assert_eq!(small.limit(params(m)), Ok(params(m)));
        }
    }

    #[test]
    fn empty_lists_take_a_multiple_of_their_batch() {
        for (m, nodes, upper_rows) in
            [(4_096, 1_000_000, 0), (4_096, 10_000_000, 100_000), (300, 5_000_000, 9)]
        {
            let empty = Holding { nodes, upper_rows, bytes: 12 * (nodes + upper_rows) as usize };
            let limited = empty.limit(params(m)).unwrap();
            let most = 64 * empty.bytes + FREE;
            assert!(empty.asks(&limited) <= most && most < empty.asks(&params(m)), "{limited:?}");
            assert!(
                limited.validate().is_ok() && limited.cap(0) >= limited.m && limited.m >= LEAST,
                "{limited:?}"
            );
            // No more than necessary.
            assert!(4 * empty.asks(&limited) > most, "{limited:?}");
        }
    }

    #[test]
    fn more_rows_than_a_batch_can_justify_are_refused() {
        let towers = Holding { nodes: 1_000_000, upper_rows: 32_000_000, bytes: 24_000_000 };
        let (asks, most) = towers.limit(params(4)).unwrap_err();
        assert_eq!(most, 24_000_000 * 64 + FREE);
        assert!(asks > 32_000_000 * 128, "{asks}");
        assert_eq!(towers.limit(params(4_096)), Err((asks, most)));
    }
}
