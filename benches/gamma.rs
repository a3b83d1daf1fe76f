//! What do searches save that end early where the answer is clear? Distances per query at equal recall, with
//! `SearchParams::gamma` and with `ef` alone.
//!
//! `cargo bench --bench gamma [-- DATA [ROWS]]`: DATA is a folder with `base.fbin` and `query.fbin` whose name ends in
//! `-l2` or `-cosine`; without it the rows are clustered ones. m = 16, ef_construction = 200; `ef` = 500 with gamma.
//! What a recall takes is read off each curve, between two measured points. Prints tables in Markdown.

mod support;

use std::collections::HashSet;

use pennon::{BuildParams, HnswIndex, SearchParams};
use support::measured::{Data, Result};

const K: usize = 10;
const QUERIES: usize = 1_000;
const EFS: [usize; 16] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 400, 500, 640, 800, 1_000];
const WIDE: usize = 500;
const GAMMAS: [f32; 16] =
    [0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0];
const RECALLS: [f64; 4] = [0.90, 0.95, 0.98, 0.99];

/// Recall and distances per query.
type Point = (f64, f64);

fn main() -> Result<()> {
    let data = Data::load(50_000, 64, QUERIES)?;
    println!("{}: {} rows x {}, recall@{K}\n", data.name, data.rows(), data.dim);
    let params = BuildParams::default().num_edges(16).ef_construction(200);
    let index = HnswIndex::try_new(data.dim, data.distance_type, params)?;
    index.append_unique(&data.array(0)?, 0)?;
    let mut truth: Vec<HashSet<u32>> = Vec::new();
    for query in data.queries() {
        let nearest = index.search_exact(query, SearchParams::top(K))?;
        truth.push(nearest.iter().map(|hit| hit.id).collect());
    }

    println!("| | recall | distances |\n|---|---|---|");
    let measure = |name: String, params: SearchParams| -> Result<Point> {
        let (mut found, mut distances) = (0, 0);
        for (query, truth) in data.queries().zip(&truth) {
            let (hits, stats) = index.search_with_stats(query, params.clone())?;
            found += hits.iter().filter(|hit| truth.contains(&hit.id)).count();
            distances += stats.distances;
        }
        let recall = found as f64 / truth.iter().map(HashSet::len).sum::<usize>() as f64;
        let per_query = distances as f64 / truth.len() as f64;
        println!("| {name} | {recall:.4} | {per_query:.0} |");
        Ok((recall, per_query))
    };
    let plain = EFS.iter().map(|&ef| measure(format!("ef {ef}"), SearchParams::new(K, ef)));
    let plain: Vec<Point> = plain.collect::<Result<_>>()?;
    let early = GAMMAS
        .iter()
        .map(|&gamma| measure(format!("gamma {gamma}"), SearchParams::new(K, WIDE).gamma(gamma)));
    let early: Vec<Point> = early.collect::<Result<_>>()?;

    println!("\n| recall | ef | gamma |\n|---|---|---|");
    let cost = |curve: &[Point], recall| match at(curve, recall) {
        Some(distances) => format!("{distances:.0}"),
        None => "not reached".to_owned(),
    };
    for recall in RECALLS {
        println!("| {recall} | {} | {} |", cost(&plain, recall), cost(&early, recall));
    }
    Ok(())
}

/// Distances at a recall.
fn at(curve: &[Point], recall: f64) -> Option<f64> {
    let around = curve.windows(2).find(|pair| pair[0].0 <= recall && recall < pair[1].0)?;
    let ((low, before), (high, after)) = (around[0], around[1]);
    Some(before + (after - before) * (recall - low) / (high - low))
}
