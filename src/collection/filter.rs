//! Conditions on the other columns, evaluated once for each batch.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_schema::ArrowError;

use crate::collection::table::{Part, Rows};
use crate::error::{Error, Result};
use crate::index::Reader;
use crate::search::RowMask;
use crate::search::mask::bits_of;
use crate::vectors::VectorSource;

/// Generations of indexes whose bits a filter keeps.
const GENERATIONS: usize = 4;
/// Batches among which those that are gone are not looked for.
const FEW_PARTS: usize = 64;

type Test = dyn Fn(&RecordBatch) -> Result<BooleanArray, ArrowError> + Send + Sync;

/// A condition on the columns of a row that are not vectors, for searches of a [`Collection`](crate::Collection).
///
/// It is called with each batch of the collection, without its vectors, and gives one value for each row; null counts as
/// false. Conditions are Arrow's: whatever makes a `BooleanArray` of a `RecordBatch`, such as the kernels of `arrow-ord`
/// (`eq`, `lt`, ...) and `arrow-string` (`like`, ...).
///
/// A batch never changes, so a filter evaluates each batch once and keeps the bits: a search beside a writer evaluates
/// the batches that are new. Hold a filter, or clones of it, which share the bits, for as long as it is searched with;
/// a condition must give the same for the same batch each time.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    test: Box<Test>,
    known: Mutex<Known>,
}

/// What has been evaluated.
#[derive(Default)]
struct Known {
    /// By number of the part.
    parts: HashMap<u64, (Weak<Part>, BooleanBuffer)>,
    /// Bits by vector id, put together from those of the parts. The last that was used is the last.
    generations: Vec<(u64, BooleanBuffer)>,
}

impl Filter {
    /// The rows that pass a test.
    pub fn new(
        test: impl Fn(&RecordBatch) -> Result<BooleanArray, ArrowError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { test: Box::new(test), known: Mutex::default() }))
    }

    /// The bits of a part, one for each of its rows.
    pub(super) fn bits_of_part(&self, part: &Arc<Part>) -> Result<BooleanBuffer> {
        self.known(|known| known.part(part, &self.0.test))
    }

    /// The rows that pass, as a mask for an index.
    pub(super) fn mask_of(&self, rows: &Rows, reader: &Reader) -> Result<RowMask> {
        reader.mask(self.known(|known| known.bits(rows, reader, &self.0.test))?)
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.0.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn part(&mut self, part: &Arc<Part>, test: &Test) -> Result<BooleanBuffer> {
        if let Some((_, bits)) = self.parts.get(&part.number) {
            return Ok(bits.clone());
        }
        let passed = test(&part.columns)?;
        let (values, rows) = (passed.len(), part.rows());
        if values != rows {
            let problem = format!("the filter gave {values} values for {rows} rows");
            return Err(Error::InvalidBatch { kind: "filter", problem });
        }
        let bits = bits_of(&passed);
        if self.parts.len() >= FEW_PARTS && self.parts.len() == self.parts.capacity() {
            self.parts.retain(|_, (part, _)| part.strong_count() > 0);
        }
        self.parts.insert(part.number, (Arc::downgrade(part), bits.clone()));
        Ok(bits)
    }

    /// The bits of the vector ids of an index: those that are known, and those of what is new.
    fn bits(&mut self, rows: &Rows, reader: &Reader, test: &Test) -> Result<BooleanBuffer> {
        let (len, generation) = (reader.version().vectors(), reader.version().generation());
        let at = self.generations.iter().position(|of| of.0 == generation);
        let before = at.map(|at| self.generations.remove(at).1);
        let mut bits = before.clone().unwrap_or_else(|| BooleanBuffer::new_unset(0));
        let extended = if bits.len() < len { self.extend(&bits, rows, reader, test) } else { Ok(None) };
        if let Ok(Some(extended)) = &extended {
            bits = extended.clone();
        }
        if self.generations.len() >= GENERATIONS {
            self.generations.remove(0);
        }
        // After an error what was known stays known.
        self.generations.push((generation, bits.clone()));
        extended.map(|_| bits.slice(0, len))
    }

    fn extend(
        &mut self,
        known: &BooleanBuffer,
        rows: &Rows,
        reader: &Reader,
        test: &Test,
    ) -> Result<Option<BooleanBuffer>> {
        let vectors = reader.snapshot();
        let len = vectors.len();
        let mut bits = BooleanBufferBuilder::new(len);
        bits.append_buffer(known);
        while bits.len() < len {
            // Row ids that count up, and ascend from run to run.
            let (row_id, run) = vectors.row_id_run(bits.len() as u32);
            let run = (run as usize).min(len - bits.len());
            let number = rows.part_before(row_id);
            let placed = number.and_then(|number| rows.placed(number));
            match placed.and_then(|placed| Some((placed, placed.part.find(row_id)?))) {
                Some((placed, row)) => {
                    let run = placed.part.run(row, run);
                    bits.append_buffer(&self.part(&placed.part, test)?.slice(row, run));
                }
                // A dead row, whose columns a compaction has removed.
                None => bits.append(false),
            }
        }
        Ok(Some(bits.finish()))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = self.known(|known| known.parts.len());
        f.debug_struct("Filter").field("batches", &batches).finish_non_exhaustive()
    }
}
