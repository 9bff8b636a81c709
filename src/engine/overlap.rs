//! The rule that a txn must not change a key twice, as far as its requests tell (R-TXN-16 to R-TXN-22).

use std::collections::BTreeSet;

use super::planted::{Bug, planted};
use crate::api::{KeyRange, Txn, TxnOp};
use crate::{Error, Result};

/// What a list of operations changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
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
            changes.deletes.push(&delete.range);
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
        if self.deletes.iter().any(|range| covers(range, key)) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Adds what either branch of a nested txn changes. Of the two, both may put a key, or one put and one delete it.
    fn add_nested(&mut self, success: Self, failure: Self) -> Result<()> {
        let later_deletes = success.deletes.iter().chain(&failure.deletes);
        if planted(Bug::SiblingDeleteOverlaps)
            && later_deletes.clone().any(|range| self.puts.iter().any(|key| covers(range, key)))
        {
            return Err(Error::DuplicateKey);
        }
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            self.add_put(key)?;
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }
}

/// Whether a delete counts as deleting `key`: one without an upper end never does (R-TXN-20).
fn covers(range: &KeyRange, key: &[u8]) -> bool {
    !range.is_from_key() && range.contains(key)
}
