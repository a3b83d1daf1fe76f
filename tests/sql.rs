//! SQL over collections gives what DataFusion gives by a scan and a sort.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "collection/kit.rs"]
#[allow(dead_code, reason = "shared with tests/collection.rs")]
mod kit;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::collect;
use pennon::sql::{VectorOrderRule, condition, register_collection};
use pennon::{Collection, CollectionSearch, Filter};
use rand::SeedableRng;
use rand::rngs::StdRng;

use kit::*;

/// A session with a collection `t`, and its rows in memory as `plain`.
async fn session(collection: &Arc<Collection>, rule: bool) -> SessionContext {
    let mut state = SessionStateBuilder::new().with_default_features();
    if rule {
        state = state.with_physical_optimizer_rule(Arc::new(VectorOrderRule::new().ef(400)));
    }
    let context = SessionContext::new_with_state(state.build());
    register_collection(&context, "t", Arc::clone(collection)).unwrap();
    let batches: Vec<RecordBatch> =
        collection.reader().scan(None, &[]).unwrap().map(Result::unwrap).collect();
    let plain = MemTable::try_new(collection.schema().clone(), vec![batches]).unwrap();
    context.register_table("plain", Arc::new(plain)).unwrap();
    context
}

async fn run(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let frame = context.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn fails(context: &SessionContext, sql: &str) -> String {
    match context.sql(sql).await {
        Err(error) => error.to_string(),
        Ok(frame) => frame.collect().await.unwrap_err().to_string(),
    }
}

async fn text(context: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&run(context, sql).await).unwrap().to_string()
}

async fn ids_of(context: &SessionContext, sql: &str) -> Vec<i64> {
    let batches = run(context, sql).await;
    batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn filled(rng: &mut StdRng, flat: bool, count: i64) -> Arc<Collection> {
    let collection = collection(flat);
    for start in (0..count).step_by(100) {
        collection.append(&batch(&rows(rng, start..start + 100))).unwrap();
    }
    collection.delete((0..count).filter(|id| id % 9 == 4)).unwrap();
    Arc::new(collection)
}

fn sql_list(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(|x| format!("{x:?}")).collect();
    format!("[{}]", numbers.join(", "))
}

const CONDITIONS: [&str; 6] = [
    "true",
    "word = 'red'",
    "id < 20",
    "word IS NULL AND id > 300",
    "word LIKE 'g%' OR id IN (1, 2, 3)",
    "id % 50 = 1 AND b IS NOT NULL",
];

#[tokio::test]
async fn a_table_answers_as_its_rows_do() {
    let mut rng = StdRng::seed_from_u64(1);
    for flat in [true, false] {
        let collection = filled(&mut rng, flat, 600);
        let context = session(&collection, false).await;
        for condition in CONDITIONS {
            for select in ["*", "word, id", "count(*)", "b", "id, word || 'x' AS w"] {
                let order = if select.contains("count") { "" } else { "ORDER BY id" };
                let of = |table: &str| format!("SELECT {select} FROM {table} WHERE {condition} {order}");
                let (ours, plain) = (text(&context, &of("t")).await, text(&context, &of("plain")).await);
                assert_eq!(ours, plain, "{}", of("t"));
            }
        }
        let some = run(&context, "SELECT id FROM t LIMIT 7").await;
        assert_eq!(some.iter().map(RecordBatch::num_rows).sum::<usize>(), 7);
    }
}

#[tokio::test]
async fn a_condition_is_tested_before_the_search() {
    let mut rng = StdRng::seed_from_u64(2);
    for flat in [true, false] {
        let collection = filled(&mut rng, flat, 600);
        let context = session(&collection, false).await;
        for (column, function) in [("a", "l2_distance"), ("b", "cosine_distance")] {
            for condition in &CONDITIONS[..5] {
                let query = sql_list(&vector(&mut rng));
                let sorted = format!(
                    "SELECT id FROM plain WHERE ({condition}) AND {column} IS NOT NULL ORDER BY {function}({column}, {query}) LIMIT 12"
                );
                let searched = format!(
                    "SELECT id, _distance FROM vector_search('t', {query}, 12, 'ef=400, column={column}') WHERE {condition}"
                );
                let expected = ids_of(&context, &sorted).await;
                assert_eq!(ids_of(&context, &searched).await, expected, "{searched}");
                if *condition == "id < 20" && column == "a" {
                    assert_eq!(expected.len(), 12);
                }
                let all = searched.replace(", 12,", ", 1000,");
                let count =
                    format!("SELECT count(*) AS id FROM plain WHERE ({condition}) AND {column} IS NOT NULL");
                // Fewer than k qualify: all of them come.
                assert_eq!(ids_of(&context, &all).await.len() as i64, ids_of(&context, &count).await[0]);
            }
        }
        // A condition on the distance is tested after it.
        let query = sql_list(&vector(&mut rng));
        let near = format!(
            "SELECT id, _distance FROM vector_search('t', {query}, 20, 'exact') WHERE _distance < 2.0"
        );
        for batch in run(&context, &near).await {
            assert!(batch["_distance"].as_primitive::<Float32Type>().values().iter().all(|x| *x < 2.0));
        }
        let joined = format!(
            "SELECT s.id, p.word, l2_distance(p.a, {query}) - s._distance AS d FROM vector_search('t', {query}, 5) s \
             JOIN plain p ON p.id = s.id ORDER BY s._distance"
        );
        let batches = run(&context, &joined).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        for batch in batches {
            assert!(batch["d"].as_primitive::<Float32Type>().values().iter().all(|d| *d == 0.0));
        }
    }
}

/// The same condition of a later query evaluates what is new alone; a query sees what was written before it is executed.
#[tokio::test]
async fn queries_see_the_current_version_when_executed() {
    let mut rng = StdRng::seed_from_u64(3);
    let collection = filled(&mut rng, false, 300);
    let context = session(&collection, false).await;
    let mut target = row(&mut rng, 1_000);
    target.word = Some("red".to_string());
    let query = sql_list(target.a.as_ref().unwrap());
    let sql = format!("SELECT id FROM vector_search('t', {query}, 1) WHERE word = 'red'");
    let plan = context.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
    assert_ne!(ids_of(&context, &sql).await, [1_000]);
    collection.append(&batch(&[target])).unwrap();
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    assert_eq!(ids(&batches[0]), [1_000]);
    assert_eq!(ids_of(&context, "SELECT id FROM t WHERE id >= 1000").await, [1_000]);
    collection.delete([1_000_i64]).unwrap();
    assert_ne!(ids_of(&context, &sql).await, [1_000]);
}

#[tokio::test]
async fn plans_say_what_they_do() {
    let mut rng = StdRng::seed_from_u64(4);
    let collection = filled(&mut rng, false, 300);
    let context = session(&collection, false).await;
    let query = sql_list(&vector(&mut rng));
    let sql = format!(
        "EXPLAIN SELECT id FROM vector_search('t', {query}, 5, 'ef=32') WHERE word = 'red' AND a IS NOT NULL"
    );
    let plan = text(&context, &sql).await;
    assert!(plan.contains("VectorSearchExec: columns=[id"), "{plan}");
    assert!(plan.contains("vectors=a, metric=l2, k=5, index=hnsw, ef=32"), "{plan}");
    assert!(plan.contains(r#"filter=[word = Utf8("red")]"#), "{plan}");
    // Of the vectors, nothing is known by the filter.
    assert!(plan.contains("FilterExec"), "{plan}");
    let sql = format!("EXPLAIN SELECT id FROM vector_search('t', {query}, 5, 'exact') ORDER BY _distance");
    let plan = text(&context, &sql).await;
    assert!(plan.contains("index=none") && !plan.contains("SortExec"), "{plan}");
    let sql = format!("EXPLAIN ANALYZE SELECT id FROM vector_search('t', {query}, 5)");
    let plan = text(&context, &sql).await;
    for metric in ["distances=", "estimates=", "nodes=", "plan_", "incomplete=0", "output_rows=5"] {
        assert!(plan.contains(metric), "{metric}: {plan}");
    }
    let plan = text(&context, "EXPLAIN SELECT word FROM t WHERE id = 3").await;
    assert!(plan.contains("CollectionScanExec: columns=[word], filter=[id = Int64(3)]"), "{plan}");
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[tokio::test]
async fn an_order_by_distance_is_answered_by_the_index() {
    let mut rng = StdRng::seed_from_u64(5);
    let collection = filled(&mut rng, false, 600);
    let context = session(&collection, true).await;
    let query = sql_list(&vector(&mut rng));
    let b = format!("cosine_distance(b, {query})");
    let a = format!("l2_distance({query}, a)");
    let searched = [
        format!("SELECT id FROM t ORDER BY {a} LIMIT 9"),
        format!("SELECT id, {a} AS d FROM t ORDER BY d LIMIT 9"),
        format!("SELECT id, word FROM t WHERE word = 'red' ORDER BY {a} LIMIT 9"),
        format!("SELECT id FROM t ORDER BY {b} LIMIT 9"),
        // Rows without a vector come at the end, and at the start.
        format!("SELECT id FROM t WHERE id < 40 ORDER BY {b} LIMIT 200"),
    ];
    for sql in searched {
        let plan = text(&context, &format!("EXPLAIN {sql}")).await;
        assert!(plan.contains("VectorSearchExec") && plan.contains("SortExec"), "{plan}");
        let (mut ours, mut plain) =
            (ids_of(&context, &sql).await, ids_of(&context, &sql.replace("FROM t", "FROM plain")).await);
        if sql.contains("LIMIT 200") {
            ours.sort_unstable();
            plain.sort_unstable();
        }
        assert_eq!(ours, plain, "{sql}");
    }
    let nulls = format!("SELECT b FROM t ORDER BY {b} NULLS FIRST LIMIT 9");
    assert!(run(&context, &nulls).await.iter().all(|batch| batch["b"].null_count() == batch.num_rows()));
    let scanned = [
        format!("SELECT id FROM t ORDER BY {a} DESC LIMIT 9"),
        format!("SELECT id FROM t ORDER BY {a}, id LIMIT 9"),
        format!("SELECT id FROM t ORDER BY cosine_distance(a, {query}) LIMIT 9"),
        format!("SELECT id FROM t WHERE a IS NOT NULL AND {a} > 1.0 ORDER BY {a} LIMIT 9"),
    ];
    for sql in scanned {
        let plan = text(&context, &format!("EXPLAIN {sql}")).await;
        assert!(!plan.contains("VectorSearchExec"), "{plan}");
        assert_eq!(
            ids_of(&context, &sql).await,
            ids_of(&context, &sql.replace("FROM t", "FROM plain")).await,
            "{sql}"
        );
    }
    // Without the rule it is a scan.
    let context = session(&collection, false).await;
    let plan = text(&context, &format!("EXPLAIN SELECT id FROM t ORDER BY {a} LIMIT 9")).await;
    assert!(!plan.contains("VectorSearchExec"), "{plan}");
}

#[tokio::test]
async fn calls_that_cannot_be_answered_say_why() {
    let mut rng = StdRng::seed_from_u64(6);
    let collection = filled(&mut rng, true, 100);
    let context = session(&collection, false).await;
    let query = sql_list(&vector(&mut rng));
    let calls = [
        (format!("vector_search('t', {query})"), "3 or 4 arguments are needed, got 2"),
        (format!("vector_search('u', {query}, 3)"), "no table to be searched is registered as \"u\""),
        ("vector_search('t', [1.0, 2.0], 3)".to_string(), "vectors have 8 dimensions, got 2"),
        ("vector_search('t', 'x', 3)".to_string(), "its keys are Int64, got \"x\""),
        (
            format!("vector_search('t', {query}, 3, 'fe=3')"),
            "options are ef=.., column=.., nprobes=.. and exact, got \"fe=3\"",
        ),
        (format!("vector_search('t', {query}, -1)"), "k must be a count of rows, got NULL"),
        (
            format!("vector_search('t', {query}, 3, 'column=c')"),
            "\"c\" is not one of the columns of vectors: a, b",
        ),
    ];
    for (call, problem) in calls {
        let error = fails(&context, &format!("SELECT * FROM {call}")).await;
        assert!(error.contains(problem), "{error}");
    }
    let error = fails(&context, "SELECT l2_distance(a, [1.0]) FROM t").await;
    assert!(error.contains("l2_distance of 8 and 1 elements"), "{error}");
    let one =
        run(&context, "SELECT inner_product([1.0, 2.0], [3, 4]) AS x, l2_distance([0], [3]) AS y").await;
    assert_eq!(one[0]["x"].as_primitive::<Float32Type>().value(0), 11.0);
    assert_eq!(one[0]["y"].as_primitive::<Float32Type>().value(0), 9.0);
}

/// A key stands for the vector of its row.
#[tokio::test]
async fn a_row_is_searched_for_by_its_key() {
    let mut rng = StdRng::seed_from_u64(8);
    let collection = filled(&mut rng, false, 300);
    let context = session(&collection, false).await;
    let mut without = None;
    for id in (0..300_i64).filter(|id| id % 9 != 4) {
        let row = collection.get(id).unwrap().unwrap();
        let vectors = row["b"].as_fixed_size_list();
        if vectors.is_null(0) {
            without = Some(id);
        } else if id % 20 == 0 {
            let list = sql_list(vectors.value(0).as_primitive::<Float32Type>().values());
            let of = |query: &str| {
                format!("SELECT id FROM vector_search('t', {query}, 5, 'column=b') WHERE id < 200")
            };
            let by_key = ids_of(&context, &of(&id.to_string())).await;
            assert_eq!((by_key.len(), &by_key), (5, &ids_of(&context, &of(&list)).await));
        }
    }
    let call = |key: &str| format!("SELECT id FROM vector_search('t', {key}, 5, 'column=b')");
    let without = without.unwrap().to_string();
    for (key, problem) in [
        ("4", "no row has key 4"),
        (without.as_str(), "has no vector in \"b\""),
        ("'red'", "its keys are Int64, got \"red\""),
    ] {
        let error = fails(&context, &call(key)).await;
        assert!(error.contains(problem), "{key}: {error}");
    }
}

#[tokio::test]
async fn a_condition_in_sql_is_a_filter() {
    let mut rng = StdRng::seed_from_u64(9);
    let collection = filled(&mut rng, false, 600);
    let context = session(&collection, false).await;
    for text in &CONDITIONS[..5] {
        let filter = Filter::new(condition(text, collection.schema()).unwrap());
        let query = vector(&mut rng);
        let search = CollectionSearch::new(9).ef(400).filter(&filter).columns(["id"]);
        let found = collection.search(&query, &search).unwrap();
        let sql =
            format!("SELECT id FROM vector_search('t', {}, 9, 'ef=400') WHERE {text}", sql_list(&query));
        assert_eq!(found["id"].as_primitive::<Int64Type>().values().to_vec(), ids_of(&context, &sql).await);
    }
    for (text, problem) in
        [("year > 3", "year"), ("id + 1", "is no condition: it is Int64"), ("random() < 0.5", "each time")]
    {
        let error = condition(text, collection.schema()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}
