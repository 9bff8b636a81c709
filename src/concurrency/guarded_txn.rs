use std::fmt;

use super::hold::Hold;
use crate::Error;
use crate::api::{Compare, Txn, TxnOp, TxnOpResponse, TxnResponse};
use crate::client::Call;

/// A transaction that is run only if a lock is still held, or a leader still leads: see [`MutexGuard::txn`] and
/// [`Leadership::txn`]. It is nested in another that compares, which takes one of the operations that a txn may have (R-TXN-3).
///
/// [`MutexGuard::txn`]: super::MutexGuard::txn
/// [`Leadership::txn`]: super::Leadership::txn
#[must_use = "a txn does nothing until it is committed"]
pub struct GuardedTxn<'a> {
    hold: &'a Hold,
    /// What is said if it is lost.
    lost: Error,
    txn: Txn,
}

impl<'a> GuardedTxn<'a> {
    pub(super) fn new(hold: &'a Hold, lost: Error) -> Self {
        Self { hold, lost, txn: Txn::new() }
    }

    /// Adds compares: see [`Txn::when`].
    pub fn when(self, compares: impl IntoIterator<Item = Compare>) -> Self {
        Self { txn: self.txn.when(compares), ..self }
    }

    /// Adds operations to run if all compares hold: see [`Txn::and_then`].
    pub fn and_then(self, operations: impl IntoIterator<Item = TxnOp>) -> Self {
        Self { txn: self.txn.and_then(operations), ..self }
    }

    /// Adds operations to run if not: see [`Txn::or_else`].
    pub fn or_else(self, operations: impl IntoIterator<Item = TxnOp>) -> Self {
        Self { txn: self.txn.or_else(operations), ..self }
    }

    /// Executes the txn. [`TxnResponse::succeeded`] reports on the compares that were added.
    ///
    /// The call's errors: [`SessionExpired`](Error::SessionExpired) if the lock is lost, or [`NotLeader`](Error::NotLeader) if the
    /// leadership is, and then no operation was executed; and those of [`Engine::txn`](crate::Engine::txn).
    pub fn commit(self) -> Call<TxnResponse> {
        self.execute(|response| response)
    }

    /// Executes the txn for its error alone.
    pub(super) fn check(self) -> Call<()> {
        self.execute(drop)
    }

    fn execute<T: 'static>(self, change: impl FnOnce(TxnResponse) -> T + Send + 'static) -> Call<T> {
        let Self { hold, lost, txn } = self;
        if hold.is_given_up() {
            return Call::ready(Err(lost));
        }
        let client = hold.session().client();
        let guarded = Txn::new().when([hold.is_there()]).and_then([TxnOp::Txn(txn)]);
        client.map(client.txn(guarded), |done| {
            let done = done?;
            match done.responses {
                mut responses if done.succeeded => match responses.pop() {
                    Some(TxnOpResponse::Txn(inner)) => {
                        Ok(change(TxnResponse { header: done.header, ..inner }))
                    }
                    other => panic!("a txn is answered as a txn, not with {other:?}"),
                },
                _ => Err(lost),
            }
        })
    }
}

impl fmt::Debug for GuardedTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedTxn").field("txn", &self.txn).finish_non_exhaustive()
    }
}
