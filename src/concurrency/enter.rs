//! Entering a queue of keys (R-LCK-3).

use bytes::Bytes;

use crate::api::{
    Compare, CompareOp, Get, KeyRange, LeaseId, Put, Revision, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

/// A key that is to be in a queue.
pub(crate) struct Entry {
    pub(crate) range: KeyRange,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
}

impl Entry {
    /// Puts the key unless it is there, and reads the oldest of the range.
    pub(crate) fn txn(&self) -> Txn {
        self.unless_there(TxnOp::get(self.key.clone()))
    }

    /// The same, but a key that is there gets another mod revision: so who is about to delete it as it was does not.
    pub(super) fn touching_txn(&self) -> Txn {
        self.unless_there(TxnOp::Put(self.touch()))
    }

    pub(super) fn touch(&self) -> Put {
        Put::new(self.key.clone(), "").ignore_value().ignore_lease().prev_kv()
    }

    fn unless_there(&self, otherwise: TxnOp) -> Txn {
        Txn::new()
            .when([Compare::create_revision(self.key.clone(), CompareOp::Equal, 0)])
            .and_then([self.put(), TxnOp::Get(oldest(&self.range))])
            .or_else([otherwise, TxnOp::Get(oldest(&self.range))])
    }

    pub(super) fn put(&self) -> TxnOp {
        TxnOp::Put(Put::new(self.key.clone(), self.value.clone()).lease(self.lease))
    }
}

/// Reads the oldest key of a queue: who has the lock, or leads.
pub(crate) fn oldest(range: &KeyRange) -> Get {
    by_creation(range).limit(1)
}

/// Reads a queue in its order.
pub(super) fn by_creation(range: &KeyRange) -> Get {
    Get::range(range.clone()).sort(SortTarget::CreateRevision, SortOrder::Ascend)
}

/// The create revision of the key that is waited with, and of the oldest one.
pub(crate) fn places(entered: &TxnResponse) -> (Revision, Revision) {
    let created = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(|kv| kv.create_revision()),
        TxnOpResponse::Put(put) => put.prev_kv().map(|kv| kv.create_revision()),
        _ => None,
    };
    let own = created(&entered.responses()[0]).unwrap_or_else(|| entered.header().revision());
    let oldest = created(&entered.responses()[1]).expect("the key itself is in the range");
    (own, oldest)
}
