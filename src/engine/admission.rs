//! The checks of a request before it runs: its fields, its size, the quota of bytes, the active alarms, and conflicts
//! within a transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::api::{
    Alarm, AlarmAction, AlarmRequest, AlarmType, Delete, Get, Grant, KeyRange, LeaseId, Put, SortOrder,
    SortTarget, Txn, TxnOp,
};
use crate::{Error, Result};

/// The upper bound of `Limits::max_request_bytes`, because a record stores the length of its key in 32 bits.
const REQUEST_BYTES_MAX: usize = u32::MAX as usize;

/// The cost of a put in the quota check, besides the bytes of its key and value (R-MNT-9).
const PUT_COST: u64 = 256;

/// The cost of a grant in the quota check (R-MNT-9).
const GRANT_COST: u64 = 64;

/// The cost of a request in the quota check: etcd's estimate, which differs from the bytes that the request adds to the
/// store.
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
    /// Returns the cost of the more expensive branch, whether or not that branch runs.
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
    /// Returns an error and activates the NOSPACE alarm if a request would reach the quota (R-MNT-9).
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
        // Reaching the quota exactly is an error too, as in etcd. A request without cost always passes.
        if cost > 0 && held.saturating_add(cost) >= quota {
            self.active.insert(Alarm { member_id, alarm: AlarmType::NoSpace });
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Returns an error if an active alarm blocks a request: CORRUPT blocks writes, NOSPACE blocks requests with a cost
    /// (R-MNT-8). Evaluates the arguments only if an alarm is active.
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

    /// Lists, activates or deactivates alarms, and returns the affected alarms (R-MNT-7).
    pub(super) fn request(&mut self, request: &AlarmRequest) -> Vec<Alarm> {
        let named = Alarm { member_id: request.member_id, alarm: request.alarm };
        let all = request.alarm == AlarmType::None;
        match request.action {
            AlarmAction::Get => self.iter().filter(|active| all || active.alarm == request.alarm).collect(),
            // `AlarmType::None` selects all alarms in a listing, and no alarm in the other actions.
            _ if all => Vec::new(),
            AlarmAction::Activate => {
                self.active.insert(named);
                vec![named]
            }
            // Deactivating needs the exact member id, as in etcd.
            AlarmAction::Deactivate => self.active.take(&named).into_iter().collect(),
        }
    }

    /// Adds an alarm from a save.
    pub(super) fn restore(&mut self, alarm: Alarm) {
        self.active.insert(alarm);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Alarm> {
        self.active.iter().copied()
    }
}

/// The keys that a list of operations changes.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deleted<'a>,
}

/// The keys that deletes cover, as sets with logarithmic lookup. A list would make the check quadratic. A txn may have
/// tens of thousands of nested operations, and all other requests wait while the check runs.
#[derive(Default)]
struct Deleted<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// The end of each interval, by its start. Intervals neither overlap nor touch.
    intervals: BTreeMap<&'a [u8], &'a [u8]>,
}

/// Checks that no branch puts a key twice, or puts and deletes a key, with the exceptions of R-TXN-19 and R-TXN-20. The
/// check depends on the request alone, not on existing keys (R-TXN-16).
pub(super) fn check_overlap(txn: &Txn) -> Result<()> {
    for branch in [&txn.success, &txn.failure] {
        if !is_plain(branch) {
            changes_of(branch)?;
        }
    }
    Ok(())
}

/// Returns whether a list of operations has at most one put or delete and no nested txn. Such a list cannot put a key
/// twice, or put and delete a key.
fn is_plain(operations: &[TxnOp]) -> bool {
    let nested = operations.iter().any(|op| matches!(op, TxnOp::Txn(_)));
    let changes = operations.iter().filter(|op| matches!(op, TxnOp::Put(_) | TxnOp::Delete(_)));
    !nested && changes.count() <= 1
}

/// Returns the keys that a list of operations changes. Returns an error if the list puts a key twice, or puts and
/// deletes a key (R-TXN-17).
fn changes_of(operations: &[TxnOp]) -> Result<Changes<'_>> {
    // Add the list's own deletes, then its nested txns, then its own puts, in the order of R-TXN-17. Another order
    // would lose the asymmetry between sibling txns (R-TXN-19).
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

    /// Adds the changes of both branches of a nested txn. Only one of the branches runs, so both branches may put a
    /// key, or one branch may put a key that the other branch deletes.
    fn add_nested(&mut self, success: Self, failure: Self) -> Result<()> {
        // The deletes are merged last, so that they conflict neither with the puts of the other branch nor with earlier
        // puts (R-TXN-19).
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
    /// Adds the keys that a delete covers. A delete without an upper end counts as covering no key, as in etcd
    /// (R-TXN-20).
    fn add(&mut self, range: &'a KeyRange) {
        if range.is_single() {
            self.keys.insert(range.start());
        } else if !range.is_from_key() {
            self.add_interval(range.start(), range.range_end());
        }
    }

    /// Adds an interval and merges it with the intervals that it overlaps or touches.
    fn add_interval(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        // An inverted interval deletes nothing (R-DEL-1), and `BTreeMap::range` panics on an inverted interval.
        if start >= end {
            return;
        }
        // The intervals are disjoint, so at most one interval that starts at or before `start` reaches `start`.
        if let Some((&before, &reach)) =
            self.intervals.range(..=start).next_back().filter(|(_, reach)| **reach >= start)
        {
            (start, end) = (before, end.max(reach));
        }
        // Absorb every interval that starts inside the new interval. An absorbed interval may raise `end`, so search
        // again from `start` to the raised end.
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

    /// Checks that the put's lease exists, if the put has a lease. Then checks that the put's key exists, if the put
    /// keeps the key's value or lease (R-PUT-2).
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

/// Checks the fields of a read: first its key, then its sort order and target (R-RNG-3).
pub(super) fn check_get(get: &Get) -> Result<()> {
    if get.range.start().is_empty() {
        return Err(Error::EmptyKey);
    }
    if get.sort_order == SortOrder::Unrecognized || get.sort_target == SortTarget::Unrecognized {
        return Err(Error::InvalidSort);
    }
    Ok(())
}

/// Checks the fields of a put: its key, then its value, then its lease (R-PUT-1).
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

/// Checks the fields of a delete.
pub(super) fn check_delete(delete: &Delete) -> Result<()> {
    if delete.range.start().is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Checks the fields of a txn, in both branches and all nested txns (R-TXN-2). The length of the txn's longest list is
/// subtracted from `budget`, and each nested txn may use the remainder (R-TXN-3).
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
            // etcd reports an operation without a request as a missing key (R-TXN-2).
            TxnOp::Unset => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Returns whether etcd treats a txn as a write. Every operation except a range read makes a txn a write, even a nested
/// txn that only reads.
pub(super) fn is_writing(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| !matches!(op, TxnOp::Get(_)))
}
