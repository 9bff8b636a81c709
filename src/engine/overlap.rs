//! The rule that a txn must not change a key twice, as far as its requests tell (R-TXN-16 to R-TXN-22).

use std::collections::{BTreeMap, BTreeSet};

use super::planted::{Bug, planted};
use crate::api::{KeyRange, Txn, TxnOp};
use crate::{Error, Result};

/// What a list of operations changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deleted<'a>,
}

/// The keys that deletes cover. Looking one up does not take longer the more deletes there are by the same measure: a
/// txn may have tens of thousands of operations, nested, and all others wait for it.
#[derive(Default)]
struct Deleted<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// Intervals by their start, with their end; no two of them touch.
    intervals: BTreeMap<&'a [u8], &'a [u8]>,
}

/// Checks both branches, each for itself.
pub(super) fn check_overlap(txn: &Txn) -> Result<()> {
    for branch in [&txn.success, &txn.failure] {
        if !is_plain(branch) {
            changes_of(branch)?;
        }
    }
    Ok(())
}

/// Whether the list surely changes no key twice, which most do not: it has at most one change, and no nested txn.
fn is_plain(operations: &[TxnOp]) -> bool {
    let nested = operations.iter().any(|op| matches!(op, TxnOp::Txn(_)));
    let changes = operations.iter().filter(|op| matches!(op, TxnOp::Put(_) | TxnOp::Delete(_)));
    !nested && changes.count() <= 1
}

/// R-TXN-17 to the letter: own deletes, then nested txns in order, then own puts.
fn changes_of(operations: &[TxnOp]) -> Result<Changes<'_>> {
    let mut changes = Changes::default();
    for op in operations {
        if let TxnOp::Delete(delete) = op {
            changes.deletes.add(&delete.range);
        }
    }
    for op in operations {
        if let TxnOp::Txn(txn) = op {
            changes.add_nested(changes_of(&txn.success)?, changes_of(&txn.failure)?)?;
        }
    }
    for op in operations {
        if let TxnOp::Put(put) = op {
            changes.add_put(&put.key)?;
        }
    }
    Ok(changes)
}

impl<'a> Changes<'a> {
    fn add_put(&mut self, key: &'a [u8]) -> Result<()> {
        if self.deletes.cover(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Adds what either branch of a nested txn changes. Of the two, both may put a key, or one put and one delete it.
    fn add_nested(&mut self, success: Self, failure: Self) -> Result<()> {
        if planted(Bug::SiblingDeleteOverlaps)
            && self.puts.iter().any(|key| success.deletes.cover(key) || failure.deletes.cover(key))
        {
            return Err(Error::DuplicateKey);
        }
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            self.add_put(key)?;
        }
        self.deletes.merge(success.deletes);
        self.deletes.merge(failure.deletes);
        Ok(())
    }
}

impl<'a> Deleted<'a> {
    /// Adds what a delete covers. One without an upper end counts as covering nothing (R-TXN-20).
    fn add(&mut self, range: &'a KeyRange) {
        if range.is_single() {
            self.keys.insert(range.start());
        } else if !range.is_from_key() {
            self.add_interval(range.start(), range.range_end());
        }
    }

    /// Adds an interval, united with those that it touches.
    fn add_interval(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if start >= end {
            return;
        }
        if let Some((&before, &reach)) =
            self.intervals.range(..=start).next_back().filter(|(_, reach)| **reach >= start)
        {
            (start, end) = (before, end.max(reach));
        }
        while let Some((&within, &reach)) = self.intervals.range(start..=end).next() {
            end = end.max(reach);
            self.intervals.remove(within);
        }
        self.intervals.insert(start, end);
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        for (start, end) in other.intervals {
            self.add_interval(start, end);
        }
    }

    fn cover(&self, key: &[u8]) -> bool {
        let interval = self.intervals.range(..=key).next_back();
        self.keys.contains(key) || interval.is_some_and(|(_, &end)| key < end)
    }
}
