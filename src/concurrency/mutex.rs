use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use super::fencing::GuardedTxn;
use super::queue::acquire::{AcquireTask, Acquired, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{describe_handle, queue_range};
use super::session::Session;
use crate::Error;
use crate::api::{Compare, IntoBytes, KeyRange, Revision};
use crate::client::{Call, Ticket};

/// A lock between processes, acquired in arrival order and released when its session ends.
///
/// Unless the mutex is [re-entrant](Self::reentrant), each acquisition puts its own key, `name/<lease>-<n>`, so threads
/// that share a session exclude each other. Clients that use etcd's keys, such as
/// [`LockService`](crate::service::LockService), wait in this lock's queue too.
///
/// Every key under `name/` is in the queue, whichever client put it (R-LCK-13), so keep no other keys there. A key
/// `jobs/last` blocks each later acquisition of the lock `jobs` until the key is deleted. The lock `jobs/nightly`,
/// while held, also blocks later acquisitions of the lock `jobs`. Use [`queue`](Self::queue) to find such keys.
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
/// guard.txn().and_then([TxnOp::put("jobs/last", "ran")]).commit().wait()?; // fails if the lock was lost before
/// assert!(mutex.try_lock().wait()?.is_none());
/// let mut waiting = mutex.lock();
/// guard.unlock().wait()?;
/// let next = waiting.try_wait()?.expect("the first lock was released");
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
    /// Returns a handle to the lock with this name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let queue = queue_range(&name);
        Self { session: session.clone(), name, queue, is_reentrant: false }
    }

    /// Returns a handle to the lock with this name, through which a session can acquire the lock again while the
    /// session holds the lock.
    ///
    /// The key is `name/<lease>`, as in etcd's mutex, and all re-entrant guards and tickets of the session share the
    /// key (R-LCK-6). Re-entrant guards of one session do not exclude each other. A re-entrant guard excludes other
    /// sessions, and guards from [`new`](Self::new). The lock is released when the session's last re-entrant guard or
    /// ticket is released or dropped.
    ///
    /// A caller of [`LockService`](crate::service::LockService) that locks with the session's lease shares the key too.
    /// The caller loses the lock when the session releases the lock, as with etcd (R-LCK-9).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let one = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let two = Session::open(&store, Duration::from_secs(10)).wait()?;
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

    /// Queues for the lock. The ticket keeps its place in the queue until the ticket is dropped, which deletes its
    /// queue key at once. A key that re-entrant guards or tickets share is deleted with the last of them.
    ///
    /// A thread that holds the lock and waits for the lock again deadlocks, unless the mutex is
    /// [re-entrant](Self::reentrant). The ticket also returns a guard that was lost after the lock was acquired and
    /// before the result was taken: see [`Ticket`].
    ///
    /// # Errors
    ///
    /// The ticket returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session's lease ended before the key
    /// was put. The ticket returns [`SessionExpired`](crate::Error::SessionExpired) if the lease ends later, or if
    /// another client deletes the key, before the lock is acquired. The ticket returns
    /// [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if an alarm refuses the put,
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn lock(&self) -> Ticket<MutexGuard> {
        AcquireTask::enter(self.hold())
    }

    /// Acquires the lock if no client holds the lock or waits for the lock. A re-entrant mutex also acquires the lock
    /// if its session holds the lock. If the caller would have to wait, the call returns `None` and leaves no key in
    /// the queue.
    ///
    /// The call returns `None` for a held lock even if the session's lease has ended, so a loop of attempts must also
    /// check [`Session::lost`].
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lock is free and the session's lease has
    /// ended. The call returns [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if an alarm
    /// refuses the put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn try_lock(&self) -> Call<Option<MutexGuard>> {
        try_acquire(self.hold())
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the holder of the lock and the waiters, in queue order.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
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

/// A held lock or permit: a [`MutexGuard`], [`Permit`], [`ReadGuard`] or [`WriteGuard`].
///
/// A lock is released by `unlock` ([`MutexGuard::unlock`], [`ReadGuard::unlock`], [`WriteGuard::unlock`]) and a permit
/// by [`Permit::release`]. Dropping the guard also releases the lock or permit, even during a panic, so locks are not
/// poisoned. A release deletes only the guard's own key.
///
/// A drop deletes the key in the background, and repeats the deletion while the backend is unavailable, until the
/// session ends. If the backend may lose requests, call `unlock` or `release`, which report whether the key is deleted.
///
/// A guard is lost if the session's lease ends or another client deletes the key. Run an operation that must not happen
/// after the loss in a [`txn`](Self::txn), or pass the [`token`](Self::token) to a
/// [`Fence`](crate::concurrency::Fence).
///
/// [`Permit`]: crate::concurrency::Permit
/// [`Permit::release`]: crate::concurrency::Permit::release
/// [`ReadGuard`]: crate::concurrency::ReadGuard
/// [`ReadGuard::unlock`]: crate::concurrency::ReadGuard::unlock
/// [`WriteGuard`]: crate::concurrency::WriteGuard
/// [`WriteGuard::unlock`]: crate::concurrency::WriteGuard::unlock
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

/// A held [`Mutex`]. [`unlock`](Self::unlock) or a drop releases the lock.
pub type MutexGuard = Guard<Mutex>;

impl<Of: 'static> Acquired for Guard<Of> {
    const LOST: Error = Error::SessionExpired;

    fn acquired(hold: Hold) -> Self {
        Self { hold, of: PhantomData }
    }
}

impl<Of> Guard<Of> {
    /// Returns the fencing token, which is higher than the token of every earlier guard that excludes this guard.
    ///
    /// The token is the create revision of the [`key`](Self::key), by which etcd orders the queue. Re-entrant guards
    /// that share a key have equal tokens.
    ///
    /// A store that is loaded from a save may assign tokens again that the earlier store assigned after the save. Load
    /// the save with [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above) if a fence
    /// may have seen such a token.
    ///
    /// If another client puts several keys of the queue in one txn, guards of these keys have equal tokens. These
    /// guards are held one at a time, in key order.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Fence, Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let fence = Fence::new();
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// fence.admit(guard.token())?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// Returns the key that exists while the guard is held.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// assert_eq!(guard.key(), b"disk/1-0");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// Returns a compare that holds while the guard is held, for the caller's own txns (R-MTX-5). If re-entrant guards
    /// share a key, the compare holds until the last of them is released.
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::{Store, Txn, TxnOp};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// let txn = || Txn::new().when([guard.owner_compare()]).and_then([TxnOp::put("saved", "by the owner")]);
    /// assert!(store.txn(txn())?.succeeded());
    /// guard.unlock().wait()?;
    /// assert!(!store.txn(txn())?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn owner_compare(&self) -> Compare {
        self.hold.key_unchanged()
    }

    /// Returns a txn that is executed only if the guard is still held when the store receives the txn.
    ///
    /// If the guard is lost or released, [`commit`](GuardedTxn::commit) fails with
    /// [`SessionExpired`](Error::SessionExpired).
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::{Store, TxnOp};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// guard.txn().and_then([TxnOp::put("saved", "by the owner")]).commit().wait()?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Error::SessionExpired)
    }

    /// Checks that the guard is still held: its key exists, and the token is the key's create revision.
    ///
    /// The guard may be lost right after the check. To make an operation depend on the guard, use [`txn`](Self::txn).
    ///
    /// # Errors
    ///
    /// The call returns [`SessionExpired`](Error::SessionExpired) if the guard is lost or released,
    /// [`Stopped`](Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](Error::Unavailable).
    ///
    /// ```
    /// use leasehold::concurrency::{Mutex, Session};
    /// use leasehold::{Error, Store};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let guard = Mutex::new(&session, "disk").lock().wait()?;
    /// guard.check().wait()?;
    /// session.close().wait()?;
    /// assert_eq!(guard.check().wait(), Err(Error::SessionExpired));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn check(&self) -> Call<()> {
        self.txn().check()
    }

    /// Returns a ticket that completes when the guard is lost or released. The ticket completes immediately if the
    /// guard was lost or released before.
    ///
    /// A completed ticket returns its result again each time it is polled. If re-entrant guards share a key, a pending
    /// ticket completes when the last guard is released.
    ///
    /// The guard is lost when its key is deleted or when its session's lease ends. A backend that is cut off from its
    /// store delivers no deletion, but reports the [end of the lease](crate::concurrency::Session::lost). The ticket
    /// then completes one TTL after the last answered renewal, and the key may still exist.
    ///
    /// # Errors
    ///
    /// The ticket returns [`Stopped`](Error::Stopped) if the store is closed, and the backend's error if the backend
    /// refuses a watch or a repeated read. The ticket retries a read after [`Unavailable`](Error::Unavailable),
    /// [ambiguous](Error::is_ambiguous) errors, and errors with
    /// [`Code::ResourceExhausted`](crate::Code::ResourceExhausted).
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
    /// Releases the lock. The call succeeds even if the lock was already lost.
    ///
    /// A failed call can be repeated, even if the store has executed the deletion. The deletion compares the key's
    /// create revision, so a repeated call cannot delete another owner's key. If re-entrant guards share a key, the
    /// last release deletes the key.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Mutex, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let mutex = Mutex::new(&session, "disk");
    /// let guard = mutex.lock().wait()?;
    /// guard.unlock().wait()?;
    /// guard.unlock().wait()?; // an already released guard: no effect
    /// assert!(mutex.try_lock().wait()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "Mutex", &self.name, &self.session)
    }
}

impl fmt::Debug for MutexGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("MutexGuard"))
    }
}
