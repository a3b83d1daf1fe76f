//! From row id to vector id, for the writers: deletes, updates and the check for duplicates.
//!
//! Rows that arrive in ascending order of row id are runs, one for row ids that count up, whatever their number; any
//! others are in hash tables of ids, 6 to 12 bytes a row, in so many small ones that none takes long to grow, and are
//! looked for there first. Nothing is entered until a writer asks:
//! what was appended since is caught up with then.

use hashbrown::HashTable;

use crate::util::chunked::Chunked;
use crate::util::hash::mix;
use crate::vectors::VectorSource;

const TABLES: usize = 256;

/// Consecutive row ids of consecutive ids.
#[derive(Default)]
struct Run {
    row_id: u64,
    id: u32,
    rows: u32,
}

/// The latest id of each row id.
pub(crate) struct Rows {
    /// Made with the first run.
    runs: Option<Chunked<Run>>,
    run_count: u32,
    /// Ids by the hash of their row id; none has died since it was entered, and these come before the runs.
    others: Box<[HashTable<u32>]>,
    /// Ids below this are entered.
    entered: u32,
}

impl Rows {
    pub fn new() -> Self {
        Self { runs: None, run_count: 0, others: Box::default(), entered: 0 }
    }

    /// Ids below this are entered.
    pub fn entered(&self) -> u32 {
        self.entered
    }

    /// Enters the ids below `end`.
    pub fn catch_up(&mut self, end: u32, source: &impl VectorSource) {
        while self.entered < end {
            let (row_id, rows) = source.row_id_run(self.entered);
            let rows = rows.clamp(1, end - self.entered);
            self.enter(row_id, self.entered, rows, source);
        }
    }

    /// Enters `rows` rows at once; these are the next ids.
    pub fn enter(&mut self, row_id: u64, id: u32, rows: u32, source: &impl VectorSource) {
        self.entered = id + rows;
        if let Some(last) = self.run_count.checked_sub(1) {
            let last = self.runs.get_or_insert_with(Chunked::new).get_mut_or_grow(last);
            let highest = last.row_id + u64::from(last.rows - 1);
            if row_id <= highest {
                let low =
                    u32::try_from(highest - row_id).map_or(rows, |below| below.saturating_add(1).min(rows));
                (0..low).for_each(|row| self.enter_other(row_id + u64::from(row), id + row, source));
                if low < rows {
                    self.enter(row_id + u64::from(low), id + low, rows - low, source);
                }
                return;
            }
            if row_id == highest + 1 && id == last.id + last.rows {
                last.rows += rows;
                return;
            }
        }
        let runs = self.runs.get_or_insert_with(Chunked::new);
        *runs.get_mut_or_grow(self.run_count) = Run { row_id, id, rows };
        self.run_count += 1;
    }

    fn enter_other(&mut self, row_id: u64, id: u32, source: &impl VectorSource) {
        if self.others.is_empty() {
            self.others = (0..TABLES).map(|_| HashTable::new()).collect();
        }
        let hash = mix(row_id);
        let table = &mut self.others[(hash >> 48) as usize % TABLES];
        match table.find_mut(hash, |&other| source.row_id(other) == row_id) {
            Some(other) => *other = id,
            None => {
                table.insert_unique(hash, id, |&other| mix(source.row_id(other)));
            }
        }
    }

    /// The latest id of a row id that is alive: `is_dead` knows.
    pub fn find(
        &self,
        row_id: u64,
        source: &impl VectorSource,
        is_dead: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let hash = mix(row_id);
        let other = self.others.get((hash >> 48) as usize % TABLES);
        // Rows of a loaded index that were dead when it was saved are entered like any others.
        if let Some(&id) = other.and_then(|t| t.find(hash, |&other| source.row_id(other) == row_id))
            && !is_dead(id)
        {
            return Some(id);
        }
        // The last run that starts at or before the row id.
        let (mut low, mut high) = (0, self.run_count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.run(middle).is_some_and(|run| run.row_id <= row_id) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let run = self.run(low.checked_sub(1)?)?;
        let offset = row_id - run.row_id;
        let id = u32::try_from(offset).ok().filter(|&offset| offset < run.rows)? + run.id;
        (!is_dead(id)).then_some(id)
    }

    fn run(&self, number: u32) -> Option<&Run> {
        self.runs.as_ref()?.get(number)
    }

    /// Forgets a row that dies.
    pub fn forget(&mut self, row_id: u64, id: u32) {
        let hash = mix(row_id);
        if let Some(table) = self.others.get_mut((hash >> 48) as usize % TABLES)
            && let Ok(entry) = table.find_entry(hash, |&other| other == id)
        {
            entry.remove();
        }
    }

    /// Whether every row id is below `lowest`.
    pub fn are_below(&self, lowest: u64) -> bool {
        let last = self.run_count.checked_sub(1).and_then(|last| self.run(last));
        let highest = last.map(|last| last.row_id + u64::from(last.rows - 1));
        // The tables hold what came after a higher row id, so runs have the highest of all.
        highest.is_none_or(|highest| highest < lowest)
    }

    pub fn resident_bytes(&self) -> usize {
        let tables: usize = self.others.iter().map(HashTable::allocation_size).sum();
        self.runs.as_ref().map_or(0, Chunked::resident_bytes) + size_of_val::<[_]>(&self.others) + tables
    }
}
