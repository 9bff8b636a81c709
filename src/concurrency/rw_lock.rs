use std::fmt;

use bytes::Bytes;

use super::mutex::Guard;
use super::queue::acquire::{Acquiring, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{Predecessors, describe_handle, queue_of};
use super::session::Session;
use crate::api::{IntoBytes, KeyRange, KeyValue};
use crate::client::{Call, Ticket};

/// A lock that many readers or one writer of whole processes hold: first come, first served, and released with its session.
///
/// A reader waits for the writers that came before it, a writer for every reader and writer that came before it. So neither
/// starves: a reader that comes after a waiting writer waits for it.
///
/// A reader has a key `name/read/<lease>-<n>`, a writer `name/write/<lease>-<n>`: the queue of the `RWMutex` of etcd's recipes.
/// Every key under `name/` is in it, so keep no other keys there, and use the name for no mutex, semaphore or election.
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
/// let guard = writer.try_wait()?.expect("both readers are gone");
/// assert!(reader.try_wait()?.is_none(), "it came after the writer");
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

/// The type parameter of a [`ReadGuard`].
#[derive(Debug)]
pub enum Reading {}

/// The type parameter of a [`WriteGuard`].
#[derive(Debug)]
pub enum Writing {}

/// A [`RwLock`] that is held by a reader, perhaps with others.
///
/// Read guards that are held at the same time have different [tokens](Guard::token), of which a
/// [`Fence`](crate::concurrency::Fence) admits the newest alone. So readers use [`Guard::txn`], not a common fence.
pub type ReadGuard = Guard<Reading>;

/// A [`RwLock`] that is held by a writer.
pub type WriteGuard = Guard<Writing>;

impl RwLock {
    /// The lock of that name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let [readers, writers] =
            [&b"/read"[..], b"/write"].map(|ending| queue_of(&[&name[..], ending].concat()));
        let queue = queue_of(&name);
        Self { session: session.clone(), name, queue, readers, writers }
    }

    /// Queues as a reader. The ticket keeps its place until it is dropped, which releases the place at once.
    ///
    /// A thread that holds the lock and locks it again deadlocks if a writer waits, or if one of the two locks is a writer's.
    ///
    /// The ticket's errors are those of [`Mutex::lock`](super::Mutex::lock).
    pub fn read(&self) -> Ticket<ReadGuard> {
        Acquiring::enter(self.reader())
    }

    /// Acquires the lock as a reader if no writer holds it or waits for it. Otherwise returns `None`, and leaves no key behind.
    ///
    /// The call's errors are those of [`Mutex::try_lock`](super::Mutex::try_lock).
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

    /// Queues as a writer. The ticket keeps its place until it is dropped, which releases the place at once.
    ///
    /// The ticket's errors are those of [`Mutex::lock`](super::Mutex::lock).
    pub fn write(&self) -> Ticket<WriteGuard> {
        Acquiring::enter(self.writer())
    }

    /// Acquires the lock as a writer if no client holds it or waits for it. Otherwise returns `None`, and leaves no key behind.
    ///
    /// The call's errors are those of [`Mutex::try_lock`](super::Mutex::try_lock).
    pub fn try_write(&self) -> Call<Option<WriteGuard>> {
        try_acquire(self.writer())
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the holders of the lock and the waiters, in their order.
    ///
    /// The call's errors are those of the backend.
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
        // The first key holds the lock, whichever it is. If it is a reader's, so do the readers up to the first other key.
        let holders =
            move |kvs: &[KeyValue]| kvs.iter().take_while(|kv| readers.contains(kv.key())).count().max(1);
        WaitQueue::of_lock(self.session.client(), &self.name, &self.queue, holders)
    }

    fn reader(&self) -> Hold {
        self.hold(&self.readers, &self.writers)
    }

    fn writer(&self) -> Hold {
        self.hold(&self.writers, &self.queue)
    }

    fn hold(&self, own: &KeyRange, before: &KeyRange) -> Hold {
        let before = Predecessors::all(before.clone());
        Hold::queued(&self.session, own.start(), before, self.session.name().clone())
    }
}

impl ReadGuard {
    /// Releases the lock: see [`MutexGuard::unlock`](super::MutexGuard::unlock).
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
    }
}

impl WriteGuard {
    /// Releases the lock: see [`MutexGuard::unlock`](super::MutexGuard::unlock).
    pub fn unlock(&self) -> Call<()> {
        self.hold.release()
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
impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "RwLock", &self.name, &self.session)
    }
}

