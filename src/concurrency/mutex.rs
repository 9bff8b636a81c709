use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use super::fencing::GuardedTxn;
use super::queue::acquire::{Acquired, Acquiring, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{describe_handle, queue_of};
use super::session::Session;
use crate::Error;
use crate::api::{Compare, IntoBytes, KeyRange, Revision};
use crate::client::{Call, Ticket};

/// A lock that whole processes can hold: first come, first served, and gone with its session.
///
/// Each hold has a key of its own, `name/<lease>-<n>`, so that threads that share a session exclude each other. Whoever uses
/// etcd's own keys, [`LockService`](crate::service::LockService) among them, queues with it.
///
/// Every key under `name/` is in the queue, whoever put it (R-LCK-13): so keep nothing else there. A key `jobs/last` is in the
/// way of the lock `jobs` for good, and so is, while it is held, the lock `jobs/nightly`; [`queue`](Self::queue) shows it.
///
/// ```
/// use leasehold::concurrency::{Mutex, Session};
/// use leasehold::{Store, TxnOp};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let mutex = Mutex::new(&session, "jobs/nightly");
///
/// let guard = mutex.lock().wait()?;
/// guard.txn().and_then([TxnOp::put("jobs/last", "ran")]).commit().wait()?; // refused if the lock was lost before
/// assert!(mutex.try_lock().wait()?.is_none());
/// let mut waiting = mutex.lock();
/// guard.unlock().wait()?;
/// let next = waiting.try_wait()?.expect("it is its turn");
/// assert!(next.token() > guard.token());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Mutex {
    session: Session,
    name: Bytes,
    queue: KeyRange,
    is_reentrant: bool,
}

impl Mutex {
    /// The lock of that name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let queue = queue_of(&name);
        Self { session: session.clone(), name, queue, is_reentrant: false }
    }

    /// The lock of that name, which a session that has it gets again: its key is etcd's own, `name/<lease>`, and the guards and
    /// tickets of the session share it (R-LCK-6). They do not exclude each other; those of other sessions and of
    /// [`new`](Self::new) do. The lock is given back when the last of them is gone.
    ///
    /// The key is the lease's: whoever locks by the same lease otherwise, as a caller of the service, shares it too, and loses it
    /// when it is given back, as with etcd (R-LCK-9).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let (one, two) = (Session::open(&store, Duration::from_secs(10)).wait()?, Session::open(&store, Duration::from_secs(10)).wait()?);
    /// let mutex = Mutex::reentrant(&one, "ledger");
    /// let outer = mutex.lock().wait()?;
    /// let inner = mutex.lock().wait()?;
    /// assert_eq!(inner.token(), outer.token());
    ///
    /// drop(outer);
    /// assert!(Mutex::new(&two, "ledger").try_lock().wait()?.is_none());
    /// drop(inner);
    /// assert!(Mutex::new(&two, "ledger").try_lock().wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn reentrant(session: &Session, name: impl IntoBytes) -> Self {
        Self { is_reentrant: true, ..Self::new(session, name) }
    }

    /// Queues for the lock. The ticket keeps its place until it is dropped, which gives it up at once. Locking again on a thread
    /// that holds the lock deadlocks, unless the mutex is [re-entrant](Self::reentrant).
    ///
    /// The ticket's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session was over at the beginning,
    /// [`SessionExpired`](crate::Error::SessionExpired) as soon as it ends later or another client deletes the key, and those of
    /// the backend. A lock that was lost before the ticket was waited for is handed over nevertheless: see [`Ticket`].
    pub fn lock(&self) -> Ticket<MutexGuard> {
        Acquiring::enter(self.hold())
    }

    /// Acquires the lock if no client holds it or waits for it. Otherwise returns `None`, and leaves no key behind.
    ///
    /// The call's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lock is free and the session is over, and those
    /// of the backend.
    pub fn try_lock(&self) -> Call<Option<MutexGuard>> {
        try_acquire(self.hold())
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the holder of the lock and its waiters, in their order.
    ///
    /// The call's errors are those of the backend.
    pub fn queue(&self) -> Call<WaitQueue> {
        WaitQueue::of_lock(self.session.client(), &self.name, &self.queue, |_| 1)
    }

    fn hold(&self) -> Hold {
        if self.is_reentrant {
            return Hold::shared(&self.session, &self.queue);
        }
        Hold::new(&self.session, &self.queue, self.session.name().clone())
    }
}

/// A held lock or permit: a [`MutexGuard`], a [`Permit`](crate::concurrency::Permit), a
/// [`ReadGuard`](crate::concurrency::ReadGuard) or a [`WriteGuard`](crate::concurrency::WriteGuard). Dropping it releases its
/// key, and no other client's; in a panic too, so that locks are not poisoned.
///
/// Over a backend that may lose requests, release it by its method instead, which can be repeated: a drop that is lost leaves the
/// key until the session ends.
///
/// A guard can be lost: if the session's lease ends, or if another client deletes the key. An operation that must not happen then
/// goes through [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](crate::concurrency::Fence).
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
    /// [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above) if a fence may have seen one of
    /// them. Keys that another client puts in one txn share a token: their guards are held one at a time, in key order.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// The key that exists while the guard is held.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// A compare that holds while the guard is held, for other txns (R-MTX-5).
    pub fn owner_compare(&self) -> Compare {
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
    /// The guard is lost when its key is deleted or when its session's lease ends. A backend that is cut off delivers no deletion,
    /// but reports the [end of the lease](crate::concurrency::Session::lost), so the ticket completes one TTL after the last
    /// answered renewal. The key may still exist then.
    ///
    /// The ticket's errors: [`Stopped`](crate::Error::Stopped) if the backend has ended, the error that it refuses a watch with,
    /// and its error to a repeated read, unless that is `Unavailable` or [ambiguous](crate::Error::is_ambiguous).
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
impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "Mutex", &self.name, &self.session)
    }
}

