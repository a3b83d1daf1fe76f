//! The `pennon` binary as people run it: what it prints, how it fails, what it leaves behind.

#![allow(clippy::unwrap_used)]

#[path = "cli/kit.rs"]
mod kit;
#[cfg(feature = "datafusion")]
#[path = "cli/sql.rs"]
mod sql;

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, LargeListArray};
use arrow_ipc::reader::FileReader;
use arrow_schema::{DataType, Field};
use half::bf16;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use pennon::{Index, SearchParams};
use serde_json::Value;

use kit::{
    DIM, Home, ROWS, Row, WORDS, batch, fails, fixed, json, killed, list, names, pennon, row_ids, rows,
    succeed, with,
};

#[cfg(feature = "datafusion")]
const WHERE_FAILS: &str = "word";
#[cfg(not(feature = "datafusion"))]
const WHERE_FAILS: &str = "without the feature datafusion";

#[test]
fn words_have_their_relatives_as_neighbors() {
    let home = Home::new();
    let index = home.path("new/parents/index");
    let built = json(&["build", WORDS, "--metric", "cosine", "--keep", "word", "--output", &index]);
    assert_eq!((&built["rows"], &built["indexed"]), (&5_000.into(), &5_000.into()));
    assert!(built["recall_at_10"].as_f64().unwrap() >= 0.98, "{built}");
    assert_eq!(names(home.path("")), ["new"]);

    let like = ["search", &index, "--like", "word=guitar", "--show", "word", "-k", "8"];
    let table = succeed(&like);
    assert!(table.starts_with("8 nearest rows to row 3582 (word=guitar), distance cosine, ef 100\n"));
    let answer = json(&like);
    let words: Vec<&str> =
        answer["neighbors"].as_array().unwrap().iter().map(|row| row["word"].as_str().unwrap()).collect();
    assert!(words.len() == 8 && words[0] == "guitar" && words.contains(&"bass"), "{words:?}");
    assert!(words.iter().all(|word| table.contains(word)), "{table}");
    assert!(answer["neighbors"][0]["_distance"].as_f64().unwrap().abs() < 1e-5);
    let by_row = json(&["search", &index, "--row", "3582", "-k", "8", "--in-memory"]);
    assert_eq!(row_ids(&by_row), row_ids(&answer));
}

#[test]
fn every_format_and_list_type_gives_the_same_index() {
    let home = Home::new();
    let mut some_null = rows();
    some_null[3] = None;
    let large = LargeListArray::from_iter_primitive::<Float32Type, _, _>(some_null.clone());
    let lists = batch(list(some_null.clone()), 0);
    let files = [
        home.file("fixed.parquet", &batch(fixed(some_null), 0)),
        home.file("list.parquet", &lists),
        home.file("large.arrow", &batch(Arc::new(large), 0)),
        home.file("list.arrow", &lists),
        home.file("stream", &lists),
    ];
    let query = format!("{:?}", rows()[123].iter().flatten().flatten().collect::<Vec<_>>());
    let mut answers = Vec::new();
    for file in &files {
        let index = home.path("index");
        let build = ["build", file, "--output", &index, "--row-id", "id", "--keep", "holes,name"];
        assert_eq!(json(&build)["skipped"]["null"], 1, "{file}");
        let found = json(&["search", &index, "--vector", &query, "--show", "name,holes"]);
        let nearest = &found["neighbors"][0];
        assert_eq!((&nearest["_rowid"], &nearest["holes"]), (&1230.into(), &123.into()), "{file}");
        assert_eq!(nearest["name"], "name 123");
        fails(&["search", &index, "--row", "30"], "row 30 is not among the 499 rows");
        answers.push(found);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn every_element_type_and_metric_is_indexed() {
    let home = Home::new();
    // Whole numbers below 100, which all the types have.
    let numbers = || (0..ROWS * DIM).map(|at| ((at / DIM * 31 + at % DIM * 17) % 100) as f32);
    let singles = Field::new_list_field(DataType::Float32, true);
    let halves = Field::new_list_field(DataType::FixedSizeBinary(2), true)
        .with_metadata([("ARROW:extension:name".to_owned(), "lance.bfloat16".to_owned())].into());
    let file = |name: &str, item: Field, values: ArrayRef| {
        let vectors = FixedSizeListArray::try_new(Arc::new(item), DIM as i32, values, None).unwrap();
        home.file(name, &batch(Arc::new(vectors), 0))
    };
    let values = FixedSizeBinaryArray::try_from_iter(numbers().map(|x| bf16::from_f32(x).to_le_bytes()));
    let halves = file("halves.parquet", halves, Arc::new(values.unwrap()));
    let singles = file("singles.arrow", singles, Arc::new(Float32Array::from_iter_values(numbers())));
    fails(&["build", &halves, "--elements", "int8", "--output", "x"], "cannot be converted");
    let index = home.path("index");
    for elements in ["Float16", "BFloat16", "Float32", "Float64", "Int8", "UInt8"] {
        let (file, codes) = if elements == "BFloat16" { (&halves, "bytes") } else { (&singles, "auto") };
        for metric in ["l2", "cosine", "dot", "l1", "hamming"] {
            let build = ["build", file, "--elements", elements, "--metric", metric, "--codes", codes];
            let build = with(&build, &["--no-sample", "--output", &index]);
            if metric == "hamming" && elements != "UInt8" {
                fails(&build, "distance type hamming needs UInt8 elements");
                continue;
            }
            succeed(&build);
            let stats = json(&["inspect", &index])["stats"].clone();
            assert_eq!((&stats["element_type"], &stats["distance_type"]), (&elements.into(), &metric.into()));
            let query = format!("{:?}", numbers().skip(7 * DIM).take(DIM).collect::<Vec<_>>());
            let [by_row, by_vector] = [["--row", "7"], ["--vector", &query]]
                .map(|query| row_ids(&json(&with(&["search", &index, "-k", "3"], &query))));
            assert_eq!((by_row.len(), &by_row), (3, &by_vector), "{elements}, {metric}");
            succeed(&["verify", &index]);
            // What is appended is converted as what was built was.
            assert_eq!(json(&["append", &index, file])["indexed"], 2 * ROWS);
        }
    }
}

#[test]
fn benchmark_files_with_ground_truth_are_measured() {
    let home = Home::new();
    let fbin = |range: std::ops::Range<usize>| -> Vec<u8> {
        let header = [range.len() as u32, DIM as u32].map(u32::to_le_bytes).concat();
        let rows = rows()[range].to_vec();
        let values = rows.into_iter().flatten().flatten().map(Option::unwrap);
        header.into_iter().chain(values.flat_map(f32::to_le_bytes)).collect()
    };
    let base = home.bytes("base.fbin", &fbin(0..ROWS));
    let queries = home.bytes("queries.fbin", &fbin(100..120));
    // The nearest row of each query is the row it was taken from.
    let truth = [20, 1].into_iter().chain(100..120_u32).flat_map(u32::to_le_bytes);
    let truth = home.bytes("truth.ibin", &truth.collect::<Vec<u8>>());
    let index = home.path("index");
    succeed(&["build", &base, "--output", &index]);
    for path in [&base, &index] {
        let eval = ["eval", path, "--queries", &queries, "--ef", "64,16"];
        for more in [&["-k", "1", "--ground-truth", &truth][..], &[]] {
            let result = json(&with(&eval, more));
            assert_eq!(result["queries"], 20);
            let widths = result["results"].as_array().unwrap();
            assert_eq!((&widths[0]["ef"], &widths[1]["ef"]), (&16.into(), &64.into()));
            assert!(widths[1]["recall"].as_f64().unwrap() >= 0.99, "{result}");
        }
        assert!(succeed(&eval).contains("queries/s"));
        fails(&with(&eval, &["--ground-truth", &truth]), "has 1 neighbors per query, -k is 10");
    }
    fails(&["eval", &index, "--m", "8"], "is an index: --metric and the options of a build are for files");
    fails(&["eval", &base, "--queries", WORDS], "have dimension 100, the indexed vectors have 8");
    fails(&["eval", &home.bytes("short.fbin", &fbin(0..ROWS)[..1000])], "it has 1000 bytes");
    let bytes = [2_u32, 3].map(u32::to_le_bytes).concat().into_iter().chain([1, 2, 3, 255, 4, 5]);
    let bytes = bytes.collect::<Vec<u8>>();
    for (name, elements) in [("x.u8bin", "UInt8"), ("x.i8bin", "Int8")] {
        let build = ["build", &home.bytes(name, &bytes), "--flat", "--output", &index];
        assert_eq!(json(&build)["elements"], elements);
    }
}

#[test]
fn many_queries_are_answered_into_files_of_each_format() {
    let home = Home::new();
    let index = home.index();
    let mut queries = rows()[40..50].to_vec();
    queries[2] = None;
    let queries = home.file("queries.parquet", &batch(list(queries), 0));
    let search = ["search", &index, "--queries", &queries, "-k", "3", "--show", "name"];
    let answer = json(&search);
    let neighbors = answer["neighbors"].as_array().unwrap();
    assert_eq!(neighbors.len(), 27);
    assert_eq!((&neighbors[6]["query_index"], &neighbors[6]["name"]), (&3.into(), &"name 43".into()));
    let out = |name: &str| {
        let path = home.path(name);
        assert_eq!(json(&with(&search, &["--out", &path]))["rows"], 27);
        File::open(path).unwrap()
    };
    let mut parquet = ParquetRecordBatchReader::try_new(out("out.parquet"), 100).unwrap();
    let arrow = FileReader::try_new(out("out.arrow"), None).unwrap().next().unwrap().unwrap();
    assert_eq!(parquet.next().unwrap().unwrap(), arrow);
    let names: Vec<&str> = arrow.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!((names, arrow.num_rows()), (vec!["query_index", "_rowid", "_distance", "name"], 27));
    out("out.csv");
    let csv = fs::read_to_string(home.path("out.csv")).unwrap();
    assert!(csv.starts_with("query_index,_rowid,_distance,name\n0,40,"), "{csv}");
    assert_eq!(csv.lines().count(), 28);
    fails(&with(&search, &["--out", "out.txt"]), "must end with .parquet, .arrow or .csv");
}

#[test]
fn appended_rows_are_found_and_replaced_ones_are_not() {
    let home = Home::new();
    let index = home.index();
    let shifted = |by: f32| -> Vec<Row> {
        let shift = |row: Row| row.map(|row| row.into_iter().map(|x| x.map(|x| x + by)).collect());
        rows().into_iter().map(shift).collect()
    };
    let more = home.file("more.arrow", &batch(list(shifted(5.0)), 1_000));
    let appended = json(&["append", &index, &more]);
    assert_eq!((&appended["appended"], &appended["indexed"]), (&500.into(), &1_000.into()));
    // Row ids and labels go on where they stopped.
    let found = json(&["search", &index, "--row", "507", "--show", "name", "-k", "1"]);
    assert_eq!(found["neighbors"][0]["name"], "name 1007");
    let found = json(&["search", &index, "--like", "name=name 1007", "-k", "1"]);
    assert_eq!(row_ids(&found), [507]);

    let changed = home.file("changed.arrow", &batch(fixed(shifted(-5.0)), 2_000).slice(0, 100));
    fails(&["append", &index, &changed, "--row-id", "holes"], "row id 0, which another row has already");
    assert_eq!(json(&["inspect", &index])["stats"]["live"], 1_000, "a failed append changes nothing");
    let replaced = json(&["append", &index, &changed, "--row-id", "holes", "--upsert"]);
    assert_eq!((&replaced["replaced"], &replaced["indexed"]), (&100.into(), &1_000.into()));
    let show = ["search", &index, "--row", "7", "--show", "name", "-k", "5"];
    let before = json(&show);
    assert_eq!(before["neighbors"][0]["name"], "name 2007");
    fails(&["search", &index, "--like", "name=name 7"], "no row of the index has name=name 7");
    assert_eq!(json(&["compact", &index])["removed"], 100);
    assert_eq!(json(&show), before);
    assert_eq!(json(&["compact", &index])["removed"], 0);
    assert_eq!(json(&["verify", &index])["ok"], true);
    fails(&["append", &index, WORDS], "has no column 'name'");
}

#[test]
fn exported_batches_are_an_index_too() {
    let home = Home::new();
    let index = home.index();
    let out = home.path("batches");
    assert_eq!(json(&["export", &index, "--output", &out])["rows"], ROWS);
    assert_eq!(names(&out), ["graph.arrow", "vectors.arrow"]);
    let expected = row_ids(&json(&["search", &index, "--row", "7"]));
    let (graph, vectors) = (format!("{out}/graph.arrow"), format!("{out}/vectors.arrow"));
    for path in [&out, &graph, &vectors] {
        assert_eq!(row_ids(&json(&["search", path, "--row", "7"])), expected, "{path}");
        assert_eq!(json(&["verify", path])["ok"], true);
        assert_eq!(json(&["eval", path, "--ef", "50"])["indexed"], ROWS);
    }
    fs::remove_file(&vectors).unwrap();
    assert_eq!(json(&["inspect", &graph])["health"]["nodes"], ROWS);
    fails(&["search", &graph, "--row", "7"], "is a graph without its vectors");
    let lance = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/lance-14.0.2");
    assert_eq!(json(&["inspect", lance])["stats"]["live"], 600);
    // What the command saves is what the library loads, and the other way round.
    let loaded = Index::load(&index).unwrap();
    let query: Vec<f32> = rows()[7].iter().flatten().map(|x| x.unwrap()).collect();
    let hits = loaded.index.search(&query, &SearchParams::new(10)).unwrap();
    assert_eq!(hits.row_ids().collect::<Vec<_>>(), expected);
    loaded.index.save(home.path("again")).unwrap();
    assert_eq!(row_ids(&json(&["search", &home.path("again"), "--row", "7"])), expected);
}

#[test]
fn a_sound_index_is_told_from_a_damaged_one() {
    let home = Home::new();
    let index = home.index();
    assert!(succeed(&["verify", &index]).contains("500 of 500 rows are reachable"));
    let strict = pennon(&["verify", &index, "--min-recall", "1.1", "--json"]);
    assert_eq!((strict.0, strict.2.lines().count()), (Some(1), 1));
    let checks: Value = serde_json::from_str(&strict.1).unwrap();
    assert_eq!((&checks["ok"], &checks["checks"][3]["ok"]), (&false.into(), &false.into()), "{checks}");
    for name in names(&index).iter().filter(|name| name.ends_with(".arrow") || name.ends_with(".json")) {
        let path = format!("{index}/{name}");
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(sound.len() / 9 + 1) {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x55;
            fs::remove_file(&path).unwrap();
            fs::write(&path, damaged).unwrap();
            let (code, stdout, stderr) = pennon(&["verify", &index]);
            assert_eq!((code, stderr.lines().count()), (Some(1), 1), "byte {at} of {name}: {stderr}");
            assert!(stdout.contains("FAILED") && stdout.contains("is not what was saved"), "{stdout}");
            fails(&["search", &index, "--row", "0"], "is not what was saved");
        }
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(json(&["verify", &index])["ok"], true);
}

#[test]
fn failed_builds_say_why_and_leave_nothing() {
    let home = Home::new();
    let good = home.file("good.parquet", &batch(fixed(rows()), 0));
    let words = fs::read(WORDS).unwrap();
    let ipc = fs::read(home.file("good.arrow", &batch(fixed(rows()), 0))).unwrap();
    let mut ragged = rows();
    ragged[4] = Some(vec![Some(1.0); 9]);
    let inputs = [
        (home.path("absent"), "there is no file"),
        (home.path(""), "is a directory"),
        (home.bytes("empty", b""), "is neither a Parquet nor an Arrow IPC file"),
        (home.bytes("half.parquet", &words[..words.len() / 2]), "cannot read"),
        (home.bytes("half.arrow", &ipc[..ipc.len() / 2]), "truncated"),
        (
            home.file("ragged.parquet", &batch(list(ragged), 0)),
            "row 4 has 9 elements, the rows before it have 8",
        ),
        (home.file("no-rows.parquet", &batch(fixed(rows()), 0).slice(0, 0)), "no rows"),
        (
            home.file("nulls.parquet", &batch(fixed(vec![None; 3]), 0)),
            "no usable vector in 3 rows, skipped: 3 (3 null",
        ),
        (home.file("null-lists", &batch(list(vec![None; 3]), 0)), "all 3 rows are null"),
    ];
    let out = home.path("out");
    let before = names(home.path(""));
    for (input, what) in &inputs {
        fails(&["build", input, "--output", &out], what);
        assert_eq!(names(home.path("")), before, "{input}");
    }
    let options: [(&[&str], &str); 8] = [
        (&["--column", "vektor"], "columns are: id, holes, name, vector"),
        (&["--column", "id"], "Int64"),
        (&["--keep", "id,ids"], "no column 'ids'"),
        (&["--row-id", "name"], "is Utf8, not an integer type"),
        (&["--row-id", "holes"], "is null in row 250"),
        (&["--elements", "bfloat16"], "cannot be converted to BFloat16"),
        (&["--m", "1"], "m must be at least 4, got 1"),
        (&["--ef-construction", "0"], "ef_construction must be at least m = 16, got 0"),
    ];
    for (options, what) in options {
        fails(&with(&["build", &good, "--output", &out], options), what);
        assert_eq!(names(home.path("")), before, "{options:?}");
    }
    fails(&["build", &good, "--output", &good], "is not a directory");
    fails(&["build", &good, "--output", &format!("{good}/x")], "is not a directory");
    assert_eq!(names(home.path("")), before);

    let index = home.index();
    let searches: [(&[&str], &str); 8] = [
        (&["--like", "name=nobody"], "no row of the index has name=nobody"),
        (&["--like", "word=x"], "keeps no column 'word', but: name"),
        (&["--like", "name"], "--like has to be COLUMN=VALUE"),
        (&["--row", "500"], "row 500 is not among the 500 rows"),
        (&["--row", "1", "--show", "word"], "keeps no column 'word'"),
        (&["--vector", "-1,2"], "has 2 numbers, the vectors of the index have 8"),
        (&["--vector", "[1,x]"], "element 1 is 'x', not a number"),
        (&["--row", "1", "--where", "word = 'x'"], WHERE_FAILS),
    ];
    for (options, what) in searches {
        fails(&with(&["search", &index], options), what);
    }
    fails(&["search", &home.path("absent"), "--row", "0"], "there is nothing at");
    fails(&["search", &home.path(""), "--row", "0"], "is not an index");
    fails(&["append", &good, &good], "is not a saved index");
}

#[test]
fn usage_errors_help_and_the_version_are_told_apart() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["build"],
        &["search", "index"],
        &["search", "index", "--row", "1", "-k", "0"],
        &["build", "file", "--output", "x", "--metric", "manhattan"],
        &["build", "file", "--output", "x", "--codes", "bits"],
        &["build", "file", "--output", "x", "--flat", "--m", "8"],
    ];
    for arguments in wrong {
        let (code, stdout, stderr) = pennon(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
    }
    let (_, _, stderr) = pennon(wrong[4]);
    assert!(stderr.contains("must be one of l2, cosine, dot, l1, hamming"), "{stderr}");
    assert!(succeed(&["--help"]).contains("Exit codes:"));
    // A reader that goes away is no failure.
    let mut command = Command::new(env!("CARGO_BIN_EXE_pennon"));
    let mut child = command.args(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for command in ["build", "append", "compact", "verify", "export", "search", "inspect", "eval"] {
        let help = succeed(&[command, "--help"]);
        assert!(command == "compact" || help.contains(&format!("  pennon {command} ")), "{help}");
        assert!(succeed(&["man", command]).contains(".SH OPTIONS"), "{command}");
        assert!(succeed(&["man"]).contains(command) && succeed(&["completions", "bash"]).contains(command));
    }
    let version = succeed(&["--version"]);
    assert!(version.starts_with(&format!("pennon {} (", env!("CARGO_PKG_VERSION"))), "{version}");
    let manifest = include_str!("../Cargo.toml");
    let lance =
        manifest.lines().find_map(|line| line.strip_prefix("lance = { version = \"")?.split('"').next());
    assert_eq!(version.contains(&format!("Lance {}", lance.unwrap())), cfg!(feature = "lance"), "{version}");
}

#[test]
fn a_killed_build_or_append_leaves_the_older_index_or_the_newer() {
    let home = Home::new();
    let index = home.index();
    let more = home.file("more.arrow", &batch(fixed(rows()), 1_000));
    let live = || json(&["inspect", &index])["stats"]["live"].as_u64().unwrap();
    // The command may have replaced the index when it was killed: then the next one begins from there.
    let mut last = live();
    let kills = killed(&["append", &index, &more], || {
        let now = live();
        assert!(now == last || now == last + 500, "{now} rows after {last}");
        assert_eq!(row_ids(&json(&["search", &index, "--row", "7", "-k", "1"])), [7]);
        last = now;
    });
    let before = last;
    let builds = killed(&["build", WORDS, "--output", &index, "--m", "4", "--ef-construction", "8"], || {
        let now = live();
        assert!(now == before || now == 5_000, "{now} rows, neither {before} nor 5000");
    });
    println!("{kills} appends and {builds} builds were killed");
    assert!(kills > 0 && builds > 0 && live() == 5_000);
    // What was left behind went with the next save.
    let files = names(&index).into_iter().filter(|name| name.ends_with(".arrow")).count();
    assert_eq!(files, 4, "{:?}", names(&index));
}
