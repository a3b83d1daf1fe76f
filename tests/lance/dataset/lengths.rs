//! Cosine of rows whose length `f32` cannot square: Lance's own build leaves such rows out or stores zeros for them.

use arrow_schema::DataType;
use lance::Dataset;
use pennon::DistanceType;
use pennon::lance::{Quantizer, attach_index};

use crate::data::scaled;
use crate::dataset::data::{
    DIM, Home, K, assert_used, params, ranked, reader, rows_with, run, statistics, vectors,
};

const ROWS: usize = 1_200;

/// What the index finds for the direction of each of some rows: the row itself.
async fn check(dataset: &Dataset, directions: &[f32], quantizer: Quantizer, nprobes: usize, what: &str) {
    for (row, direction) in directions.chunks(DIM).enumerate().step_by(37) {
        let found = ranked(dataset, direction, DistanceType::Cosine, K, Some(nprobes)).await;
        assert!(found.iter().all(|(_, distance)| distance.is_finite()), "{what}: {found:?}");
        let own = found.iter().position(|(id, _)| *id == row as i64);
        let Some(own) = own else { panic!("{what}: row {row} is not among {found:?}") };
        if quantizer == Quantizer::Flat {
            assert!(own == 0 && found[0].1.abs() < 1e-4, "{what}: row {row} in {found:?}");
        }
    }
}

#[test]
fn rows_of_any_length_are_found_by_their_direction() {
    let home = Home::new();
    let directions = vectors(ROWS, 1);
    let values = scaled(DIM, &directions);
    run(async {
        for data_type in [DataType::Float32, DataType::Float64] {
            for (quantizer, partitions) in
                [(Quantizer::Flat, 1), (Quantizer::Flat, 4), (Quantizer::Sq, 1), (Quantizer::Sq, 4)]
            {
                let what = format!("{data_type}_{quantizer:?}_{partitions}");
                let uri = home.uri(&what);
                let batch = rows_with(&data_type, 0..ROWS as i64, &values, |_| false);
                let mut dataset = Dataset::write(reader(vec![batch]), &uri, None).await.unwrap();
                let params = params(DistanceType::Cosine).quantizer(quantizer).partitions(partitions);
                attach_index(&mut dataset, "vector", params).await.unwrap();

                let dataset = Dataset::open(&uri).await.unwrap();
                assert_used(&dataset).await;
                let statistics = statistics(&dataset).await;
                assert_eq!(statistics["num_indexed_rows"], ROWS);
                let sizes = statistics["indices"][0]["partitions"].as_array().unwrap();
                let sizes = sizes.iter().map(|partition| partition["size"].as_u64().unwrap());
                assert_eq!(sizes.sum::<u64>(), ROWS as u64);
                check(&dataset, &directions, quantizer, 64, &what).await;
                // They are in the partition that their direction leads to.
                check(&dataset, &directions, quantizer, 1, &format!("{what}, nearest partition")).await;
            }
        }
    });
}
