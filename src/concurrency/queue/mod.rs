//! Queues of keys: how a key enters a queue, and which keys go before it (R-LCK-3, R-LCK-4).

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

/// A key that is to be in a queue.
pub(crate) struct Entry {
    /// The rule for the key's turn.
    pub(crate) before: Predecessors,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
}

impl Entry {
    /// The services' entering: puts the key unless it is there, and reads the oldest of the range.
    pub(crate) fn txn(&self) -> Txn {
        let oldest = || TxnOp::Get(oldest(self.before.range()));
        let there = [TxnOp::get(self.key.clone()), oldest()];
        Txn::new().when([self.is_absent()]).and_then([self.put(), oldest()]).or_else(there)
    }

    /// A guard's entering: reads the nearest predecessors, and puts its own key behind them, unless that is there.
    pub(in crate::concurrency) fn behind_newest(&self) -> Txn {
        let newest = TxnOp::Get(self.before.newest());
        Txn::new().when([self.is_absent()]).and_then([newest, self.put()])
    }

    /// Writes to the key that is there, which leaves its rank alone (R-LCK-4), and reads the oldest of the range. So who is about
    /// to delete it as it was does not.
    pub(in crate::concurrency) fn joining(&self) -> [TxnOp; 2] {
        let touch = Put::new(self.key.clone(), "").ignore_value().ignore_lease().prev_kv();
        [TxnOp::Put(touch), TxnOp::Get(oldest(self.before.range()))]
    }

    pub(in crate::concurrency) fn put(&self) -> TxnOp {
        TxnOp::Put(Put::new(self.key.clone(), self.value.clone()).lease(self.lease))
    }

    /// Returns whether the key can be put at once exactly if its predecessors' range is empty: one compare then checks the turn and
    /// the name.
    pub(in crate::concurrency) fn is_of_exclusive_range(&self) -> bool {
        self.before.is_exclusive() && self.before.range().contains(&self.key)
    }

    pub(in crate::concurrency) fn is_absent(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, 0)
    }
}

/// The queue of keys that a lock or an election of that name is (R-LCK-1).
pub(crate) fn queue_of(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat())
}

/// Writes the `Debug` of a handle to a lock or an election: its type, its name as text, and its session.
pub(in crate::concurrency) fn describe_handle(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    name: &[u8],
    session: &Session,
) -> fmt::Result {
    let name = format_args!("\"{}\"", name.escape_ascii());
    f.debug_struct(kind).field("name", &name).field("session", session).finish_non_exhaustive()
}

/// Returns a read of the oldest key of a queue, which is the owner's or the leader's.
pub(crate) fn oldest(range: &KeyRange) -> Get {
    by_creation(range, SortOrder::Ascend).limit(1)
}

/// Reads a queue in its order.
pub(in crate::concurrency) fn by_creation(range: &KeyRange, order: SortOrder) -> Get {
    Get::range(range.clone()).sort(SortTarget::CreateRevision, order)
}

/// Returns the create revision of the entry's key, and the oldest key of the queue.
pub(crate) fn places(entered: &TxnResponse) -> (Revision, (Revision, &[u8])) {
    fn rank(kv: &KeyValue) -> (Revision, &[u8]) {
        (kv.create_revision(), kv.key())
    }
    let first = |response: &'_ TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::create_revision),
        TxnOpResponse::Put(put) => put.prev_kv().map(KeyValue::create_revision),
        _ => None,
    };
    let own = first(&entered.responses()[0]).unwrap_or_else(|| entered.header().revision());
    let oldest = match &entered.responses()[1] {
        TxnOpResponse::Get(found) => found.kvs().first().map(rank),
        _ => None,
    };
    (own, oldest.expect("a queue has the entry's key"))
}

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
    pub(in crate::concurrency) fn with_permits(range: KeyRange, permits: NonZeroU32) -> Self {
        Self { range, permits }
    }

    pub(crate) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// The number of predecessors that a waiter watches.
    pub(in crate::concurrency) fn watched(&self) -> usize {
        self.permits.get() as usize
    }

    /// Returns whether it is the turn of a key with this many predecessors.
    pub(in crate::concurrency) fn admit(&self, predecessors: usize) -> bool {
        predecessors < self.watched()
    }

    /// Returns whether one key of the range is too many.
    pub(in crate::concurrency) fn is_exclusive(&self) -> bool {
        self.permits == NonZeroU32::MIN
    }

    /// Reads the newest keys of the range, at most as many as a waiter watches.
    pub(in crate::concurrency) fn newest(&self) -> Get {
        by_creation(&self.range, SortOrder::Descend).limit(self.permits.get().into())
    }
}
