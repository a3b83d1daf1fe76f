//! `pennon build` with Lance datasets: what it leaves behind, and how it fails.

use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow_schema::DataType;
use lance::Dataset;
use parquet::arrow::ArrowWriter;
use pennon::DistanceType;

use crate::dataset::data::{
    Home, INDEX, assert_recall, assert_used, dataset, index_dirs, reader, recall, rows, run, segments,
    statistics,
};

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet");

fn pennon(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pennon")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
pub fn succeed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    stdout
}

/// Asserts one line on standard error that says `what`.
#[track_caller]
pub fn fails(arguments: &[&str], what: &str) {
    let (code, stdout, stderr) = pennon(arguments);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("pennon: ") && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
    assert!(stderr.contains(what), "{arguments:?}: {stderr}");
}

/// The words nearest to a word, by the dataset's index.
async fn relatives(dataset: &Dataset, word: &str) -> Vec<String> {
    let mut scan = dataset.scan();
    scan.filter(&format!("word = '{word}'")).unwrap();
    let row = scan.try_into_batch().await.unwrap();
    let query = row["vector"].as_fixed_size_list().value(0);
    let mut scan = dataset.scan();
    let scan = scan.project(&["word"]).unwrap().nearest("vector", query.as_ref(), 8).unwrap();
    let found = scan.ef(100).try_into_batch().await.unwrap();
    (0..found.num_rows()).map(|row| found["word"].as_string::<i32>().value(row).to_string()).collect()
}

#[test]
fn a_file_becomes_a_dataset_with_an_index() {
    let home = Home::new();
    let directory = home.uri("new/parents/words");
    let build = ["build", WORDS, "--metric", "cosine", "--lance", &directory];
    let built = succeed(&build);
    assert!(
        built.contains("5,000") && built.contains(INDEX) && built.contains("1 of 1 fragments"),
        "{built}"
    );
    run(async {
        let dataset = Dataset::open(&directory).await.unwrap();
        assert_eq!(dataset.count_rows(None).await.unwrap(), 5_000);
        let names: Vec<&str> = dataset.schema().fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["rank", "word", "vector"]);
        assert_used(&dataset).await;
        let words = relatives(&dataset, "guitar").await;
        assert_eq!((words.len(), words[0].as_str()), (8, "guitar"));
        assert!(words.iter().any(|word| word == "bass" || word == "piano"), "{words:?}");
    });
    assert_eq!(fs::read_dir(home.uri("")).unwrap().count(), 1, "nothing else is left");

    fails(&build, "--overwrite replaces it");
    let options = ["--overwrite", "--quantizer", "sq", "--partitions", "4", "--threads", "2"];
    succeed(&[build.as_slice(), options.as_slice()].concat());
    run(async {
        let dataset = Dataset::open(&directory).await.unwrap();
        let statistics = statistics(&dataset).await;
        assert_eq!(statistics["index_type"], "IVF_HNSW_SQ");
        assert_eq!(statistics["indices"][0]["num_partitions"], 4);
        assert_eq!(relatives(&dataset, "guitar").await[0], "guitar");
    });
}

#[test]
fn a_dataset_gets_an_index_and_then_further_segments() {
    let home = Home::new();
    let uri = home.uri("data");
    run(dataset(&uri, 2_000, 1_000));
    let built = succeed(&["build", &uri, "--column", "vector"]);
    assert!(built.contains("2 of 2 fragments"), "{built}");
    let built = succeed(&["build", &uri]);
    assert!(built.contains("nothing new"), "{built}");
    run(async {
        let mut dataset = Dataset::open(&uri).await.unwrap();
        dataset.append(reader(vec![rows(2_000..2_100, |_| false)]), None).await.unwrap();
    });
    let built = succeed(&["build", &uri, "--lance", &uri]);
    assert!(built.contains("1 of 3 fragments"), "{built}");
    let (code, _, stderr) = pennon(&["build", &uri, "--metric", "dot", "--partitions", "0"]);
    assert!(code == Some(2) && stderr.contains("--partitions"), "{stderr}");
    run(async {
        let mut dataset = Dataset::open(&uri).await.unwrap();
        assert_eq!(segments(&dataset).await, [vec![0, 1], vec![2]]);
        assert_used(&dataset).await;
        assert_recall(recall(&dataset, DistanceType::L2).await, 0.97, "built by the command line");
        dataset.append(reader(vec![rows(2_100..2_110, |_| false)]), None).await.unwrap();
    });
    fails(&["build", &uri, "--metric", "dot"], "with metric l2, not ");
}

/// A Parquet file with lists of these lengths as vectors.
fn parquet(path: &str, lengths: &[usize]) -> String {
    let lists = lengths.iter().map(|&length| Some((0..length).map(|x| Some(x as f32 + 1.0))));
    let vectors: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..lengths.len() as i64));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["name"; lengths.len()]));
    let columns = [("id", ids), ("name", names), ("vector", vectors)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    path.to_string()
}

#[test]
fn lists_become_fixed_size_lists() {
    let home = Home::new();
    let file = parquet(&home.uri("lists.parquet"), &[8; 300]);
    let directory = home.uri("lists");
    succeed(&["build", &file, "--lance", &directory]);
    run(async {
        let dataset = Dataset::open(&directory).await.unwrap();
        let vectors = dataset.schema().field("vector").unwrap().data_type();
        assert!(matches!(vectors, DataType::FixedSizeList(_, 8)), "{vectors}");
        assert_eq!(statistics(&dataset).await["num_indexed_rows"], 300);
    });
}

#[test]
fn failed_builds_say_why_and_leave_nothing() {
    let home = Home::new();
    let good = parquet(&home.uri("good.parquet"), &[8; 20]);
    let ragged = parquet(&home.uri("ragged.parquet"), &[8, 8, 9]);
    let uri = home.uri("data");
    run(dataset(&uri, 100, 100));
    fs::create_dir(home.uri("empty")).unwrap();
    fs::create_dir(home.uri("notes")).unwrap();
    fs::write(home.uri("notes/text"), "").unwrap();
    let (out, empty, notes) = (home.uri("out"), home.uri("empty"), home.uri("notes"));
    let entries = || fs::read_dir(home.uri("")).unwrap().count();
    let before = entries();
    let cases: [(&[&str], &str); 10] = [
        (&["build", &ragged, "--lance", &out], "value at index 2 has length 9"),
        (&["build", &good, "--lance", &out, "--column", "vektor"], "columns are: id, name, vector"),
        (&["build", &good, "--lance", &out, "--column", "name"], "Utf8"),
        (&["build", &good, "--lance", &notes], "it holds 'text'"),
        (&["build", &good, "--lance", &notes, "--overwrite"], "it holds 'text'"),
        (&["build", &good, "--lance", &uri], "--overwrite replaces it"),
        (&["build", &good], "needs --output DIR or --lance DIR"),
        (&["build", &uri, "--lance", &out], "--lance must be"),
        (&["build", &empty], "not a Lance dataset"),
        (&["build", &uri, "--column", "id"], "Int64"),
    ];
    for (arguments, what) in cases {
        fails(arguments, what);
        assert_eq!(entries(), before, "{arguments:?}");
        assert_eq!(run(Dataset::open(&uri)).unwrap().version().version, 1, "{arguments:?}");
        assert_eq!(index_dirs(&uri), 0, "{arguments:?}");
    }
    let both = ["build", &good, "--lance", &out, "--output", &out];
    assert_eq!(pennon(&both).0, Some(2));
}
