//! One index beside its model, and everything that must be the same.

use std::collections::HashSet;

use arrow_array::Float32Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_buffer::{BooleanBuffer, NullBuffer};
use pennon::{Error, Hit, Index, Reader, RowMask, SearchParams, VectorSource};
use proptest::sample::Index as Pick;
use rand::SeedableRng;
use rand::rngs::StdRng;
use roaring::RoaringTreemap;

use super::DIM;
use super::ops::{Batch, How, Look, Mask, whole_numbers};
use crate::data::{assert_sorted, exact_distance, list, uniform, with_stats};

const ALIVE: u64 = u64::MAX;

/// A row is alive at its birth and no longer at its death. Its place in the list is its vector id.
struct Row {
    row_id: u64,
    vector: Vec<f32>,
    born: u64,
    died: u64,
}

/// One index and its model. A compaction, an import or a load begins another; this one must go on answering.
pub struct Era {
    pub index: Index,
    rows: Vec<Row>,
    pub now: u64,
    skipped: u64,
    /// Versions to come back to, with their time, by version or by reader.
    pub pins: Vec<(Reader, u64)>,
}

fn close(distance: f32, exact: f64) -> bool {
    (f64::from(distance) - exact).abs() <= 1e-5 * (1.0 + exact.abs())
}

fn assert_named(error: &Error, name: &str) {
    assert!(format!("{error:?}").starts_with(name), "{error:?} instead of {name}");
}

/// A query that can be searched for under any metric.
fn query_of(seed: u64) -> Vec<f32> {
    let mut query = whole_numbers(&mut StdRng::seed_from_u64(seed));
    if query.iter().all(|&x| x == 0.0) {
        query[0] = 1.0;
    }
    query
}

impl Era {
    /// An index of rows that are all alive.
    pub fn of(index: Index) -> Self {
        let snapshot = index.reader().snapshot();
        let row = |id| Row {
            row_id: snapshot.row_id(id),
            vector: snapshot.vector(id).to_vec(),
            born: 0,
            died: ALIVE,
        };
        let rows = (0..snapshot.len() as u32).map(row).collect();
        let skipped = index.skipped().total();
        Self { index, rows, now: 0, skipped, pins: Vec::new() }
    }

    /// The same rows in an index that was loaded, under the same ids: what is dead now was never alive there.
    pub fn reloaded(&self, index: Index) -> Self {
        let snapshot = index.reader().snapshot();
        assert_eq!(snapshot.len(), self.rows.len());
        let row = |(id, row): (usize, &Row)| {
            let (row_id, vector) = (snapshot.row_id(id as u32), snapshot.vector(id as u32));
            assert_eq!((row_id, vector), (row.row_id, row.vector.as_slice()), "vector id {id}");
            let died = if row.died == ALIVE { ALIVE } else { 0 };
            Row { row_id, vector: vector.to_vec(), born: 0, died }
        };
        let rows = self.rows.iter().enumerate().map(row).collect();
        Self { index, rows, now: 0, skipped: 0, pins: Vec::new() }
    }

    fn alive(&self, at: u64) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter(move |(_, row)| row.born <= at && at < row.died)
    }

    pub fn live_row_ids(&self) -> Vec<u64> {
        self.alive(self.now).map(|(_, row)| row.row_id).collect()
    }

    /// Row ids and vectors, in the order of the row ids.
    pub fn contents(&self) -> Vec<(u64, Vec<f32>)> {
        let rows = self.alive(self.now).map(|(_, row)| (row.row_id, row.vector.clone()));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| row.0);
        rows
    }

    pub fn write(&mut self, how: How, batch: Batch) {
        let Batch { array, row_ids, ids, vectors, refused } = batch;
        let live: HashSet<u64> = self.live_row_ids().into_iter().collect();
        let twice = |row: usize| ids[..row].contains(&ids[row]);
        let taken = |row: usize| twice(row) || live.contains(&ids[row]);
        let unique = !(0..ids.len()).any(taken);
        let outcome = match how {
            How::Upsert => self.index.upsert(&array, row_ids),
            How::Unique if unique => self.index.append_unique(&array, row_ids),
            How::Append | How::Unique => self.index.append(&array, row_ids),
        };
        if let Some(name) = refused {
            return assert_named(&outcome.unwrap_err(), name);
        }
        if how != How::Upsert && !unique {
            let error = outcome.unwrap_err();
            let Error::DuplicateRowId { row_id, row } = error else { panic!("{error:?}") };
            assert!(row < ids.len() && ids[row] == row_id && taken(row), "{error} in {ids:?}");
            return;
        }

        let range = outcome.unwrap().ids();
        self.now += 1;
        for row in self.rows.iter_mut().filter(|row| row.died == ALIVE && ids.contains(&row.row_id)) {
            row.died = self.now;
        }
        assert_eq!(range.start as usize, self.rows.len());
        let snapshot = self.index.reader().snapshot();
        for id in range.clone() {
            let (row_id, vector) = (snapshot.row_id(id), snapshot.vector(id).to_vec());
            // Born dead, unless it is the last of its row id.
            self.rows.push(Row { row_id, vector, born: self.now, died: self.now });
        }
        let usable = vectors.iter().flatten().count();
        assert!(range.len() <= usable, "{range:?} for {usable} usable rows");
        for (row, vector) in vectors.iter().enumerate() {
            let (true, Some(vector)) = (!ids[row + 1..].contains(&ids[row]), vector) else { continue };
            let mut own = range.clone().rev().filter(|&id| self.rows[id as usize].row_id == ids[row]);
            let id = own.next().unwrap_or_else(|| panic!("row {row} got no id")) as usize;
            assert_eq!(&self.rows[id].vector, vector, "row {row} of {ids:?}");
            self.rows[id].died = ALIVE;
        }
        let skipped = self.index.skipped().total();
        if !(0..ids.len()).any(twice) {
            assert_eq!(range.len(), usable);
            assert_eq!(skipped, self.skipped + (vectors.len() - usable) as u64);
        }
        self.skipped = skipped;
    }

    pub fn delete(&mut self, picks: &[Pick]) {
        for pick in picks {
            let live: Vec<usize> = self.alive(self.now).map(|(id, _)| id).collect();
            let Some(&id) = live.get(pick.index(live.len().max(1))) else { return };
            let row_id = self.rows[id].row_id;
            self.index.delete(row_id).unwrap();
            self.now += 1;
            self.rows[id].died = self.now;
            let error = self.index.delete(row_id).unwrap_err();
            assert!(matches!(error, Error::UnknownRowId { row_id: r } if r == row_id), "{error:?}");
        }
    }

    pub fn assert_refused(&self, which: usize) {
        let (index, query, top) = (&self.index, [1.0; DIM], SearchParams::new(5));
        let wide = uniform(3, DIM + 1, 1).array();
        let mask = BooleanBuffer::new_set(self.rows.len() + 1);
        let (error, name) = match which {
            0 => (index.append(&wide, u64::MAX - 9).unwrap_err(), "DimensionMismatch"),
            1 => (index.upsert(&wide, u64::MAX - 9).unwrap_err(), "DimensionMismatch"),
            2 => (index.search(&[f32::NAN; DIM], &top).unwrap_err(), "UnusableQuery"),
            3 => (index.search_exact(&[1.0; DIM + 1], &top).unwrap_err(), "DimensionMismatch"),
            4 => (index.reader().mask(mask).unwrap_err(), "MaskLength"),
            5 => (index.search_exact(&query, &top.mask(mask)).unwrap_err(), "StaleMask"),
            6 => (index.search(&query, &top.distance_range(1.0..0.0)).unwrap_err(), "InvalidDistanceRange"),
            _ => (index.delete(u64::MAX - 1).unwrap_err(), "UnknownRowId"),
        };
        assert_named(&error, name);
    }

    /// Panics unless the index refuses changes of every kind.
    pub fn assert_read_only(&self) {
        let (index, one) = (&self.index, uniform(1, DIM, 1).array());
        let fresh = u64::MAX - 9;
        let mut errors = vec![
            index.append(&one, fresh).unwrap_err(),
            index.append_unique(&one, fresh).unwrap_err(),
            index.upsert(&one, fresh).unwrap_err(),
            index.delete(fresh).unwrap_err(),
        ];
        if let Some(&row_id) = self.live_row_ids().first() {
            errors.push(index.upsert(&one, row_id).unwrap_err());
            errors.push(index.delete(row_id).unwrap_err());
        }
        errors.iter().for_each(|error| assert_named(error, "ReadOnly"));
    }

    /// What some searches find, to be compared with another index of the same rows.
    pub fn answers(&self) -> Vec<Vec<Hit>> {
        let search = |query: Vec<f32>| {
            let params = SearchParams::new(10).ef(12);
            let found = self.index.search(&query, &params).unwrap().into_vec();
            [found, self.index.search_exact(&query, &params).unwrap().into_vec()]
        };
        (0..4).map(query_of).flat_map(search).collect()
    }

    /// What the model knows without a search.
    pub fn check(&self) {
        let live: HashSet<u64> = self.live_row_ids().into_iter().collect();
        let index = &self.index;
        assert_eq!((index.len(), index.is_empty()), (live.len(), live.is_empty()));
        assert_eq!(index.version().vectors(), self.rows.len());
        assert_eq!(index.tombstones(), self.rows.len() - live.len());
        assert_eq!(index.skipped().total(), self.skipped);
        for row in &self.rows {
            assert_eq!(index.contains(row.row_id), live.contains(&row.row_id), "row id {}", row.row_id);
        }
        assert!(!index.contains(u64::MAX) && !index.contains(1 << 50));
    }

    /// Asks in every way there is, of the present or of a pinned version.
    pub fn look(&self, look: &Look, pin: Option<&(Reader, u64)>) {
        let now = (self.index.reader(), self.now);
        let (reader, at) = pin.unwrap_or(&now);
        let (vectors, at) = (reader.version().vectors(), *at);
        let admits = |id: usize, row_id: u64| {
            let masked = match look.mask {
                Mask::None => true,
                Mask::Predicate(of, residue) | Mask::Bitmap(of, residue) => row_id % of == residue % of,
                Mask::Ids(bits) => bits.rotate_left(id as u32 % 64) & 1 == 1,
            };
            masked && look.max_row_id.is_none_or(|highest| row_id <= highest)
        };
        let mut params = SearchParams::new(look.k).ef(look.ef);
        params.max_row_id = look.max_row_id;
        params.mask = match look.mask {
            Mask::None => None,
            Mask::Predicate(of, residue) => Some(RowMask::predicate(move |row| row % of == residue % of)),
            Mask::Bitmap(of, residue) => {
                let row_ids = self.rows.iter().map(|row| row.row_id).filter(|row| row % of == residue % of);
                Some(RowMask::from(row_ids.collect::<RoaringTreemap>()))
            }
            Mask::Ids(bits) => {
                let bits =
                    BooleanBuffer::collect_bool(vectors, |id| bits.rotate_left(id as u32 % 64) & 1 == 1);
                Some(reader.mask(bits).unwrap())
            }
        };
        let query = query_of(look.seed);
        let distance = |row: &Row| exact_distance(self.index.distance_type(), &query, &row.vector);
        let wanted = self.alive(at).filter(|&(id, row)| admits(id, row.row_id));
        let mut wanted: Vec<(f64, u64)> = wanted.map(|(_, row)| (distance(row), row.row_id)).collect();
        wanted.sort_by(|a, b| a.0.total_cmp(&b.0));

        let check = |results: &[Hit], what: &str| {
            assert_eq!(results.len(), look.k.min(wanted.len()), "{what}: {look:?}");
            assert_sorted(results, what);
            for result in results {
                let row = &self.rows[result.id as usize];
                assert!(row.born <= at && at < row.died, "{what}: {result:?} is not alive, {look:?}");
                assert!(admits(result.id as usize, row.row_id), "{what}: {result:?}, {look:?}");
                assert_eq!(result.row_id, row.row_id, "{what}");
                assert!(close(result.distance, distance(row)), "{what}: {result:?}, {:?}", row.vector);
            }
        };
        let exact = reader.search_exact(&query, &params).unwrap().into_vec();
        check(&exact, "search_exact");
        for (result, (distance, _)) in exact.iter().zip(&wanted) {
            assert!(close(result.distance, *distance), "search_exact: {result:?}, not {distance}");
        }
        let (found, stats) = with_stats(reader.search(&query, &params).unwrap());
        assert!(stats.complete, "{stats:?}");
        check(&found, "search");
        if look.k >= wanted.len() {
            assert_eq!(found, exact, "{look:?}");
        }
        assert_eq!(found, reader.search(&query, &params).unwrap().into_vec());

        let mut twice = query.clone();
        twice.extend_from_slice(&query);
        let valid = NullBuffer::from(vec![false, true]);
        let queries = list(Float32Array::from(twice), DIM, "item", true, Some(valid));
        let batch = reader.search_batch(&queries, &params).unwrap().to_record_batch().unwrap();
        let row_ids = batch["_rowid"].as_primitive::<UInt64Type>().values();
        assert!(row_ids.iter().copied().eq(found.iter().map(|result| result.row_id)), "a batch: {row_ids:?}");

        let mut cursor = reader.cursor(&query, &params).unwrap();
        let page = 1 + look.ef;
        let mut pages = Vec::new();
        while pages.len() % page == 0 && pages.len() <= wanted.len() {
            let next = cursor.next_k(page);
            assert_sorted(&next, "a page");
            if next.is_empty() {
                break;
            }
            pages.extend(next.iter().map(|result| result.row_id));
        }
        pages.sort_unstable();
        let mut all: Vec<u64> = wanted.iter().map(|row| row.1).collect();
        all.sort_unstable();
        assert_eq!(pages, all, "all pages of {page}: {look:?}");
    }
}
