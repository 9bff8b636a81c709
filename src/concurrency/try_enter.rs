//! Acquiring without waiting, where no single compare decides whether it is the key's turn.

use super::acquire::Acquired;
use super::enter::Entry;
use super::hold::Hold;
use crate::Result;
use crate::api::{Compare, CompareOp, Revision, Txn, TxnOp, TxnOpResponse};

/// Puts the key if it is its turn at once. Otherwise no key is left behind.
///
/// A txn compares keys, but cannot count them. So one txn reads the predecessors, and the next one puts the key unless another
/// predecessor was created after that read. A third attempt needs another such key, or a key of this name.
pub(super) async fn enter_if_admitted<A: Acquired>(mut hold: Hold) -> Result<Option<A>> {
    let client = hold.session().client().clone();
    // No key is created at revision 0, so the first attempt puts the key if there are no predecessors.
    let mut read_at = Revision::new(0);
    loop {
        let entered = client.txn(put_unless_created_after(read_at, hold.entry())).await;
        let entered = entered.inspect_err(|error| hold.failed(error))?;
        read_at = entered.header().revision();
        if entered.succeeded() {
            hold.found(read_at, read_at);
            return Ok(Some(A::acquired(hold)));
        }
        let [TxnOpResponse::Get(own), TxnOpResponse::Get(nearest)] = entered.responses() else {
            panic!("gets are answered as gets, not with {entered:?}");
        };
        if !hold.entry().before.admit(nearest.kvs().len()) {
            hold.not_put();
            return Ok(None);
        }
        if !own.kvs().is_empty() {
            hold = hold.another();
        }
    }
}

/// Puts the key, unless there is one of that name or a predecessor was created after a revision. Otherwise reads both.
fn put_unless_created_after(read_at: Revision, entry: &Entry) -> Txn {
    let are_known = Compare::create_revision(entry.before.range().clone(), CompareOp::Less, read_at.next());
    Txn::new()
        .when([are_known, entry.is_absent()])
        .and_then([entry.put()])
        .or_else([TxnOp::get(entry.key.clone()), TxnOp::Get(entry.before.newest())])
}
