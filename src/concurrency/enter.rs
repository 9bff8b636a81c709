//! Entering a queue of keys (R-LCK-3).

use bytes::Bytes;

use crate::api::{
    Compare, CompareOp, Get, KeyRange, LeaseId, Put, Revision, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

/// Puts the key unless it is there, and reads the oldest of the range.
pub(crate) fn entering(range: KeyRange, key: Bytes, lease: LeaseId) -> Txn {
    let oldest = Get::range(range).sort(SortTarget::CreateRevision, SortOrder::Ascend).limit(1);
    Txn::new()
        .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
        .and_then([TxnOp::Put(Put::new(key.clone(), "").lease(lease)), TxnOp::Get(oldest.clone())])
        .or_else([TxnOp::get(key), TxnOp::Get(oldest)])
}

/// The create revision of the key that is waited with, and of the oldest one.
pub(crate) fn places(entered: &TxnResponse) -> (Revision, Revision) {
    let created = |response: &TxnOpResponse| match response {
        TxnOpResponse::Get(found) => found.kvs().first().map(|kv| kv.create_revision()),
        _ => None,
    };
    let own = created(&entered.responses()[0]).unwrap_or_else(|| entered.header().revision());
    let oldest = created(&entered.responses()[1]).expect("the key itself is in the range");
    (own, oldest)
}
