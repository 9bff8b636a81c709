use bytes::Bytes;

use super::acquire::{Acquiring, try_acquire};
use super::enter::queue_of;
use super::guard::MutexGuard;
use super::hold::Hold;
use super::session::Session;
use super::wait_queue::WaitQueue;
use crate::api::{IntoBytes, KeyRange};
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
#[derive(Clone, Debug)]
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
