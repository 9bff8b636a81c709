//! The queues of locks, semaphores and elections: the txns that put a key into a queue, and the rule for the key's
//! turn. The turn is when the key acquires its lock, permit or leadership (R-LCK-3, R-LCK-4).

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

/// A key to put into the queue of a lock, semaphore or election, with the key's value and lease.
pub(crate) struct Entry {
    /// The rule that decides when the turn of `key` comes: which keys are its predecessors, and how many of them delay
    /// it.
    pub(crate) before: Predecessors,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
}

impl Entry {
    /// Returns the txn by which the lock service enters a queue. The txn puts the key, or reads the key if the key
    /// exists, and reads the oldest key of the queue (R-LCK-3).
    pub(crate) fn service_txn(&self) -> Txn {
        let oldest = || TxnOp::Get(oldest(self.before.range()));
        let if_exists = [TxnOp::get(self.key.clone()), oldest()];
        Txn::new().when([self.key_absent()]).and_then([self.put(), oldest()]).or_else(if_exists)
    }

    /// Returns the txn by which a guard or leadership enters a queue. The txn reads the newest keys of the range of
    /// predecessors and then puts the key. If the key exists, the txn does nothing.
    pub(in crate::concurrency) fn guard_txn(&self) -> Txn {
        // The read precedes the put, so the key is not read as its own predecessor.
        let newest = TxnOp::Get(self.before.newest());
        Txn::new().when([self.key_absent()]).and_then([newest, self.put()])
    }

    /// Returns operations that put the existing key again, with its present value and lease, and read the oldest key of
    /// the queue.
    ///
    /// The put keeps the create revision, and so the key's place in the queue (R-LCK-4). The put raises the mod
    /// revision, so a concurrent deletion that compares the mod revision deletes nothing.
    pub(in crate::concurrency) fn touch_ops(&self) -> [TxnOp; 2] {
        // Request the previous version, which has the create revision: the response to a put lacks the create revision.
        let touch = Put::new(self.key.clone(), "").ignore_value().ignore_lease().prev_kv();
        [TxnOp::Put(touch), TxnOp::Get(oldest(self.before.range()))]
    }

    /// Returns an operation that puts the key and attaches the key to the lease.
    pub(in crate::concurrency) fn put(&self) -> TxnOp {
        TxnOp::Put(Put::new(self.key.clone(), self.value.clone()).lease(self.lease))
    }

    /// Returns whether one predecessor is enough to delay the key's turn, and the range of predecessors contains the
    /// key. For such a key, one compare of the range checks both that no predecessor exists and that no key with this
    /// name exists.
    pub(in crate::concurrency) fn has_exclusive_range(&self) -> bool {
        self.before.is_exclusive() && self.before.range().contains(&self.key)
    }

    /// Returns a compare that holds while the key does not exist.
    pub(in crate::concurrency) fn key_absent(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, 0)
    }
}

/// Returns the queue of the lock or election with this name: the range of all keys that begin with `name/` (R-LCK-1).
pub(crate) fn queue_range(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat())
}

/// Writes the `Debug` text of a handle to a lock or an election: the type `kind`, the name as text, and the session.
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

/// Returns a request that reads the oldest key of a queue. The oldest key belongs to the owner of the lock or to the
/// leader.
pub(crate) fn oldest(range: &KeyRange) -> Get {
    by_creation(range, SortOrder::Ascend).limit(1)
}

/// Returns a request that reads all keys of a queue, sorted by create revision.
pub(in crate::concurrency) fn by_creation(range: &KeyRange, order: SortOrder) -> Get {
    Get::range(range.clone()).sort(SortTarget::CreateRevision, order)
}

/// Returns the create revision of the key that a txn has put or found. The second pair is the create revision and the
/// name of the oldest key of the queue.
///
/// `response` is the response to [`Entry::service_txn`], or to a txn with the operations of [`Entry::touch_ops`].
pub(crate) fn create_revisions(response: &TxnResponse) -> (Revision, (Revision, &[u8])) {
    fn rank(kv: &KeyValue) -> (Revision, &[u8]) {
        (kv.create_revision(), kv.key())
    }
    let first = |response: &'_ TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::create_revision),
        TxnOpResponse::Put(put) => put.prev_kv().map(KeyValue::create_revision),
        _ => None,
    };
    // A put whose response has no previous version created the key, so the key's create revision is the revision in the
    // header.
    let own = first(&response.responses()[0]).unwrap_or_else(|| response.header().revision());
    let oldest = match &response.responses()[1] {
        TxnOpResponse::Get(found) => found.kvs().first().map(rank),
        _ => None,
    };
    (own, oldest.expect("the queue contains the entry's key"))
}

/// The rule for the turn of a queued key, at which the key acquires its lock, permit or leadership. The turn comes once
/// fewer than `permits` keys of `range` have a lower create revision. The queued key may be outside of `range`, as a
/// reader's key is outside of the range of writers.
///
/// No key with a lower create revision can be created later, so the number of predecessors only falls. The nearest
/// predecessors have the highest create revisions. A key's turn cannot come before one of its nearest `permits`
/// predecessors is deleted, so a waiter watches only the nearest `permits` predecessors.
#[derive(Clone)]
pub(crate) struct Predecessors {
    range: KeyRange,
    permits: NonZeroU32,
}

impl Predecessors {
    /// Returns the rule of a lock or an election: a key's turn comes once no key of `range` has a lower create
    /// revision.
    pub(crate) fn all(range: KeyRange) -> Self {
        Self { range, permits: NonZeroU32::MIN }
    }

    /// Returns the rule of a semaphore: a key's turn comes once fewer than `permits` keys of `range` have a lower
    /// create revision.
    pub(in crate::concurrency) fn with_permits(range: KeyRange, permits: NonZeroU32) -> Self {
        Self { range, permits }
    }

    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns how many predecessors a waiter watches at most.
    pub(in crate::concurrency) fn watched(&self) -> usize {
        self.permits.get() as usize
    }

    /// Returns whether the turn of a key with this many predecessors has come.
    pub(in crate::concurrency) fn admits(&self, predecessors: usize) -> bool {
        predecessors < self.watched()
    }

    /// Returns whether one predecessor is enough to delay a key's turn.
    pub(in crate::concurrency) fn is_exclusive(&self) -> bool {
        self.permits == NonZeroU32::MIN
    }

    /// Returns a request that reads the newest keys of the range, at most as many as a waiter watches.
    pub(in crate::concurrency) fn newest(&self) -> Get {
        by_creation(&self.range, SortOrder::Descend).limit(self.permits.get().into())
    }
}
