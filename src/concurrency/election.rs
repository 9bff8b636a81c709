use bytes::Bytes;

use super::acquire::{Acquiring, try_acquire};
use super::enter::{oldest, queue_of};
use super::hold::Hold;
use super::leader_watcher::LeaderWatcher;
use super::leadership::Leadership;
use super::session::Session;
use super::wait_queue::WaitQueue;
use crate::api::{IntoBytes, KeyRange, KeyValue, Revision};
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
#[derive(Clone, Debug)]
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
