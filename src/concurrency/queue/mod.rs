//! Queues of keys: the txns that put a key into a queue, and the rules for its predecessors (R-LCK-3, R-LCK-4).

pub(super) mod acquire;
pub(super) mod key;
pub(super) mod late_put;
pub(super) mod lost;
pub(super) mod retry;
pub(super) mod shared_key;
pub(super) mod turn;
pub(super) mod wait_queue;

use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;

use crate::api::{
    Compare, CompareOp, Get, KeyRange, KeyValue, LeaseId, Put, Revision, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use crate::concurrency::session::Session;

/// A key to put into a queue.
pub(crate) struct Entry {
    /// The rule for the key's predecessors.
    pub(crate) before: Predecessors,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
}

impl Entry {
    /// Returns the services' txn: puts the key unless it exists, and reads the oldest key of the range.
    pub(crate) fn service_txn(&self) -> Txn {
        let oldest = || TxnOp::Get(oldest(self.before.range()));
        let there = [TxnOp::get(self.key.clone()), oldest()];
        Txn::new().when([self.key_absent()]).and_then([self.put(), oldest()]).or_else(there)
    }

    /// Returns a guard's txn: reads the nearest predecessors and puts the key behind them, unless the key exists.
    pub(in crate::concurrency) fn guard_txn(&self) -> Txn {
        let newest = TxnOp::Get(self.before.newest());
        Txn::new().when([self.key_absent()]).and_then([newest, self.put()])
    }

    /// Returns operations that put the existing key again and read the oldest key of the range.
    ///
    /// The put keeps the key's rank (R-LCK-4). It raises the mod revision, so a concurrent compare-and-delete of the key fails.
    pub(in crate::concurrency) fn touch_ops(&self) -> [TxnOp; 2] {
        let touch = Put::new(self.key.clone(), "").ignore_value().ignore_lease().prev_kv();
        [TxnOp::Put(touch), TxnOp::Get(oldest(self.before.range()))]
    }

    /// Returns the put of the key, attached to the lease.
    pub(in crate::concurrency) fn put(&self) -> TxnOp {
        TxnOp::Put(Put::new(self.key.clone(), self.value.clone()).lease(self.lease))
    }

    /// Returns whether the key may be put at once exactly if its predecessors' range is empty. One compare then checks both that
    /// the key has no predecessor and that its name is free.
    pub(in crate::concurrency) fn has_exclusive_range(&self) -> bool {
        self.before.is_exclusive() && self.before.range().contains(&self.key)
    }

    /// Returns a compare that holds while the key does not exist.
    pub(in crate::concurrency) fn key_absent(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, 0)
    }
}

/// Returns the range of keys that is the queue of the lock or election with this name (R-LCK-1).
pub(crate) fn queue_range(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat())
}

/// Writes the `Debug` of a handle to a lock or an election: its type, its name as text, and its session.
pub(in crate::concurrency) fn describe_handle(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &[u8],
    session: &Session,
) -> fmt::Result {
    let mut shown = f.debug_struct(kind);
    shown.field("name", &format_args!("\"{}\"", name.escape_ascii()));
    shown.field("session", session).finish_non_exhaustive()
}

/// Returns a read of the oldest key of a queue, which is the owner's or the leader's.
pub(crate) fn oldest(range: &KeyRange) -> Get {
    by_creation(range, SortOrder::Ascend).limit(1)
}

/// Returns a read of all keys of a queue by create revision.
pub(in crate::concurrency) fn by_creation(range: &KeyRange, order: SortOrder) -> Get {
    Get::range(range.clone()).sort(SortTarget::CreateRevision, order)
}

/// Returns the create revision of the entry's key, and the create revision and name of the oldest key of the queue.
///
/// `response` is the response to [`Entry::service_txn`] or to the operations of [`Entry::touch_ops`].
pub(crate) fn create_revisions(response: &TxnResponse) -> (Revision, (Revision, &[u8])) {
    fn rank(kv: &KeyValue) -> (Revision, &[u8]) {
        (kv.create_revision(), kv.key())
    }
    let first = |response: &'_ TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::create_revision),
        TxnOpResponse::Put(put) => put.prev_kv().map(KeyValue::create_revision),
        _ => None,
    };
    // A put without a previous version created the key, so the key's create revision is the header's.
    let own = first(&response.responses()[0]).unwrap_or_else(|| response.header().revision());
    let oldest = match &response.responses()[1] {
        TxnOpResponse::Get(found) => found.kvs().first().map(rank),
        _ => None,
    };
    (own, oldest.expect("the queue contains the entry's key"))
}

/// The rule for a key's turn: fewer than `permits` keys of `range` have a lower create revision. The key itself may be outside of
/// the range.
///
/// No key with a lower create revision can be created later, so the number of predecessors only falls. While there are too many
/// predecessors, the turn requires that at least one of the nearest `permits` is deleted. So a waiter watches only these.
#[derive(Clone)]
pub(crate) struct Predecessors {
    range: KeyRange,
    permits: NonZeroU32,
}

impl Predecessors {
    /// Returns the rule of a lock: no key of the range may precede.
    pub(crate) fn all(range: KeyRange) -> Self {
        Self { range, permits: NonZeroU32::MIN }
    }

    /// Returns the rule of a semaphore: fewer than `permits` keys of the range may precede.
    pub(in crate::concurrency) fn with_permits(range: KeyRange, permits: NonZeroU32) -> Self {
        Self { range, permits }
    }

    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns the number of predecessors that a waiter watches.
    pub(in crate::concurrency) fn watched(&self) -> usize {
        self.permits.get() as usize
    }

    /// Returns whether a key with this many predecessors has its turn.
    pub(in crate::concurrency) fn admits(&self, predecessors: usize) -> bool {
        predecessors < self.watched()
    }

    /// Returns whether a single predecessor delays the turn.
    pub(in crate::concurrency) fn is_exclusive(&self) -> bool {
        self.permits == NonZeroU32::MIN
    }

    /// Returns a read of the newest keys of the range, at most as many as a waiter watches.
    pub(in crate::concurrency) fn newest(&self) -> Get {
        by_creation(&self.range, SortOrder::Descend).limit(self.permits.get().into())
    }
}
