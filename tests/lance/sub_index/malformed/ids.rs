//! Vector ids that name the wrong node, no node, or one twice.

use super::{Case, Fixture, N, either, refused, works};

pub fn cases(fixture: &Fixture) -> Vec<Case> {
    let good = &fixture.good;
    let rows = good.ids.len();
    let level_2 = good.level_offsets()[2];
    let with_id = |row: usize, id: Option<u32>| good.edit(|draft| draft.ids[row] = id);
    vec![
        refused("ids of level 0 exchanged", good.edit(|draft| draft.ids.swap(0, 1))),
        refused("rows of level 0 exchanged", good.edit(|draft| draft.swap_rows(3, 400))),
        refused("an id of level 0 null", with_id(5, None)),
        // Lance reads the 0 under the null, which is the right id of this row.
        either("id 0 null", with_id(0, None)),
        refused("an id of level 0 twice", with_id(9, Some(8))),
        refused("an id of level 0 past the end", with_id(N - 1, Some(N as u32))),
        refused("an id of level 0 u32::MAX", with_id(0, Some(u32::MAX))),
        refused(
            "ids of level 0 from 1",
            good.edit(|draft| {
                draft.ids[..N].iter_mut().for_each(|id| *id = id.map(|id| id + 1));
            }),
        ),
        works("rows of level 1 exchanged", good.edit(|draft| draft.swap_rows(N, level_2 - 1))),
        works(
            "rows of level 1 reversed",
            good.edit(|draft| {
                for row in 0..(level_2 - N) / 2 {
                    draft.swap_rows(N + row, level_2 - 1 - row);
                }
            }),
        ),
        // Every list then belongs to another node of its level. Lance reads it, and nothing
        // short of the vectors can tell, except that a list may now name its own node.
        either(
            "ids of level 1 reversed, their lists not",
            good.edit(|draft| {
                draft.ids[N..level_2].reverse();
            }),
        ),
        either(
            "ids of all upper rows reversed, their lists not",
            good.edit(|draft| {
                draft.ids[N..].reverse();
            }),
        ),
        // All below: Lance keys upper rows by id and never looks up these.
        either("an upper id past the end", with_id(N, Some(1_000_000))),
        either("an upper id the number of nodes", with_id(rows - 1, Some(N as u32))),
        either("an upper id u32::MAX", with_id(N, Some(u32::MAX))),
        either("an upper id twice", with_id(N + 1, good.ids[N])),
        either(
            "all ids of level 1 the same",
            good.edit(|draft| {
                draft.ids[N..level_2].fill(Some(4));
            }),
        ),
        either("an id of level 2 that level 1 has not", with_id(level_2, Some(good.bottom_node()))),
        either("an upper id null", with_id(N, None)),
    ]
}
