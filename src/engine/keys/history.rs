//! The history: all changes from the compacted revision on, and older changes that are not reclaimed yet, in the order
//! in which they were made.
//!
//! The position of a change is the number of changes before it since the store was created or loaded. A segment starts
//! at a multiple of `SEGMENT` and holds the changes at `SEGMENT` positions. Growth reallocates at most the first
//! segment, and dropping old changes moves no other change.

use std::collections::VecDeque;

use crate::api::{Fields, KeyValue, Revision};
use crate::engine::tables::slab::SEGMENT;

#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct History {
    /// Changes may be missing only at the front of the first segment and at the back of the last segment.
    segments: VecDeque<VecDeque<KeyValue>>,
    /// The position of the oldest change in history.
    start: u64,
    /// The position that the next change gets.
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
        // Add a segment if the next position is the first position of a segment, or if history is empty and thus has no
        // segment.
        if self.end.is_multiple_of(SEGMENT as u64) || self.segments.is_empty() {
            // The first segment grows like a `Vec`, so that a small store stays small.
            let capacity = if self.end < SEGMENT as u64 { 0 } else { SEGMENT };
            self.segments.push_back(VecDeque::with_capacity(capacity));
        }
        self.segments.back_mut().expect("history has a segment for its end").push_back(kv);
        self.end += 1;
    }

    /// Removes and returns the newest change.
    pub(in crate::engine) fn pop_back(&mut self) -> Option<KeyValue> {
        let kv = self.segments.back_mut()?.pop_back()?;
        self.end -= 1;
        self.drop_empty();
        Some(kv)
    }

    /// Removes and returns the oldest change.
    pub(in crate::engine) fn pop_front(&mut self) -> Option<KeyValue> {
        let kv = self.segments.front_mut()?.pop_front()?;
        self.start += 1;
        self.drop_empty();
        Some(kv)
    }

    /// Returns the change at a position, if history holds it.
    pub(in crate::engine) fn get(&self, position: u64) -> Option<&KeyValue> {
        if position < self.start || position >= self.end {
            return None;
        }
        // The first segment begins at `start`, and each other segment at a multiple of `SEGMENT`.
        let first = self.start / SEGMENT as u64;
        let segment = position / SEGMENT as u64 - first;
        let begins = (position - position % SEGMENT as u64).max(self.start);
        self.segments.get(segment as usize)?.get((position - begins) as usize)
    }

    /// Returns the position of the first change at `revision` or later.
    pub(in crate::engine) fn position_of(&self, revision: Revision) -> u64 {
        let (mut low, mut high) = (self.start, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let kv = self.get(middle).expect("history holds each position from `start` to `end`");
            if kv.mod_revision() < revision { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Returns the changes from a position to the end of history.
    pub(in crate::engine) fn iter_from(&self, position: u64) -> impl Iterator<Item = &KeyValue> {
        (position..self.end).filter_map(|position| self.get(position))
    }

    /// Drops a segment that became empty at either end. `push` and `get` rely on the absence of empty segments.
    fn drop_empty(&mut self) {
        if self.segments.front().is_some_and(VecDeque::is_empty) {
            self.segments.pop_front();
        }
        if self.segments.back().is_some_and(VecDeque::is_empty) {
            self.segments.pop_back();
        }
    }
}

/// Returns whether a version with the fields `next` may come directly after the version `before` of its key (R-REV-4,
/// R-REV-5). Used by `Engine::check_invariants` and by `Restorer`.
pub(in crate::engine) fn follows(before: &KeyValue, next: &Fields) -> bool {
    match (before.is_tombstone(), next.version == 0) {
        (true, true) => false,
        (true, false) => begins(next),
        (false, true) => true,
        (false, false) => continues(before, next),
    }
}

/// Returns whether a version with these fields is the first of a generation.
pub(in crate::engine) fn begins(fields: &Fields) -> bool {
    fields.version == 1 && fields.create_revision == fields.mod_revision
}

/// Returns whether a version with the fields `next` continues the generation of `before`. The two versions have
/// different revisions, because a transaction puts a key at most once (R-TXN-16).
fn continues(before: &KeyValue, next: &Fields) -> bool {
    next.create_revision == before.create_revision()
        && next.version == before.version() + 1
        && next.mod_revision > before.mod_revision()
}
