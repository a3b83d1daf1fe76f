//! Recall against an exact scan in f64: absolute, and whatever the order and the batches of the rows.

use std::time::Instant;

use pennon::{BuildParams, DistanceType, Index, SearchParams};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::data::{Rows, build, clustered, curve, normal, recall, uniform};

fn params(ef_construction: usize) -> BuildParams {
    BuildParams::default().num_edges(16).ef_construction(ef_construction)
}

fn recall_at_10(index: &Index, rows: &Rows, queries: &Rows, ef: usize) -> f64 {
    recall(rows, queries, index.distance_type(), 10, |query| {
        index.search(query, &SearchParams::new(10).ef(ef)).unwrap().into_vec()
    })
}

#[test]
fn of_20_000_clustered_rows() {
    let all = clustered(20_200, 32, 64, 1).0;
    let (rows, queries) = (all.part(0..20_000), all.part(20_000..20_200));
    let started = Instant::now();
    let index = build(&rows, DistanceType::L2, &params(200), 20_000);
    println!("20,000 x 32, clustered, L2: built in {:.1?}; {}", started.elapsed(), index.health().unwrap());
    let mut at_100 = 0.0;
    for ef in [10, 20, 50, 100] {
        at_100 = recall_at_10(&index, &rows, &queries, ef);
        println!("ef = {ef}: recall@10 {at_100:.4}");
    }
    assert!(at_100 >= 0.98, "recall@10 {at_100} at ef = 100");
}

/// Rows that come in order must not be worth less than rows that come by chance.
#[test]
fn of_ordered_rows_is_that_of_shuffled_rows() {
    let (unordered, labels) = clustered(5_200, 16, 64, 2);
    let (base, queries) = (unordered.part(0..5_000), unordered.part(5_000..5_200));
    let mut order: Vec<usize> = (0..5_000).collect();
    order.sort_by_key(|&row| labels[row]);
    let by_cluster = base.reordered(&order);

    let line = curve(10_400, 16);
    let on_curve: Vec<usize> = (0..5_000).map(|row| 2 * row).collect();
    let between: Vec<usize> = (0..200).map(|query| 52 * query + 1).collect();

    for (name, sorted, queries) in [
        ("clusters in order", by_cluster, queries),
        ("a curve in order", line.reordered(&on_curve), line.reordered(&between)),
    ] {
        let shuffled = sorted.shuffled(3);
        for batch in [100, 5_000] {
            let in_order = build(&sorted, DistanceType::L2, &params(100), batch);
            let by_chance = build(&shuffled, DistanceType::L2, &params(100), batch);
            for ef in [20, 64] {
                let ordered = recall_at_10(&in_order, &sorted, &queries, ef);
                let chance = recall_at_10(&by_chance, &shuffled, &queries, ef);
                let case = format!("{name}, batches of {batch}, ef = {ef}");
                println!("{case}: recall@10 {ordered:.4}, shuffled {chance:.4}");
                assert!(ordered >= chance - 0.01, "{case}: {ordered}, shuffled {chance}");
            }
        }
    }
}

#[test]
fn of_small_batches_is_that_of_one_batch() {
    let all = clustered(5_200, 24, 64, 4).0;
    let (rows, queries) = (all.part(0..5_000), all.part(5_000..5_200));
    let one = recall_at_10(&build(&rows, DistanceType::L2, &params(100), 5_000), &rows, &queries, 40);
    for batch in [1, 100, 1_000] {
        let many = recall_at_10(&build(&rows, DistanceType::L2, &params(100), batch), &rows, &queries, 40);
        println!("5,000 rows at ef = 40: recall@10 {one:.4} in one batch, {many:.4} in batches of {batch}");
        assert!((one - many).abs() <= 0.01, "{one} in one batch, {many} in batches of {batch}");
    }
}

#[test]
fn of_a_bulk_append_does_not_depend_on_what_was_there() {
    let all = clustered(6_200, 24, 64, 5).0;
    let (rows, queries) = (all.part(0..6_000), all.part(6_000..6_200));
    let built_on = |base: usize| -> f64 {
        let index = Index::hnsw(24, DistanceType::L2, params(100)).unwrap();
        for (start, array) in rows.batches_of(&[base, 6_000 - base]) {
            index.append(&array, start).unwrap();
        }
        recall_at_10(&index, &rows, &queries, 40)
    };
    let at_once = built_on(0);
    for base in [1, 10, 100, 1_000] {
        let later = built_on(base);
        println!("6,000 rows at ef = 40: recall@10 {at_once:.4} at once, {later:.4} onto {base} rows");
        assert!(later >= at_once - 0.01, "{at_once} at once, {later} onto {base} rows");
    }
}

/// A reader of an old snapshot must not pay for the rows that came after.
#[test]
fn of_an_old_snapshot_is_that_of_a_graph_that_ends_there() {
    let all = clustered(10_200, 24, 64, 8).0;
    let (rows, queries) = (all.part(0..10_000), all.part(10_000..10_200));
    let early = rows.part(0..1_000);
    let alone = recall_at_10(&build(&early, DistanceType::L2, &params(100), 1_000), &early, &queries, 40);
    let index = build(&early, DistanceType::L2, &params(100), 1_000);
    let reader = index.reader();
    index.append(&rows.part(1_000..10_000).array(), 1_000).unwrap();
    let old = recall(&early, &queries, DistanceType::L2, 10, |query| {
        reader.search(query, &SearchParams::new(10).ef(40)).unwrap().into_vec()
    });
    println!(
        "the first 1,000 of 10,000 rows at ef = 40: recall@10 {old:.4}, {alone:.4} in a graph of their own"
    );
    assert!(old >= alone - 0.005, "{old}, alone {alone}");
}

/// Each batch is a cluster of its own, far from all others: its rows can only be found through each other.
#[test]
fn of_batches_that_are_far_from_everything_before() {
    for (clusters, size) in [(40, 100), (6, 800), (400, 10)] {
        let centers = uniform(clusters, 16, 6);
        let mut rng = StdRng::seed_from_u64(7);
        let mut around = |cluster: usize| -> Vec<f32> {
            centers.row(cluster).iter().map(|c| 100.0 * c + normal(&mut rng)).collect()
        };
        let queries: Vec<f32> = (0..400).flat_map(|query| around(query % clusters)).collect();
        let values: Vec<f32> = (0..clusters * size).flat_map(|row| around(row / size)).collect();
        let (rows, queries) = (Rows { dim: 16, values }, Rows { dim: 16, values: queries });
        let index = Index::hnsw(16, DistanceType::L2, params(100)).unwrap();
        for (number, (start, array)) in rows.batches(size).into_iter().enumerate() {
            index.append(&array, start).unwrap();
            // The newest cluster is found at once.
            let first = number * size;
            let newest = rows.part(first..first + size.min(20));
            for (offset, query) in newest.iter().enumerate() {
                let found = index.search(query, &SearchParams::new(1).ef(100)).unwrap().into_vec();
                assert_eq!(
                    (found[0].id as usize, found[0].distance),
                    (first + offset, 0.0),
                    "cluster {number} of {clusters} x {size}"
                );
            }
        }
        let found = recall_at_10(&index, &rows, &queries, 100);
        println!("{clusters} far clusters of {size}, one batch each: recall@10 {found:.4}");
        assert!(found >= 0.97, "{clusters} far clusters of {size}: {found}");
    }
}

/// Real words: the 5,000 most frequent of GloVe, as `fixtures/README.md` says.
#[cfg(feature = "cli")]
mod words {
    use std::fs::File;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Float32Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use pennon::{DistanceType, SearchParams};

    use super::{params, recall_at_10};
    use crate::data::{Rows, build};

    fn read() -> (Vec<String>, Rows) {
        let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/glove-words.parquet")).unwrap();
        let (mut words, mut values) = (Vec::new(), Vec::new());
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            words.extend(batch["word"].as_string::<i32>().iter().map(|word| word.unwrap().to_owned()));
            let vectors = batch["vector"].as_fixed_size_list();
            values.extend_from_slice(vectors.values().as_primitive::<Float32Type>().values());
        }
        (words, Rows { dim: 100, values })
    }

    #[test]
    fn of_5_000_words() {
        let (words, rows) = read();
        assert_eq!((words.len(), rows.len()), (5_000, 5_000));
        let (held_out, indexed): (Vec<usize>, Vec<usize>) = (0..5_000).partition(|row| row % 25 == 24);
        let (queries, held) = (rows.reordered(&held_out), rows.reordered(&indexed));
        for batch in [100, 4_800] {
            let index = build(&held, DistanceType::Cosine, &params(200), batch);
            let at = |ef: usize| {
                let found = recall_at_10(&index, &held, &queries, ef);
                println!("4,800 words in batches of {batch}, cosine, ef = {ef}: recall@10 {found:.4}");
                found
            };
            for ef in [10, 20, 50] {
                at(ef);
            }
            // With m = 16 and ef_construction = 200.
            let (at_64, at_100) = (at(64), at(100));
            // 0.999 with the kernels of AVX-512.
            assert!(at_64 > 0.95, "batches of {batch}: recall@10 {at_64} at ef = 64");
            assert!(at_100 >= 0.98, "batches of {batch}: recall@10 {at_100} at ef = 100");
        }
    }

    /// A person can judge these.
    #[test]
    fn of_words_that_people_know() {
        let (words, rows) = read();
        let index = build(&rows, DistanceType::Cosine, &params(200), 1_000);
        for (word, relatives) in [
            ("king", &["queen", "prince"][..]),
            ("france", &["spain", "germany", "italy", "belgium"][..]),
            ("monday", &["tuesday", "thursday"][..]),
        ] {
            let id = words.iter().position(|other| other == word).unwrap();
            let found = index.search(rows.row(id), &SearchParams::new(10).ef(100)).unwrap().into_vec();
            let near: Vec<&str> = found.iter().map(|r| words[r.id as usize].as_str()).collect();
            println!("{word}: {}", near.join(", "));
            assert_eq!(near[0], word);
            assert!(relatives.iter().any(|relative| near.contains(relative)), "{word}: {near:?}");
        }
    }
}
