//! The checks that a request passes before it changes anything: its own form, the operations of a transaction against each other,
//! its size, the byte quota and the alarms.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::api::{
    Alarm, AlarmAction, AlarmRequest, AlarmType, Delete, Get, Grant, KeyRange, LeaseId, Put, SortOrder,
    SortTarget, Txn, TxnOp,
};
use crate::{Error, Result};

/// No request is longer, whatever the limit: the length of a key must fit into its record.
const REQUEST_BYTES_MAX: usize = u32::MAX as usize;

/// What a put counts for besides its key and value, and a grant altogether, when the quota is checked (R-MNT-9).
const PUT_COST: u64 = 256;
const GRANT_COST: u64 = 64;

/// What a request adds to what the store holds, as the quota counts it. It is not what the store then holds.
pub(super) trait Cost {
    fn cost(&self) -> u64;
}

impl Cost for Put {
    fn cost(&self) -> u64 {
        PUT_COST + (self.key.len() + self.value.len()) as u64
    }
}

impl Cost for Grant {
    fn cost(&self) -> u64 {
        GRANT_COST
    }
}

impl Cost for Txn {
    /// That of the dearer branch, whichever is taken.
    fn cost(&self) -> u64 {
        let branch = |operations: &[TxnOp]| operations.iter().map(Cost::cost).sum::<u64>();
        branch(&self.success).max(branch(&self.failure))
    }
}

impl Cost for TxnOp {
    fn cost(&self) -> u64 {
        match self {
            Self::Put(put) => put.cost(),
            Self::Txn(txn) => txn.cost(),
            Self::Get(_) | Self::Delete(_) | Self::Unset => 0,
        }
    }
}

/// The active alarms.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    active: BTreeSet<Alarm>,
}

impl Alarms {
    /// Refuses a request that would reach the quota, and raises the alarm of that.
    pub(super) fn check_quota(
        &mut self,
        held: u64,
        quota: Option<u64>,
        member_id: u64,
        request: &impl Cost,
    ) -> Result<()> {
        let Some(quota) = quota else {
            return Ok(());
        };
        let cost = request.cost();
        if cost > 0 && held.saturating_add(cost) >= quota {
            self.active.insert(Alarm { member_id, alarm: AlarmType::NoSpace });
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Refuses a request that writes while the data cannot be trusted, and one that costs space while there is none
    /// (R-MNT-8).
    pub(super) fn check(&self, writes: impl Fn() -> bool, costs_space: impl Fn() -> bool) -> Result<()> {
        if self.active.is_empty() {
            return Ok(());
        }
        if self.has(AlarmType::Corrupt) && writes() {
            return Err(Error::Corrupt);
        }
        if self.has(AlarmType::NoSpace) && costs_space() {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    fn has(&self, alarm: AlarmType) -> bool {
        self.active.iter().any(|active| active.alarm == alarm)
    }

    /// Lists, raises or ends alarms (R-MNT-7). Gives those that it listed, raised or ended.
    pub(super) fn request(&mut self, request: &AlarmRequest) -> Vec<Alarm> {
        let named = Alarm { member_id: request.member_id, alarm: request.alarm };
        let all = request.alarm == AlarmType::None;
        match request.action {
            AlarmAction::Get => self.iter().filter(|active| all || active.alarm == request.alarm).collect(),
            _ if all => Vec::new(),
            AlarmAction::Activate => {
                self.active.insert(named);
                vec![named]
            }
            AlarmAction::Deactivate => self.active.take(&named).into_iter().collect(),
        }
    }

    /// Takes over a saved alarm.
    pub(super) fn restore(&mut self, alarm: Alarm) {
        self.active.insert(alarm);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Alarm> {
        self.active.iter().copied()
    }
}

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

/// Checks that no branch changes a key twice, as far as the requests show it (R-TXN-16 to R-TXN-22).
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

impl Engine {
    pub(super) fn check_quota(&mut self, request: &impl Cost) -> Result<()> {
        let held = self.bytes_held_for_quota();
        self.alarms.check_quota(held, self.limits.quota_bytes, self.member_id, request)
    }

    pub(super) fn check_size(&self, encoded_len: usize) -> Result<()> {
        if encoded_len > self.max_request_bytes() { Err(Error::RequestTooLarge) } else { Ok(()) }
    }

    pub(super) fn max_request_bytes(&self) -> usize {
        self.limits.max_request_bytes.min(REQUEST_BYTES_MAX)
    }

    /// R-PUT-2.
    pub(super) fn check_put_on_state(&self, put: &Put) -> Result<()> {
        if put.lease != LeaseId::NONE && !self.lessor.exists(put.lease) {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.keys.live(&put.key).is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }
}

/// What must hold of a read whatever the state, in this order (R-RNG-3).
pub(super) fn check_get(get: &Get) -> Result<()> {
    if get.range.start().is_empty() {
        return Err(Error::EmptyKey);
    }
    if get.sort_order == SortOrder::Unrecognized || get.sort_target == SortTarget::Unrecognized {
        return Err(Error::InvalidSort);
    }
    Ok(())
}

/// What must hold of a put whatever the state, in this order (R-PUT-1).
pub(super) fn check_put(put: &Put) -> Result<()> {
    if put.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if put.ignore_lease && put.lease != LeaseId::NONE {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// What must hold of a delete whatever the state.
pub(super) fn check_delete(delete: &Delete) -> Result<()> {
    if delete.range.start().is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// What must hold of a txn whatever the state: both branches, taken or not (R-TXN-2). A nested txn has what its
/// parent's longest list leaves of the budget (R-TXN-3).
pub(super) fn check_txn(txn: &Txn, budget: usize) -> Result<()> {
    let longest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = budget.checked_sub(longest).ok_or(Error::TooManyOps)?;
    if txn.compare.iter().any(|compare| compare.range.start().is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Get(get) => check_get(get)?,
            TxnOp::Put(put) => check_put(put)?,
            TxnOp::Delete(delete) => check_delete(delete)?,
            TxnOp::Txn(nested) => check_txn(nested, left)?,
            TxnOp::Unset => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Whether a txn is more than a list of reads, as etcd judges it: one with a nested txn is, even if that only reads.
pub(super) fn is_writing(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| !matches!(op, TxnOp::Get(_)))
}
