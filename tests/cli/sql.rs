//! `pennon sql`, and searches with a condition in SQL.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kit::{Home, ROWS, WORDS, batch, fails, fixed, json, names, row_ids, rows, succeed, with};

fn rows_of<'a>(answer: &'a Value, column: &str) -> Vec<&'a Value> {
    answer["rows"].as_array().unwrap().iter().map(|row| &row[column]).collect()
}

/// The nearest by a search of everything are the oracle.
#[test]
fn a_filtered_search_finds_exactly_the_nearest_that_qualify() {
    let home = Home::new();
    let file = home.file("rows.parquet", &batch(fixed(rows()), 0));
    let (graph, flat) = (home.path("graph"), home.path("flat"));
    succeed(&["build", &file, "--keep", "id,holes,name", "--output", &graph]);
    succeed(&["build", &file, "--keep", "id,holes,name", "--flat", "--output", &flat]);
    let all = json(&["search", &flat, "--row", "7", "-k", "500", "--show", "id,holes"]);
    let all = all["neighbors"].as_array().unwrap();
    type Holds = fn(i64, Option<i64>) -> bool;
    let conditions: [(&str, Holds); 5] = [
        ("id < 1000", |id, _| id < 1000),
        ("id BETWEEN 300 AND 360 OR name = 'name 499'", |id, _| (300..=360).contains(&id) || id == 4990),
        ("holes >= 240 AND holes <= 260", |_, holes| holes.is_some_and(|x| (240..=260).contains(&x))),
        ("holes IS NULL", |_, holes| holes.is_none()),
        ("name LIKE 'nobody%'", |_, _| false),
    ];
    for (condition, holds) in conditions {
        let holds = |row: &&Value| holds(row["id"].as_i64().unwrap(), row["holes"].as_i64());
        let expected: Vec<u64> =
            all.iter().filter(holds).map(|row| row["_rowid"].as_u64().unwrap()).collect();
        for index in [&graph, &flat] {
            for k in ["3", "30"] {
                let search = ["search", index, "--row", "7", "-k", k, "--ef", "500", "--where", condition];
                let found = row_ids(&json(&search));
                let wanted = k.parse::<usize>().unwrap().min(expected.len());
                assert_eq!(found, expected[..wanted], "{condition}, {k} of {index}");
            }
        }
    }
    for (condition, problem) in
        [("rank < 3", "rank"), ("id + 1", "is no condition"), ("random() < 0.5", "each time")]
    {
        fails(&["search", &graph, "--row", "7", "--where", condition], problem);
    }
    fails(&["search", &home.index(), "--row", "7", "--where", "id = 1"], "id");
    let bare = home.path("bare");
    succeed(&["build", &file, "--output", &bare]);
    fails(&["search", &bare, "--row", "7", "--where", "id = 1"], "keeps no columns");
}

#[test]
fn saved_indexes_and_files_are_tables() {
    let home = Home::new();
    let index = home.index();
    let more = batch(fixed(rows()), 0).slice(100, 50);
    let more = [home.file("more.parquet", &more), home.file("more.arrow", &more), home.file("more", &more)];
    let tables = ["--table", &format!("words={index}"), "-t", &format!("more={}", more[0])];
    let tables = with(&tables, &[]);
    let count = json(&with(&["sql", "SELECT count(*) AS n FROM words WHERE name LIKE 'name 1__'"], &tables));
    assert_eq!(rows_of(&count, "n"), [100]);

    let nearest = "SELECT row_id, name, _distance FROM vector_search('words', 7, 5) WHERE row_id < 100";
    let found = json(&with(&["sql", nearest], &tables));
    let searched = json(&["search", &index, "--row", "7", "-k", "500"]);
    let expected: Vec<u64> = row_ids(&searched).into_iter().filter(|id| *id < 100).take(5).collect();
    assert_eq!(rows_of(&found, "row_id"), expected);
    assert_eq!(found["rows"][0]["name"], "name 7");
    let explained = succeed(&with(&["sql", &format!("EXPLAIN {nearest}")], &tables));
    assert!(explained.contains("VectorSearchExec") && explained.contains("index=hnsw"), "{explained}");
    assert!(succeed(&with(&["sql", nearest], &tables)).contains("| row_id | name"));

    for more in &more {
        let tables = ["--table", &format!("words={index}"), "-t", &format!("more={more}")].map(String::from);
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        let joined = "SELECT w.row_id, l2_distance(w.vector, m.vector) AS d FROM words w \
                      JOIN more m ON w.name = m.name ORDER BY w.row_id";
        let joined = json(&with(&["sql", joined], &tables));
        assert_eq!(rows_of(&joined, "row_id"), (100..150).collect::<Vec<u64>>(), "{more}");
        assert!(rows_of(&joined, "d").iter().all(|d| d.as_f64() == Some(0.0)));
        let id = json(&with(&["sql", "SELECT id FROM more WHERE id = 1200 LIMIT 3"], &tables));
        assert_eq!(rows_of(&id, "id"), [1200]);
    }
    let none = json(&with(&["sql", "SELECT name FROM words WHERE row_id > 1000"], &tables));
    assert_eq!(none["rows"].as_array().unwrap().len(), 0);
    assert!(
        succeed(&with(&["sql", "SELECT name FROM words WHERE row_id > 1000"], &tables)).contains("| name |")
    );

    let out = home.path("out.csv");
    let written = ["sql", "SELECT row_id, name FROM words ORDER BY row_id", "--out", &out];
    assert_eq!(json(&with(&written, &tables))["rows"], ROWS);
    assert!(fs::read_to_string(&out).unwrap().starts_with("row_id,name\n0,name 0\n1,name 1\n"));
}

#[test]
fn queries_that_cannot_be_answered_say_why() {
    let home = Home::new();
    let index = home.index();
    let before = names(&index);
    let table = format!("words={index}");
    let wrong = [
        ("SELEC 1", "SELEC"),
        ("SELECT word FROM words", "word"),
        ("SELECT * FROM other", "other"),
        ("SELECT * FROM vector_search('other', 7, 5)", "no table to be searched is registered as"),
        ("SELECT * FROM vector_search('words', 700, 5)", "no row has key 700"),
        ("SELECT * FROM vector_search('words', [1.0, 2.0], 5)", "vectors have 8 dimensions, got 2"),
        ("SELECT * FROM vector_search('words', 7, 5, 'nprobes=2')", "nprobes is for Lance datasets"),
        ("SELECT * FROM vector_search('words', 7, 5, 'probes')", "options are ef=.."),
        ("DROP TABLE words", "DDL not supported"),
        ("COPY words TO 'words.csv'", ""),
        ("SET datafusion.execution.batch_size = 1", "not supported"),
    ];
    for (query, what) in wrong {
        fails(&["sql", query, "--table", &table], what);
    }
    fails(&["sql", "SELECT 1", "--table", "words"], "--table has to be NAME=PATH");
    fails(&["sql", "SELECT 1", "--table", "words=absent"], "there is nothing at absent");
    fails(&["sql", "SELECT 1", "--out", "out.txt"], "must end with .parquet, .arrow or .csv");
    let damaged = home.bytes("damaged.parquet", &fs::read(WORDS).unwrap()[..100_000]);
    fails(&["sql", "SELECT 1", "--table", &format!("x={damaged}")], "cannot read");
    let cut = fs::read(home.file("stream", &batch(fixed(rows()), 0))).unwrap();
    let cut = home.bytes("cut", &cut[..cut.len() / 2]);
    fails(&["sql", "SELECT * FROM x", "--table", &format!("x={cut}")], "cannot read");
    assert_eq!(names(&index), before);
    assert!(!Path::new("words.csv").exists());
}
