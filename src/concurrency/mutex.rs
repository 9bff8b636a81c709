use bytes::Bytes;

use super::acquire::{Acquiring, try_acquire};
use super::enter::queue_of;
use super::guard::MutexGuard;
use super::hold::Hold;
use super::session::Session;
use super::wait_queue::WaitQueue;
use crate::Result;
use crate::api::{IntoBytes, KeyRange};
use crate::client::Ticket;

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
/// let session = Session::open(&store, Duration::from_secs(10))?;
/// let mutex = Mutex::new(&session, "jobs/nightly");
///
/// let guard = mutex.lock()?;
/// guard.txn().and_then([TxnOp::put("jobs/last", "ran")]).commit()?; // refused if the lock was lost meanwhile
/// assert!(mutex.try_lock()?.is_none());
/// let mut waiting = mutex.enqueue();
/// guard.unlock()?;
/// let next = waiting.try_take()?.expect("it is its turn");
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
    /// let (one, two) = (Session::open(&store, Duration::from_secs(10))?, Session::open(&store, Duration::from_secs(10))?);
    /// let mutex = Mutex::reentrant(&one, "ledger");
    /// let outer = mutex.lock()?;
    /// let inner = mutex.lock()?;
    /// assert_eq!(inner.token(), outer.token());
    ///
    /// drop(outer);
    /// assert!(Mutex::new(&two, "ledger").try_lock()?.is_none());
    /// drop(inner);
    /// assert!(Mutex::new(&two, "ledger").try_lock()?.is_some());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn reentrant(session: &Session, name: impl IntoBytes) -> Self {
        Self { is_reentrant: true, ..Self::new(session, name) }
    }

    /// Waits for one's turn. A thread that has the lock already waits for itself for ever, unless it is
    /// [re-entrant](Self::reentrant).
    ///
    /// # Errors
    ///
    /// Those of the ticket of [`enqueue`](Self::enqueue).
    pub fn lock(&self) -> Result<MutexGuard> {
        // If nobody has it and nobody waits, there is no queue to stand in.
        match self.try_lock()? {
            Some(guard) => Ok(guard),
            None => self.enqueue().wait(),
        }
    }

    /// Takes the lock if nobody has it and nobody waits for it. Nothing is left behind if not.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lock is free and the session is over.
    pub fn try_lock(&self) -> Result<Option<MutexGuard>> {
        try_acquire(self.hold())
    }

    /// Queues for the lock. The ticket keeps its place until it is dropped, which gives it up at once.
    ///
    /// The ticket's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session is over at the beginning, and
    /// [`SessionExpired`](crate::Error::SessionExpired) at once when it is later, or somebody deletes the key. A lock that was got,
    /// and lost before the ticket was looked at, is handed over nevertheless, as any guard may have lost its lock: see
    /// [`MutexGuard::check`].
    pub fn enqueue(&self) -> Ticket<MutexGuard> {
        Acquiring::enter(self.hold())
    }

    /// Who holds the lock, and who waits for it, in their order.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn queue(&self) -> Result<WaitQueue> {
        WaitQueue::of_lock(self.session.client(), &self.name, &self.queue)
    }

    fn hold(&self) -> Hold {
        if self.is_reentrant {
            return Hold::shared(&self.session, &self.queue);
        }
        Hold::new(&self.session, &self.queue, self.session.name().clone())
    }
}
