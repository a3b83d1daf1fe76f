//! What do the ways to select neighbors and to cut lists cost, and what do they find?
//!
//! `cargo bench --bench selection [-- DATA [ROWS]]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends
//! in `-l2` or `-cosine`; without it the rows are clustered ones. m = 16, ef_construction = 200, on as many threads as
//! there are. Prints a table in Markdown; combinations in which an option has no part are left out. On DATA, the
//! default choices in the first line have to find more than 0.95 of the nearest.

mod support;

use std::collections::HashSet;
use std::time::Instant;

use pennon::{BuildParams, Index, PruneStrategy, SearchParams, Selection};
use support::measured::{Data, Result};

const K: usize = 10;
const EF: usize = 64;
const QUERIES: usize = 500;
/// Recall that the default choices exceed on real data.
const LEAST: f64 = 0.95;

fn main() -> Result<()> {
    let data = Data::load(50_000, 64, QUERIES)?;
    let (rows, threads) = (data.rows(), rayon::current_num_threads());
    let has = |test: fn(&str) -> bool| std::env::args().skip(1).any(|argument| test(&argument));
    let is_judged = has(|argument| argument == "--bench") && has(|argument| !argument.starts_with('-'));
    println!(
        "{}: {rows} rows x {}, recall@{K} at ef = {EF}, built by {threads} threads\n",
        data.name, data.dim
    );
    println!("| selection | extend | keep | prune | m0 | build s | recall | degree | B/row | distances |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let vectors = data.array(0)?;
    let mut truth: Vec<HashSet<u32>> = Vec::new();
    for (line, params) in ways().into_iter().enumerate() {
        let index = Index::hnsw(data.dim, data.distance_type, params.clone())?;
        let start = Instant::now();
        index.append_unique(&vectors, 0)?;
        let seconds = start.elapsed().as_secs_f64();
        let reader = index.reader();
        let graph = reader.graph().ok_or("the index has a graph")?;
        let health = graph.health();
        assert_eq!((health.nodes, health.unreachable()), (rows, 0), "{params:?}: {health}");
        if truth.is_empty() {
            for query in data.queries() {
                let nearest = index.search_exact(query, &SearchParams::new(K))?.into_vec();
                truth.push(nearest.iter().map(|hit| hit.id).collect());
            }
        }

        let (mut found, mut distances) = (0, 0);
        for (query, truth) in data.queries().zip(&truth) {
            let hits = index.search(query, &SearchParams::new(K).ef(EF))?;
            assert_eq!(hits.len(), K.min(rows));
            found += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
            distances += hits.stats().compared();
        }
        let recall = found as f64 / truth.iter().map(HashSet::len).sum::<usize>() as f64;
        let per_query = distances as f64 / truth.len() as f64;
        let bytes = graph.resident_bytes() as f64 / rows as f64;
        let yes = |option: bool| if option { "yes" } else { "" };
        let (extend, keep) = (yes(params.extend_candidates), yes(params.keep_pruned));
        let (m0, degree) = (params.m0.unwrap_or(2 * params.m), health.mean_degree());
        println!(
            "| {:?} | {extend} | {keep} | {:?} | {m0} | {seconds:.1} | {recall:.4} | {degree:.1} \
             | {bytes:.0} | {per_query:.0} |",
            params.selection, params.prune
        );
        assert!(!is_judged || line > 0 || recall > LEAST, "recall {recall} with the default choices");
    }
    Ok(())
}

fn ways() -> Vec<BuildParams> {
    let default = || BuildParams::default().num_edges(16).ef_construction(200);
    let mut ways = Vec::new();
    for selection in [Selection::Heuristic, Selection::Nearest] {
        for prune in [PruneStrategy::Heuristic, PruneStrategy::Nearest] {
            let way = default().selection(selection).prune(prune);
            for (extend, keep) in [(false, false), (false, true), (true, false), (true, true)] {
                let selects = selection == Selection::Heuristic;
                let prunes = prune == PruneStrategy::Heuristic;
                if (selects || !extend) && (selects || prunes || !keep) {
                    ways.push(way.clone().extend_candidates(extend).keep_pruned(keep));
                }
            }
        }
    }
    ways.extend([16, 24, 48].map(|m0| default().m0(m0)));
    ways.extend([16, 48].map(|m0| default().m0(m0).keep_pruned(true)));
    ways
}
