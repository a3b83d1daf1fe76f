//! What writers say of themselves through `tracing`, and that searches say nothing unless they are asked.

use pennon::{Index, SearchParams};
use tracing::Level;

use crate::data::{open_mapped, uniform};
use crate::deletes::{L2, params};
use crate::kit::traces::Collected;

fn up_to(level: Level) -> Collected {
    Collected::new("pennon", level, true)
}

/// Checks that each line has the parts that are expected of it, and that there are no others.
fn assert_lines(lines: &[String], expected: &[&[&str]]) {
    println!("{}", lines.join("\n"));
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, parts) in lines.iter().zip(expected) {
        for part in *parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

#[test]
fn every_change_is_a_span_with_its_outcome() {
    let rows = uniform(100, 6, 1);
    let index = Index::hnsw(6, L2, params()).unwrap();
    let collected = up_to(Level::DEBUG);
    let ((), lines) = collected.during(|| {
        index.append(&rows.part(0..50).array(), 0u64).unwrap();
        index.append(&rows.part(0..10).array(), 49u64).unwrap_err();
        index.append_unique(&rows.part(50..60).array(), 50u64).unwrap();
        index.append_batches_unique(&[(rows.part(60..70).array(), 60)]).unwrap();
        index.upsert(&rows.part(70..73).array(), 5u64).unwrap();
        index.delete_batch(&[1, 2]).unwrap();
        index.delete(1).unwrap_err();
        index.compact().unwrap();
    });
    assert_lines(
        &lines,
        &[
            &["DEBUG [append]", "rows=50"],
            &["DEBUG - appended", "first_id=0", "rows=50", "skipped=0"],
            &["DEBUG [append]", "rows=10"],
            &["DEBUG - nothing was appended", "error=row 0 has row id 49"],
            &["DEBUG [append]", "rows=10"],
            &["DEBUG - appended", "first_id=50", "rows=10"],
            &["DEBUG [append]", "rows=10", "batches=1"],
            &["DEBUG - appended", "first_id=60", "rows=10"],
            &["DEBUG [upsert]", "rows=3"],
            &["DEBUG - appended", "first_id=70", "rows=3"],
            &["DEBUG [delete]", "rows=2"],
            &["DEBUG - deleted", "rows=2"],
            &["DEBUG [delete]", "rows=1"],
            &["DEBUG - nothing was deleted", "error=no live row has row id 1"],
            &["INFO [compact]", "rows=68", "dead=5"],
            &["INFO - compacted", "kept=68", "removed=5"],
        ],
    );
}

#[test]
fn files_and_batches_are_told_of() {
    let index = Index::hnsw(6, L2, params()).unwrap();
    index.append(&uniform(60, 6, 2).array(), 0u64).unwrap();
    index.delete(7).unwrap();
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("index");
    let name = format!("dir={}", dir.display());
    let collected = up_to(Level::DEBUG);
    let ((), lines) = collected.during(|| {
        Index::load(&dir).unwrap_err();
        index.save(&dir).unwrap();
        Index::load(&dir).unwrap();
        open_mapped(&dir).unwrap();
        let batches = index.to_lance_batches().unwrap();
        Index::from_lance_batches(&batches).unwrap();
    });
    let exported: [&[&str]; 3] = [
        &["DEBUG [export]", "rows=59", "dead=1"],
        // Of the compacted copy.
        &["DEBUG [export]", "rows=59", "dead=0"],
        &["DEBUG - exported", "graph_rows=66"],
    ];
    let expected: [&[&str]; 8] = [
        &["INFO [load]", &name, "mapped=false"],
        &["INFO - not loaded", "error="],
        &["INFO [save]", &name],
        &["INFO - saved", "files=1", "vectors=60", "dead=1", "bytes="],
        &["INFO [load]", &name, "mapped=false"],
        &["INFO - loaded", "files=1", "vectors=60", "dead=1"],
        &["INFO [load]", &name, "mapped=true"],
        &["INFO - loaded"],
    ];
    let imported: [&[&str]; 2] =
        [&["DEBUG [import]", "rows=59"], &["DEBUG - imported", "graph=true", "rows=59"]];
    assert_lines(&lines, &[&expected[..], &exported, &imported].concat());
    // Nobody who asks for what matters alone is told of batches.
    let ((), lines) = up_to(Level::INFO).during(|| {
        index.append(&uniform(1, 6, 3).array(), 100u64).unwrap();
        index.save(&dir).unwrap();
    });
    assert_lines(&lines, &[&["INFO [save]"], &["INFO - saved", "files=2", "vectors=61"]]);
}

#[test]
fn searches_are_silent_unless_all_is_traced() {
    let rows = uniform(80, 6, 4);
    for index in [Index::hnsw(6, L2, params()).unwrap(), Index::flat(6, L2).unwrap()] {
        index.append(&rows.array(), 0u64).unwrap();
        let search = || {
            let params = SearchParams::new(3);
            let _ = index.search(rows.row(0), &params).unwrap();
            let _ = index.search_exact(rows.row(1), &params).unwrap();
        };
        let ((), lines) = up_to(Level::DEBUG).during(search);
        assert!(lines.is_empty(), "{lines:?}");
        let ((), lines) = up_to(Level::TRACE).during(search);
        assert_lines(&lines, &[&["TRACE - searched", "rows=3", "distances"][..]; 2]);
    }
}
