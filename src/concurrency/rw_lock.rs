use std::fmt;

use bytes::Bytes;

use super::mutex::Guard;
use super::queue::acquire::{AcquireTask, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{Predecessors, describe_handle, queue_range};
use super::session::Session;
use crate::api::{IntoBytes, KeyRange, KeyValue};
use crate::client::{Call, Ticket};

/// A lock between processes that several readers or one writer can hold, acquired in arrival order.
///
/// A reader waits for all earlier writers, and a writer waits for all earlier readers and writers. Neither side
/// starves: a reader that arrives after a waiting writer waits for that writer. The lock is released when its session
/// ends.
///
/// A reader puts a key `name/read/<lease>-<n>` and a writer puts `name/write/<lease>-<n>`, with the prefixes of
/// `RWMutex` in etcd's recipes. Every key under `name/` is in the queue, so keep no other keys there. Do not use the
/// name of an `RwLock` for a mutex, semaphore or election.
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::{RwLock, Session};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let lock = RwLock::new(&session, "catalog");
///
/// let readers = [lock.read().wait()?, lock.read().wait()?];
/// let (mut writer, mut reader) = (lock.write(), lock.read());
/// assert!(writer.try_wait()?.is_none() && reader.try_wait()?.is_none());
/// drop(readers);
/// let guard = writer.try_wait()?.expect("both readers have released the lock");
/// assert!(reader.try_wait()?.is_none(), "the reader is queued after the writer");
/// guard.unlock().wait()?;
/// assert!(reader.try_wait()?.is_some());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct RwLock {
    session: Session,
    name: Bytes,
    queue: KeyRange,
    readers: KeyRange,
    writers: KeyRange,
}

/// The type parameter that makes a [`Guard`] a [`ReadGuard`]. The type has no values.
#[derive(Debug)]
pub enum Reading {}

/// The type parameter that makes a [`Guard`] a [`WriteGuard`]. The type has no values.
#[derive(Debug)]
pub enum Writing {}

/// The guard of a reader that holds a [`RwLock`], possibly together with other readers. [`unlock`](Self::unlock) or a
/// drop releases the lock.
///
/// Read guards that are held at one time have different [tokens](Guard::token), and a
/// [`Fence`](crate::concurrency::Fence) admits only the newest token. So readers must use [`Guard::txn`] instead of a
/// common fence.
pub type ReadGuard = Guard<Reading>;

/// The guard of a writer that holds a [`RwLock`]. [`unlock`](Self::unlock) or a drop releases the lock.
pub type WriteGuard = Guard<Writing>;

impl RwLock {
    /// Returns a handle to the lock with this name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let [readers, writers] =
            [&b"/read"[..], b"/write"].map(|ending| queue_range(&[&name[..], ending].concat()));
        let queue = queue_range(&name);
        Self { session: session.clone(), name, queue, readers, writers }
    }

    /// Queues as a reader. The ticket keeps its place in the queue until the ticket is dropped, which deletes its queue
    /// key at once.
    ///
    /// A thread that holds the lock as a reader and waits to read again deadlocks if a writer is queued in between. A
    /// thread that holds the lock as a writer and waits for the lock again always deadlocks.
    ///
    /// # Errors
    ///
    /// The ticket returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session's lease ended before the key
    /// was put. The ticket returns [`SessionExpired`](crate::Error::SessionExpired) if the lease ends later, or if
    /// another client deletes the key, before the lock is acquired. The ticket returns
    /// [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if the quota or an alarm rejects the
    /// put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn read(&self) -> Ticket<ReadGuard> {
        AcquireTask::enter(self.reader())
    }

    /// Acquires the lock as a reader if no writer holds the lock or waits for the lock. If the client would have to
    /// wait, the call returns `None` and leaves no key in the queue.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lock could be acquired and the session's
    /// lease has ended. The call returns [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if
    /// the quota or an alarm rejects the put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the
    /// backend's errors, such as [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{RwLock, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// let lock = RwLock::new(&session, "catalog");
    /// let readers = [lock.try_read().wait()?, lock.try_read().wait()?];
    /// assert!(readers.iter().all(Option::is_some));
    /// assert!(lock.try_write().wait()?.is_none());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn try_read(&self) -> Call<Option<ReadGuard>> {
        try_acquire(self.reader())
    }

    /// Queues as a writer. The ticket keeps its place in the queue until the ticket is dropped, which deletes its queue
    /// key at once.
    ///
    /// A thread that holds the lock, as a reader or a writer, and waits to write deadlocks.
    ///
    /// # Errors
    ///
    /// The ticket returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session's lease ended before the key
    /// was put. The ticket returns [`SessionExpired`](crate::Error::SessionExpired) if the lease ends later, or if
    /// another client deletes the key, before the lock is acquired. The ticket returns
    /// [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if the quota or an alarm rejects the
    /// put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn write(&self) -> Ticket<WriteGuard> {
        AcquireTask::enter(self.writer())
    }

    /// Acquires the lock as a writer if no client holds the lock or waits for the lock. If the client would have to
    /// wait, the call returns `None` and leaves no key in the queue.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the lock could be acquired and the session's
    /// lease has ended. The call returns [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if
    /// the quota or an alarm rejects the put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the
    /// backend's errors, such as [`Unavailable`](crate::Error::Unavailable).
    pub fn try_write(&self) -> Call<Option<WriteGuard>> {
        try_acquire(self.writer())
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the holders of the lock and the waiters, in queue order.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{RwLock, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// let lock = RwLock::new(&session, "catalog");
    /// let _tickets = (lock.read(), lock.read(), lock.write(), lock.read());
    /// let queue = lock.queue().wait()?;
    /// assert_eq!((queue.holders().len(), queue.waiters().len()), (2, 2));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn queue(&self) -> Call<WaitQueue> {
        let readers = self.readers.clone();
        // The oldest key holds the lock. If a reader has put the oldest key, all readers before the first writer hold
        // the lock.
        let holders =
            move |kvs: &[KeyValue]| kvs.iter().take_while(|kv| readers.contains(kv.key())).count().max(1);
        WaitQueue::of_lock(self.session.client(), &self.name, &self.queue, holders)
    }

    fn reader(&self) -> Hold {
        // A reader's key is not in the range of its predecessors, since readers do not exclude each other.
        self.hold(&self.readers, &self.writers)
    }

    fn writer(&self) -> Hold {
        // The range of a writer's predecessors contains all readers and writers.
        self.hold(&self.writers, &self.queue)
    }

    fn hold(&self, own: &KeyRange, before: &KeyRange) -> Hold {
        let before = Predecessors::all(before.clone());
        Hold::queued(&self.session, own.start(), before, self.session.name().clone())
    }
}

impl ReadGuard {
    /// Releases the lock. The call succeeds even if the lock was already lost.
    ///
    /// The call deletes the guard's queue key. A failed call can be repeated, even if the store has already deleted the
    /// key. The deletion compares the key's create revision, so a repeated call cannot delete another owner's key.
    ///
    /// # Errors
    ///
    /// The call returns [`Corrupt`](crate::Error::Corrupt) if the CORRUPT alarm is active,
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
    }
}

impl WriteGuard {
    /// Releases the lock. The call succeeds even if the lock was already lost.
    ///
    /// The call deletes the guard's queue key. A failed call can be repeated, even if the store has already deleted the
    /// key. The deletion compares the key's create revision, so a repeated call cannot delete another owner's key.
    ///
    /// # Errors
    ///
    /// The call returns [`Corrupt`](crate::Error::Corrupt) if the CORRUPT alarm is active,
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "RwLock", &self.name, &self.session)
    }
}

impl fmt::Debug for ReadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("ReadGuard"))
    }
}

impl fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("WriteGuard"))
    }
}
