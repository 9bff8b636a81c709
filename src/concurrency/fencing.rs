use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use super::queue::key::Hold;
use crate::api::{Compare, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse};
use crate::client::Call;
use crate::{Error, Result};

/// A transaction that is executed only if a guard or a leadership is still held when the store receives the
/// transaction.
///
/// [`Guard::txn`] and [`Leadership::txn`] create the transaction. The transaction is sent as the only operation of an
/// outer txn, which compares the create revision of the owner's key. The limit for each list of compares or operations
/// is therefore one lower than in a plain [`Txn`] (R-TXN-3).
///
/// ```
/// use leasehold::concurrency::{Mutex, Session};
/// use leasehold::{Compare, CompareOp, Error, Store, TxnOp};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let guard = Mutex::new(&session, "ledger").lock().wait()?;
///
/// let is_new = Compare::version("balance", CompareOp::Equal, 0);
/// let txn = guard.txn().when([is_new]).and_then([TxnOp::put("balance", "0")]).or_else([TxnOp::get("balance")]);
/// assert!(txn.commit().wait()?.succeeded());
///
/// store.delete(guard.key())?; // another client takes the lock away
/// let late = guard.txn().and_then([TxnOp::put("balance", "9")]).commit().wait();
/// assert_eq!(late.unwrap_err(), Error::SessionExpired);
/// # Ok::<(), leasehold::Error>(())
/// ```
///
/// [`Guard::txn`]: super::Guard::txn
/// [`Leadership::txn`]: super::Leadership::txn
#[must_use = "a txn does nothing until it is committed"]
pub struct GuardedTxn<'a> {
    hold: &'a Hold,
    /// The error that `commit` returns if the guard or leadership is lost or released.
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

    /// Adds operations to run if a compare does not hold: see [`Txn::or_else`].
    pub fn or_else(self, operations: impl IntoIterator<Item: Into<TxnOp>>) -> Self {
        Self { txn: self.txn.or_else(operations), ..self }
    }

    /// Executes the txn. [`TxnResponse::succeeded`] returns whether the added compares held.
    ///
    /// # Errors
    ///
    /// The call returns [`SessionExpired`](Error::SessionExpired) if the guard is lost or released, and
    /// [`NotLeader`](Error::NotLeader) if the leadership is lost or resigned. In both cases, no operation was executed.
    ///
    /// Other errors are the refusals of a txn, such as [`TooManyOps`](Error::TooManyOps) and
    /// [`NoSpace`](Error::NoSpace): see [`Engine::txn`](crate::engine::Engine::txn). The backend's errors, such as
    /// [`Unavailable`](Error::Unavailable), are returned too.
    pub fn commit(self) -> Call<TxnResponse> {
        self.execute(|response| response)
    }

    /// Executes the txn and drops its response.
    pub(super) fn check(self) -> Call<()> {
        self.execute(drop)
    }

    fn execute<T: 'static>(self, change: impl FnOnce(TxnResponse) -> T + Send + 'static) -> Call<T> {
        let Self { hold, lost, txn } = self;
        // The key of a released re-entrant hold may still exist for other holds, so the compare alone would succeed.
        if hold.is_released() {
            return Call::from_result(Err(lost));
        }
        let client = hold.session().client();
        // Nested, so that the outer compare reports a lost hold, and the inner compares report their own result to the
        // caller.
        let guarded = Txn::new().when([hold.key_unchanged()]).and_then([TxnOp::Txn(txn)]);
        client.map(client.txn(guarded), |done| {
            let done = done?;
            match done.responses {
                mut responses if done.succeeded => match responses.pop() {
                    Some(TxnOpResponse::Txn(inner)) => {
                        Ok(change(TxnResponse { header: done.header, ..inner }))
                    }
                    other => panic!("the response to a nested txn is a txn response, not {other:?}"),
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

/// Rejects fencing tokens that are older than the newest token seen.
///
/// A lock can be lost without notice: its lease may have ended while the owner's process was suspended. Only the
/// protected resource can then reject the late requests of that owner. The fence rejects the late requests once it has
/// admitted the token of the next owner. A new owner should therefore pass its token as soon as it has acquired the
/// lock.
///
/// A store that is loaded from a save may assign tokens again that the earlier store assigned after the save. The fence
/// then admits an earlier owner and the new owner with equal tokens. To prevent this, load the save with
/// [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above). Pass this method the newest
/// token that the fence has seen, or a later revision if another client has seen a later token.
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
    /// Creates a fence that has seen no token.
    pub const fn new() -> Self {
        Self { newest: AtomicI64::new(0) }
    }

    /// Admits a token that is not older than the newest token seen, and records the token as the newest token seen.
    ///
    /// # Errors
    ///
    /// Returns [`StaleToken`](Error::StaleToken) if a newer token was seen.
    pub fn admit(&self, token: impl Into<Revision>) -> Result<()> {
        let token = token.into();
        // One atomic step, so that concurrent calls cannot admit an older token after a newer token.
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
