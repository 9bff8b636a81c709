//! When a key's turn comes.

use std::num::NonZeroU32;

use super::enter::by_creation;
use crate::api::{Get, KeyRange, SortOrder};

/// A recipe's rule for a key's turn: it comes once fewer than `permits` keys of `range` with a lower create revision exist. The key
/// itself may be outside of the range.
///
/// No key with a lower create revision can be created later, so the number of predecessors only falls. While there are too many,
/// the nearest `permits` of them exist, and the turn needs the deletion of at least one of these. So a waiter watches them alone.
#[derive(Clone)]
pub(crate) struct Predecessors {
    range: KeyRange,
    permits: NonZeroU32,
}

impl Predecessors {
    /// No key of the range may go before: the rule of a lock.
    pub(crate) fn all(range: KeyRange) -> Self {
        Self { range, permits: NonZeroU32::MIN }
    }

    /// Fewer than `permits` keys of the range may go before: the rule of a semaphore.
    pub(super) fn with_permits(range: KeyRange, permits: NonZeroU32) -> Self {
        Self { range, permits }
    }

    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// The number of predecessors that a waiter watches.
    pub(super) fn watched(&self) -> usize {
        self.permits.get() as usize
    }

    /// Returns whether it is the turn of a key with this many predecessors.
    pub(super) fn admit(&self, predecessors: usize) -> bool {
        predecessors < self.watched()
    }

    /// Returns whether one key of the range is too many.
    pub(super) fn is_exclusive(&self) -> bool {
        self.permits == NonZeroU32::MIN
    }

    /// Reads the newest keys of the range, at most as many as a waiter watches.
    pub(super) fn newest(&self) -> Get {
        by_creation(&self.range, SortOrder::Descend).limit(self.permits.get().into())
    }
}
