//! `vector_search` in SQL over Lance datasets: answered by Lance's scanner, filtered before the search.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type, UInt64Type};
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SessionContext;
use lance::Dataset;
use pennon::DistanceType;
use pennon::lance::attach_index;
use pennon::sql::register_dataset;

use crate::dataset::data::{Home, K, dataset, dataset_of, params, ranked, run, vectors};

const ROWS: i64 = 3_000;

fn session(dataset: &Dataset) -> SessionContext {
    let context = SessionContext::new();
    let table = register_dataset(&context, "t", Arc::new(dataset.clone())).unwrap();
    assert_eq!(table.dataset().uri(), dataset.uri());
    context
}

async fn rows(context: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let frame = context.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn ids(context: &SessionContext, sql: &str) -> Vec<i64> {
    let batches = rows(context, sql).await;
    batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

async fn explained(context: &SessionContext, sql: &str) -> String {
    pretty_format_batches(&rows(context, &format!("EXPLAIN {sql}")).await).unwrap().to_string()
}

fn list(vector: &[f32]) -> String {
    format!("{vector:?}")
}

/// The nearest of the rows that qualify, by a scan of all rows.
async fn expected(
    dataset: &Dataset,
    query: &[f32],
    metric: DistanceType,
    holds: impl Fn(i64) -> bool,
) -> Vec<i64> {
    let mut all: Vec<(i64, f32)> = ranked(dataset, query, metric, ROWS as usize, None).await;
    all.retain(|(id, _)| holds(*id));
    all.into_iter().take(K).map(|(id, _)| id).collect()
}

#[test]
fn a_condition_is_evaluated_before_the_search_of_a_dataset() {
    let home = Home::new();
    run(async {
        let mut dataset = dataset(&home.uri("t"), ROWS, 1_000).await;
        type Holds = fn(i64) -> bool;
        let conditions: [(&str, Holds); 4] = [
            ("true", |_| true),
            ("id % 10 = 3", |id| id % 10 == 3),
            ("id BETWEEN 500 AND 530", |id| (500..=530).contains(&id)),
            ("id > 2996", |id| id > 2_996),
        ];
        for is_indexed in [false, true] {
            if is_indexed {
                let params = params(DistanceType::L2).partitions(2);
                attach_index(&mut dataset, "vector", params).await.unwrap();
            }
            let context = session(&dataset);
            for (condition, holds) in conditions {
                for query in vectors(5, 77).chunks(16) {
                    let query_list = list(query);
                    let sql = format!(
                        "SELECT id, _distance FROM vector_search('t', {query_list}, {K}, 'ef=400, nprobes=2') WHERE {condition}"
                    );
                    let wanted = expected(&dataset, query, DistanceType::L2, holds).await;
                    let found = ids(&context, &sql).await;
                    assert_eq!(found.len(), wanted.len(), "{sql}");
                    let hits = found.iter().filter(|id| wanted.contains(id)).count();
                    assert!(hits * 10 >= wanted.len() * 9, "{sql}: {found:?}, {wanted:?}");
                    assert!(found.iter().all(|id| holds(*id)), "{sql}");
                    let exact = sql.replace("ef=400, nprobes=2", "exact");
                    assert_eq!(ids(&context, &exact).await, wanted, "{exact}");
                }
            }
            let sql =
                format!("SELECT id FROM vector_search('t', {}, 5) WHERE id < 1000", list(&vectors(1, 3)));
            let plan = explained(&context, &sql).await;
            assert!(plan.contains(if is_indexed { "ANN" } else { "KNN" }), "{plan}");
            // The condition is Lance's, who tests it before it compares vectors: that is, farther down.
            let searched = plan.find("KNNVectorDistance").unwrap_or(0);
            let tested = plan.find("FilterExec: id").unwrap_or(plan.len());
            assert!(tested > searched && (tested == plan.len() || !is_indexed), "{plan}");
            let exact = explained(&context, &sql.replace(", 5)", ", 5, 'exact')")).await;
            assert!(exact.contains("KNN") && !exact.contains("ANN"), "{exact}");
        }
    });
}

#[test]
fn columns_come_as_they_are_asked_for() {
    let home = Home::new();
    run(async {
        let dataset = dataset(&home.uri("t"), 300, 100).await;
        let context = session(&dataset);
        let query = list(&vectors(1, 5));
        let of = |select: &str| format!("SELECT {select} FROM vector_search('t', {query}, 7) WHERE id >= 20");
        let all = &rows(&context, &of("*")).await[0];
        let names: Vec<&str> = all.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!((names, all.num_rows()), (vec!["id", "vector", "_rowid", "_distance"], 7));
        let mixed = &rows(&context, &of("_distance, vector, _rowid, id")).await[0];
        for name in ["id", "_rowid", "_distance", "vector"] {
            assert_eq!(&mixed[name], &all[name], "{name}");
        }
        assert!(all["_distance"].as_primitive::<Float32Type>().values().is_sorted());
        // The row ids are those of the table.
        let taken: &UInt64Array = all["_rowid"].as_primitive::<UInt64Type>();
        let row = format!("SELECT id FROM t WHERE _rowid = {}", taken.value(3));
        assert_eq!(ids(&context, &row).await, [all["id"].as_primitive::<Int64Type>().value(3)]);
        let count = rows(&context, &of("count(*) AS id")).await;
        assert_eq!(count[0]["id"].as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(ids(&context, &format!("{} LIMIT 3", of("id"))).await.len(), 3);
        let near = ids(&context, &format!("{} AND _distance < 0", of("id"))).await;
        assert_eq!(near, [0_i64; 0], "a condition on the distance is for what was found");
        let joined = format!(
            "SELECT t.id, l2_distance(t.vector, {query}) - s._distance AS d FROM vector_search('t', {query}, 5) s JOIN t ON t.id = s.id"
        );
        for batch in rows(&context, &joined).await {
            assert!(batch["d"].as_primitive::<Float32Type>().values().iter().all(|d| d.abs() < 1e-4));
        }
    });
}

#[test]
fn every_type_of_elements_is_asked_in_numbers() {
    let home = Home::new();
    run(async {
        for data_type in [DataType::Float16, DataType::Float64] {
            let dataset = dataset_of(&data_type, &home.uri(&data_type.to_string()), 200, 100).await;
            let context = session(&dataset);
            let query = vectors(1, 5);
            let sql = format!("SELECT id FROM vector_search('t', {}, {K})", list(&query));
            assert_eq!(ids(&context, &sql).await.len(), K, "{data_type}");
        }
    });
}

#[test]
fn calls_that_cannot_be_answered_say_why() {
    let home = Home::new();
    run(async {
        let dataset = dataset(&home.uri("t"), 50, 50).await;
        let context = session(&dataset);
        let query = list(&vectors(1, 5));
        for (call, problem) in [
            ("'t', 7, 3".to_string(), "a Lance dataset has no keys"),
            ("'t', [1.0, 2.0], 3".to_string(), "vectors have 16 dimensions, got 2"),
            (format!("'t', {query}, 0"), "k must not be 0"),
            (format!("'t', {query}, 3, 'column=id'"), "\"id\" is not one of the columns of vectors: vector"),
            (format!("'u', {query}, 3"), "no table to be searched is registered as \"u\""),
        ] {
            let sql = format!("SELECT id FROM vector_search({call})");
            let error = context.sql(&sql).await.unwrap_err().to_string();
            assert!(error.contains(problem), "{sql}: {error}");
        }
        context.deregister_table("t").unwrap();
        let error = context.sql(&format!("SELECT id FROM vector_search('t', {query}, 3)")).await.unwrap_err();
        assert!(error.to_string().contains("no table to be searched is registered"), "{error}");
    });
}
