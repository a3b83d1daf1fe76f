//! A store whose last rows are taken back, against a list.

use std::sync::Arc;

use arrow_array::{FixedSizeListArray, Float32Array};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};

use crate::distance::DistanceType;
use crate::util::hash::mix;
use crate::vectors::{ArrowFixedSizeListVectorStore, RowIds, VectorSource};

const DIM: usize = 3;

/// A batch whose row of value `x` is `[x, x, x]`; some of the rows are null.
fn batch(values: &[f32], valid: &[bool]) -> FixedSizeListArray {
    let values: Vec<f32> = values.iter().flat_map(|&x| [x; DIM]).collect();
    let field = Arc::new(Field::new_list_field(DataType::Float32, true));
    let nulls = Some(NullBuffer::from(valid));
    FixedSizeListArray::try_new(field, DIM as i32, Arc::new(Float32Array::from(values)), nulls).unwrap()
}

#[test]
fn what_is_left_and_what_comes_then_is_found() {
    for seed in 0..12_u64 {
        let mut state = seed;
        let mut below = |limit: u64| {
            state = mix(state);
            state % limit
        };
        let store = ArrowFixedSizeListVectorStore::try_new(DIM, DistanceType::L2).unwrap();
        let mut model: Vec<(f32, u64)> = Vec::new();
        let (mut next, mut skipped) = (0_u64, 0);
        for round in 0..60 {
            // Blocks of 256 ids get one run, two runs, or a table.
            let rows = [1, 2, 30, 256, 700][below(5) as usize];
            let values: Vec<f32> = (0..rows).map(|row| (next + row) as f32).collect();
            let nulls = below(3) * below(4);
            let valid: Vec<bool> = (0..rows).map(|_| below(10) >= nulls).collect();
            let before = store.skipped();
            store.append(&batch(&values, &valid), RowIds::StartingAt(next)).unwrap();
            let len = model.len();
            let usable = values.iter().zip(&valid).filter(|row| *row.1);
            model.extend(usable.map(|(&value, _)| (value, value as u64)));
            next += rows;
            if below(2) == 0 {
                model.truncate(len + below(1 + (model.len() - len) as u64) as usize);
                // SAFETY: all views of the store end before this.
                #[allow(unsafe_code, reason = "what is tested")]
                unsafe {
                    store.truncate(model.len() as u32, before);
                }
            } else {
                skipped += valid.iter().filter(|valid| !**valid).count() as u64;
            }
            assert_eq!((store.committed_len(), store.skipped().total()), (model.len(), skipped), "{round}");
            let view = store.view();
            for (id, &(value, row_id)) in model.iter().enumerate() {
                let id = id as u32;
                assert_eq!(
                    (view.vector(id), view.row_id(id)),
                    (&[value; DIM][..], row_id),
                    "{seed}, {round}"
                );
                let (first, run) = view.row_id_run(id);
                assert_eq!(first, row_id);
                let ids = id as usize..id as usize + run as usize;
                assert!((row_id..).zip(&model[ids]).all(|(row_id, row)| row.1 == row_id), "{seed}, {round}");
            }
        }
        assert!(model.len() > 1_000, "{}", model.len());
    }
}
