use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use super::queue::key::Hold;
use crate::api::{Compare, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse};
use crate::client::Call;
use crate::{Error, Result};

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
    pub fn and_then(self, operations: impl IntoIterator<Item: Into<TxnOp>>) -> Self {
        Self { txn: self.txn.and_then(operations), ..self }
    }

    /// Adds operations to run if not: see [`Txn::or_else`].
    pub fn or_else(self, operations: impl IntoIterator<Item: Into<TxnOp>>) -> Self {
        Self { txn: self.txn.or_else(operations), ..self }
    }

    /// Executes the txn. [`TxnResponse::succeeded`] reports on the compares that were added.
    ///
    /// The call's errors: [`SessionExpired`](Error::SessionExpired) if the lock is lost, or [`NotLeader`](Error::NotLeader) if the
    /// leadership is, and then no operation was executed; and those of [`Engine::txn`](crate::engine::Engine::txn).
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
            return Call::from_result(Err(lost));
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

/// What a protected resource asks of who comes with a fencing token: not to be older than one that it has seen.
///
/// A lock can be lost without its holder's knowing: its lease may have ended while it hung. Only the resource can refuse what
/// such a holder does too late.
///
/// If the store is loaded from an older save without a bump, its new tokens may equal lost ones, and the fence admits a lost
/// holder beside the new one. Load the save with
/// [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above) and the newest token that a fence has
/// seen, or a later revision if another client saw one.
///
/// ```
/// use leasehold::Error;
/// use leasehold::concurrency::Fence;
///
/// let fence = Fence::new();
/// fence.admit(12)?;
/// fence.admit(12)?;
/// fence.admit(15)?;
/// assert_eq!(fence.admit(12), Err(Error::StaleToken { token: 12.into(), newest: 15.into() }));
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Default)]
pub struct Fence {
    newest: AtomicI64,
}

impl Fence {
    /// A fence that has seen no token.
    pub const fn new() -> Self {
        Self { newest: AtomicI64::new(0) }
    }

    /// Admits a token that is not older than the newest seen, which it then is.
    ///
    /// # Errors
    ///
    /// [`StaleToken`](Error::StaleToken).
    pub fn admit(&self, token: impl Into<Revision>) -> Result<()> {
        let token = token.into();
        let newest = self.newest.fetch_max(token.get(), Ordering::AcqRel);
        if token.get() < newest {
            return Err(Error::StaleToken { token, newest: Revision::new(newest) });
        }
        Ok(())
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = Revision::new(self.newest.load(Ordering::Acquire));
        f.debug_struct("Fence").field("newest", &newest).finish()
    }
}
