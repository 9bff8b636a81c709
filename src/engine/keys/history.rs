//! Every change in the order in which it happened, from the compacted revision on.
//!
//! Positions count changes from the store's beginning. The changes lie in fixed segments, each covering the
//! positions of one multiple of its size, so that growing moves the first segment at the most, and dropping old changes
//! none.

use std::collections::VecDeque;

use crate::api::{Fields, KeyValue, Revision};
use crate::engine::tables::slab::SEGMENT;

#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct History {
    segments: VecDeque<VecDeque<KeyValue>>,
    /// The position of the oldest change held.
    start: u64,
    /// The position of the next change.
    end: u64,
}

impl History {
    pub(in crate::engine) fn start(&self) -> u64 {
        self.start
    }

    pub(in crate::engine) fn end(&self) -> u64 {
        self.end
    }

    pub(in crate::engine) fn push(&mut self, kv: KeyValue) {
        if self.end.is_multiple_of(SEGMENT as u64) || self.segments.is_empty() {
            let capacity = if self.end < SEGMENT as u64 { 0 } else { SEGMENT };
            self.segments.push_back(VecDeque::with_capacity(capacity));
        }
        self.segments.back_mut().expect("a segment was just seen to").push_back(kv);
        self.end += 1;
    }

    /// Takes back the newest change.
    pub(in crate::engine) fn pop_back(&mut self) -> Option<KeyValue> {
        let kv = self.segments.back_mut()?.pop_back()?;
        self.end -= 1;
        self.drop_empty();
        Some(kv)
    }

    /// Lets go of the oldest change.
    pub(in crate::engine) fn pop_front(&mut self) -> Option<KeyValue> {
        let kv = self.segments.front_mut()?.pop_front()?;
        self.start += 1;
        self.drop_empty();
        Some(kv)
    }

    /// The change at a position that is held.
    pub(in crate::engine) fn get(&self, position: u64) -> Option<&KeyValue> {
        if position < self.start || position >= self.end {
            return None;
        }
        let first = self.start / SEGMENT as u64;
        let segment = position / SEGMENT as u64 - first;
        let begins = (position - position % SEGMENT as u64).max(self.start);
        self.segments.get(segment as usize)?.get((position - begins) as usize)
    }

    /// The position of the first change at `revision` or later.
    pub(in crate::engine) fn position_of(&self, revision: Revision) -> u64 {
        let (mut low, mut high) = (self.start, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let kv = self.get(middle).expect("a position between the first and the last is held");
            if kv.mod_revision() < revision { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The changes from a position on.
    pub(in crate::engine) fn iter_from(&self, position: u64) -> impl Iterator<Item = &KeyValue> {
        (position..self.end).filter_map(|position| self.get(position))
    }

    /// Segments never stay empty, whichever end they were emptied from.
    fn drop_empty(&mut self) {
        if self.segments.front().is_some_and(VecDeque::is_empty) {
            self.segments.pop_front();
        }
        if self.segments.back().is_some_and(VecDeque::is_empty) {
            self.segments.pop_back();
        }
    }
}

/// Returns whether a version may come directly after `before` among the versions of its key (R-REV-4, R-REV-5). The invariants
/// check this order, and a restore demands it.
pub(in crate::engine) fn follows(before: &KeyValue, next: &Fields) -> bool {
    match (before.is_tombstone(), next.version == 0) {
        (true, true) => false,
        (true, false) => begins(next),
        (false, true) => true,
        (false, false) => continues(before, next),
    }
}

/// Returns whether a version is the first of a generation.
pub(in crate::engine) fn begins(fields: &Fields) -> bool {
    fields.version == 1 && fields.create_revision == fields.mod_revision
}

/// Returns whether a version is the one after `before` in its generation. A transaction puts a key once (R-TXN-16).
fn continues(before: &KeyValue, next: &Fields) -> bool {
    next.create_revision == before.create_revision()
        && next.version == before.version() + 1
        && next.mod_revision > before.mod_revision()
}
