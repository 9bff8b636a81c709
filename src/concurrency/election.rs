use std::fmt;

use bytes::Bytes;

use super::fencing::GuardedTxn;
use super::leader_watcher::LeaderWatcher;
use super::queue::acquire::{Acquired, Acquiring, try_acquire};
use super::queue::key::Hold;
use super::queue::wait_queue::WaitQueue;
use super::queue::{describe_handle, oldest, queue_of};
use super::session::Session;
use crate::Error;
use crate::api::{Compare, IntoBytes, KeyRange, KeyValue, Put, Revision, TxnOp};
use crate::client::{Call, Ticket};

/// An election among whole processes: the candidate who came first leads, until it resigns or its session ends.
///
/// Each candidacy has a key of its own, `name/<lease>-<n>`, whose value all can see. Whoever uses etcd's own keys,
/// [`ElectionService`](crate::service::ElectionService) among them, stands in the same election.
///
/// Every key under `name/` stands in it, whoever put it (R-ELC-10): so keep nothing else there. A lock of the same name is in
/// the same queue.
///
/// ```
/// use leasehold::concurrency::{Election, Session};
/// use leasehold::{Error, ManualClock, Store, TxnOp};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let store = Store::builder().clock(clock.clone()).build();
/// let (a, b) = (Session::open(&store, Duration::from_secs(5)).wait()?, Session::open(&store, Duration::from_secs(5)).wait()?);
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
    /// The election of that name, for a session.
    pub fn new(session: &Session, name: impl IntoBytes) -> Self {
        let name = name.into_bytes();
        let queue = queue_of(&name);
        Self { session: session.clone(), name, queue }
    }

    /// Stands for election with a value. The ticket keeps its place until it is dropped, which withdraws the candidacy at once.
    ///
    /// The ticket's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session was over at the beginning,
    /// [`NotLeader`](crate::Error::NotLeader) as soon as it ends later or another client deletes the key, and those of the
    /// backend. A leadership that was lost before the ticket was waited for is handed over nevertheless: see [`Ticket`].
    pub fn campaign(&self, value: impl IntoBytes) -> Ticket<Leadership> {
        Acquiring::enter(self.hold(value.into_bytes()))
    }

    /// Leads if no client leads or stands. Otherwise returns `None`, and leaves no candidacy behind.
    ///
    /// The call's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if no client leads and the session is over, and those of
    /// the backend.
    ///
    /// ```
    /// use leasehold::Store;
    /// use leasehold::concurrency::{Election, Session};
    /// use std::time::Duration;
    ///
    /// let store = Store::new();
    /// let session = Session::open(&store, Duration::from_secs(10)).wait()?;
    /// let election = Election::new(&session, "db");
    /// let leadership = election.try_campaign("node-1").wait()?.expect("no other client stands");
    /// assert!(election.try_campaign("node-2").wait()?.is_none());
    /// leadership.resign().wait()?;
    /// # Ok::<(), leasehold::Error>(())
    /// ```
    pub fn try_campaign(&self, value: impl IntoBytes) -> Call<Option<Leadership>> {
        try_acquire(self.hold(value.into_bytes()))
    }

    /// Takes over a candidacy, won or not, whose key and create revision are known: that of a process that has ended without
    /// resigning, say. It goes with the session from its next [`proclaim`](Leadership::proclaim) on; until then, it ends with
    /// the lease that it has. Dropping the ticket withdraws it.
    ///
    /// Whoever has it still is not told, and has the same token: a fence cannot tell the two apart, and either ends it for both.
    ///
    /// The ticket's error: [`NotLeader`](crate::Error::NotLeader) if the candidacy is over, or ends, or is not of this election.
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
            return Acquiring::refuse(&self.session);
        }
        Acquiring::wait(Hold::resumed(&self.session, &self.queue, key, token.into()))
    }

    /// Returns the leader's key; `None` if no client leads.
    ///
    /// The call's errors are those of the backend.
    pub fn leader(&self) -> Call<Option<KeyValue>> {
        let client = self.session.client();
        client.map(client.get(oldest(&self.queue)), |found| Ok(found?.kvs().first().cloned()))
    }

    /// Returns the name of the election.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the leader and the other candidates, in their order.
    ///
    /// The call's errors are those of the backend.
    pub fn candidates(&self) -> Call<WaitQueue> {
        WaitQueue::of_election(self.session.client(), &self.name, &self.queue)
    }

    /// Follows who leads, from now on.
    pub fn observe(&self) -> LeaderWatcher {
        LeaderWatcher::new(self.session.client(), &*self.name)
    }

    fn hold(&self, value: Bytes) -> Hold {
        Hold::new(&self.session, &self.queue, value)
    }
}

/// An election that was won. Dropping it resigns, and never from anybody else's. Over a backend that may lose requests,
/// [`resign`](Self::resign) instead, which can be repeated: a drop that is lost leaves the key until the session ends.
///
/// It can be lost: if the session's lease ends, or if somebody deletes the key. What must not happen then goes through
/// [`txn`](Self::txn), or takes the [`token`](Self::token) along to a [`Fence`](crate::concurrency::Fence).
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
    /// The fencing token: higher than that of every earlier leader. It is the create revision of the [`key`](Self::key): etcd's
    /// `LeaderKey.rev`.
    ///
    /// A store that is loaded from an older save assigns the tokens of lost leaderships again. Load it with
    /// [`LoadOptions::bump_revision_above`](crate::snapshot::LoadOptions::bump_revision_above) if a fence may have seen one of
    /// them.
    pub fn token(&self) -> Revision {
        self.hold.token()
    }

    /// The key that exists as long as the leader leads.
    pub fn key(&self) -> &[u8] {
        self.hold.key()
    }

    /// That the leader still leads, for txns of one's own.
    pub fn leader_compare(&self) -> Compare {
        self.hold.is_there()
    }

    /// A txn that is executed only if the leader still leads when it is committed.
    ///
    /// Its error when it does not is [`NotLeader`](Error::NotLeader).
    pub fn txn(&self) -> GuardedTxn<'_> {
        GuardedTxn::new(&self.hold, Self::LOST)
    }

    /// Checks that the leader still leads: that its key exists, with the token as create revision. The leadership may be lost
    /// right afterwards: see [`txn`](Self::txn).
    ///
    /// The call's errors: [`NotLeader`](Error::NotLeader) if it is lost, and those of the backend.
    pub fn check(&self) -> Call<()> {
        self.txn().check()
    }

    /// Changes the value that observers see; the place is kept (R-ELC-7).
    ///
    /// The call's errors: [`NotLeader`](Error::NotLeader) if the leadership is lost, and then nothing was changed; and those of
    /// the backend.
    pub fn proclaim(&self, value: impl IntoBytes) -> Call<()> {
        let put = Put::new(self.hold.key().clone(), value).lease(self.hold.session().lease());
        self.txn().and_then([TxnOp::Put(put)]).check()
    }

    /// Completes when the leadership is lost or resigned, immediately if it already was, and may be asked again then.
    ///
    /// Also completes when the session's lease ends, which a backend reports although it is cut off: see
    /// [`Guard::lost`](super::Guard::lost). A [resumed](Election::resume) leadership has the lease of an earlier session until it
    /// proclaims, and a ticket from before that does not complete with the session.
    pub fn lost(&self) -> Ticket<()> {
        self.hold.lost()
    }

    /// Resigns, so that the next candidate leads. If that fails, it can be repeated, even if it was done: only this
    /// leadership's own key is ever deleted. Succeeds if the leadership was lost already. The lease lives on (R-ELC-9).
    ///
    /// The call's errors are those of the backend.
    pub fn resign(&self) -> Call<()> {
        self.hold.release()
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hold.describe(&mut f.debug_struct("Leadership"))
    }
}
impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_handle(f, "Election", &self.name, &self.session)
    }
}

