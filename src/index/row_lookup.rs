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
/// Bytes that a table takes at most besides those that grow with its rows.
const SMALL_TABLE: usize = 64;

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

    /// Enters the ids below `end`, of which `is_dead` knows those that are dead for good: an older row may have the row
    /// id of such a one and be alive.
    pub fn catch_up(&mut self, end: u32, source: &impl VectorSource, is_dead: impl Fn(u32) -> bool) {
        while self.entered < end {
            let (row_id, rows) = source.row_id_run(self.entered);
            let rows = rows.clamp(1, end - self.entered);
            self.enter(row_id, self.entered, rows, source, &is_dead);
        }
    }

    /// Leaves out the ids below `end`, which are dead for good, if all those before them are entered: the first of them
    /// is `start`.
    pub fn pass(&mut self, start: u32, end: u32) {
        if self.entered == start {
            self.entered = end;
        }
    }

    /// Enters `rows` rows at once; these are the next ids.
    pub fn enter(
        &mut self,
        row_id: u64,
        id: u32,
        rows: u32,
        source: &impl VectorSource,
        is_dead: &impl Fn(u32) -> bool,
    ) {
        self.entered = id + rows;
        if let Some(last) = self.run_count.checked_sub(1) {
            let last = self.runs.get_or_insert_with(Chunked::new).get_mut_or_grow(last);
            let highest = last.row_id + u64::from(last.rows - 1);
            if row_id <= highest {
                let low =
                    u32::try_from(highest - row_id).map_or(rows, |below| below.saturating_add(1).min(rows));
                for row in (0..low).filter(|row| !is_dead(id + row)) {
                    self.enter_other(row_id + u64::from(row), id + row, source);
                }
                if low < rows {
                    self.enter(row_id + u64::from(low), id + low, rows - low, source, is_dead);
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

    /// Bytes by which [`resident_bytes`](Self::resident_bytes) grows at most until the ids below `end` are entered.
    pub fn growth(&self, end: u32) -> usize {
        let later = end.saturating_sub(self.entered);
        let runs = Chunked::<Run>::bytes_for(self.run_count.saturating_add(later));
        // A table is a power of two of buckets of five bytes, of which an eighth stays empty. It is doubled when more than
        // half of them are in use, or are not because rows died.
        let others = self.others.iter().map(HashTable::len).sum::<usize>() + later as usize;
        let tables = TABLES * (size_of::<HashTable<u32>>() + SMALL_TABLE) + others * 4 * 5 * 8 / 7;
        (runs + tables).saturating_sub(self.resident_bytes())
    }

    pub fn resident_bytes(&self) -> usize {
        let tables: usize = self.others.iter().map(HashTable::allocation_size).sum();
        self.runs.as_ref().map_or(0, Chunked::resident_bytes) + size_of_val::<[_]>(&self.others) + tables
    }
}
