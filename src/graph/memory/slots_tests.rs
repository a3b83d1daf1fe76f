//! Lists in memory; apart from `slots`, which the model of `tests/loom` includes as it is.

use crate::graph::memory::slots::{NONE, SlotArena};

fn list(arena: &SlotArena, row: u32) -> Vec<(u32, f32)> {
    let mut edges: Vec<_> = arena.edges(row).collect();
    edges.sort_by_key(|edge| edge.0);
    edges
}

#[test]
fn replace_gives_the_new_list_whatever_the_old_one_was() {
    let arena = SlotArena::new(8, true);
    arena.grow(3);
    let edges = |ids: &[u32]| ids.iter().map(|&id| (id, id as f32)).collect::<Vec<_>>();
    for old in 0..64_u32 {
        for new in 0..64_u32 {
            let ids = |mask: u32| (0..6).filter(move |bit| mask >> bit & 1 == 1).collect::<Vec<u32>>();
            arena.write(3, &edges(&ids(old)));
            arena.replace(3, &edges(&ids(new)));
            assert_eq!(list(&arena, 3), edges(&ids(new)), "{old:b} to {new:b}");
        }
    }
}

#[test]
fn rows_do_not_overlap() {
    let arena = SlotArena::new(20, true);
    for row in 0..200 {
        arena.grow(row);
        arena.write(row, &[(row, row as f32), (row + 1, -1.0)]);
        arena.set_anchor(row, row + 7);
        arena.set_upper(row, row + 9);
    }
    for row in 0..200 {
        assert_eq!(list(&arena, row), [(row, row as f32), (row + 1, -1.0)]);
        assert_eq!((arena.anchor(row), arena.upper(row)), (row + 7, row + 9));
    }
    assert_eq!(arena.edges(100_000).count(), 0);
    assert_eq!(arena.anchor(100_000), NONE);
    let chunks = SlotArena::bytes_for(20, true, 200);
    assert_eq!(arena.resident_bytes(), chunks + SlotArena::new(20, true).resident_bytes());
}
