use bytes::Bytes;

use super::acquire::{Acquiring, try_acquire};
use super::enter::{oldest, queue_of};
use super::hold::Hold;
use super::leader_watcher::LeaderWatcher;
use super::leadership::Leadership;
use super::session::Session;
use super::wait_queue::WaitQueue;
use crate::Result;
use crate::api::{IntoBytes, KeyRange, KeyValue, Revision};
use crate::client::Ticket;

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
/// let (a, b) = (Session::open(&store, Duration::from_secs(5))?, Session::open(&store, Duration::from_secs(5))?);
///
/// let first = Election::new(&a, "scheduler").campaign("a")?;
/// let mut second = Election::new(&b, "scheduler").stand("b");
/// first.txn().and_then([TxnOp::put("plan", "of a")]).commit()?;
/// assert!(second.try_take()?.is_none());
///
/// a.pause()?; // the process hangs: nobody renews its lease
/// clock.advance(Duration::from_secs(5));
///
/// let second = second.try_take()?.expect("b leads");
/// assert_eq!(first.proclaim("too late"), Err(Error::NotLeader));
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

    /// Stands for election with a value, and waits for victory.
    ///
    /// # Errors
    ///
    /// Those of the ticket of [`stand`](Self::stand).
    pub fn campaign(&self, value: impl IntoBytes) -> Result<Leadership> {
        let value = value.into_bytes();
        // If nobody leads and nobody stands, there is no queue to stand in.
        match try_acquire(self.hold(value.clone()))? {
            Some(leadership) => Ok(leadership),
            None => self.stand(value).wait(),
        }
    }

    /// Stands for election with a value. The ticket keeps its place until it is dropped, which withdraws the candidacy at once.
    ///
    /// The ticket's errors: [`LeaseNotFound`](crate::Error::LeaseNotFound) if the session is over at the beginning, and
    /// [`NotLeader`](crate::Error::NotLeader) at once when it is later, or somebody deletes the key. A leadership that was won, and
    /// lost before the ticket was looked at, is handed over nevertheless: see [`Leadership::check`].
    pub fn stand(&self, value: impl IntoBytes) -> Ticket<Leadership> {
        Acquiring::enter(self.hold(value.into_bytes()))
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
    /// let before = Session::open(&store, Duration::from_secs(10))?;
    /// let leadership = Election::new(&before, "db").campaign("node-1")?;
    /// let (key, token) = (leadership.key().to_vec(), leadership.token());
    /// before.orphan()?;
    /// std::mem::forget(leadership); // the process ends
    ///
    /// let after = Session::open_with_lease(&store, before.lease())?;
    /// let resumed = Election::new(&after, "db").resume(key, token).wait()?;
    /// resumed.proclaim("node-1, again")?;
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

    /// The key of whoever leads; `None` if nobody does.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn leader(&self) -> Result<Option<KeyValue>> {
        let found = self.session.client().get(oldest(&self.queue)).wait()?;
        Ok(found.kvs().first().cloned())
    }

    /// Who leads, and who stands to follow, in their order.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    pub fn candidates(&self) -> Result<WaitQueue> {
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
