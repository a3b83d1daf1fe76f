//! What a search may return: one snapshot, and of that the rows that are alive and asked for.

use std::ops::Range;

use arrow_buffer::BooleanBuffer;

use crate::error::Result;
use crate::search::SearchParams;
use crate::search::mask::{RowMask, RowSet};
use crate::search::query::saturate;
use crate::search::version::{IndexVersion, Versions};
use crate::util::hash::mix;
use crate::vectors::VectorSource;

/// Rows that are looked at to estimate how many pass a test.
const SAMPLE: u64 = 256;

/// The nodes that a search may return.
pub(crate) struct Scope<'a, S: ?Sized> {
    source: &'a S,
    /// Only ids below this.
    visible: u32,
    dead: Option<(&'a Versions, IndexVersion)>,
    max_row_id: Option<u64>,
    mask: Option<&'a RowSet>,
}

impl<'a, S: VectorSource + ?Sized> Scope<'a, S> {
    /// The scope of a search among the ids below `visible`.
    pub fn of(
        params: &'a SearchParams,
        source: &'a S,
        visible: u32,
        dead: Option<(&'a Versions, IndexVersion)>,
    ) -> Result<Self> {
        if let Some(RowMask(mask)) = &params.mask {
            mask.check(visible as usize, dead.map(|(_, version)| version.generation()))?;
        }
        let max_row_id = params.max_row_id.filter(|&highest| highest < u64::MAX);
        let below = max_row_id.and_then(|highest| source.visible_len(highest));
        let (visible, max_row_id) = match below {
            Some(len) => (visible.min(u32::try_from(len).unwrap_or(u32::MAX)), None),
            None => (visible, max_row_id),
        };
        Ok(Self::new(source, visible, dead, max_row_id, params.mask.as_ref()))
    }

    /// The ids below `visible` that are alive, have a row id up to `max_row_id` and are in the mask.
    pub fn new(
        source: &'a S,
        visible: u32,
        dead: Option<(&'a Versions, IndexVersion)>,
        max_row_id: Option<u64>,
        mask: Option<&'a RowMask>,
    ) -> Self {
        let dead = dead.filter(|(_, version)| version.deletes() > 0);
        Self { source, visible, dead, max_row_id, mask: mask.map(|mask| &mask.0) }
    }

    /// The watermark, unless it is part of [`visible`](Self::visible).
    pub fn max_row_id(&self) -> Option<u64> {
        self.max_row_id
    }

    /// Ids at or past this are not in the scope.
    pub fn visible(&self) -> u32 {
        self.visible
    }

    /// Whether all ids below [`visible`](Self::visible) are in the scope.
    pub fn is_everything(&self) -> bool {
        self.dead.is_none() && self.max_row_id.is_none() && self.mask.is_none()
    }

    /// Whether a node may be returned.
    #[inline]
    pub fn admits(&self, id: u32) -> bool {
        id < self.visible && (self.is_everything() || (self.is_alive(id) && self.is_wanted(id)))
    }

    #[inline]
    fn is_alive(&self, id: u32) -> bool {
        self.dead.is_none_or(|(versions, version)| !versions.is_dead(id, version))
    }

    fn is_wanted(&self, id: u32) -> bool {
        let row_id = || self.source.row_id(id);
        self.is_below(id) && self.mask.is_none_or(|mask| mask.contains(id, &row_id))
    }

    fn is_below(&self, id: u32) -> bool {
        self.max_row_id.is_none_or(|highest| self.source.row_id(id) <= highest)
    }

    /// About how many nodes are in the scope. Exact where it is cheap, else from a sample.
    pub fn estimate(&self) -> u64 {
        let visible = u64::from(self.visible);
        let share = |part: u64| part as f64 / visible.max(1) as f64;
        let alive = self.dead.map_or(1.0, |(_, version)| share(version.live() as u64).min(1.0));
        let of_members = |members: u64| {
            // Dead rows may have the row ids of live ones: members are live rows.
            let live = (visible as f64 * alive).max(1.0);
            (members as f64 / live).min(1.0)
        };
        let of_bits = |bits: &BooleanBuffer| {
            let len = bits.len().min(self.visible as usize);
            share(bits.slice(0, len).count_set_bits() as u64)
        };
        let of_mask = match self.mask {
            None => 1.0,
            Some(RowSet::Ids { bits, .. }) => of_bits(bits),
            Some(RowSet::RowIds(row_ids)) => of_members(row_ids.len()),
            Some(RowSet::Range { .. }) if self.ascends() => {
                share(self.in_range(0..self.visible).len() as u64)
            }
            Some(mask) => {
                let sampled = self.sample(|id| self.admits(id));
                return match mask.enumerable() {
                    Some(RowSet::Ids { bits, .. }) => sampled.min(bits.count_set_bits() as u64),
                    Some(RowSet::RowIds(row_ids)) => sampled.min(row_ids.len()),
                    _ => sampled,
                };
            }
        };
        let below = match self.max_row_id {
            Some(_) => share(self.sample(|id| self.is_below(id))),
            None => 1.0,
        };
        (visible as f64 * alive * of_mask * below).ceil() as u64
    }

    /// Rows that [`for_each`](Self::for_each) has to test.
    pub fn tests(&self) -> u64 {
        let Some(mask) = self.mask else {
            return if self.is_everything() { 0 } else { u64::from(self.visible) };
        };
        let is_part = matches!(mask, RowSet::And(_));
        match mask.enumerable() {
            Some(RowSet::Ids { bits, .. }) if is_part => bits.count_set_bits() as u64,
            Some(RowSet::Ids { .. }) => 0,
            // Where row ids ascend, those between two members are passed over.
            Some(RowSet::RowIds(row_ids)) if self.ascends() => {
                if is_part {
                    row_ids.len()
                } else {
                    0
                }
            }
            None if self.ascends() && matches!(mask, RowSet::Range { .. }) => 0,
            _ => self.in_range(0..self.visible).len() as u64,
        }
    }

    /// Whether row ids ascend with ids.
    fn ascends(&self) -> bool {
        self.source.visible_len(u64::MAX).is_some()
    }

    /// Those of some ids whose row ids are in the range that the mask asks for, if row ids ascend; else all.
    fn in_range(&self, ids: Range<u32>) -> Range<u32> {
        let (first, last) = self.mask.map_or((0, u64::MAX), RowSet::row_ids);
        if (first, last) == (0, u64::MAX) {
            return ids;
        }
        let up_to = |row_id| self.source.visible_len(row_id).map(saturate);
        let start = first.checked_sub(1).map_or(Some(0), up_to);
        match start.zip(up_to(last)) {
            Some((start, end)) => {
                let end = end.min(ids.end);
                start.max(ids.start).min(end)..end
            }
            None => ids,
        }
    }

    fn sample(&self, passes: impl Fn(u32) -> bool) -> u64 {
        let visible = u64::from(self.visible);
        if visible <= SAMPLE {
            return (0..self.visible).filter(|&id| passes(id)).count() as u64;
        }
        // Not every n-th: masks have periods too.
        let passed = (0..SAMPLE).filter(|&draw| passes((mix(draw) % visible) as u32)).count();
        visible * passed as u64 / SAMPLE
    }

    /// Calls `visit` with the ids of a range that are in the scope, until it says to stop.
    pub fn for_each(&self, ids: Range<u32>, mut visit: impl FnMut(u32) -> bool) {
        let ids = self.in_range(ids.start..ids.end.min(self.visible));
        if ids.is_empty() {
            return;
        }
        let members = self.mask.and_then(RowSet::enumerable);
        // Members of the mask itself, and not of a part of it, need not be looked up in it.
        let is_member = members.is_some() && !matches!(self.mask, Some(RowSet::And(_)));
        let mut offer = |id| {
            let admitted = if is_member { self.is_alive(id) && self.is_below(id) } else { self.admits(id) };
            !admitted || visit(id)
        };
        match members {
            Some(RowSet::Ids { bits, .. }) => {
                let (start, end) = (ids.start as usize, (ids.end as usize).min(bits.len()));
                let bits = bits.slice(start.min(end), end.saturating_sub(start));
                let _ = bits.set_indices_u32().all(|at| offer(ids.start + at));
            }
            Some(RowSet::RowIds(row_ids)) => {
                let mut members = row_ids.iter().peekable();
                let (mut id, mut last) = (ids.start, 0);
                let sparse = row_ids.len().saturating_mul(32) < ids.len() as u64 && self.ascends();
                while id < ids.end {
                    let (row_id, rows) = self.source.row_id_run(id);
                    let rows = rows.clamp(1, ids.end - id);
                    if row_id <= last {
                        members = row_ids.iter().peekable();
                    }
                    last = row_id;
                    if members.peek().is_some_and(|&member| member < row_id) {
                        let mut rest = row_ids.iter();
                        rest.advance_to(row_id);
                        members = rest.peekable();
                    }
                    while let Some(member) = members.next_if(|&member| member - row_id < u64::from(rows)) {
                        if !offer(id + (member - row_id) as u32) {
                            return;
                        }
                        last = member;
                    }
                    id += rows;
                    if sparse {
                        // Row ids ascend: on to the one of the next member.
                        let Some(&member) = members.peek() else { return };
                        let before = member.checked_sub(1).and_then(|below| self.source.visible_len(below));
                        id = id.max(u32::try_from(before.unwrap_or(0)).unwrap_or(u32::MAX));
                    }
                }
            }
            _ => {
                let _ = ids.into_iter().all(offer);
            }
        }
    }
}
