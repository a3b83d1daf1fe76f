//! What Lance's tests demand of its own HNSW index, demanded of ours.

use arrow_array::RecordBatch;
use arrow_buffer::NullBuffer;
use lance::dataset::mem_wal::index::MemIndex;
use lance::dataset::mem_wal::write::StoredBatch;
use pennon::DistanceType;
use pennon::lance::PennonMemIndex;

use crate::memwal::data::{
    DIM, METRICS, batch, close, distance, index, index_of, list_with_nulls, null_list,
};
use crate::memwal::data::{rows, scaled, search, vectors};

fn len(index: &PennonMemIndex) -> usize {
    index.index().map_or(0, |index| index.len())
}

#[test]
fn a_row_is_found_by_its_own_vector_and_distances_are_exact() {
    let all = vectors(200, 1);
    for metric in METRICS {
        let index = index(metric);
        index.insert(&rows(&all), 0).unwrap();
        assert_eq!(len(&index), all.len());
        for (position, vector) in all.iter().enumerate().step_by(17) {
            let found = search(&index, vector, 5, u64::MAX);
            assert_eq!(found.len(), 5);
            assert!(found.is_sorted_by(|a, b| a.1 <= b.1), "{metric}: {found:?}");
            for &(at, score) in &found {
                let exact = distance(metric, vector, &all[at as usize]);
                assert!(close(score, exact), "{metric}: {score} for {exact}");
            }
            if metric != DistanceType::Dot {
                assert_eq!(found[0].0, position as u64, "{metric}");
            }
        }
    }
}

#[test]
fn an_index_without_rows_answers_with_no_rows() {
    let index = index(DistanceType::L2);
    assert!(search(&index, &[0.0; DIM], 5, u64::MAX).is_empty());
    assert!(index.index().is_none(), "a search made an index");
}

#[test]
fn the_larger_product_comes_first_in_dot() {
    let index = index_of(DistanceType::Dot, 3);
    index.insert(&rows(&[vec![1.0; 3], vec![10.0; 3]]), 0).unwrap();
    // 1 - 30 and 1 - 3.
    assert_eq!(search(&index, &[1.0; 3], 2, u64::MAX), [(1, -29.0), (0, -2.0)]);
}

#[test]
fn the_batches_of_one_put_go_on_where_the_one_before_ends() {
    let all = vectors(200, 2);
    let index = index(DistanceType::L2);
    let put = [
        StoredBatch::new(rows(&all[..75]), 0, 0),
        StoredBatch::new(rows(&all[75..76]), 75, 1),
        StoredBatch::new(rows(&all[76..]), 76, 2),
    ];
    index.insert_batches(&put).unwrap();
    assert_eq!(len(&index), 200);
    for position in [0, 74, 75, 76, 82, 199] {
        let (at, score) = search(&index, &all[position], 1, u64::MAX)[0];
        assert_eq!(at, position as u64);
        assert!(score < 1e-5, "{score}");
    }
}

#[test]
fn an_empty_put_and_an_empty_batch_change_nothing() {
    let index = index(DistanceType::L2);
    index.insert_batches(&[]).unwrap();
    let none: RecordBatch = rows(&vectors(3, 3)).slice(0, 0);
    index.insert(&none, 0).unwrap();
    assert_eq!(len(&index), 0);
    index.insert(&rows(&vectors(3, 3)), 0).unwrap();
    assert_eq!(len(&index), 3);
}

#[test]
fn positions_count_from_the_offset_of_the_batch() {
    let all = vectors(32, 4);
    let index = index(DistanceType::L2);
    index.insert(&rows(&all), 10).unwrap();
    for (row, vector) in all.iter().enumerate() {
        assert_eq!(search(&index, vector, 1, u64::MAX)[0].0, row as u64 + 10);
    }
    // Slices, whose first value is not the first of their buffer.
    let batch = rows(&all).slice(20, 5);
    index.insert(&batch, 42).unwrap();
    let mut twice = search(&index, &all[22], 2, u64::MAX);
    twice.sort_by_key(|hit| hit.0);
    assert_eq!(twice, [(32, 0.0), (44, 0.0)]);
}

#[test]
fn a_null_row_gets_no_node_and_leaves_the_positions_of_the_others_alone() {
    let all = [vec![1.0; 4], vec![0.0; 4], vec![3.0; 4]];
    let nulls = NullBuffer::from(vec![true, false, true]);
    let index = index_of(DistanceType::L2, 4);
    index.insert(&batch(0, list_with_nulls(&all, Some(nulls))), 0).unwrap();
    assert_eq!(len(&index), 2);
    assert_eq!(search(&index, &[3.0; 4], 3, u64::MAX), [(2, 0.0), (0, 16.0)]);
}

#[test]
fn a_batch_of_nulls_adds_no_node() {
    let index = index(DistanceType::L2);
    index.insert(&batch(0, null_list(2)), 0).unwrap();
    assert_eq!(len(&index), 0);
    assert!(search(&index, &[0.0; DIM], 5, u64::MAX).is_empty());
    index.insert(&rows(&vectors(4, 5)), 2).unwrap();
    assert_eq!(len(&index), 4);
    assert_eq!(search(&index, &vectors(4, 5)[0], 1, u64::MAX), [(2, 0.0)]);
}

#[test]
fn no_content_of_a_vector_makes_a_put_fail() {
    for metric in METRICS {
        let index = index(metric);
        let mut all = vectors(6, 6);
        all[1][3] = f32::NAN;
        all[2][0] = f32::INFINITY;
        all[4] = vec![0.0; DIM];
        index.insert(&rows(&all), 0).unwrap();
        let expected = if metric == DistanceType::Cosine { vec![0, 3, 5] } else { vec![0, 3, 4, 5] };
        let mut found: Vec<u64> = search(&index, &all[0], 6, u64::MAX).iter().map(|hit| hit.0).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{metric}");
        assert_eq!(len(&index), expected.len());
    }
}

#[test]
fn a_row_whose_distance_overflows_ranks_nowhere() {
    let all = [vec![1.0; 4], vec![1e30; 4], vec![2.0; 4]];
    let index = index_of(DistanceType::L2, 4);
    index.insert(&rows(&all), 0).unwrap();
    assert_eq!(len(&index), 3);
    assert_eq!(search(&index, &[1.0; 4], 3, u64::MAX), [(0, 0.0), (2, 4.0)]);
}

#[test]
fn rows_of_any_length_are_found_by_their_direction() {
    let directions = vectors(60, 8);
    let index = index(DistanceType::Cosine);
    index.insert(&rows(&scaled(&directions)), 0).unwrap();
    for (position, direction) in (0..).zip(&directions) {
        let (at, score) = search(&index, direction, 1, u64::MAX)[0];
        assert!(at == position && score.abs() < 1e-5, "row {at} at {score} for {position}");
    }
}

#[test]
fn a_batch_of_something_else_is_an_error_and_no_row() {
    let index = index(DistanceType::L2);
    let other = vectors(2, 7).iter().map(|row| row[..4].to_vec()).collect::<Vec<_>>();
    let error = index.insert(&rows(&other), 0).unwrap_err().to_string();
    assert!(error.contains("16 dimensions here, got 4"), "{error}");
    let without = rows(&vectors(2, 7)).project(&[0]).unwrap();
    let error = index.insert(&without, 0).unwrap_err().to_string();
    assert!(error.contains("vec"), "{error}");
    assert_eq!(len(&index), 0);
}
