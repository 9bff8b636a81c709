use std::fmt;
use std::marker::PhantomData;

use super::acquire::Acquired;
use super::guarded_txn::GuardedTxn;
use super::hold::Hold;
use super::mutex::Mutex;
use crate::Error;
use crate::api::{Compare, Revision};
use crate::client::{Call, Ticket};

/// A held lock or permit: a [`MutexGuard`], a [`Permit`](super::Permit), a [`ReadGuard`](super::ReadGuard) or a
/// [`WriteGuard`](super::WriteGuard). Dropping it releases its key, and no other client's; in a panic too, so that locks are not
/// poisoned.
///
/// Over a backend that may lose requests, release it by its method instead, which can be repeated: a drop that is lost leaves the
/// key until the session ends.
///
/// A guard can be lost: if the session's lease ends, or if another client deletes the key. An operation that must not happen then
/// goes through [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](super::Fence).
///
/// ```
/// use leasehold::concurrency::{Guard, Mutex, Semaphore, Session};
/// use leasehold::{Store, TxnOp};
/// use std::time::Duration;
///
/// fn save<Of>(guard: &Guard<Of>, value: &'static str) -> leasehold::Result<()> {
///     guard.txn().and_then([TxnOp::put("saved", value)]).commit().wait().map(drop)
/// }
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// save(&Mutex::new(&session, "disk").lock().wait()?, "by a lock")?;
/// let permit = Semaphore::new(&session, "uploads", 2).acquire().wait()?;
/// save(&permit, "by a permit")?;
/// permit.release().wait()?;
/// assert!(save(&permit, "too late").is_err());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a guard releases it"]
pub struct Guard<Of> {
    pub(super) hold: Hold,
    of: PhantomData<fn() -> Of>,
}

/// A held [`Mutex`]. Dropping it releases the lock.
pub type MutexGuard = Guard<Mutex>;

impl<Of: 'static> Acquired for Guard<Of> {
    const LOST: Error = Error::SessionExpired;

    fn acquired(hold: Hold) -> Self {
        Self { hold, of: PhantomData }
    }
}

impl<Of> Guard<Of> {
    /// The fencing token: higher than the token of every earlier hold that excludes this one. It is the create revision of the
    /// [`key`](Self::key), by which etcd's locks rank, and so the same for all re-entrant guards that share it.
    ///
    /// A store that is loaded from an older save assigns the tokens of lost holds again. Load it with
    /// [`LoadOptions::bump_revision_above`](crate::LoadOptions::bump_revision_above) if a fence may have seen one of them. Keys
    /// that another client puts in one txn share a token: their guards are held one at a time, in key order.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// The key that exists while the guard is held.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// A compare that holds while the guard is held, for other txns (R-MTX-5).
    pub fn is_owner(&self) -> Compare {
        self.hold.is_there()
    }

    /// A txn that is executed only if the guard is still held when it is committed.
    ///
    /// Its error when it is not is [`SessionExpired`](Error::SessionExpired).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Error::SessionExpired)
    }

    /// Checks that the guard is still held: that its key exists, with the token as create revision. It may be lost right
    /// afterwards: see [`txn`](Self::txn).
    ///
    /// The call's errors: [`SessionExpired`](Error::SessionExpired) if it is lost, and those of the backend.
    pub fn check(&self) -> Call<()> {
        self.txn().check()
    }

    /// Completes when the guard is lost or released, immediately if it already was, and may be asked again then. Re-entrant guards
    /// that share a key are released with the last of them.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// let mut lost = guard.lost();
    /// let mut steps = 0;
    /// while lost.try_wait()?.is_none() {
    ///     steps += 1; // a step of a long job
    ///     if steps == 3 {
    ///         store.delete(guard.key())?; // another client takes the lock away
    ///     }
    /// }
    /// assert_eq!((steps, lost.try_wait()?), (3, Some(())));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }
}

impl MutexGuard {
    /// Releases the lock. If that fails, it can be repeated, even if it was done: only this guard's own key is ever deleted.
    /// Succeeds if the lock was lost already. Of re-entrant guards that share a key, the last one deletes it.
    ///
    /// The call's errors are those of the backend.
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("MutexGuard"))
    }
}
