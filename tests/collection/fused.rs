//! Two columns of vectors give one order.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use pennon::{CollectionSearch, ColumnQuery, Error, Fusion};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::kit::*;

/// With candidates from all rows, the order is that of a table that scores each row.
#[test]
fn the_order_is_that_of_all_rows() {
    let mut rng = StdRng::seed_from_u64(1);
    for flat in [true, false] {
        let (collection, mut naive) = (collection(flat), Naive::default());
        for start in [0, 100, 250] {
            let rows = rows(&mut rng, start..start + 150);
            collection.upsert(&batch(&rows)).unwrap();
            naive.put(&rows);
        }
        let red = words("red");
        for word in [None, Some("red")] {
            let (a, b) = (vector(&mut rng), vector(&mut rng));
            let queries =
                [ColumnQuery::new("a", &a[..]).weight(0.5), ColumnQuery::new("b", &b[..]).weight(2.0)];
            let mut search = CollectionSearch::new(20).ef(400).columns(["id"]);
            if word.is_some() {
                search = search.filter(&red);
            }
            let passes = |row: &Row| word.is_none() || row.word.as_deref() == word;
            let by_a: BTreeMap<i64, f64> =
                naive.nearest("a", &a, passes).into_iter().map(|(distance, id)| (id, distance)).collect();
            let by_b: BTreeMap<i64, f64> =
                naive.nearest("b", &b, passes).into_iter().map(|(distance, id)| (id, distance)).collect();

            let hits = collection.search_fused(&queries, Fusion::WeightedSum, &search).unwrap();
            assert_eq!(hits.stats().len(), 2);
            let mut sums: Vec<(f64, i64)> =
                by_b.iter().map(|(id, b)| (0.5 * by_a[id] + 2.0 * b, *id)).collect();
            sums.sort_by(|x, y| x.0.total_cmp(&y.0));
            assert_eq!(ids(&hits), sums.iter().take(20).map(|row| row.1).collect::<Vec<_>>(), "{word:?}");
            let distances = hits["_distance"].as_primitive::<Float32Type>().values();
            assert!(distances.iter().zip(&sums).all(|(x, y)| (f64::from(*x) - y.0).abs() < 1e-4));

            let hits = collection.search_fused(&queries, Fusion::default(), &search).unwrap();
            let rank = |of: &BTreeMap<i64, f64>, id: &i64| {
                of.get(id).map(|at| 1 + of.values().filter(|other| *other < at).count())
            };
            let share = |of, id, weight: f64| rank(of, id).map_or(0.0, |rank| weight / (60.0 + rank as f64));
            let scores: BTreeMap<i64, f64> =
                by_a.keys().map(|id| (*id, share(&by_a, id, 0.5) + share(&by_b, id, 2.0))).collect();
            let mut best: Vec<f64> = scores.values().copied().collect();
            best.sort_by(|x, y| y.total_cmp(x));
            let given = hits["_score"].as_primitive::<Float32Type>().values();
            assert_eq!(given.len(), 20);
            for ((id, given), best) in ids(&hits).iter().zip(given).zip(best) {
                assert!((f64::from(*given) - best).abs() < 1e-6, "{given} {best}");
                assert!((f64::from(*given) - scores[id]).abs() < 1e-6, "{id}");
            }
        }
    }
}

/// A row that one column alone finds has its exact distance in the other.
#[test]
fn rows_of_one_column_are_scored_in_the_other() {
    let mut rng = StdRng::seed_from_u64(2);
    let (collection, mut naive) = (collection(false), Naive::default());
    let rows = rows(&mut rng, 0..1_000);
    collection.append(&batch(&rows)).unwrap();
    naive.put(&rows);
    let (a, b) = (vector(&mut rng), vector(&mut rng));
    let queries = [ColumnQuery::new("a", a.clone()), ColumnQuery::new("b", b.clone())];
    let hits =
        collection.search_fused(&queries, Fusion::WeightedSum, &CollectionSearch::new(5).ef(5)).unwrap();
    let distances = hits["_distance"].as_primitive::<Float32Type>().values();
    assert_eq!(distances.len(), 5);
    for (row, distance) in rows_of(&hits).iter().zip(distances) {
        let sum = l2(&a, row.a.as_ref().unwrap()) + cosine(&b, row.b.as_ref().unwrap());
        assert!((sum - f64::from(*distance)).abs() < 1e-4, "{sum} {distance}");
    }
    assert!(distances.is_sorted());
    let negative = [ColumnQuery::new("a", a).weight(-1.0)];
    let refused = collection.search_fused(&negative, Fusion::default(), &CollectionSearch::new(5));
    assert!(matches!(refused, Err(Error::InvalidColumn { .. })));
    let nothing = collection.search_fused(&[], Fusion::default(), &CollectionSearch::new(5)).unwrap();
    assert_eq!((nothing.num_rows(), nothing.complete()), (0, true));
}
