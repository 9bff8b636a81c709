use std::fmt;

use bytes::Bytes;

use super::fencing::GuardedTxn;
use super::leader_watcher::LeaderWatcher;
use super::queue::acquire::{AcquireTask, Acquired, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{describe_handle, oldest, queue_range};
use super::session::Session;
use crate::Error;
use crate::api::{Compare, IntoBytes, KeyRange, KeyValue, Put, Revision, TxnOp};
use crate::client::{Call, Ticket};

/// An election between processes: the earliest candidate leads until the candidate resigns or its session ends.
///
/// Each candidacy has its own key, `name/<lease>-<n>`, whose value every client can read. Clients that use etcd's keys,
/// such as [`ElectionService`](crate::service::ElectionService), take part in the election with this name.
///
/// Every key under `name/` is a candidate, whichever client put it (R-ELC-10), so keep no other keys there. A lock and
/// an election with equal names share a queue.
///
/// ```
/// use leasehold::concurrency::{Election, Session};
/// use leasehold::{Error, ManualClock, Store, TxnOp};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let a = Session::open(&store, Duration::from_secs(5)).wait()?;
/// let b = Session::open(&store, Duration::from_secs(5)).wait()?;
///
/// let first = Election::new(&a, "scheduler").campaign("a").wait()?;
/// let mut second = Election::new(&b, "scheduler").campaign("b");
/// first.txn().and_then([TxnOp::put("plan", "of a")]).commit().wait()?;
/// assert!(second.try_wait()?.is_none());
///
/// a.pause().wait()?; // the process hangs: its lease is not renewed
/// clock.advance(Duration::from_secs(5));
///
/// let second = second.try_wait()?.expect("b leads");
/// assert_eq!(first.proclaim("too late").wait(), Err(Error::NotLeader));
/// assert!(second.token() > first.token());
/// # Ok::<(), leasehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Election {
    session: Session,
    name: Bytes,
    queue: KeyRange,
}

impl Election {
    /// Returns a handle to the election with this name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let queue = queue_range(&name);
        Self { session: session.clone(), name, queue }
    }

    /// Queues as a candidate with a value.
    ///
    /// The ticket keeps its place in the queue until the ticket is dropped, which deletes its queue key at once. The
    /// ticket also returns a leadership that was lost after the candidate was elected and before the result was taken:
    /// see [`Ticket`].
    ///
    /// # Errors
    ///
    /// The ticket returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session's lease ended before the key
    /// was put. The ticket returns [`NotLeader`](crate::Error::NotLeader) if the lease ends later, or if another client
    /// deletes the key, before the candidate is elected. The ticket returns [`NoSpace`](crate::Error::NoSpace) or
    /// [`Corrupt`](crate::Error::Corrupt) if an alarm refuses the put, [`Stopped`](crate::Error::Stopped) if the store
    /// is closed, and the backend's errors, such as [`Unavailable`](crate::Error::Unavailable).
    pub fn campaign(&self, value: impl IntoBytes) -> Ticket<Leadership> {
        AcquireTask::enter(self.hold(value.into_bytes()))
    }

    /// Becomes the leader if the election has no candidate. If another candidate exists, the call returns `None` and
    /// leaves no key in the queue.
    ///
    /// # Errors
    ///
    /// The call returns [`LeaseNotFound`](crate::Error::LeaseNotFound) if there is no leader and the session's lease
    /// has ended. The call returns [`NoSpace`](crate::Error::NoSpace) or [`Corrupt`](crate::Error::Corrupt) if an alarm
    /// refuses the put, [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Election, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let election = Election::new(&session, "db");
    /// let leadership = election.try_campaign("node-1").wait()?.expect("the election has no candidate");
    /// assert!(election.try_campaign("node-2").wait()?.is_none());
    /// leadership.resign().wait()?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn try_campaign(&self, value: impl IntoBytes) -> Call<Option<Leadership>> {
        try_acquire(self.hold(value.into_bytes()))
    }

    /// Takes over an existing candidacy by its key and create revision, for example after a process has restarted.
    ///
    /// The candidate may be the leader or may still wait. The candidate's key keeps its lease until the next
    /// [`proclaim`](Leadership::proclaim) attaches the key to this session's lease. Dropping the ticket deletes the
    /// key.
    ///
    /// The previous owner is not notified and keeps its token. A fence cannot distinguish the previous owner from the
    /// new owner, and a resignation of either owner ends the leadership of both.
    ///
    /// # Errors
    ///
    /// The ticket returns [`NotLeader`](crate::Error::NotLeader) if the key is outside of this election or has another
    /// create revision than `token`. `NotLeader` is also returned if the key is deleted before the candidate is
    /// elected. The ticket returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors,
    /// such as [`Unavailable`](crate::Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Election, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let before = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let leadership = Election::new(&before, "db").campaign("node-1").wait()?;
    /// let (key, token) = (leadership.key().to_vec(), leadership.token());
    /// before.orphan().wait()?;
    /// std::mem::forget(leadership); // the process ends
    ///
    /// let after = Session::open_with_lease(&store, before.lease()).wait()?;
    /// let resumed = Election::new(&after, "db").resume(key, token).wait()?;
    /// resumed.proclaim("node-1, again").wait()?;
    /// assert_eq!(resumed.token(), token);
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn resume(&self, key: impl IntoBytes, token: impl Into<Revision>) -> Ticket<Leadership> {
        let key = key.into_bytes();
        if !self.queue.contains(&key) {
            // A key outside of the queue delays no later candidate, so two candidates would lead at once.
            return AcquireTask::refuse(&self.session);
        }
        AcquireTask::wait(Hold::resumed(&self.session, &self.queue, key, token.into()))
    }

    /// Returns the leader's key and value, or `None` if there is no leader.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn leader(&self) -> Call<Option<KeyValue>> {
        let client = self.session.client();
        client.map(client.get(oldest(&self.queue)), |found| Ok(found?.kvs().first().cloned()))
    }

    /// Returns the name of the election.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the leader and the other candidates, in queue order.
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn candidates(&self) -> Call<WaitQueue> {
        WaitQueue::of_election(self.session.client(), &self.name, &self.queue)
    }

    /// Returns a watcher that receives every change of the leadership, or a [`Gap`](super::LeaderEvent::Gap) if changes
    /// are compacted first. The first event is the current state.
    pub fn observe(&self) -> LeaderWatcher {
        LeaderWatcher::new(self.session.client(), &*self.name)
    }

    fn hold(&self, value: Bytes) -> Hold {
        Hold::new(&self.session, &self.queue, value)
    }
}

/// A held leadership of an [`Election`]. [`resign`](Self::resign) or a drop ends the leadership.
///
/// `resign` and a drop delete only the leadership's own key. A drop deletes the key in the background, and repeats the
/// deletion while the backend is unavailable, until the session ends. If the backend may lose requests, call `resign`,
/// which reports whether the key is deleted.
///
/// A leadership is lost if the session's lease ends or another client deletes the key. Run an operation that must not
/// happen after the loss in a [`txn`](Self::txn), or pass the [`token`](Self::token) to a
/// [`Fence`](crate::concurrency::Fence).
///
/// ```
/// use leasehold::concurrency::{Election, Session};
/// use leasehold::{Error, Store, TxnOp};
/// use std::time::Duration;
///
/// let store = Store::new();
/// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
/// let leadership = Election::new(&session, "db").campaign("node-1").wait()?;
/// leadership.txn().and_then([TxnOp::put("primary", "node-1")]).commit().wait()?;
///
/// leadership.resign().wait()?;
/// let late = leadership.txn().and_then([TxnOp::put("primary", "node-1")]).commit().wait();
/// assert_eq!(late.unwrap_err(), Error::NotLeader);
/// # Ok::<(), leasehold::Error>(())
/// ```
#[must_use = "dropping a leadership resigns"]
pub struct Leadership {
    hold: Hold,
}

impl Acquired for Leadership {
    const LOST: Error = Error::NotLeader;

    fn acquired(hold: Hold) -> Self {
        Self { hold }
    }
}

impl Leadership {
    /// Returns the fencing token, which is higher than the token of every earlier leader. A [resumed](Election::resume)
    /// leadership keeps the token of its previous owner.
    ///
    /// The token is the create revision of the [`key`](Self::key), which etcd calls `LeaderKey.rev`.
    ///
    /// A store that is loaded from a save may assign tokens again that the earlier store assigned after the save. Load
    /// the save with [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above) if a fence
    /// may have seen such a token.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// Returns the key that exists while the leadership is held.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// Returns a compare that holds while the leadership is held, for the caller's own txns.
    ///
    /// ```
    /// use leasehold::concurrency::{Election, Session};
    /// use leasehold::{Store, Txn, TxnOp};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let leadership = Election::new(&session, "db").campaign("node-1").wait()?;
    /// let txn = || Txn::new().when([leadership.leader_compare()]).and_then([TxnOp::put("primary", "node-1")]);
    /// assert!(store.txn(txn())?.succeeded());
    /// leadership.resign().wait()?;
    /// assert!(!store.txn(txn())?.succeeded());
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn leader_compare(&self) -> Compare {
        self.hold.key_unchanged()
    }

    /// Returns a txn that is executed only if the leadership is still held when the store receives the txn.
    ///
    /// If the leadership is lost or resigned, [`commit`](GuardedTxn::commit) fails with
    /// [`NotLeader`](Error::NotLeader).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Self::LOST)
    }

    /// Checks that the leadership is still held: its key exists, and the token is the key's create revision.
    ///
    /// The leadership may be lost right after the check. To make an operation depend on the leadership, use
    /// [`txn`](Self::txn).
    ///
    /// # Errors
    ///
    /// The call returns [`NotLeader`](Error::NotLeader) if the leadership is lost or resigned,
    /// [`Stopped`](Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](Error::Unavailable).
    pub fn check(&self) -> Call<()> {
        self.txn().check()
    }

    /// Changes the value of the leader's key, and observers receive the new value. The leadership and its token do not
    /// change (R-ELC-7).
    ///
    /// # Errors
    ///
    /// The call returns [`NotLeader`](Error::NotLeader) if the leadership is lost or resigned. The call returns
    /// [`LeaseNotFound`](Error::LeaseNotFound) if the leadership is [resumed](Election::resume) and the new session's
    /// lease has ended. Other errors are [`NoSpace`](Error::NoSpace) or [`Corrupt`](Error::Corrupt) if an alarm refuses
    /// the put, [`Stopped`](Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](Error::Unavailable).
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Election, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let election = Election::new(&session, "db");
    /// let leadership = election.campaign("node-1").wait()?;
    /// leadership.proclaim("node-1, ready").wait()?;
    /// let leader = election.leader().wait()?.expect("node-1 leads");
    /// assert_eq!(leader.value(), b"node-1, ready");
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn proclaim(&self, value: impl IntoBytes) -> Call<()> {
        // Attach the key to this session's lease: a resumed key still has the lease of an earlier session.
        let put = Put::new(self.hold.key().clone(), value).lease(self.hold.session().lease());
        self.txn().and_then([TxnOp::Put(put)]).check()
    }

    /// Returns a ticket that completes when the leadership is lost or resigned. The ticket completes immediately if the
    /// leadership was lost or resigned before.
    ///
    /// A completed ticket returns its result again each time it is polled. The ticket also completes when the session's
    /// lease ends, which a backend reports even if it is cut off from its store: see
    /// [`Guard::lost`](super::Guard::lost).
    ///
    /// A [resumed](Election::resume) leadership keeps the lease of an earlier session until it proclaims. A ticket that
    /// was requested before the proclamation may ignore a reported end of the new session's lease. The ticket then
    /// completes when the deletion of the key is received.
    ///
    /// # Errors
    ///
    /// The ticket returns [`Stopped`](Error::Stopped) if the store is closed, and the backend's error if the backend
    /// refuses a watch or a repeated read. The ticket retries a read after [`Unavailable`](Error::Unavailable),
    /// [ambiguous](Error::is_ambiguous) errors, and errors with
    /// [`Code::ResourceExhausted`](crate::Code::ResourceExhausted).
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }

    /// Resigns, so that the next candidate leads. The call succeeds even if the leadership was already lost.
    ///
    /// A failed call can be repeated, even if the store has executed the deletion. The deletion compares the key's
    /// create revision, so a repeated call cannot delete another candidate's key. The lease is not revoked (R-ELC-9).
    ///
    /// # Errors
    ///
    /// The call returns [`Stopped`](crate::Error::Stopped) if the store is closed, and the backend's errors, such as
    /// [`Unavailable`](crate::Error::Unavailable).
    pub fn resign(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "Election", &self.name, &self.session)
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("Leadership"))
    }
}
