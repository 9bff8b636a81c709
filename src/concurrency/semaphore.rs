use std::fmt;
use std::num::NonZeroU32;

use bytes::Bytes;

use super::mutex::Guard;
use super::queue::acquire::{AcquireTask, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{Predecessors, describe_handle, queue_range};
use super::session::Session;
use crate::api::{IntoBytes, KeyRange};
use crate::client::{Call, Ticket};

/// A number of permits shared between processes, acquired in arrival order and released when their session ends.
///
/// Each permit has a key, `name/<lease>-<n>`, in the queue of the [`Mutex`](crate::concurrency::Mutex) with this name.
/// A semaphore with one permit and that mutex are one lock: each excludes the other. Every key under `name/` is in the
/// queue, so keep no other keys there.
///
/// The store does not know the number of permits, so every process must pass an equal number. If the numbers differ,
/// each handle acquires a permit once fewer keys precede its key than the handle's number of permits. The number of
/// permits held at a time is at most the highest number of all handles.
///
/// A waiter for one of n permits watches the n keys directly before the waiter's key, and a release wakes at most n
/// waiters. The cost of a wait is proportional to n, so use several small semaphores instead of a semaphore with
/// thousands of permits.
///
/// ```
/// use leasehold::Store;
/// use leasehold::concurrency::{Semaphore, Session};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let uploads = Semaphore::new(&session, "uploads", 2);
///
/// let first = uploads.acquire().wait()?;
/// let _second = uploads.acquire().wait()?;
/// assert!(uploads.try_acquire().wait()?.is_none());
/// let mut waiting = uploads.acquire();
/// assert!(waiting.try_wait()?.is_none());
/// first.release().wait()?;
/// let third = waiting.try_wait()?.expect("a permit is free");
/// assert!(third.token() > first.token());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    session: Session,
    name: Bytes,
    queue: KeyRange,
    permits: NonZeroU32,
}

/// A held permit of a [`Semaphore`]. [`release`](Self::release) or a drop releases the permit.
///
/// Permits that are held at one time have different [tokens](Guard::token), and a [`Fence`](crate::concurrency::Fence)
/// admits only the newest token. So the owners of permits must use [`Guard::txn`] instead of a common fence.
pub type Permit = Guard<Semaphore>;

impl Semaphore {
    /// Returns a handle to the semaphore with this name, for a session.
    ///
    /// # Panics
    ///
    /// Panics if `permits` is 0, since no wait would end.
    #[track_caller]
    pub fn new(session: &Session, name: impl IntoBytes, permits: u32) -> Self {
        let permits = NonZeroU32::new(permits).expect("a semaphore has at least one permit");
        let name = name.into_bytes();
        let queue = queue_range(&name);
        Self { session: session.clone(), name, queue, permits }
    }

    /// Returns the number of permits.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Semaphore, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// assert_eq!(Semaphore::new(&session, "uploads", 2).permits(), 2);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn permits(&self) -> u32 {
        self.permits.get()
    }

    /// Queues for a permit. The ticket keeps its place in the queue until the ticket is dropped, which deletes its
    /// queue key at once.
    ///
    /// # Errors
    ///
    /// The ticket returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session's lease ended before the key
    /// was put. The ticket returns [`SessionExpired`](crate::Error::SessionExpired) if the lease ends later, or if
    /// another client deletes the key, before the permit is acquired. The ticket returns
    /// [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if the quota or an alarm rejects the
    /// put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Semaphore, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let client = store.client();
    /// let permit = client.block_on(async {
    ///     let session = Session::open(&client, Duration::from_secs(10)).await?;
    ///     Semaphore::new(&session, "uploads", 2).acquire().await
    /// })?;
    /// assert_eq!(permit.key(), b"uploads/1-0");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn acquire(&self) -> Ticket<Permit> {
        AcquireTask::enter(self.hold())
    }

    /// Acquires a permit if a permit is free and no client waits. If the client would have to wait, the call returns
    /// `None` and leaves no key in the queue.
    ///
    /// To acquire one of several permits while others are held, the call needs two or more requests, because a txn
    /// cannot count keys. One txn reads the newest keys. The next txn puts a key, unless another key was queued in
    /// between.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if a permit is free and the session's lease has
    /// ended. The call returns [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if the quota or
    /// an alarm rejects the put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors,
    /// such as [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Semaphore, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// let uploads = Semaphore::new(&session, "uploads", 1);
    /// let permit = uploads.try_acquire().wait()?.expect("the permit is free");
    /// assert!(uploads.try_acquire().wait()?.is_none());
    /// # drop(permit);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn try_acquire(&self) -> Call<Option<Permit>> {
        try_acquire(self.hold())
    }

    /// Returns the name of the semaphore.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the holders of the permits and the waiters, in queue order.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Semaphore, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// let uploads = Semaphore::new(&session, "uploads", 2);
    /// let _tickets = [uploads.acquire(), uploads.acquire(), uploads.acquire()];
    /// let queue = uploads.queue().wait()?;
    /// assert_eq!((queue.holders().len(), queue.waiters().len()), (2, 1));
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn queue(&self) -> Call<WaitQueue> {
        let permits = self.permits.get() as usize;
        // The oldest keys hold the permits. If `permits` is above the number of keys, every key holds a permit.
        WaitQueue::of_lock(self.session.client(), &self.name, &self.queue, move |_| permits)
    }

    fn hold(&self) -> Hold {
        let before = Predecessors::with_permits(self.queue.clone(), self.permits);
        Hold::queued(&self.session, self.queue.start(), before, self.session.name().clone())
    }
}

impl Permit {
    /// Releases the permit. The call succeeds even if the permit was already lost.
    ///
    /// The call deletes the permit's queue key. A failed call can be repeated, even if the store has already deleted
    /// the key. The deletion compares the key's create revision, so a repeated call cannot delete another owner's key.
    ///
    /// # Errors
    ///
    /// The call returns [`Corrupt`](crate::Error::Corrupt) if the CORRUPT alarm is active,
    /// [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Semaphore, Session};
    /// use std::time::Duration;
    ///
    /// let session = Session::open(&Store::new(), Duration::from_secs(10)).wait()?;
    /// let permit = Semaphore::new(&session, "uploads", 2).acquire().wait()?;
    /// permit.release().wait()?;
    /// assert!(permit.check().wait().is_err());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn release(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "Semaphore", &self.name, &self.session)
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("Permit"))
    }
}
